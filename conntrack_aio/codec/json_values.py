"""Convert single values to JSON and back, as :mod:`.json` specifies."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, IntEnum, IntFlag
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple, cast

from ..model.values import describe_value
from ..model.wire import Address, Bitmap, Bytes, Integer, MaskedFlags, Text, Wire
from ..plain import as_address, as_bytes, as_int, as_str, describe_number

JSON = None | bool | int | str | list["JSON"] | dict[str, "JSON"]
"""What :func:`json.loads` returns and :func:`json.dumps` accepts, without fractions."""


class JSONCodec(NamedTuple):
    """The conversions of one type of value to JSON and back."""

    write: Callable[[object], JSON]
    """Returns the JSON of a value, or raises :exc:`ValueError` for a value of another type."""
    read: Callable[[JSON], object]
    """Returns the value of JSON, or raises :exc:`ValueError` for JSON of another form."""


def describe_json(data: object) -> str:
    """Return a short description of a value, as JSON names it, for an error."""
    if data is None or isinstance(data, bool):
        return {None: "null", False: "false", True: "true"}[data]
    if isinstance(data, dict):
        return "an object"
    if isinstance(data, list):
        return "a list"
    cls = type(data)
    if issubclass(cls, str):
        text = as_str(data)
        return repr(text) if len(text) <= 40 else f"{text[:40]!r}…"
    if issubclass(cls, int):
        return describe_number(as_int(data))
    return describe_value(data) if cls is float else f"a value of type {cls.__name__}"


def is_text(data: object) -> bool:
    """Return whether a value is a string, which may be of a subclass."""
    return issubclass(type(data), str)


def items_of(data: list[JSON]) -> list[JSON]:
    """Return the items of a list, even if a subclass overrides its iterator."""
    return [*list.__iter__(data)]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def entries_of(data: dict[str, JSON]) -> list[tuple[str, JSON]]:
    """Return the names and values of an object, even if a subclass overrides ``items``."""
    return [*dict.items(data)]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


@cache
def json_codec(wire: Wire[object]) -> JSONCodec:
    """Return the conversions of a wire type.

    :raises TypeError: when the wire type is a nest, which has none.
    """
    if isinstance(wire, Integer):
        return _integer(cast("Integer[int]", wire))
    if isinstance(wire, MaskedFlags):
        return _flags(cast("MaskedFlags[int]", wire).enum, 0, 0xFF)
    if isinstance(wire, Address):
        return ADDRESS
    if isinstance(wire, Text):
        return _text(wire.maximum)
    if isinstance(wire, Bytes):
        return _bytes(wire.maximum)
    if isinstance(wire, Bitmap):
        return _bitmap(8 * wire.size)
    raise TypeError(f"{wire!r} is not a scalar")


def _integer(wire: Integer[int]) -> JSONCodec:
    bits = 8 * wire.size
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if wire.signed else (0, (1 << bits) - 1)
    return _number(low, high) if wire.enum is None else _named(wire.enum, low, high)


def _named(enum: type[int], low: int, high: int) -> JSONCodec:
    return (_flags if issubclass(enum, IntFlag) else _enum)(enum, low, high)


def _number(low: int, high: int) -> JSONCodec:
    def check(value: object) -> int:
        try:
            number = None if type(value) is bool else as_int(value)
        except TypeError:
            number = None
        if number is None:
            raise ValueError(f"must be an integer; got {describe_json(value)}")
        if not low <= number <= high:
            raise ValueError(f"must be from {low} to {high}; got {describe_json(number)}")
        return number

    return JSONCodec(check, check)


def _enum(enum: type[int], low: int, high: int) -> JSONCodec:
    number = _number(low, high)
    members = _members(enum)
    names = {int(member): member.name for member in cast("type[IntEnum]", enum)}

    def write(value: object) -> JSON:
        plain = cast("int", number.write(value))
        return names.get(plain, plain)

    def read(data: JSON) -> object:
        if is_text(data):
            return _member(members, as_str(data))
        plain = cast("int", number.read(data))
        return enum(plain) if plain in names else plain

    return JSONCodec(write, read)


def _flags(enum: type[int], low: int, high: int) -> JSONCodec:
    number = _number(low, high)
    members = _members(enum)
    names = {int(member): cast("str", member.name) for member in cast("type[IntFlag]", enum)}

    def write(value: object) -> JSON:
        rest = cast("int", number.write(value))
        named: list[JSON] = []
        for bit, name in names.items():
            if rest & bit:
                named.append(name)
                rest &= ~bit
        return [*named, rest] if rest else named

    def read(data: JSON) -> object:
        bits = 0
        for item in _list(data):
            known = _member(members, as_str(item)) if is_text(item) else number.read(item)
            bits |= cast("int", known)
        return enum(bits)

    return JSONCodec(write, read)


def _members(enum: type[int]) -> dict[str, int]:
    """Return the members of an enum by the kernel's names, including aliases."""
    return dict(cast("type[IntEnum]", enum).__members__)


