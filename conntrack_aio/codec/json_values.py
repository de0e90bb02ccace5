"""Single values as JSON, in both directions; :mod:`.json` says what they look like."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, IntEnum, IntFlag
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple, cast

from ..model.declare import Address, Bitmap, Bytes, Integer, MaskedFlags, Text, Wire
from ..model.values import describe_value
from ..plain import as_address, as_bytes, as_int, as_str, describe_number

JSON = None | bool | int | str | list["JSON"] | dict[str, "JSON"]
"""What :func:`json.loads` gives, and :func:`json.dumps` takes. Of fractions there are none."""


class Form(NamedTuple):
    """How one kind of value is written as JSON, and read."""

    write: Callable[[object], JSON]
    """Raises :exc:`ValueError` for a value that is not of this kind."""
    read: Callable[[JSON], object]
    """Raises :exc:`ValueError` for what is not such a value."""


def shown(data: object) -> str:
    """A value in the words of an error: short, whatever it is."""
    if data is None or isinstance(data, bool):
        return {None: "null", False: "false", True: "true"}[data]
    if isinstance(data, dict):
        return "an object"
    if isinstance(data, list):
        return "a list"
    kind = type(data)
    if issubclass(kind, str):
        text = as_str(data)
        return repr(text) if len(text) <= 40 else f"{text[:40]!r}…"
    if issubclass(kind, int):
        return describe_number(as_int(data))
    return describe_value(data) if kind is float else f"a {kind.__name__}"


def is_text(data: object) -> bool:
    """Whether it is text, which may be of a subclass."""
    return issubclass(type(data), str)


def items_of(data: list[JSON]) -> list[JSON]:
    """Return the items of a list, whatever a subclass says they are."""
    return [*list.__iter__(data)]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def entries_of(data: dict[str, JSON]) -> list[tuple[str, JSON]]:
    """Return the names and values of an object, whatever a subclass says they are."""
    return [*dict.items(data)]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


@cache
def form_of(wire: Wire[object]) -> Form:
    """The form of a wire type; a nest has none."""
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


def _integer(wire: Integer[int]) -> Form:
    bits = 8 * wire.size
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if wire.signed else (0, (1 << bits) - 1)
    return _number(low, high) if wire.enum is None else _named(wire.enum, low, high)


def _named(enum: type[int], low: int, high: int) -> Form:
    return (_flags if issubclass(enum, IntFlag) else _state)(enum, low, high)


def _number(low: int, high: int) -> Form:
    def check(value: object) -> int:
        try:
            number = None if type(value) is bool else as_int(value)
        except TypeError:
            number = None
        if number is None:
            raise ValueError(f"{shown(value)} is not a whole number")
        if not low <= number <= high:
            raise ValueError(f"{shown(number)} is not in the range from {low} to {high}")
        return number

    return Form(check, check)


def _state(enum: type[int], low: int, high: int) -> Form:
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

    return Form(write, read)


def _flags(enum: type[int], low: int, high: int) -> Form:
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

    return Form(write, read)


def _members(enum: type[int]) -> dict[str, int]:
    """By the kernel's names, those of the same number too."""
    return dict(cast("type[IntEnum]", enum).__members__)


def _member(members: dict[str, int], name: str) -> int:
    if name not in members:
        raise ValueError(f"{shown(name)} is none of {', '.join(members)}")
    return members[name]


def _list(data: JSON) -> list[JSON]:
    if not isinstance(data, list):
        raise ValueError(f"{shown(data)} is not a list")
    return data if type(data) is list else items_of(data)


def _bitmap(size: int) -> Form:
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

    return Form(write, read)


def _text(maximum: int) -> Form:
    def check(value: object) -> str:
        if not is_text(value):
            raise ValueError(f"{shown(value)} is not text")
        value = as_str(value)
        try:
            data = value.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            raise ValueError(f"{shown(value)} has no bytes") from None
        if b"\0" in data:
            raise ValueError(f"{shown(value)} contains a NUL")
        if len(data) > maximum:
            raise ValueError(f"{shown(value)} is longer than {maximum} bytes")
        return value

    return Form(check, check)


def _bytes(maximum: int) -> Form:
    def check(value: bytes) -> bytes:
        if len(value) > maximum:
            raise ValueError(f"{len(value)} bytes are more than {maximum}")
        return value

    def write(value: object) -> JSON:
        if not issubclass(type(value), bytes):
            raise ValueError(f"{shown(value)} is not bytes")
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
        raise ValueError(f"{shown(data)} is not hexadecimal")

    return Form(write, read)


def _address() -> Form:
    def write(value: object) -> JSON:
        try:
            address = as_address(value)
        except TypeError:
            raise ValueError(f"{shown(value)} is not an address") from None
        return str(_without_scope(address))

    def read(data: JSON) -> object:
        if not is_text(data):
            raise ValueError(f"{shown(data)} is not an address")
        try:
            value = ip_address(as_str(data))
        except ValueError:
            raise ValueError(f"{shown(data)} is not an address") from None
        return _without_scope(value)

    return Form(write, read)


def _without_scope(value: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(value, IPv6Address) and value.scope_id is not None:
        raise ValueError(f"{shown(str(value))} has a scope; the kernel's entries have none")
    return value


def _truth() -> Form:
    def check(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"{shown(value)} is neither true nor false")
        return value

    return Form(check, check)


def _by_value(enum: type[Enum]) -> Form:
    def write(value: object) -> JSON:
        if not isinstance(value, enum):
            raise ValueError(f"{shown(value)} is no {enum.__name__}")
        return cast("str", value.value)

    def read(data: JSON) -> object:
        text = as_str(data) if is_text(data) else None
        for member in enum:
            if text is not None and member.value == text:
                return member
        raise ValueError(f"{shown(data)} is none of {', '.join(str(m.value) for m in enum)}")

    return Form(write, read)


ADDRESS: Final = _address()
_LOW, _HIGH = -(1 << 63), (1 << 64) - 1
_PLAIN: Final[dict[type[object], Form]] = {
    bool: _truth(),
    int: _number(_LOW, _HIGH),
    str: _text(_HIGH),
    bytes: _bytes(_HIGH),
    IPv4Address: ADDRESS,
    IPv6Address: ADDRESS,
}


def plain_form_of(cls: type[object]) -> Form | None:
    """The form of a value that no attribute holds, by its type; ``None`` if it has none."""
    if issubclass(cls, IntEnum | IntFlag):
        return _named(cls, _LOW, _HIGH)
    return _by_value(cls) if issubclass(cls, Enum) else _PLAIN.get(cls)
