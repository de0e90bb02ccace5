"""Read and write the values of single attributes."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, Literal, cast

from ..errors import DecodeError, EncodeError
from ..function_builder import BoundedMemo, Expression, FunctionBuilder
from ..model.values import describe_value, plain_number
from ..model.wire import Address, Bitmap, Bytes, Integer, MaskedFlags, Text, Wire
from ..netlink.attributes import BytesLike
from ..plain import as_address, as_bytes, as_str, describe_number

_WORD = struct.calcsize("l")
_SMALL_MEMO: Final = 1 << 10
_ADDRESS_MEMO: Final = 1 << 12
"""The largest numbers of values in a memo."""
_CROWDED_ADDRESS_MEMO: Final = 1 << 8
"""The largest number of addresses in a memo once there were more than :data:`_ADDRESS_MEMO`.

The garbage collector runs after 700 new objects. If a memo keeps fewer than that, the collector
does not run while a dump is read and its flows are dropped."""

MakeAttributes = Callable[[FunctionBuilder, Expression], Mapping[str, Expression]]
"""Returns the attributes of an object, by name, as expressions of a raw value."""


class Scalar:
    """The codec of one type of value.

    Reading has two steps, so that many values can be unpacked at once: ``code`` unpacks a raw
    value, and ``memo`` converts it.
    """

    __slots__ = ("_unpack", "attributes", "code", "encode", "maximum", "memo", "size", "types")

    size: int | None
    """Bytes of the payload if they are fixed, or ``None``. An empty payload is then padding, which
    the caller has to recognize."""
    maximum: int
    """Bytes of the largest payload. A larger one comes from a newer kernel, which the caller has to
    recognize."""
    code: str | None
    """The :mod:`struct` format of the raw value, in network byte order. ``None`` if the raw value
    is the payload itself, as bytes."""
    memo: BoundedMemo | None
    """Converts a raw value, or raises :exc:`DecodeError`. ``None`` if nothing is to be
    converted."""
    encode: Callable[[Any], bytes]
    """Returns the payload of a value, or raises :exc:`EncodeError`."""
    types: tuple[type, ...]
    """The types of the values."""
    attributes: MakeAttributes | None
    """Returns the attributes of the object that a raw value stands for. With them, a generated
    function creates an object that ``memo`` does not have: calling the class takes longer than
    reading the rest of a message. ``None`` if only the class can create the object."""

    def __init__(
        self,
        size: int | None,
        maximum: int,
        code: str | None,
        memo: BoundedMemo | None,
        encode: Callable[[Any], bytes],
        types: tuple[type, ...],
        attributes: MakeAttributes | None = None,
    ) -> None:
        self.size = size
        self.maximum = maximum
        self.code = code
        self.memo = memo
        self.encode = encode
        self.types = types
        self.attributes = attributes
        self._unpack = _unpacker(code)

    def decode(self, buffer: BytesLike, start: int, end: int) -> object:
        """Return the value of the payload between two offsets.

        :raises DecodeError: when the payload is not valid.
        """
        unpack = self._unpack
        raw = bytes(buffer[start:end]) if unpack is None else unpack(buffer, start)[0]
        return raw if self.memo is None else self.memo[raw]


def _unpacker(code: str | None) -> Callable[[BytesLike, int], tuple[object]] | None:
    return None if code is None else struct.Struct(f"!{code}").unpack_from


@cache
def scalar_of(wire: Wire[object]) -> Scalar:
    """Return the codec of a wire type.

    :raises TypeError: when it is a nest, which has none.
    """
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


IntegerCode = Literal["B", "H", "I", "i", "Q"]
"""The format of a number, as in :mod:`struct` and :mod:`array`."""

INTEGER_CODES: Final[dict[tuple[int, bool], IntegerCode]] = {
    (1, False): "B",
    (2, False): "H",
    (4, False): "I",
    (4, True): "i",
    (8, False): "Q",
}
"""The formats of numbers, by their bytes and whether they have a sign."""


def _integer(wire: Integer[int]) -> Scalar:
    code: str = INTEGER_CODES[wire.size, wire.signed]
    bits = 8 * wire.size
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if wire.signed else (0, (1 << bits) - 1)
    pack = struct.Struct(("=" if wire.host_order else "!") + code).pack

    def encode(value: object) -> bytes:
        return pack(_number_in_range(value, low, high))

    memo = None if wire.enum is None else _members(wire.enum)
    if wire.host_order:
        assert memo is None
        code, memo = (
            f"{wire.size}s",
            BoundedMemo(_SMALL_MEMO, partial(_from_host, signed=wire.signed)),
        )
    return Scalar(wire.size, wire.size, code, memo, encode, (int,))


def _from_host(data: bytes, *, signed: bool) -> int:
    return int.from_bytes(data, sys.byteorder, signed=signed)


def _number_in_range(value: object, low: int, high: int) -> int:
    """Return a number as a plain integer.

    :raises EncodeError: when the value is not a number, or when it is out of range.
    """
    number = plain_number(value)
    if not low <= number <= high:
        raise EncodeError(f"{describe_number(number)} is not in the range from {low} to {high}")
    return number


def _members(enum: type[int]) -> BoundedMemo:
    """Return a memo of the members of an enum. A number that is not a member stays a number.

    The memo is bounded, because a flag enum has a member for every combination of flags.
    """

    def member(value: int) -> int:
        try:
            return enum(value)
        except ValueError:
            return value

    return BoundedMemo(_SMALL_MEMO, member)


def _address(wire: Address[object]) -> Scalar:
    cls = wire.cls
    assert cls in (IPv4Address, IPv6Address)
    code = "I" if cls is IPv4Address else "16s"
    # A table has the same addresses many times. Finding one here is ten times faster than creating
    # it.
    memo = BoundedMemo(_ADDRESS_MEMO, cls, limit_if_exceeded=_CROWDED_ADDRESS_MEMO)

    def encode(value: object) -> bytes:
        address = as_address(value)
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            raise EncodeError(f"{address} has a scope; the kernel's entries have none")
        return address.packed

    return Scalar(wire.size, wire.size, code, memo, encode, (cls,), _attributes_of(cls))


def _attributes_of(cls: type[object]) -> MakeAttributes | None:
    """Return the function that returns the attributes of an address, or ``None``.

    The attributes are private. They are the same in every version of Python so far; if a later
    version has others, this returns ``None``.
    """
    try:
        if cls is IPv4Address:
            ipv4 = object.__new__(IPv4Address)
            ipv4._ip = 0x7F000001  # type: ignore[attr-defined]
            return _ipv4_attributes if ipv4 == IPv4Address("127.0.0.1") else None
        ipv6 = object.__new__(IPv6Address)
        ipv6._ip, ipv6._scope_id = 1, None  # type: ignore[attr-defined]
        return _ipv6_attributes if str(ipv6) == "::1" else None
    except AttributeError:
        return None


def _ipv4_attributes(builder: FunctionBuilder, raw: Expression) -> dict[str, Expression]:
    return {"_ip": raw}


def _ipv6_attributes(builder: FunctionBuilder, raw: Expression) -> dict[str, Expression]:
    return {"_ip": builder.call(_from_bytes, raw, "big"), "_scope_id": builder.bind(None)}


_from_bytes: Final = int.from_bytes
"""A single object, which has a single name in generated source.

