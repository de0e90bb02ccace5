"""Translations on create (``nf_nat_setup_info``): the kernel rewrites the reply tuple itself."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from copy import copy
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import attrs

from ..model.enums import Status
from ..model.tuples import ICMP, ICMPV6, IPAddress, Tuple
from ..uapi.nfnetlink_conntrack import CTA_NAT, CTA_PROTONAT
from .attributes import ADDRESS6, NEST, U16, U32, Policy, Refused, parse_nest, u16
from .state import State
from .table import Entry
from .tuples import parts_of

_POLICY: Final[Policy] = {
    CTA_NAT.V4_MINIP: U32,
    CTA_NAT.V4_MAXIP: U32,
    CTA_NAT.PROTO: NEST,
    CTA_NAT.V6_MINIP: ADDRESS6,
    CTA_NAT.V6_MAXIP: ADDRESS6,
}
_PROTO_POLICY: Final[Policy] = {CTA_PROTONAT.PORT_MIN: U16, CTA_PROTONAT.PORT_MAX: U16}
_ATTEMPTS: Final = 128
_GRE: Final = 47


@attrs.define
class Range:
    """What to translate to (``struct nf_nat_range2``)."""

    addresses: tuple[IPAddress, IPAddress] | None = None
    ports: tuple[int, int] | None = None


def translate(state: State, entry: Entry, source: bytes | None, destination: bytes | None) -> None:
    """Set up both translations of a new entry. Where one is given, the other is none, and done.

    Raises :exc:`Refused`.
    """
    if source is None and destination is None:
        return
    if "nat" in state.lacks:
        raise Refused(errno.EOPNOTSUPP)
    for nest, is_source in ((destination, False), (source, True)):
        wanted = _null_range(entry, is_source) if nest is None else _parse(nest, entry)
        _set_up(state, entry, wanted, is_source)


def _parse(data: bytes, entry: Entry) -> Range:
    """A range of addresses, of the entry's family, and of ports. The rest is ignored."""
    nest = parse_nest(data, CTA_NAT.V6_MAXIP, _POLICY)
    wanted = Range()
    v4 = isinstance(entry.orig.src, IPv4Address)
    first = CTA_NAT.V4_MINIP if v4 else CTA_NAT.V6_MINIP
    last = CTA_NAT.V4_MAXIP if v4 else CTA_NAT.V6_MAXIP
    if first in nest:
        wanted.addresses = (_address(nest[first], v4), _address(nest.get(last, nest[first]), v4))
    if CTA_NAT.PROTO in nest:
        ports = parse_nest(nest[CTA_NAT.PROTO], CTA_PROTONAT.PORT_MAX, _PROTO_POLICY)
        given = [u16(ports[number]) for number in _PROTO_POLICY if number in ports]
        if CTA_PROTONAT.PORT_MIN in ports:
            wanted.ports = (given[0], given[-1])
        elif given:
            wanted.ports = (0, given[0])
    return wanted


def _address(data: bytes, v4: bool) -> IPAddress:
    return IPv4Address(data[:4]) if v4 else IPv6Address(data[:16])


def _null_range(entry: Entry, is_source: bool) -> Range:
    """The address that it has already."""
    address = entry.reply.dst if is_source else entry.reply.src
    return Range((address, address))


def _set_up(state: State, entry: Entry, wanted: Range, is_source: bool) -> None:
    current = entry.reply.inverse
    translated = _unique(state, entry, current, wanted, is_source)
    if translated != current:
        entry.reply = translated.inverse
        entry.status |= Status.SRC_NAT if is_source else Status.DST_NAT
    entry.status |= Status.SRC_NAT_DONE if is_source else Status.DST_NAT_DONE


def _unique(state: State, entry: Entry, current: Tuple, wanted: Range, is_source: bool) -> Tuple:
    """The tuple to translate to, whose answers no other entry has.

    The kernel draws address and port by lot, and this takes the first that is free. Where none is,
    it goes on with one that is taken, and fails when the entry is added.
    """

    def free(candidate: Tuple) -> bool:
        return not state.table.taken(candidate.inverse, entry.zone, entry)

    if is_source and _in_range(current, wanted) and free(current):
        return current
    exact = wanted.ports is not None and wanted.ports[0] == wanted.ports[1]
    candidates = [
        _with_address(current, a, is_source) for a in _addresses(current, wanted, is_source)
    ]
    for candidate in candidates:
        if _fits(candidate, wanted, is_source) and (exact or free(candidate)):
            return candidate
    moved = candidates[0]
    for port in _ports(state, moved, wanted, is_source):
        moved = copy(moved)
        setattr(moved, _key(moved, is_source), port)
        if free(moved):
            break
    return moved


def _with_address(current: Tuple, address: IPAddress, is_source: bool) -> Tuple:
    candidate = copy(current)
    setattr(candidate, "src" if is_source else "dst", address)
    return candidate


def _in_range(tuple_: Tuple, wanted: Range) -> bool:
    if wanted.addresses is not None:
        first, last = (int(address) for address in wanted.addresses)
        if not first <= int(tuple_.src) <= last:
            return False
    return _fits(tuple_, wanted, True)


def _key(tuple_: Tuple, is_source: bool) -> str:
    """The field that is moved in search of a free one."""
    if tuple_.proto in (ICMP, ICMPV6):
        return "icmp_id"
    return "sport" if is_source else "dport"


def _fits(tuple_: Tuple, wanted: Range, is_source: bool) -> bool:
    if wanted.ports is None:
        return True
    value = getattr(tuple_, _key(tuple_, is_source))
    return value is not None and wanted.ports[0] <= value <= wanted.ports[1]


def _addresses(current: Tuple, wanted: Range, is_source: bool) -> Iterator[IPAddress]:
    """Those of the range, from its start."""
    if wanted.addresses is None:
        yield current.src if is_source else current.dst
        return
    first, last = wanted.addresses
    yield first
    for i in range(1, min(int(last) - int(first) + 1, _ATTEMPTS)):
        yield first + i


def _ports(state: State, tuple_: Tuple, wanted: Range, is_source: bool) -> Iterator[int]:
    """The ports to try: those of the range, or for a source those of its kind.

    The keys of GRE are left alone: they are PPTP's, and a new entry is none of its.
    """
    if not parts_of(tuple_.proto, state.release) or tuple_.proto == _GRE:
        return
    if wanted.ports is not None:
        first, last = wanted.ports
    elif tuple_.proto in (ICMP, ICMPV6):
        first, last = 0, 65535
    elif not is_source:
        return
    else:
        port = tuple_.sport or 0
        first, last = (1, 511) if port < 512 else (600, 1023) if port < 1024 else (1024, 65535)
    yield from range(first, min(last, first + _ATTEMPTS - 1) + 1)
