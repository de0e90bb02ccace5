"""Parse and encode tuples and zones as ctnetlink does (``ctnetlink_parse_tuple_filter``)."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6
from typing import Final, NamedTuple

import attrs

from ..model.normalization import raw
from ..model.protocols import GRE, ICMP, ICMPV6, SCTP, TCP, UDP
from ..model.tuples import Tuple
from ..netlink.attributes import pack, pack_nest
from ..uapi.nf_internals import CTA_FILTER_F
from ..uapi.nfnetlink_conntrack import CTA, CTA_IP, CTA_PROTO, CTA_TUPLE
from . import releases
from .attributes import ADDRESS6, NEST, U8, U16, U32, Policy, Refused, parse_nest, u16
from .releases import Release

ALL_FLAGS: Final = 0xFFF
"""The flags of a complete tuple: every ``CTA_FILTER_F``."""

_F = CTA_FILTER_F
_PROTO_FLAGS: Final = ALL_FLAGS & ~(
    _F.CTA_IP_SRC | _F.CTA_IP_DST | _F.CTA_TUPLE_ZONE | _F.CTA_PROTO_NUM
)
_TUPLE_POLICY: Final[Policy] = {CTA_TUPLE.IP: NEST, CTA_TUPLE.PROTO: NEST, CTA_TUPLE.ZONE: U16}
_IP_POLICY: Final[Policy] = {
    CTA_IP.V4_SRC: U32,
    CTA_IP.V4_DST: U32,
    CTA_IP.V6_SRC: ADDRESS6,
    CTA_IP.V6_DST: ADDRESS6,
}


class ProtocolField(NamedTuple):
    """A field of a tuple that depends on the protocol."""

    name: str
    """The name of the field in :class:`Tuple`."""
    number: CTA_PROTO
    """The attribute."""
    flag: CTA_FILTER_F
    """The flag of the field in a filter."""
    size: int
    """The length of the attribute's payload, in bytes."""


_PORTS: Final = (
    ProtocolField("sport", CTA_PROTO.SRC_PORT, _F.CTA_PROTO_SRC_PORT, 2),
    ProtocolField("dport", CTA_PROTO.DST_PORT, _F.CTA_PROTO_DST_PORT, 2),
)
_ICMP: Final = (
    ProtocolField("icmp_id", CTA_PROTO.ICMP_ID, _F.CTA_PROTO_ICMP_ID, 2),
    ProtocolField("icmp_type", CTA_PROTO.ICMP_TYPE, _F.CTA_PROTO_ICMP_TYPE, 1),
    ProtocolField("icmp_code", CTA_PROTO.ICMP_CODE, _F.CTA_PROTO_ICMP_CODE, 1),
)
_ICMPV6: Final = (
    ProtocolField("icmp_id", CTA_PROTO.ICMPV6_ID, _F.CTA_PROTO_ICMPV6_ID, 2),
    ProtocolField("icmp_type", CTA_PROTO.ICMPV6_TYPE, _F.CTA_PROTO_ICMPV6_TYPE, 1),
    ProtocolField("icmp_code", CTA_PROTO.ICMPV6_CODE, _F.CTA_PROTO_ICMPV6_CODE, 1),
)
_PORT_PROTOCOLS: Final = frozenset({TCP, UDP, GRE, SCTP})
_INVERTIBLE: Final = {
    ICMP: frozenset({0, 8, 13, 14, 15, 16, 17, 18}),
    ICMPV6: frozenset({128, 129, 139, 140}),
}


def protocol_fields(proto: int, release: Release) -> tuple[ProtocolField, ...]:
    """Return the fields that this kernel tracks in tuples of the protocol."""
    if proto == ICMP:
        return _ICMP
    if proto == ICMPV6:
        return _ICMPV6
    has_ports = (
        proto in _PORT_PROTOCOLS
        or (proto == 33 and release.has(releases.DCCP_TRACKED))
        or (proto == 136 and release.has(releases.UDPLITE_TRACKED))
    )
    return _PORTS if has_ports else ()


@attrs.frozen
class Zone:
    """A conntrack zone of one or both directions (``struct nf_conntrack_zone``)."""

    id: int = 0
    directions: frozenset[int] = frozenset({0, 1})
    """The directions that the zone is for: 0 is the original direction, 1 the reply."""

    def in_direction(self, direction: int) -> int:
        """Return the zone id of a direction: 0 is the original direction, 1 the reply."""
        return self.id if direction in self.directions else 0


def parse_zone(attributes: Mapping[int, bytes]) -> Zone:
    """Return the zone in ``CTA_ZONE``, or the default zone."""
    return Zone(u16(attributes[CTA.ZONE])) if CTA.ZONE in attributes else Zone()


