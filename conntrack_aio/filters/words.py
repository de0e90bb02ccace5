"""A match in words: the text that :mod:`.parser` reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from .fields import LABEL, MARK, PROTO, STATE, STATES, STATUS, NumberField
from .intervals import Intervals, prefixes
from .nodes import FALSE, TRUE, Addresses, All, Any, Atom, Bits, Node, Not, Numbers, Texts

KEYWORDS: Final = frozenset({"and", "or", "not", "in", "all", "none"})

_PLAIN: Final = re.compile(r"[A-Za-z0-9_.+-]+")


def describe(node: Node) -> str:
    """The text of a node."""
    if node == TRUE:
        return "all"
    if node == FALSE:
        return "none"
    if isinstance(node, All):
        return " and ".join(map(_inside, node.parts))
    if isinstance(node, Any):
        return " or ".join(map(_inside, node.parts))
    if isinstance(node, Not):
        return f"not {_inside(node.part)}"
    return f"{node.field.name} {_value(node)}"


def _inside(node: Node) -> str:
    text = describe(node)
    return f"({text})" if isinstance(node, All | Any) and node.parts else text


def _value(node: Atom) -> str:
    if isinstance(node, Addresses):
        v4 = [_address(each, IPv4Address, 32) for each in node.v4]
        v6 = [_address(each, IPv6Address, 128) for each in node.v6]
        return _set([*v4, *v6], (*node.v4, *node.v6))
    if isinstance(node, Texts):
        return _set([quoted(each) for each in node.values])
    if isinstance(node, Numbers):
        if node.field is STATE:
            return _set(_states(node.values))
        return _limit(node) or _set(_numbers(node), node.values)
    return _bits(node)


def _bits(node: Bits) -> str:
    field, mask, value = node.field, node.mask, node.value
    if field is MARK and mask == (1 << MARK.width) - 1:
        return str(value)
    if field is MARK or (field is LABEL and (mask.bit_count() != 1 or mask != value)):
        return f"{value:#x}/{mask:#x}"
    bit = mask.bit_length() - 1
    unnamed = f"{mask:#x}" if field is STATUS else str(bit)
    return next((name for name, each in field.words.items() if each == bit), unnamed)


def _set(items: list[str], ranges: Intervals = ()) -> str:
    """One as it is, several as a set; a network or range is always ``in``."""
    if len(items) != 1:
        return f"in {{{', '.join(items)}}}"
    return f"in {items[0]}" if any(first < last for first, last in ranges) else items[0]


def _limit(node: Numbers) -> str:
    """A range without an end, or without a beginning, or nothing."""
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
    """The name that a number has, or its digits."""
    return _names_of(field).get(number) or str(number)


@cache
def _names_of(field: NumberField) -> dict[int, str]:
    """By the number. There are as many of these as fields."""
    return {number: name for name, number in field.words.items()}


def proto_name(proto: int) -> str:
    """The name of a protocol, or its number."""
    return number_name(PROTO, proto)


def _states(values: Intervals) -> list[str]:
    """A name that stands for all protocols that have it, where all are meant."""
    wanted = {number for first, last in values for number in range(first, last + 1)}
    told: dict[int, str] = {}
    for name, numbers in state_names().items():
        if numbers <= wanted and not numbers & told.keys():
            told |= dict.fromkeys(numbers, name)
    names = [told.get(number) or _state_of_one(number) for number in sorted(wanted)]
    return list(dict.fromkeys(names))


def state_names() -> dict[str, frozenset[int]]:
    """The states by their names: all that have a name, of whatever protocol."""
    found: dict[str, frozenset[int]] = {}
    for proto, states in STATES.items():
        for name, state in states.items():
            found[name] = found.get(name, frozenset()) | {proto << 8 | state}
    return found


def _state_of_one(number: int) -> str:
    proto, state = divmod(number, 256)
    names = STATES.get(proto, {})
    name = next((name for name, each in names.items() if each == state), str(state))
    return f"{proto_name(proto)}.{name}"


def near(name: str, known: Iterable[str]) -> list[str]:
    """Of the names that are known, those that may have been meant: the likeliest first."""
    # Only who has made a mistake has to load it.
    try:
        from difflib import get_close_matches
    except OSError:  # there are no descriptors left
        return []
    return get_close_matches(name[:40].lower(), known, 3, 0.5)


def quoted(text: str) -> str:
    """A text as it is, or in quotation marks where it would be read as something else."""
    if _PLAIN.fullmatch(text) and text not in KEYWORDS:
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _address(
    interval: tuple[int, int], kind: Callable[[int], IPv4Address | IPv6Address], width: int
) -> str:
    first, last = interval

    def text(number: int) -> str:
        # In brackets, for without them an address like this is meant as IPv4.
        return f"[{kind(number)}]" if width == 128 and is_mapped(interval) else str(kind(number))

    if first == last:
        return text(first)
    if len(found := prefixes((interval,), width)) == 1:
        return f"{text(first)}/{found[0][1]}"
    return f"{text(first)}-{text(last)}"


def is_mapped(interval: tuple[int, int]) -> bool:
    """Whether IPv6 addresses are all IPv4-mapped ones: ``::ffff:0:0/96``."""
    first, last = interval
    return first >> 32 == last >> 32 == 0xFFFF
