"""Objects as JSON: derived, like everything, from the declarations.

The names are those of the fields; what is absent is left out. Addresses are text; flags are a
list of their names, states a name, each a number where the kernel has no name for it; a bitmap
is the list of its set bits; bytes are hexadecimal.
"""

from __future__ import annotations

from enum import Enum, IntEnum, IntFlag
from ipaddress import IPv4Address, IPv6Address
from typing import cast

import attrs

from ..model.declare import PLACES, At, Bitmap

JSON = None | bool | int | str | list["JSON"] | dict[str, "JSON"]


def to_json(obj: object) -> dict[str, JSON]:
    """An object of the model as what :func:`json.dumps` takes."""
    result: dict[str, JSON] = {}
    fields: tuple[attrs.Attribute[object], ...] = attrs.fields(
        cast("type[attrs.AttrsInstance]", type(obj))
    )
    for field in fields:
        value = getattr(obj, field.name)
        if value is None or value == ():
            continue
        places = cast("tuple[At[object], ...]", field.metadata.get(PLACES, ()))
        if places and isinstance(places[0].wire, Bitmap):
            result[field.name] = _bits(cast("int", value))
        else:
            result[field.name] = _value(value)
    return result


def _value(value: object) -> JSON:
    if isinstance(value, IntFlag):
        return _flags(value)
    if isinstance(value, IntEnum):
        return value.name
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, int | str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, IPv4Address | IPv6Address):
        return str(value)
    if isinstance(value, tuple | list):
        return [_value(item) for item in cast("tuple[object, ...]", value)]
    return cast("JSON", to_json(value))


def _bits(value: int) -> JSON:
    return [bit for bit in range(value.bit_length()) if value >> bit & 1]


def _flags(value: IntFlag) -> JSON:
    named: list[JSON] = []
    rest = int(value)
    for member in type(value):
        if rest & member:
            named.append(member.name)
            rest &= ~int(member)  # of a flag, ~ leaves out what the enum does not know
    return [*named, rest] if rest else named