def parse_tuple_fields(
    data: bytes, family: int, zone: Zone | None, direction: int, flags: int, release: Release
) -> tuple[dict[str, object], Zone]:
    """Parse the fields of a tuple that the flags select.

    :param data: the nest of the tuple.
    :param family: the address family of the request.
    :param zone: the zone of the request, or ``None`` if the tuple must not have a zone.
    :param direction: the direction of the tuple: 0 is the original direction, 1 the reply.
    :param flags: the fields to parse, as ``CTA_FILTER_F`` bits.
    :param release: the kernel's release.
    :returns: the fields by their names in :class:`Tuple`, and the zone of the request or of the
        tuple.

    :raises Refused: when a selected field is missing or not valid.
    """
    nest = parse_nest(data, CTA_TUPLE.ZONE, _TUPLE_POLICY)
    if family not in (AF_INET, AF_INET6) and release.has(releases.TUPLE_FAMILY_CHECKED):
        raise Refused(errno.EOPNOTSUPP)
    fields: dict[str, object] = {}
    if flags & (_F.CTA_IP_SRC | _F.CTA_IP_DST):
        fields |= _parse_addresses(_required(nest, CTA_TUPLE.IP), family, flags)
    if flags & _F.CTA_PROTO_NUM:
        fields |= _parse_proto(_required(nest, CTA_TUPLE.PROTO), flags, release)
    elif flags & _PROTO_FLAGS:
        raise Refused(errno.EINVAL)
    if flags & _F.CTA_TUPLE_ZONE and CTA_TUPLE.ZONE in nest:
        if zone is None or zone.id:
            raise Refused(errno.EINVAL)
        zone = Zone(u16(nest[CTA_TUPLE.ZONE]), frozenset({direction}))
    return fields, zone or Zone()


def parse_tuple(
    data: bytes, family: int, zone: Zone | None, direction: int, release: Release
) -> tuple[Tuple, Zone]:
    """Parse a complete tuple; see :func:`parse_tuple_fields` for the parameters.

    :returns: the tuple, and the zone of the request or of the tuple.

    :raises Refused: when a field is missing or not valid.
    """
    fields, zone = parse_tuple_fields(data, family, zone, direction, ALL_FLAGS, release)
    if "src" not in fields:
        # The family is neither IPv4 nor IPv6, which old kernels do not check. No entry has such a
        # tuple.
        raise Refused(errno.ENOENT)
    return make_tuple(fields), zone


def make_tuple(fields: Mapping[str, object]) -> Tuple:
    """Create a tuple from its fields; IPv4-mapped addresses stay IPv6, as in the request."""
    return raw(Tuple)(**fields)


def _required(nest: Mapping[int, bytes], number: int) -> bytes:
    if number not in nest:
        raise Refused(errno.EINVAL)
    return nest[number]


def _parse_addresses(data: bytes, family: int, flags: int) -> dict[str, object]:
    nest = parse_nest(data, CTA_IP.V6_DST, _IP_POLICY)
    fields: dict[str, object] = {}
    for name, flag, v4, v6 in (
        ("src", _F.CTA_IP_SRC, CTA_IP.V4_SRC, CTA_IP.V6_SRC),
        ("dst", _F.CTA_IP_DST, CTA_IP.V4_DST, CTA_IP.V6_DST),
    ):
        if not flags & flag:
            continue
        if family == AF_INET:
            fields[name] = IPv4Address(_required(nest, v4)[:4])
        elif family == AF_INET6:
            fields[name] = IPv6Address(_required(nest, v6)[:16])
    return fields


def _parse_proto(data: bytes, flags: int, release: Release) -> dict[str, object]:
    nest = parse_nest(data, CTA_PROTO.ICMPV6_CODE, {CTA_PROTO.NUM: U8})
    proto = _required(nest, CTA_PROTO.NUM)[0]
    tracked = protocol_fields(proto, release)
    parse_nest(
        data,
        CTA_PROTO.ICMPV6_CODE,
        {field.number: U16 if field.size == 2 else U8 for field in tracked},
    )
    fields: dict[str, object] = {"proto": proto}
    for field in sorted(tracked, key=lambda field: field.flag):
        if not flags & field.flag:
            continue
        value = int.from_bytes(_required(nest, field.number)[: field.size], "big")
        if field.name == "icmp_type" and value not in _INVERTIBLE[proto]:
            raise Refused(errno.EINVAL)
        fields[field.name] = value
    return fields


def pack_tuple(number: int, tuple_: Tuple, release: Release, zone: int = 0) -> bytes:
    """Encode the nest of a tuple.

    :param number: the attribute.
    :param tuple_: the tuple.
    :param release: the kernel's release.
    :param zone: the zone of this direction, or 0 if the zone is that of both directions.
    """
    v4 = isinstance(tuple_.src, IPv4Address)
    addresses = pack_nest(
        CTA_TUPLE.IP,
        pack(CTA_IP.V4_SRC if v4 else CTA_IP.V6_SRC, tuple_.src.packed),
        pack(CTA_IP.V4_DST if v4 else CTA_IP.V6_DST, tuple_.dst.packed),
    )
    fields = [
        pack(field.number, (getattr(tuple_, field.name) or 0).to_bytes(field.size, "big"))
        for field in protocol_fields(tuple_.proto, release)
    ]
    proto = pack_nest(CTA_TUPLE.PROTO, pack(CTA_PROTO.NUM, bytes([tuple_.proto])), *fields)
    zone_part = pack(CTA_TUPLE.ZONE, zone.to_bytes(2, "big")) if zone else b""
    return pack_nest(number, addresses, proto, zone_part)


def normalize(tuple_: Tuple, release: Release) -> Tuple:
    """Return the tuple with only the fields that this kernel tracks in its protocol."""
    fields = {
        field.name: getattr(tuple_, field.name) or 0
        for field in protocol_fields(tuple_.proto, release)
    }
    return make_tuple({"src": tuple_.src, "dst": tuple_.dst, "proto": tuple_.proto} | fields)
