"""The values of single attributes, in both directions."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from functools import cache, lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, cast

from ..errors import DecodeError, EncodeError
from ..model.declare import Address, Bitmap, Bytes, Integer, MaskedFlags, Text, Wire
from ..netlink.attributes import Buffer

_WORD = struct.calcsize("l")


class Scalar(NamedTuple):
    """How one kind of value is read and written."""

    size: int | None
    """The payload's size, where it is fixed. An empty one is padding, which is the caller's to
    see to."""
    maximum: int
    """The largest payload. A larger one is of a newer kernel; that too is the caller's to see."""
    decode: Callable[[Buffer, int, int], object]
    """Of a payload from start to end. Raises :exc:`DecodeError`."""
    encode: Callable[[object], bytes]
    """Raises :exc:`EncodeError`."""
    types: tuple[type, ...]
    """What a value must be an instance of for this place to take it."""


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


_FORMATS = {(1, False): "B", (2, False): "H", (4, False): "I", (4, True): "i", (8, False): "Q"}


def _integer(wire: Integer[int]) -> Scalar:
    codec = struct.Struct(("=" if wire.host_order else "!") + _FORMATS[wire.size, wire.signed])
    bits = 8 * wire.size
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if wire.signed else (0, (1 << bits) - 1)
    unpack_from = codec.unpack_from
    convert = _converter(wire.enum)

    def decode(buffer: Buffer, start: int, end: int) -> object:
        return unpack_from(buffer, start)[0]

    def decode_enum(buffer: Buffer, start: int, end: int) -> object:
        return convert(unpack_from(buffer, start)[0])

    def encode(value: object) -> bytes:
        return codec.pack(_checked(value, low, high))

    return Scalar(wire.size, wire.size, decode_enum if wire.enum else decode, encode, (int,))


def describe_number(value: int) -> str:
    """For errors: Python refuses to write out an integer of thousands of digits."""
    bits = value.bit_length()
    return str(int(value)) if bits <= 128 else f"a number of {bits} bits"


def _checked(value: object, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise EncodeError(f"{value!r} is not an integer")
    if not low <= value <= high:
        raise EncodeError(f"{describe_number(value)} is not in the range from {low} to {high}")
    return value


def _converter(enum: type[int] | None) -> Callable[[int], int]:
    """From the number to the enum's member; what the enum does not know stays a number."""
    if enum is None:
        return int

    # Bounded: a flag enum makes a member for every combination it meets.
    @lru_cache(maxsize=1024)
    def convert(value: int) -> int:
        try:
            return enum(value)
        except ValueError:
            return value

    return convert


def _address(wire: Address[object]) -> Scalar:
    cls = wire.cls
    assert cls in (IPv4Address, IPv6Address)
    # Tables repeat their addresses: taking one from here is ten times cheaper than making it.
    make = lru_cache(maxsize=1 << 16)(cls)

    def decode(buffer: Buffer, start: int, end: int) -> object:
        return make(bytes(buffer[start:end]))

    def encode(value: object) -> bytes:
        assert isinstance(value, (IPv4Address, IPv6Address))
        if isinstance(value, IPv6Address) and value.scope_id is not None:
            raise EncodeError(f"{value} has a scope; the kernel's entries have none")
        return value.packed

    return Scalar(wire.size, wire.size, decode, encode, (cls,))


def _text(wire: Text) -> Scalar:
    def decode(buffer: Buffer, start: int, end: int) -> object:
        return bytes(buffer[start:end]).split(b"\0", 1)[0].decode(errors="surrogateescape")

    def encode(value: object) -> bytes:
        assert isinstance(value, str)
        try:
            data = value.encode(errors="surrogateescape") + b"\0"
        except UnicodeEncodeError:
            raise EncodeError(f"{value!r} has no bytes") from None
        if b"\0" in data[:-1]:
            raise EncodeError(f"{value!r} contains a NUL")
        if len(data) > wire.maximum:
            raise EncodeError(f"{value!r} is longer than {wire.maximum - 1} bytes")
        return data

    return Scalar(None, wire.maximum, decode, encode, (str,))


def _bytes(wire: Bytes) -> Scalar:
    def decode(buffer: Buffer, start: int, end: int) -> object:
        return bytes(buffer[start:end])

    def encode(value: object) -> bytes:
        assert isinstance(value, bytes)
        if len(value) > wire.maximum:
            raise EncodeError(f"{len(value)} bytes are more than {wire.maximum}")
        return value

    return Scalar(None, wire.maximum, decode, encode, (bytes,))


def _bitmap(wire: Bitmap) -> Scalar:
    def decode(buffer: Buffer, start: int, end: int) -> object:
        if (end - start) % 4:
            raise DecodeError(f"a bitmap of {end - start} bytes is not made of words")
        return from_words(bytes(buffer[start:end]))

    def encode(value: object) -> bytes:
        return to_words(_checked(value, 0, (1 << 8 * wire.size) - 1), wire.size)

    return Scalar(None, wire.size, decode, encode, (int,))


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
    convert = _converter(wire.enum)

    def decode(buffer: Buffer, start: int, end: int) -> object:
        return convert(buffer[start])

    def encode(value: object) -> bytes:
        return bytes((_checked(value, 0, 0xFF), 0xFF))

    return Scalar(2, 2, decode, encode, (int,))
