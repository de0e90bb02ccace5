"""Filter dumps and flushes as the kernel does (``ctnetlink_alloc_filter``), with its bugs."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6
from typing import Final, NamedTuple

import attrs

from ..model.protocols import ICMP, ICMPV6, TCP, UDP
from ..model.tuples import IPAddress, Tuple
from ..uapi.nf_internals import CTA_FILTER_F
from ..uapi.nfnetlink_conntrack import CTA, CTA_FILTER
from . import releases
from .attributes import U32, Policy, Refused, parse_nest, u32
from .protocol import Call
from .releases import Release
from .table import ORIG, REPLY, Entry
from .tuples import ALL_FLAGS, Zone, parse_tuple_fields, parse_zone

_F = CTA_FILTER_F
_POLICY: Final[Policy] = {CTA_FILTER.ORIG_FLAGS: U32, CTA_FILTER.REPLY_FLAGS: U32}
_PORTS: Final = (("sport", _F.CTA_PROTO_SRC_PORT), ("dport", _F.CTA_PROTO_DST_PORT))
_COMPARED: Final = {
    TCP: _PORTS,
    UDP: _PORTS,
    ICMP: (
        ("icmp_type", _F.CTA_PROTO_ICMP_TYPE),
        ("icmp_code", _F.CTA_PROTO_ICMP_CODE),
        ("icmp_id", _F.CTA_PROTO_ICMP_ID),
    ),
    ICMPV6: (
        ("icmp_type", _F.CTA_PROTO_ICMPV6_TYPE),
        ("icmp_code", _F.CTA_PROTO_ICMPV6_CODE),
        ("icmp_id", _F.CTA_PROTO_ICMPV6_ID),
    ),
}
"""The fields of a tuple that the kernel compares, by the protocol of the entry.

