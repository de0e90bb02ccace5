"""Attributes as a tree: the kernel's names where they are declared, numbers elsewhere.

Nothing is shown but what is there: a value that would not be encoded to the same bytes has them
beside it, and what can't be read is hexadecimal.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum, IntFlag
from typing import cast

from ..codec.json_values import form_of
from ..codec.schema import Branch, Fork, Leaf
from ..errors import DecodeError, EncodeError
from ..model.declare import Bitmap, MaskedFlags
from ..netlink.attributes import HEADER, walk
from ..uapi.netlink import NLA_F_NESTED, NLA_F_NET_BYTEORDER

_DEEPEST = 16
"""Levels of nests that are looked into: more than any message of ctnetlink has."""

NOTHING = Branch("")
"""Where no attribute is known."""

_MOST = 64
"""Bytes of one value that are shown; the dump below has them all."""


def tree(data: bytes, start: int, end: int, known: Branch, depth: int = 1) -> Iterator[str]:
    """A line for each attribute between ``start`` and ``end``, those in a nest indented."""
    rest = start
    said: dict[int, object] | None = None
    try:
        for number, _, first, last in walk(data, start, end, known.name_of):
            rest = min(first + ((last - first + 3) & ~3), end)
            child = known.children.get(number)
            if isinstance(child, Fork):
                said = _said(data, start, end, known) if said is None else said
                child = child.leaves.get(cast("int", said.get(child.by)))
            yield from _attribute(data, first, last, known.name_of(number), child, depth)
    except DecodeError as error:
        yield f"{'  ' * depth}! {error}: {_hex(data[rest:end])}"


def _said(data: bytes, start: int, end: int, known: Branch) -> dict[int, object]:
    """The attributes that say what others in the same nest are. The last one counts."""
    said: dict[int, object] = {}
    deciding = {child.by for child in known.children.values() if isinstance(child, Fork)}
    try:
        for number, _, first, last in walk(data, start, end):
            child = known.children[number] if number in deciding else None
            if isinstance(child, Leaf) and child.scalar and child.scalar.size == last - first:
                said[number] = child.scalar.decode(data, first, last)
    except DecodeError:
        pass  # what can't be walked over is told where it stands
    return said


def _attribute(
    data: bytes, first: int, last: int, name: str, child: Leaf | Branch | None, depth: int
) -> Iterator[str]:
    _, kind = HEADER.unpack_from(data, first - HEADER.size)
    nested = bool(kind & NLA_F_NESTED)
    inside = _inside(child, nested) if depth <= _DEEPEST else None
    line = "  " * depth + name
    if nested and inside is None:
        line += " NLA_F_NESTED"
    elif inside is not None and not nested:
        line += " (without NLA_F_NESTED)"
    if kind & NLA_F_NET_BYTEORDER:
        line += " NLA_F_NET_BYTEORDER"
    if inside is None:
        yield f"{line} {_value(child, data, first, last)}"
    else:
        yield line
        yield from tree(data, first, last, inside, depth + 1)


def _inside(child: Leaf | Branch | None, nested: bool) -> Branch | None:
    """What is known of the attributes in a nest; ``None`` if it is none."""
    if child is None:
        return NOTHING if nested else None
    if isinstance(child, Branch):
        return child
    return None if child.nest is None else child.nest.root


def _value(child: Leaf | Branch | None, data: bytes, first: int, last: int) -> str:
    payload = data[first:last]
    scalar = child.scalar if isinstance(child, Leaf) else None
    if not isinstance(child, Leaf) or scalar is None or not payload:
        return _hex(payload)
    if scalar.size not in (None, len(payload)):
        return f"{_hex(payload)} ({len(payload)} bytes where {scalar.size} are expected)"
    try:
        value = scalar.decode(data, first, last)
    except DecodeError as error:
        return f"{_hex(payload)} ({error})"
    text = _readable(child, value, scalar.size)
    if isinstance(child.wire, MaskedFlags):
        return f"{text} mask {payload[1]:#04x}"
    try:
        if scalar.encode(value) == payload:
            return text
    except EncodeError:
        pass
    return f"{text} = {_hex(payload)}"


def _readable(leaf: Leaf, value: object, size: int | None) -> str:
    if isinstance(value, IntFlag):
        # By the names that its JSON has; the bits without one are a number.
        parts = cast("list[int | str]", form_of(leaf.wire).write(value))
        return "|".join(f"{part:#x}" if isinstance(part, int) else part for part in parts) or "0"
    if isinstance(value, IntEnum):
        return f"{value.name} ({int(value)})"
    if isinstance(value, bytes):
        return _hex(value)
    if isinstance(value, int) and isinstance(leaf.wire, Bitmap):
        return f"bits {[bit for bit in range(value.bit_length()) if value >> bit & 1]}"
    if isinstance(value, int) and value > 9 and size is not None and size >= 4:
        return f"{value} ({value:#x})"  # it may be a mark or a mask
    return repr(value) if isinstance(value, str) else str(value)


def _hex(data: bytes) -> str:
    if not data:
        return "empty"
    text = f"0x{data[:_MOST].hex()}"
    return text if len(data) <= _MOST else f"{text}… ({len(data)} bytes)"
