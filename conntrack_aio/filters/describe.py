"""Write a match as the text that :mod:`.parser` reads."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from .fields import LABEL, MARK, PROTO, STATE, STATES, STATUS, NumberField
from .intervals import Interval, Intervals, prefixes
from .nodes import FALSE, TRUE, Addresses, AllOf, AnyOf, Atom, Bits, Node, Not, Numbers, Texts

KEYWORDS: Final = frozenset({"and", "or", "not", "in", "all", "none"})

_PLAIN: Final = re.compile(r"[A-Za-z0-9_.+-]+")
"""Text that needs no quotation marks, unless it is a keyword."""


def describe(node: Node) -> str:
    """Return the text of a node."""
    if node == TRUE:
        return "all"
    if node == FALSE:
        return "none"
    if isinstance(node, AllOf):
        return " and ".join(map(_describe_part, node.parts))
    if isinstance(node, AnyOf):
        return " or ".join(map(_describe_part, node.parts))
    if isinstance(node, Not):
        return f"not {_describe_part(node.part)}"
    return f"{node.field.name} {_value(node)}"


def _describe_part(node: Node) -> str:
    """Return the text of a node inside another one: in parentheses if it has several parts."""
    text = describe(node)
    return f"({text})" if isinstance(node, AllOf | AnyOf) and node.parts else text


def _value(node: Atom) -> str:
    """Return what follows the name of the field."""
    if isinstance(node, Addresses):
        v4 = [_addresses(interval, IPv4Address, 32) for interval in node.v4]
        v6 = [_addresses(interval, IPv6Address, 128) for interval in node.v6]
        return _set([*v4, *v6], (*node.v4, *node.v6))
    if isinstance(node, Texts):
        return _set([quoted(text) for text in node.values])
    if isinstance(node, Numbers):
        if node.field is STATE:
            return _set(_states(node.values))
        return _comparison(node) or _set(_numbers(node), node.values)
    return _bits(node)


def _bits(node: Bits) -> str:
    field, mask, value = node.field, node.mask, node.value
    if field is MARK and mask == (1 << MARK.width) - 1:
        return str(value)
    if field is MARK or (field is LABEL and (mask.bit_count() != 1 or mask != value)):
        return f"{value:#x}/{mask:#x}"
    bit = mask.bit_length() - 1
    unnamed = f"{mask:#x}" if field is STATUS else str(bit)
    return next((name for name, position in field.names.items() if position == bit), unnamed)


def _set(items: list[str], ranges: Intervals = ()) -> str:
    """Return one item as it is, and several in braces.

    :param items: the texts of the items.
    :param ranges: the ranges that the items stand for. ``in`` precedes an item that has several
        values: ``in 10.0.0.0/8``.
    """
    if len(items) != 1:
        return f"in {{{', '.join(items)}}}"
    return f"in {items[0]}" if any(first < last for first, last in ranges) else items[0]


def _comparison(node: Numbers) -> str:
    """Return a comparison such as ``>= 1024`` for a range with one bound, and "" for others."""
    if len(node.values) == 1:
        ((first, last),) = node.values
        if first < last == node.field.maximum:
            return f">= {first}"
        if 0 == first < last:
            return f"<= {last}"
    return ""


def _numbers(node: Numbers) -> list[str]:
    return [
        number_name(node.field, first) if first == last else f"{first}-{last}"
        for first, last in node.values
    ]


def number_name(field: NumberField, number: int) -> str:
    """Return the name of a number, or its digits if it has none."""
    return _names_by_number(field).get(number) or str(number)


@cache
def _names_by_number(field: NumberField) -> dict[int, str]:
    """Return the names of a field's numbers. The cache has at most one item for each field."""
    return {number: name for name, number in field.names.items()}


def proto_name(proto: int) -> str:
    """Return the name of a protocol, or its number if it has none."""
    return number_name(PROTO, proto)


def _states(values: Intervals) -> list[str]:
    """Return the names of states.

    A name without a protocol is used if the set has the state of that name of every protocol.
    """
    wanted = {number for first, last in values for number in range(first, last + 1)}
    found: dict[int, str] = {}
    for name, numbers in state_names().items():
        if numbers <= wanted and not numbers & found.keys():
            found |= dict.fromkeys(numbers, name)
    names = [found.get(number) or _state_of_one_protocol(number) for number in sorted(wanted)]
    return list(dict.fromkeys(names))


def state_names() -> dict[str, frozenset[int]]:
    """Return the names of states, with the states of all protocols that each name stands for."""
    found: dict[str, frozenset[int]] = {}
    for proto, states in STATES.items():
        for name, state in states.items():
            found[name] = found.get(name, frozenset()) | {proto << 8 | state}
    return found


def _state_of_one_protocol(number: int) -> str:
    proto, state = divmod(number, 256)
    names = STATES.get(proto, {})
    name = next((name for name, known in names.items() if known == state), str(state))
    return f"{proto_name(proto)}.{name}"


def quoted(text: str) -> str:
    """Return a text, in quotation marks if the parser would otherwise read something else."""
    if _PLAIN.fullmatch(text) and text not in KEYWORDS:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _addresses(
    interval: Interval, kind: Callable[[int], IPv4Address | IPv6Address], width: int
) -> str:
    """Return the text of an address, a network or a range."""
    first, last = interval

    def text(number: int) -> str:
        # Without brackets the parser reads an IPv4-mapped address as IPv4.
        return f"[{kind(number)}]" if width == 128 and is_mapped(interval) else str(kind(number))

    if first == last:
        return text(first)
    if len(found := prefixes((interval,), width)) == 1:
        return f"{text(first)}/{found[0][1]}"
    return f"{text(first)}-{text(last)}"


def is_mapped(interval: Interval) -> bool:
    """Return whether all IPv6 addresses of a range are IPv4-mapped: in ``::ffff:0:0/96``."""
    first, last = interval
    return first >> 32 == last >> 32 == 0xFFFF
