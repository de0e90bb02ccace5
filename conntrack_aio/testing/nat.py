"""Translate the addresses of new entries as the kernel does (``nf_nat_setup_info``).

The kernel rewrites the reply tuple of the entry.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from copy import copy
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import attrs

from ..model.enums import Status
from ..model.protocols import ICMP, ICMPV6
from ..model.tuples import IPAddress, Tuple
from ..uapi.nfnetlink_conntrack import CTA_NAT, CTA_PROTONAT
from .attributes import ADDRESS6, NEST, U16, U32, Policy, Refused, parse_nest, u16
from .state import State
from .table import Entry
from .tuples import protocol_fields

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
class TranslationRange:
    """The addresses and ports to translate to (``struct nf_nat_range2``)."""

    addresses: tuple[IPAddress, IPAddress] | None = None
    ports: tuple[int, int] | None = None


def translate(state: State, entry: Entry, source: bytes | None, destination: bytes | None) -> None:
    """Set up the source and the destination translation of a new entry.

    If the request has only one of them, the kernel marks the other as done with no change.

    :param state: the kernel.
    :param entry: the new entry.
    :param source: the payload of ``CTA_NAT_SRC``.
    :param destination: the payload of ``CTA_NAT_DST``.

    :raises Refused: when the kernel has no NAT, or an attribute is invalid.
    """
    if source is None and destination is None:
        return
    if "nat" in state.unavailable:
        raise Refused(errno.EOPNOTSUPP)
    for nest, is_source in ((destination, False), (source, True)):
        target = _null_range(entry, is_source) if nest is None else _parse(nest, entry)
        _set_up_translation(state, entry, target, is_source)


def _parse(data: bytes, entry: Entry) -> TranslationRange:
    """Parse the ports and the addresses of the entry's family; the kernel ignores the rest."""
    nest = parse_nest(data, CTA_NAT.V6_MAXIP, _POLICY)
    target = TranslationRange()
    v4 = isinstance(entry.orig.src, IPv4Address)
    first = CTA_NAT.V4_MINIP if v4 else CTA_NAT.V6_MINIP
    last = CTA_NAT.V4_MAXIP if v4 else CTA_NAT.V6_MAXIP
    if first in nest:
        target.addresses = (_address(nest[first], v4), _address(nest.get(last, nest[first]), v4))
    if CTA_NAT.PROTO in nest:
        ports = parse_nest(nest[CTA_NAT.PROTO], CTA_PROTONAT.PORT_MAX, _PROTO_POLICY)
        values = [u16(ports[number]) for number in _PROTO_POLICY if number in ports]
        if CTA_PROTONAT.PORT_MIN in ports:
            target.ports = (values[0], values[-1])
        elif values:
            target.ports = (0, values[0])
    return target


def _address(data: bytes, v4: bool) -> IPAddress:
    return IPv4Address(data[:4]) if v4 else IPv6Address(data[:16])


def _null_range(entry: Entry, is_source: bool) -> TranslationRange:
    """Return the range that keeps the current address (``nf_nat_alloc_null_binding``)."""
    address = entry.reply.dst if is_source else entry.reply.src
    return TranslationRange((address, address))


def _set_up_translation(
    state: State, entry: Entry, target: TranslationRange, is_source: bool
) -> None:
    current = entry.reply.inverse
    translated = _unique_tuple(state, entry, current, target, is_source)
    if translated != current:
        entry.reply = translated.inverse
        entry.status |= Status.SRC_NAT if is_source else Status.DST_NAT
    entry.status |= Status.SRC_NAT_DONE if is_source else Status.DST_NAT_DONE


def _unique_tuple(
    state: State, entry: Entry, current: Tuple, target: TranslationRange, is_source: bool
) -> Tuple:
    """Return the tuple to translate to, whose inverse no other entry has (``get_unique_tuple``).

    The kernel chooses the address and the port at random; the fake kernel takes the first free
    ones. If none is free, it returns a tuple that is in use, and inserting the entry fails later.
    """

    def is_free(candidate: Tuple) -> bool:
        return not state.table.is_taken(candidate.inverse, entry.zone, entry)

    if is_source and _in_range(current, target) and is_free(current):
        return current
    exact = target.ports is not None and target.ports[0] == target.ports[1]
    candidates = [
        _with_address(current, a, is_source)
        for a in _candidate_addresses(current, target, is_source)
    ]
    for candidate in candidates:
        if _port_in_range(candidate, target, is_source) and (exact or is_free(candidate)):
            return candidate
    translated = candidates[0]
    for port in _candidate_ports(state, translated, target, is_source):
        translated = copy(translated)
        setattr(translated, _port_field(translated, is_source), port)
        if is_free(translated):
            break
    return translated


def _with_address(current: Tuple, address: IPAddress, is_source: bool) -> Tuple:
    candidate = copy(current)
    setattr(candidate, "src" if is_source else "dst", address)
    return candidate


def _in_range(tuple_: Tuple, target: TranslationRange) -> bool:
    if target.addresses is not None:
        first, last = (int(address) for address in target.addresses)
        if not first <= int(tuple_.src) <= last:
            return False
    return _port_in_range(tuple_, target, True)


def _port_field(tuple_: Tuple, is_source: bool) -> str:
    """Return the field whose value the kernel changes to find a free tuple."""
    if tuple_.proto in (ICMP, ICMPV6):
        return "icmp_id"
    return "sport" if is_source else "dport"


def _port_in_range(tuple_: Tuple, target: TranslationRange, is_source: bool) -> bool:
    if target.ports is None:
        return True
    value = getattr(tuple_, _port_field(tuple_, is_source))
    return value is not None and target.ports[0] <= value <= target.ports[1]


def _candidate_addresses(
    current: Tuple, target: TranslationRange, is_source: bool
) -> Iterator[IPAddress]:
    """Yield the addresses of the range, from its start."""
    if target.addresses is None:
        yield current.src if is_source else current.dst
        return
    first, last = target.addresses
    yield first
    for i in range(1, min(int(last) - int(first) + 1, _ATTEMPTS)):
        yield first + i


def _candidate_ports(
    state: State, tuple_: Tuple, target: TranslationRange, is_source: bool
) -> Iterator[int]:
    """Yield the ports to try.

    These are the ports of the range. A source translation without a range stays in the class of
    its port: 1 to 511, 600 to 1023, or 1024 and above. The kernel changes GRE keys only for
    PPTP, and an entry that a program creates does not belong to PPTP.
    """
    if not protocol_fields(tuple_.proto, state.release) or tuple_.proto == _GRE:
        return
    if target.ports is not None:
        first, last = target.ports
    elif tuple_.proto in (ICMP, ICMPV6):
        first, last = 0, 65535
    elif not is_source:
        return
    else:
        port = tuple_.sport or 0
        first, last = (1, 511) if port < 512 else (600, 1023) if port < 1024 else (1024, 65535)
    yield from range(first, min(last, first + _ATTEMPTS - 1) + 1)