Every evaluation of ``int.from_bytes`` returns another object."""


def _text(wire: Text) -> Scalar:
    def text(data: bytes) -> str:
        return data.split(b"\0", 1)[0].decode(errors="surrogateescape")

    def encode(value: object) -> bytes:
        text = as_str(value)
        try:
            data = text.encode(errors="surrogateescape") + b"\0"
        except UnicodeEncodeError:
            raise EncodeError(f"{describe_value(text)} cannot be encoded as UTF-8") from None
        if b"\0" in data[:-1]:
            raise EncodeError(f"{describe_value(text)} contains a NUL")
        if len(data) > wire.maximum:
            shown = describe_value(text)
            raise EncodeError(f"{shown} is longer than {wire.maximum - 1} bytes")
        return data

    return Scalar(None, wire.maximum, None, BoundedMemo(_SMALL_MEMO, text), encode, (str,))


def _bytes(wire: Bytes) -> Scalar:
    def encode(value: object) -> bytes:
        data = as_bytes(value)
        if len(data) > wire.maximum:
            raise EncodeError(f"must be at most {wire.maximum} bytes; got {len(data)}")
        return data

    return Scalar(None, wire.maximum, None, None, encode, (bytes,))


def _bitmap(wire: Bitmap) -> Scalar:
    def number(data: bytes) -> int:
        if len(data) % 4:
            raise DecodeError(f"a bitmap must be a multiple of 4 bytes; got {len(data)}")
        return from_words(data)

    def encode(value: object) -> bytes:
        return to_words(_number_in_range(value, 0, (1 << 8 * wire.size) - 1), wire.size)

    return Scalar(None, wire.size, None, BoundedMemo(_SMALL_MEMO, number), encode, (int,))


def from_words(data: bytes, byteorder: str = sys.byteorder, word: int = _WORD) -> int:
    """Return the integer of a bitmap, which is an array of ``unsigned long``.

    The lowest bits are in the first word.

    :param data: the bytes of the bitmap.
    :param byteorder: the byte order of a word.
    :param word: bytes of an ``unsigned long``.
    """
    if byteorder == "little":
        return int.from_bytes(data, "little")
    words = [data[i : i + word] for i in range(0, len(data), word)]
    return sum(int.from_bytes(part, "big") << 8 * word * i for i, part in enumerate(words))


def to_words(value: int, size: int, byteorder: str = sys.byteorder, word: int = _WORD) -> bytes:
    """Return the bitmap of an integer, in ``size`` bytes: the inverse of :func:`from_words`."""
    data = value.to_bytes(size, "little")
    if byteorder == "little":
        return data
    return b"".join(data[i : i + word][::-1] for i in range(0, size, word))


def _masked_flags(wire: MaskedFlags[int]) -> Scalar:
    def encode(value: object) -> bytes:
        return bytes((_number_in_range(value, 0, 0xFF), 0xFF))

    return Scalar(2, 2, "Bx", _members(wire.enum), encode, (int,))
