"""Render attributes as a tree of text lines.

- An attribute has the kernel's name if the library declares it, and otherwise its number.
- The text hides no byte: if encoding a value would not give the same bytes, the bytes follow the
  value.
- A value that cannot be decoded is shown in hexadecimal.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum, IntFlag
from typing import cast

from ..codec.json_values import json_codec
from ..codec.schema import Branch, Fork, Leaf
from ..errors import DecodeError, EncodeError
from ..model.wire import Bitmap, MaskedFlags
from ..netlink.attributes import HEADER, walk
from ..uapi.netlink import NLA_F_NESTED, NLA_F_NET_BYTEORDER

_MAX_DEPTH = 16
"""The number of nesting levels that are decoded, more than any message of ctnetlink has."""

UNKNOWN = Branch("")
"""The schema of a message or nest in which no attribute is declared."""

_MAX_BYTES = 64
"""The number of bytes that are shown of one value. The message's hexadecimal dump has all."""


def tree(data: bytes, start: int, end: int, schema: Branch, depth: int = 1) -> Iterator[str]:
    """Yield a line for each attribute between two offsets, indented inside nests.

    :param data: the bytes that contain the attributes.
    :param start: the offset of the first attribute, in bytes.
    :param end: the offset after the last attribute.
    :param schema: the attributes that are declared here.
    :param depth: the nesting level, which is also the level of indentation.
    """
    undecoded = start
    selectors: dict[int, object] | None = None
    try:
        for number, _, first, last in walk(data, start, end, schema.name_of):
            undecoded = min(first + ((last - first + 3) & ~3), end)
            child = schema.children.get(number)
            if isinstance(child, Fork):
                if selectors is None:
                    selectors = _selector_values(data, start, end, schema)
                child = child.leaves.get(cast("int", selectors.get(child.by)))
            yield from _attribute(data, first, last, schema.name_of(number), child, depth)
    except DecodeError as error:
        yield f"{'  ' * depth}! {error}: {_hex(data[undecoded:end])}"


def _selector_values(data: bytes, start: int, end: int, schema: Branch) -> dict[int, object]:
    """Return the values of the attributes that determine the type of others in the same nest.

    If such an attribute is repeated, the last one counts.
    """
    values: dict[int, object] = {}
    selectors = {child.by for child in schema.children.values() if isinstance(child, Fork)}
    try:
        for number, _, first, last in walk(data, start, end):
            child = schema.children[number] if number in selectors else None
            if isinstance(child, Leaf) and child.scalar and child.scalar.size == last - first:
                values[number] = child.scalar.decode(data, first, last)
    except DecodeError:
        pass  # tree() shows the error at its place
    return values


def _attribute(
    data: bytes, first: int, last: int, name: str, child: Leaf | Branch | None, depth: int
) -> Iterator[str]:
    """Yield the line of one attribute and, if it is a nest, the lines of those inside."""
    _, kind = HEADER.unpack_from(data, first - HEADER.size)
    nested = bool(kind & NLA_F_NESTED)
    inside = _nested_schema(child, nested) if depth <= _MAX_DEPTH else None
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


def _nested_schema(child: Leaf | Branch | None, nested: bool) -> Branch | None:
    """Return the schema inside an attribute, or ``None`` if the attribute is not a nest.

    :param child: the attribute in the schema, or ``None`` if it is not declared.
    :param nested: whether the attribute has the flag ``NLA_F_NESTED``. The flag decides only for an
        attribute that is not declared.
    """
    if child is None:
        return UNKNOWN if nested else None
    if isinstance(child, Branch):
        return child
    return None if child.nest is None else child.nest.root


def _value(child: Leaf | Branch | None, data: bytes, first: int, last: int) -> str:
    """Return an attribute's value as text, with its bytes if the text does not determine them."""
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
    text = _value_text(child, value, scalar.size)
    if isinstance(child.wire, MaskedFlags):
        return f"{text} mask {payload[1]:#04x}"
    try:
        if scalar.encode(value) == payload:
            return text
    except EncodeError:
        pass
    return f"{text} = {_hex(payload)}"


def _value_text(leaf: Leaf, value: object, size: int | None) -> str:
    """Return a decoded value as text.

    :param leaf: the attribute in the schema.
    :param value: the decoded value.
    :param size: the size of the attribute's payload in bytes, if it is fixed.
    """
    if isinstance(value, IntFlag):
        # The names are the same as in JSON. Bits without a name are one number.
        parts = cast("list[int | str]", json_codec(leaf.wire).write(value))
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
    text = f"0x{data[:_MAX_BYTES].hex()}"
    return text if len(data) <= _MAX_BYTES else f"{text}… ({len(data)} bytes)"
