"""Walking and packing attributes: ``struct nlattr``, length and type in host byte order.

The kernel's own rules (``lib/nlattr.c``): an attribute's length counts its 4-byte header and not
its padding; the next one starts at the next multiple of four.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from ..errors import DecodeError
from ..uapi.netlink import NLA_F_NESTED, NLA_TYPE_MASK

Buffer = bytes | bytearray | memoryview

HEADER = struct.Struct("=HH")
MAX_PAYLOAD = 0xFFFF - HEADER.size
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


def walk(
    buffer: Buffer, start: int, end: int, name: Callable[[int], str] = str
) -> Iterator[tuple[int, bool, int, int]]:
    """Yield ``(number, nested flag, payload start, payload end)`` of each attribute.

    Raises :exc:`DecodeError` at the first that does not fit, after having yielded those before;
    ``name`` says what its path calls the attribute.
    """
    while start < end:
        if end - start < 4:
            raise DecodeError(f"{end - start} bytes are left over after the last attribute")
        length, kind = HEADER.unpack_from(buffer, start)
        number = kind & NLA_TYPE_MASK
        if length < 4:
            raise DecodeError(f"its length of {length} has no room for its header", (name(number),))
        stop = start + length
        if stop > end:
            raise DecodeError(f"it claims {length} bytes, {end - start} are left", (name(number),))
        yield number, bool(kind & NLA_F_NESTED), start + 4, stop
        start += (length + 3) & ~3


def pack(number: int, payload: bytes, *, nested: bool = False) -> bytes:
    """One attribute with its header and padding.

    Raises :exc:`ValueError` beyond 65531 bytes, and for a number that is not of 14 bits.
    """
    length = len(payload) + 4
    if length > 0xFFFF:
        raise ValueError(f"an attribute holds {MAX_PAYLOAD} bytes at most, not {len(payload)}")
    if number & ~NLA_TYPE_MASK:
        raise ValueError(f"{number} is not an attribute's number, which has 14 bits")
    kind = number | NLA_F_NESTED if nested else number
    return HEADER.pack(length, kind) + payload + _PADDING[length & 3]


def pack_nest(number: int, *attributes: bytes) -> bytes:
    """An attribute that holds others."""
    return pack(number, b"".join(attributes), nested=True)


def pack_text(number: int, text: str) -> bytes:
    """A NUL-terminated string."""
    return pack(number, text.encode() + b"\0")


def pack_be32(number: int, value: int) -> bytes:
    """An unsigned 32-bit integer in network byte order, as netfilter has them."""
    return pack(number, value.to_bytes(4, "big"))
