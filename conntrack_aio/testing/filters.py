"""What dumps and flushes select by (``ctnetlink_alloc_filter``), with all of its faults."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6
from typing import Final, NamedTuple

import attrs

from ..model.tuples import ICMP, ICMPV6, TCP, UDP, IPAddress, Tuple
from ..uapi.nf_internals import CTA_FILTER_F
from ..uapi.nfnetlink_conntrack import CTA, CTA_FILTER
from . import ages
from .ages import Release
from .attributes import U32, Policy, Refused, parse_nest, u32
from .protocol import Call
from .table import ORIG, REPLY, Entry
from .tuples import ALL_FLAGS, Zone, parse_parts, parse_zone

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
"""What of a tuple is compared, by the protocol of the entry: the ports of TCP and UDP alone."""

_NONE: Final[Mapping[int, IPAddress]] = {AF_INET: IPv4Address(0), AF_INET6: IPv6Address(0)}


@attrs.frozen
class Masked:
    """Bits that must be so, of those in the mask."""

    value: int = 0
    mask: int = 0

    def __call__(self, number: int) -> bool:
        return number & self.mask == self.value


class Side(NamedTuple):
    """One direction's tuple: which parts of it are compared, and with what."""

    flags: int
    fields: Mapping[str, object]
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
        """Of IPv6 the comparison is the wrong way round, on every kernel."""
        if self.family not in _NONE:
            return True
        same = self.fields.get(name, _NONE[self.family]) == getattr(tuple_, name)
        return same if self.family == AF_INET else not same


@attrs.frozen
class Filter:
    """All of what a request selects by."""

    family: int = 0
    zone: int | None = None
    orig: Side | None = None
    reply: Side | None = None
    mark: Masked = attrs.field(factory=Masked)
    status: Masked = attrs.field(factory=Masked)

    def __call__(self, entry: Entry) -> bool:
        return (
            self.family in (0, entry.family)
            and self.zone in (None, entry.zone.id)
            and (self.orig is None or self.orig(entry.orig))
            and (self.reply is None or self.reply(entry.reply))
            and self.mark(entry.mark)
            and self.status(entry.status)
        )


def parse_filter(call: Call, family: int, *, flush: bool = False) -> Filter | None:
    """The filter of a dump or flush; ``None`` where the kernel sees none. Raises :exc:`Refused`.

    What it does not look at, for its age or because nothing beside it makes it look, filters
    nothing: then all is dumped, or flushed.
    """
    release, given = call.state.release, call.attributes
    if not release.has(ages.DUMP_FILTER):
        return _old_filter(call, family, flush)
    looked_at = [CTA.MARK, CTA.FILTER]
    if release.has(ages.STATUS_FILTER):
        looked_at.append(CTA.STATUS)
    if release.has(ages.ZONE_FILTER):
        looked_at.append(CTA.ZONE)
    if not family and not any(number in given for number in looked_at):
        return None
    if flush and CTA.FILTER in given and not release.has(ages.FILTERED_FLUSH):
        raise Refused(errno.EOPNOTSUPP)
    mark = _masked(given, CTA.MARK, CTA.MARK_MASK, lambda value: 0xFFFFFFFF)
    status = Masked()
    if release.has(ages.STATUS_FILTER):
        status = _masked(given, CTA.STATUS, CTA.STATUS_MASK, lambda value: value)
        if CTA.STATUS in given and not status.mask:
            raise Refused(errno.EINVAL)
    zone = parse_zone(given)
    orig = reply = None
    if CTA.FILTER in given:
        orig, reply, zone = _sides(call, family, zone)
    # A zone inside a tuple takes the place of CTA_ZONE 0, and counts only beside it.
    chosen = zone.id if CTA.ZONE in looked_at and CTA.ZONE in given else None
    return Filter(family, chosen, orig, reply, mark, status)


def _old_filter(call: Call, family: int, flush: bool) -> Filter | None:
    """Before 5.8: a family, and a mark if it has a mask. Before 5.2 no family in a flush."""
    given = call.attributes
    if flush and not call.state.release.has(ages.FAMILY_FLUSH):
        family = 0
    mark = Masked()
    if CTA.MARK in given and CTA.MARK_MASK in given:
        mark = Masked(u32(given[CTA.MARK]), u32(given[CTA.MARK_MASK]))
    elif not family:
        return None
    return Filter(family, mark=mark)


def _masked(
    given: Mapping[int, bytes], number: int, mask: int, default: Callable[[int], int]
) -> Masked:
    """A value and its mask. A mask alone is refused."""
    if number in given:
        value = u32(given[number])
        return Masked(value, u32(given[mask]) if mask in given else default(value))
    if mask in given:
        raise Refused(errno.EINVAL)
    return Masked()


def _sides(call: Call, family: int, zone: Zone) -> tuple[Side | None, Side | None, Zone]:
    release, given = call.state.release, call.attributes
    if CTA.FILTER not in call.nested:
        raise Refused(errno.EINVAL)
    nest = parse_nest(given[CTA.FILTER], CTA_FILTER.REPLY_FLAGS, _POLICY, strict=True)
    flags = [_flags(nest.get(number), release) for number in _POLICY]
    orig_flags, reply_flags = flags
    orig = reply = None
    if orig_flags:
        orig, zone = _side(call, CTA.TUPLE_ORIG, family, zone, orig_flags, orig_flags)
    if reply_flags and release.has(ages.REPLY_FILTER):
        reply, zone = _side(call, CTA.TUPLE_REPLY, family, zone, reply_flags, reply_flags)
    elif reply_flags:
        # Read by the wrong flags, and whatever is wrong with it is EINVAL.
        try:
            reply, zone = _side(call, CTA.TUPLE_REPLY, family, zone, orig_flags, reply_flags)
        except Refused:
            raise Refused(errno.EINVAL) from None
    return orig, reply, zone


def _flags(payload: bytes | None, release: Release) -> int:
    """In host byte order, unlike all the rest."""
    flags = int.from_bytes(payload or b"", sys.byteorder)
    if flags & ~ALL_FLAGS:
        strict = release.has(ages.STRICT_RANGES)
        raise Refused(errno.EINVAL if strict else errno.EOPNOTSUPP)
    return flags


def _side(
    call: Call, number: int, family: int, zone: Zone, read: int, compared: int
) -> tuple[Side, Zone]:
    if number not in call.attributes:
        raise Refused(errno.EINVAL)
    direction = REPLY if number == CTA.TUPLE_REPLY else ORIG
    data = call.attributes[number]
    fields, zone = parse_parts(data, family, zone, direction, read, call.state.release)
    return Side(compared, fields, family), zone
