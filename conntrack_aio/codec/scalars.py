"""The values of single attributes, in both directions."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, cast

import attrs

from ..errors import DecodeError, EncodeError
from ..function_builder import BoundedMemo, Expression, FunctionBuilder
from ..model.declare import Address, Bitmap, Bytes, Integer, MaskedFlags, Text, Wire
from ..model.values import describe_value, plain_number
from ..netlink.attributes import Buffer
from ..plain import as_address, as_bytes, as_str, describe_number

_WORD = struct.calcsize("l")
_FEW: Final = 1 << 10
_MANY: Final = 1 << 12
"""Limits of memos, in values."""

MakeAttributes = Callable[[FunctionBuilder, Expression], Mapping[str, Expression]]


@attrs.frozen(eq=False)
class Scalar:
    """How one kind of value is read and written.

    Reading has two steps, so that many values can be unpacked at once: ``code`` gives what is raw,
    ``memo`` what it means.
    """

    size: int | None
    """The payload's size, where it is fixed. An empty one is padding, which is the caller's to
    see to."""
    maximum: int
    """The largest payload. A larger one is of a newer kernel; that too is the caller's to see."""
    code: str | None
    """What :mod:`struct` calls it, in network byte order; ``None``: the payload's bytes."""
    memo: BoundedMemo | None
    """What a raw value means; ``None``: itself. Raises :exc:`DecodeError`."""
    encode: Callable[[Any], bytes]
    """Raises :exc:`EncodeError`."""
    types: tuple[type, ...]
    """What a value must be an instance of for this place to take it."""
    attributes: MakeAttributes | None = None
    """Returns the attributes of the object that a raw value means, by name. A function then makes
    an object that ``memo`` does not have: calling its class takes longer than reading the rest of
    a message. ``None`` when the object has to be made by its class."""
    _unpack: Callable[[Buffer, int], tuple[object]] | None = attrs.field(
        init=False, default=attrs.Factory(lambda self: _unpacker(self.code), takes_self=True)
    )

    def decode(self, buffer: Buffer, start: int, end: int) -> object:
        """A payload from start to end. Raises :exc:`DecodeError`."""
        unpack = self._unpack
        raw = bytes(buffer[start:end]) if unpack is None else unpack(buffer, start)[0]
        return raw if self.memo is None else self.memo[raw]


def _unpacker(code: str | None) -> Callable[[Buffer, int], tuple[object]] | None:
    return None if code is None else struct.Struct(f"!{code}").unpack_from


@cache
def scalar_of(wire: Wire[object]) -> Scalar:
    """The codec of a wire type; a nest has none."""
    if isinstance(wire, Integer):
        return _integer(cast("Integer[int]", wire))
    if isinstance(wire, Address):
        return _address(wire)
    if isinstance(wire, Text):
        return _text(wire)
    if isinstance(wire, Bytes):
        return _bytes(wire)
    if isinstance(wire, Bitmap):
        return _bitmap(wire)
    if isinstance(wire, MaskedFlags):
        return _masked_flags(cast("MaskedFlags[int]", wire))
    raise TypeError(f"{wire!r} is not a scalar")


_CODES = {(1, False): "B", (2, False): "H", (4, False): "I", (4, True): "i", (8, False): "Q"}


def _integer(wire: Integer[int]) -> Scalar:
    code = _CODES[wire.size, wire.signed]
    bits = 8 * wire.size
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if wire.signed else (0, (1 << bits) - 1)
    pack = struct.Struct(("=" if wire.host_order else "!") + code).pack

    def encode(value: object) -> bytes:
        return pack(_checked(value, low, high))

    memo = None if wire.enum is None else _members(wire.enum)
    if wire.host_order:
        assert memo is None
        code, memo = f"{wire.size}s", BoundedMemo(_FEW, partial(_from_host, signed=wire.signed))
    return Scalar(wire.size, wire.size, code, memo, encode, (int,))


def _from_host(data: bytes, *, signed: bool) -> int:
    return int.from_bytes(data, sys.byteorder, signed=signed)


def _checked(value: object, low: int, high: int) -> int:
    number = plain_number(value)
    if not low <= number <= high:
        raise EncodeError(f"{describe_number(number)} is not in the range from {low} to {high}")
    return number


def _members(enum: type[int]) -> BoundedMemo:
    """From the number to the enum's member; what the enum does not know stays a number.

    Bounded, for a flag enum makes a member for every combination it meets.
    """

    def member(value: int) -> int:
        try:
            return enum(value)
        except ValueError:
            return value

    return BoundedMemo(_FEW, member)