It compares ports only of TCP and UDP (``ctnetlink_filter_match_tuple``).
"""

_ZERO_ADDRESS: Final[Mapping[int, IPAddress]] = {AF_INET: IPv4Address(0), AF_INET6: IPv6Address(0)}


@attrs.frozen
class MaskedValue:
    """A value and its mask: a number matches if its masked bits equal the value."""

    value: int = 0
    mask: int = 0

    def __call__(self, number: int) -> bool:
        return number & self.mask == self.value


class TupleFilter(NamedTuple):
    """The filter by the tuple of one direction."""

    flags: int
    """The fields to compare, as ``CTA_FILTER_F`` bits."""
    fields: Mapping[str, object]
    """The values to compare with, by field name."""
    family: int

    def __call__(self, tuple_: Tuple) -> bool:
        for name, flag in (("src", _F.CTA_IP_SRC), ("dst", _F.CTA_IP_DST)):
            if self.flags & flag and not self._address(name, tuple_):
                return False
        if self.flags & _F.CTA_PROTO_NUM and self.fields.get("proto", 0) != tuple_.proto:
            return False
        return all(
            self.fields.get(name, 0) == getattr(tuple_, name)
            for name, flag in _COMPARED.get(tuple_.proto, ())
            if self.flags & flag
        )

    def _address(self, name: str, tuple_: Tuple) -> bool:
        """Return whether an address matches.

        Every kernel inverts the comparison of IPv6 addresses.
        """
        if self.family not in _ZERO_ADDRESS:
            return True
        equal = self.fields.get(name, _ZERO_ADDRESS[self.family]) == getattr(tuple_, name)
        return equal if self.family == AF_INET else not equal


@attrs.frozen
class EntryFilter:
    """The filter of a request."""

    family: int = 0
    zone: int | None = None
    orig: TupleFilter | None = None
    reply: TupleFilter | None = None
    mark: MaskedValue = attrs.field(factory=MaskedValue)
    status: MaskedValue = attrs.field(factory=MaskedValue)

    def __call__(self, entry: Entry) -> bool:
        return (
            self.family in (0, entry.family)
            and self.zone in (None, entry.zone.id)
            and (self.orig is None or self.orig(entry.orig))
            and (self.reply is None or self.reply(entry.reply))
            and self.mark(entry.mark)
            and self.status(entry.status)
        )


def parse_filter(call: Call, family: int, *, flush: bool = False) -> EntryFilter | None:
    """Parse the filter of a dump or flush.

    The kernel ignores the attributes that its release does not know, and some that only count
    beside others. A request that has only such attributes dumps or flushes all entries.

    :param call: the request.
    :param family: the address family to select, or 0.
    :param flush: whether the request is a flush.
    :returns: the filter, or ``None`` if the kernel sees none.

    :raises Refused: when the kernel refuses the filter.
    """
    release, attributes = call.state.release, call.attributes
    if not release.has(releases.DUMP_FILTER):
        return _old_filter(call, family, flush)
    # Without a family the kernel parses a filter only if it finds one of these attributes.
    checked = [CTA.MARK, CTA.FILTER]
    if release.has(releases.STATUS_FILTER):
        checked.append(CTA.STATUS)
    if release.has(releases.ZONE_FILTER):
        checked.append(CTA.ZONE)
    if not family and not any(number in attributes for number in checked):
        return None
    if flush and CTA.FILTER in attributes and not release.has(releases.FILTERED_FLUSH):
        raise Refused(errno.EOPNOTSUPP)
    mark = _parse_masked(attributes, CTA.MARK, CTA.MARK_MASK, lambda value: 0xFFFFFFFF)
    status = MaskedValue()
    if release.has(releases.STATUS_FILTER):
        status = _parse_masked(attributes, CTA.STATUS, CTA.STATUS_MASK, lambda value: value)
        if CTA.STATUS in attributes and not status.mask:
            raise Refused(errno.EINVAL)
    zone = parse_zone(attributes)
    orig = reply = None
    if CTA.FILTER in attributes:
        orig, reply, zone = _tuple_filters(call, family, zone)
    # The zone of a tuple replaces CTA_ZONE 0, and counts only if CTA_ZONE is present.
    zone_id = zone.id if CTA.ZONE in checked and CTA.ZONE in attributes else None
    return EntryFilter(family, zone_id, orig, reply, mark, status)


def _old_filter(call: Call, family: int, flush: bool) -> EntryFilter | None:
    """Parse the filter as before Linux 5.8: the family, and a mark if it has a mask.

    Before Linux 5.2 a flush ignores the family.
    """
    attributes = call.attributes
    if flush and not call.state.release.has(releases.FAMILY_FLUSH):
        family = 0
    mark = MaskedValue()
    if CTA.MARK in attributes and CTA.MARK_MASK in attributes:
        mark = MaskedValue(u32(attributes[CTA.MARK]), u32(attributes[CTA.MARK_MASK]))
    elif not family:
        return None
    return EntryFilter(family, mark=mark)


def _parse_masked(
    attributes: Mapping[int, bytes], number: int, mask: int, default: Callable[[int], int]
) -> MaskedValue:
    """Parse a value and its mask.

    :raises Refused: when the request has the mask without the value.
    """
    if number in attributes:
        value = u32(attributes[number])
        return MaskedValue(value, u32(attributes[mask]) if mask in attributes else default(value))
    if mask in attributes:
        raise Refused(errno.EINVAL)
    return MaskedValue()


def _tuple_filters(
    call: Call, family: int, zone: Zone
) -> tuple[TupleFilter | None, TupleFilter | None, Zone]:
    """Parse ``CTA_FILTER`` and the tuples; return both filters, and the zone."""
    release, attributes = call.state.release, call.attributes
    if CTA.FILTER not in call.nested:
        raise Refused(errno.EINVAL)
    nest = parse_nest(attributes[CTA.FILTER], CTA_FILTER.REPLY_FLAGS, _POLICY, strict=True)
    flags = [_parse_flags(nest.get(number), release) for number in _POLICY]
    orig_flags, reply_flags = flags
    orig = reply = None
    if orig_flags:
        orig, zone = _tuple_filter(call, CTA.TUPLE_ORIG, family, zone, orig_flags, orig_flags)
    if reply_flags and release.has(releases.REPLY_FILTER):
        reply, zone = _tuple_filter(call, CTA.TUPLE_REPLY, family, zone, reply_flags, reply_flags)
    elif reply_flags:
        # Before 5.15 the kernel parses the reply tuple by the flags of the original tuple, and
        # reports every error in it as EINVAL.
        try:
            reply, zone = _tuple_filter(
                call, CTA.TUPLE_REPLY, family, zone, orig_flags, reply_flags
            )
        except Refused:
            raise Refused(errno.EINVAL) from None
    return orig, reply, zone


def _parse_flags(payload: bytes | None, release: Release) -> int:
    """Parse filter flags, which are in host byte order, unlike all other attributes."""
    flags = int.from_bytes(payload or b"", sys.byteorder)
    if flags & ~ALL_FLAGS:
        strict = release.has(releases.STRICT_RANGES)
        raise Refused(errno.EINVAL if strict else errno.EOPNOTSUPP)
    return flags


def _tuple_filter(
    call: Call, number: int, family: int, zone: Zone, parse_flags: int, compare_flags: int
) -> tuple[TupleFilter, Zone]:
    if number not in call.attributes:
        raise Refused(errno.EINVAL)
    direction = REPLY if number == CTA.TUPLE_REPLY else ORIG
    data = call.attributes[number]
    fields, zone = parse_tuple_fields(
        data, family, zone, direction, parse_flags, call.state.release
    )
    return TupleFilter(compare_flags, fields, family), zone
