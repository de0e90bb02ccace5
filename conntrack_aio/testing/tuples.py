"""Tuples and zones, as ctnetlink reads and writes them (``ctnetlink_parse_tuple_filter``)."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6
from typing import Final, NamedTuple

import attrs

from ..model.declare import raw
from ..model.tuples import ICMP, ICMPV6, TCP, UDP, Tuple
from ..netlink.attributes import pack, pack_nest
from ..uapi.nf_internals import CTA_FILTER_F
from ..uapi.nfnetlink_conntrack import CTA, CTA_IP, CTA_PROTO, CTA_TUPLE
from . import ages
from .ages import Release
from .attributes import ADDRESS6, NEST, U8, U16, U32, Policy, Refused, parse_nest, u16

ALL_FLAGS: Final = 0xFFF
"""What a whole tuple consists of: every ``CTA_FILTER_F``."""

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


class _Part(NamedTuple):
    """A field of the tuple: its attribute, its flag in a filter, and its size."""

    name: str
    number: CTA_PROTO
    flag: CTA_FILTER_F
    size: int


_PORTS: Final = (
    _Part("sport", CTA_PROTO.SRC_PORT, _F.CTA_PROTO_SRC_PORT, 2),
    _Part("dport", CTA_PROTO.DST_PORT, _F.CTA_PROTO_DST_PORT, 2),
)
_ICMP: Final = (
    _Part("icmp_id", CTA_PROTO.ICMP_ID, _F.CTA_PROTO_ICMP_ID, 2),
    _Part("icmp_type", CTA_PROTO.ICMP_TYPE, _F.CTA_PROTO_ICMP_TYPE, 1),
    _Part("icmp_code", CTA_PROTO.ICMP_CODE, _F.CTA_PROTO_ICMP_CODE, 1),
)
_ICMPV6: Final = (
    _Part("icmp_id", CTA_PROTO.ICMPV6_ID, _F.CTA_PROTO_ICMPV6_ID, 2),
    _Part("icmp_type", CTA_PROTO.ICMPV6_TYPE, _F.CTA_PROTO_ICMPV6_TYPE, 1),
    _Part("icmp_code", CTA_PROTO.ICMPV6_CODE, _F.CTA_PROTO_ICMPV6_CODE, 1),
)
_PORT_PROTOCOLS: Final = frozenset({TCP, UDP, 47, 132})
_INVERTIBLE: Final = {
    ICMP: frozenset({0, 8, 13, 14, 15, 16, 17, 18}),
    ICMPV6: frozenset({128, 129, 139, 140}),
}


def parts_of(proto: int, release: Release) -> tuple[_Part, ...]:
    """What this kernel tells one tuple of the protocol from another by."""
    if proto == ICMP:
        return _ICMP
    if proto == ICMPV6:
        return _ICMPV6
    ported = (
        proto in _PORT_PROTOCOLS
        or (proto == 33 and release.has(ages.DCCP_TRACKED))
        or (proto == 136 and release.has(ages.UDPLITE_TRACKED))
    )
    return _PORTS if ported else ()


@attrs.frozen
class Zone:
    """A zone (``struct nf_conntrack_zone``): of both directions, or of one."""

    id: int = 0
    directions: frozenset[int] = frozenset({0, 1})

    def at(self, direction: int) -> int:
        """The zone that counts in a direction (0 original, 1 reply)."""
        return self.id if direction in self.directions else 0


def parse_zone(attributes: Mapping[int, bytes]) -> Zone:
    """``CTA_ZONE``, or the default zone."""
    return Zone(u16(attributes[CTA.ZONE])) if CTA.ZONE in attributes else Zone()


def parse_parts(
    data: bytes, family: int, zone: Zone | None, direction: int, flags: int, release: Release
) -> tuple[dict[str, object], Zone]:
    """The flagged fields of a tuple by their names in :class:`Tuple`, and the zone with its own.

    ``zone`` is that of the request; ``None`` where a tuple may have none of its own. Raises
    :exc:`Refused`.
    """
    nest = parse_nest(data, CTA_TUPLE.ZONE, _TUPLE_POLICY)
    if family not in (AF_INET, AF_INET6) and release.has(ages.TUPLE_FAMILY_CHECKED):
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
    """A whole tuple, and the zone with its own. Raises :exc:`Refused`."""
    fields, zone = parse_parts(data, family, zone, direction, ALL_FLAGS, release)
    if "src" not in fields:
        # Of a family that old kernels don't check: there is no such entry, and can't be one.
        raise Refused(errno.ENOENT)
    return make_tuple(fields), zone


def make_tuple(fields: Mapping[str, object]) -> Tuple:
    """A tuple of its fields by name, as the request has them: mapped addresses stay IPv6."""
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
    parts = parts_of(proto, release)
    parse_nest(
        data, CTA_PROTO.ICMPV6_CODE, {part.number: U16 if part.size == 2 else U8 for part in parts}
    )
    fields: dict[str, object] = {"proto": proto}
    for part in sorted(parts, key=lambda part: part.flag):
        if not flags & part.flag:
            continue
        value = int.from_bytes(_required(nest, part.number)[: part.size], "big")
        if part.name == "icmp_type" and value not in _INVERTIBLE[proto]:
            raise Refused(errno.EINVAL)
        fields[part.name] = value
    return fields


def pack_tuple(number: int, tuple_: Tuple, release: Release, zone: int = 0) -> bytes:
    """The nest of a tuple; ``zone`` is one of this direction alone."""
    v4 = isinstance(tuple_.src, IPv4Address)
    addresses = pack_nest(
        CTA_TUPLE.IP,
        pack(CTA_IP.V4_SRC if v4 else CTA_IP.V6_SRC, tuple_.src.packed),
        pack(CTA_IP.V4_DST if v4 else CTA_IP.V6_DST, tuple_.dst.packed),
    )
    parts = [
        pack(part.number, (getattr(tuple_, part.name) or 0).to_bytes(part.size, "big"))
        for part in parts_of(tuple_.proto, release)
    ]
    proto = pack_nest(CTA_TUPLE.PROTO, pack(CTA_PROTO.NUM, bytes([tuple_.proto])), *parts)
    own = pack(CTA_TUPLE.ZONE, zone.to_bytes(2, "big")) if zone else b""
    return pack_nest(number, addresses, proto, own)


def normal(tuple_: Tuple, release: Release) -> Tuple:
    """With what this kernel tells tuples of the protocol apart by, and nothing else."""
    fields = {
        part.name: getattr(tuple_, part.name) or 0 for part in parts_of(tuple_.proto, release)
    }
    return make_tuple({"src": tuple_.src, "dst": tuple_.dst, "proto": tuple_.proto} | fields)
