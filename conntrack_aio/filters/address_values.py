"""Convert addresses, networks and ranges, as objects or text, to conditions.

IPv4-mapped IPv6 addresses become IPv4 addresses: a socket of both families reports its IPv4 peers
in that form. An address in brackets, such as ``[::ffff:10.0.0.1]``, remains IPv6.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, cast

from ..errors import MatchError
from ..plain import as_address, as_int, as_str, describe_value, unmapped
from .arguments import parse_items
from .describe import is_mapped
from .fields import AddressField
from .intervals import Interval, normalize
from .memberships import simplify_atom
from .nodes import FALSE, Addresses, Node

Network = str | IPv4Address | IPv6Address | IPv4Network | IPv6Network
"""An address, a network, or the text of one; text can also be a range: ``"10.0.0.1-10.0.0.9"``."""

_ACCEPTED: Final = "an address, a network, a range, or a list of these"

_BRACKETED: Final = re.compile(r"\[([^\][]*:[^\][]*)\]")
"""An IPv6 address in brackets, which remains IPv6 even if it is IPv4-mapped."""

_MAX_LENGTH: Final = 100
"""The longest text to parse, in characters. No address or range is as long."""


def address_condition(field: AddressField, given: Network | Iterable[Network]) -> Node:
    """Return the condition that an address is in one of the given networks.

    :raises MatchError: when text or an object is not an address or a network.
    :raises TypeError: when the value is neither a network nor an iterable of networks.
    """
    items = cast("list[Network]", parse_items(field.name, _ACCEPTED, given))
    return address_in(field, [parse_network(field, item) for item in items])


def address_in(field: AddressField, ranges: Iterable[tuple[int, Interval]]) -> Node:
    """Return the condition that an address is in one of the ranges; without any it never is.

    :param field: the field with the address.
    :param ranges: the IP version of each range, and the range.
    """
    found: dict[int, list[Interval]] = {4: [], 6: []}
    for version, interval in ranges:
        found[version].append(interval)
    v4, v6 = normalize(found[4]), normalize(found[6])
    return simplify_atom(Addresses(field, v4, v6)) if v4 or v6 else FALSE


def parse_network(field: AddressField, item: Network) -> tuple[int, Interval]:
    """Return the IP version of one item, and the range of addresses that it stands for.

    :raises MatchError: when text or an object is not an address or a network.
    :raises TypeError: when the item is of another type.
    """
    if isinstance(item, str):
        try:
            return _parse_text(as_str(item))
        except ValueError as error:
            raise MatchError(f"{field.name}: {error}") from None
    if isinstance(item, IPv4Network | IPv6Network):
        first = _parse_address(field, item.network_address)
        size = first.max_prefixlen - as_int(item.prefixlen)
        if not 0 <= size <= first.max_prefixlen or int(first) % (1 << size):
            raise MatchError(f"{field.name}: {describe_value(item)} is not a network")
    elif isinstance(item, IPv4Address | IPv6Address):  # pyright: ignore[reportUnnecessaryIsInstance]
        first, size = _parse_address(field, item), 0
    else:
        raise TypeError(f"{field.name} must be {_ACCEPTED}; got {describe_value(item)}")
    if isinstance(first, IPv6Address) and first.scope_id is not None:
        raise MatchError(f"{field.name}: {_why_no_scope(first)}")
    return _unmap(first.version, (int(first), int(first) + (1 << size) - 1))


def _parse_address(field: AddressField, item: object) -> IPv4Address | IPv6Address:
    """Return a plain address object.

    :raises MatchError: when the number of an address object is out of range.
    """
    try:
        found = as_address(item)
    except ValueError:
        raise MatchError(f"{field.name}: {describe_value(item)} is not an address") from None
    if not 0 <= int(found) < 1 << found.max_prefixlen:
        raise MatchError(f"{field.name}: {describe_value(item)} is not an address")
    return found


def _unmap(version: int, interval: Interval) -> tuple[int, Interval]:
    """Return the IPv4 range of a range of IPv4-mapped addresses, and any other range unchanged."""
    if version == 6 and is_mapped(interval):
        return 4, (interval[0] & 0xFFFFFFFF, interval[1] & 0xFFFFFFFF)
    return version, interval


def _why_no_scope(item: object) -> str:
    return f"{item} has a scope, but addresses in packets have none"


def _parse_text(text: str) -> tuple[int, Interval]:
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"{describe_value(text)} is not an address, a network or a range")
    if "%" in text:
        raise ValueError(_why_no_scope(text))
    bare = _BRACKETED.sub(r"\1", text) if "[" in text else text
    if "/" in text:
        found = ip_network(bare)
        version, interval = found.version, (int(found[0]), int(found[-1]))
    else:
        first_text, dash, last_text = bare.partition("-")
        first = ip_address(first_text.strip())
        last = ip_address(last_text.strip()) if dash else first
        if first.version != last.version and bare == text:
            first, last = unmapped(first), unmapped(last)
        if first.version != last.version:
            raise ValueError(f"the range {text} mixes IPv4 and IPv6 addresses")
        if int(last) < int(first):
            raise ValueError(f"the range {text} ends before it begins")
        version, interval = first.version, (int(first), int(last))
    return (version, interval) if bare != text else _unmap(version, interval)