def _address(wire: Address[object]) -> Scalar:
    cls = wire.cls
    assert cls in (IPv4Address, IPv6Address)
    code = "I" if cls is IPv4Address else "16s"
    # Tables repeat their addresses: taking one from here is ten times cheaper than making it.
    memo = BoundedMemo(_MANY, cls)

    def encode(value: object) -> bytes:
        address = as_address(value)
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            raise EncodeError(f"{address} has a scope; the kernel's entries have none")
        return address.packed

    return Scalar(wire.size, wire.size, code, memo, encode, (cls,), _attributes_of(cls))


def _attributes_of(cls: type[object]) -> MakeAttributes | None:
    """Return how the attributes of an address are made, or ``None``.

    They are not public. Every Python so far has the same; another one may have others.
    """
    try:
        if cls is IPv4Address:
            four = object.__new__(IPv4Address)
            four._ip = 0x7F000001  # type: ignore[attr-defined]
            return _ipv4_attributes if four == IPv4Address("127.0.0.1") else None
        six = object.__new__(IPv6Address)
        six._ip, six._scope_id = 1, None  # type: ignore[attr-defined]
        return _ipv6_attributes if str(six) == "::1" else None
    except AttributeError:
        return None


def _ipv4_attributes(builder: FunctionBuilder, raw: Expression) -> dict[str, Expression]:
    return {"_ip": raw}


def _ipv6_attributes(builder: FunctionBuilder, raw: Expression) -> dict[str, Expression]:
    return {"_ip": builder.call(_from_bytes, raw, "big"), "_scope_id": builder.bind(None)}


_from_bytes: Final = int.from_bytes
"""One object, and so one name in generated source. Each ``int.from_bytes`` is another object."""


def _text(wire: Text) -> Scalar:
    def text(data: bytes) -> str:
        return data.split(b"\0", 1)[0].decode(errors="surrogateescape")

    def encode(value: object) -> bytes:
        text = as_str(value)
        try:
            data = text.encode(errors="surrogateescape") + b"\0"
        except UnicodeEncodeError:
            raise EncodeError(f"{describe_value(text)} has no bytes") from None
        if b"\0" in data[:-1]:
            raise EncodeError(f"{describe_value(text)} contains a NUL")
        if len(data) > wire.maximum:
            shown = describe_value(text)
            raise EncodeError(f"{shown} is longer than {wire.maximum - 1} bytes")
        return data

    return Scalar(None, wire.maximum, None, BoundedMemo(_FEW, text), encode, (str,))


def _bytes(wire: Bytes) -> Scalar:
    def encode(value: object) -> bytes:
        data = as_bytes(value)
        if len(data) > wire.maximum:
            raise EncodeError(f"{len(data)} bytes are more than {wire.maximum}")
        return data

    return Scalar(None, wire.maximum, None, None, encode, (bytes,))


def _bitmap(wire: Bitmap) -> Scalar:
    def number(data: bytes) -> int:
        if len(data) % 4:
            raise DecodeError(f"a bitmap of {len(data)} bytes is not made of words")
        return from_words(data)

    def encode(value: object) -> bytes:
        return to_words(_checked(value, 0, (1 << 8 * wire.size) - 1), wire.size)

    return Scalar(None, wire.size, None, BoundedMemo(_FEW, number), encode, (int,))


def from_words(data: bytes, byteorder: str = sys.byteorder, word: int = _WORD) -> int:
    """``unsigned long`` words, the lowest bits in the first, as one integer."""
    if byteorder == "little":
        return int.from_bytes(data, "little")
    words = [data[i : i + word] for i in range(0, len(data), word)]
    return sum(int.from_bytes(part, "big") << 8 * word * i for i, part in enumerate(words))


def to_words(value: int, size: int, byteorder: str = sys.byteorder, word: int = _WORD) -> bytes:
    """The inverse of :func:`from_words`, ``size`` bytes."""
    data = value.to_bytes(size, "little")
    if byteorder == "little":
        return data
    return b"".join(data[i : i + word][::-1] for i in range(0, size, word))


def _masked_flags(wire: MaskedFlags[int]) -> Scalar:
    def encode(value: object) -> bytes:
        return bytes((_checked(value, 0, 0xFF), 0xFF))

    return Scalar(2, 2, "Bx", _members(wire.enum), encode, (int,))
