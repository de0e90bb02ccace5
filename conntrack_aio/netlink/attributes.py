"""Read and pack attributes: ``struct nlattr``, with length and type in host byte order.

The rules are the kernel's (``lib/nlattr.c``): an attribute's length includes its 4-byte header but
not its padding; the next attribute starts at the next multiple of four.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from ..errors import DecodeError
from ..uapi.netlink import NLA_F_NESTED, NLA_TYPE_MASK

BytesLike = bytes | bytearray | memoryview
"""A buffer that messages are read from."""

HEADER = struct.Struct("=HH")
MAX_PAYLOAD = 0xFFFF - HEADER.size
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


def walk(
    buffer: BytesLike, start: int, end: int, name: Callable[[int], str] = str
) -> Iterator[tuple[int, bool, int, int]]:
    """Yield ``(number, nested flag, payload start, payload end)`` of each attribute.

    :param buffer: holds the attributes.
    :param start: the position of the first attribute's header.
    :param end: the position after the last attribute.
    :param name: returns the name of an attribute for the path in an error.
    :raises DecodeError: when an attribute does not fit, after yielding those before it.
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
    """Return one attribute with its header and padding.

    :raises ValueError: when the payload exceeds 65531 bytes, or the number has more than 14 bits.
    """
    length = len(payload) + 4
    if length > 0xFFFF:
        raise ValueError(f"an attribute holds {MAX_PAYLOAD} bytes at most, not {len(payload)}")
    if number & ~NLA_TYPE_MASK:
        raise ValueError(f"{number} is not an attribute's number, which has 14 bits")
    kind = number | NLA_F_NESTED if nested else number
    return HEADER.pack(length, kind) + payload + _PADDING[length & 3]


def pack_nest(number: int, *attributes: bytes) -> bytes:
    """Return an attribute that contains other attributes."""
    return pack(number, b"".join(attributes), nested=True)


def pack_text(number: int, text: str) -> bytes:
    """Return an attribute that contains a NUL-terminated string."""
    return pack(number, text.encode() + b"\0")


def pack_be32(number: int, value: int) -> bytes:
    """Return an attribute with an unsigned 32-bit integer in network byte order."""
    return pack(number, value.to_bytes(4, "big"))