def _member(members: dict[str, int], name: str) -> int:
    if name not in members:
        raise ValueError(f"must be one of {', '.join(members)}; got {describe_json(name)}")
    return members[name]


def _list(data: JSON) -> list[JSON]:
    if not isinstance(data, list):
        raise ValueError(f"must be a list; got {describe_json(data)}")
    return data if type(data) is list else items_of(data)


def _bitmap(size: int) -> JSONCodec:
    number = _number(0, (1 << size) - 1)
    index = _number(0, size - 1)

    def write(value: object) -> JSON:
        bits = cast("int", number.write(value))
        return [bit for bit in range(bits.bit_length()) if bits >> bit & 1]

    def read(data: JSON) -> object:
        bits = 0
        for item in _list(data):
            bits |= 1 << cast("int", index.read(item))
        return bits

    return JSONCodec(write, read)


def _text(maximum: int) -> JSONCodec:
    def check(value: object) -> str:
        if not is_text(value):
            raise ValueError(f"must be text; got {describe_json(value)}")
        value = as_str(value)
        try:
            data = value.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            raise ValueError(f"{describe_json(value)} cannot be encoded as UTF-8") from None
        if b"\0" in data:
            raise ValueError(f"must not contain a NUL; got {describe_json(value)}")
        if len(data) > maximum:
            raise ValueError(f"must be at most {maximum} bytes; got {describe_json(value)}")
        return value

    return JSONCodec(check, check)


def _bytes(maximum: int) -> JSONCodec:
    def check(value: bytes) -> bytes:
        if len(value) > maximum:
            raise ValueError(f"must be at most {maximum} bytes; got {len(value)}")
        return value

    def write(value: object) -> JSON:
        if not issubclass(type(value), bytes):
            raise ValueError(f"must be bytes; got {describe_json(value)}")
        return check(as_bytes(value)).hex()

    def read(data: JSON) -> object:
        if is_text(data):
            text = as_str(data)
            try:
                value = bytes.fromhex(text)
            except ValueError:
                pass
            else:
                if len(value) * 2 == len(text):  # no spaces between
                    return check(value)
        raise ValueError(f"must be hexadecimal digits; got {describe_json(data)}")

    return JSONCodec(write, read)


def _address() -> JSONCodec:
    def write(value: object) -> JSON:
        try:
            address = as_address(value)
        except TypeError:
            raise ValueError(f"must be an address; got {describe_json(value)}") from None
        return str(_without_scope(address))

    def read(data: JSON) -> object:
        if not is_text(data):
            raise ValueError(f"must be an address; got {describe_json(data)}")
        try:
            value = ip_address(as_str(data))
        except ValueError:
            raise ValueError(f"must be an address; got {describe_json(data)}") from None
        return _without_scope(value)

    return JSONCodec(write, read)


def _without_scope(value: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(value, IPv6Address) and value.scope_id is not None:
        raise ValueError(f"must be an address without a scope; got {describe_json(str(value))}")
    return value


def _boolean() -> JSONCodec:
    def check(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false; got {describe_json(value)}")
        return value

    return JSONCodec(check, check)


def _by_value(enum: type[Enum]) -> JSONCodec:
    def write(value: object) -> JSON:
        if not isinstance(value, enum):
            raise ValueError(f"must be a member of {enum.__name__}; got {describe_json(value)}")
        return cast("str", value.value)

    def read(data: JSON) -> object:
        text = as_str(data) if is_text(data) else None
        for member in enum:
            if text is not None and member.value == text:
                return member
        accepted = ", ".join(str(member.value) for member in enum)
        raise ValueError(f"must be one of {accepted}; got {describe_json(data)}")

    return JSONCodec(write, read)


ADDRESS: Final = _address()
LOWEST, HIGHEST = -(1 << 63), (1 << 64) - 1
"""The range of numbers that no attribute holds."""
_PLAIN: Final[dict[type[object], JSONCodec]] = {
    bool: _boolean(),
    int: _number(LOWEST, HIGHEST),
    str: _text(HIGHEST),
    bytes: _bytes(HIGHEST),
    IPv4Address: ADDRESS,
    IPv6Address: ADDRESS,
}


def json_codec_of_type(cls: type[object]) -> JSONCodec | None:
    """Return the conversions of a type of values that no attribute holds; ``None`` if unknown."""
    if issubclass(cls, IntEnum | IntFlag):
        return _named(cls, LOWEST, HIGHEST)
    return _by_value(cls) if issubclass(cls, Enum) else _PLAIN.get(cls)
