"""Single values: their ranges, and the bitmap on machines of either byte order and word size."""

from __future__ import annotations

import struct
import sys
from enum import IntEnum, IntFlag
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.codec_cases import pack_unsigned_longs

from conntrack_aio import DecodeError, EncodeError, Tuple
from conntrack_aio.codec.scalars import from_words, scalar_of, to_words
from conntrack_aio.model.wire import (
    HOST_U32,
    IPV4,
    IPV6,
    S32,
    U8,
    U16,
    U32,
    U64,
    Bitmap,
    Bytes,
    MaskedFlags,
    Nest,
    Text,
    u8,
    u32,
)


class Color(IntEnum):
    RED = 1


class Bit(IntFlag):
    ONE = 1
    FOUR = 4


def write(wire: Any, value: object) -> bytes:
    return scalar_of(wire).encode(value)


def read(wire: Any, data: bytes) -> object:
    return scalar_of(wire).decode(b"<" + data + b">", 1, 1 + len(data))


@pytest.mark.parametrize(
    ("wire", "value", "data"),
    [
        (U8, 0, b"\x00"),
        (U8, 255, b"\xff"),
        (U16, 0x0102, b"\x01\x02"),
        (U16, 65535, b"\xff\xff"),
        (U32, 0x01020304, b"\x01\x02\x03\x04"),
        (U32, 0xFFFFFFFF, b"\xff" * 4),
        (S32, -1, b"\xff" * 4),
        (S32, -(1 << 31), b"\x80\x00\x00\x00"),
        (S32, (1 << 31) - 1, b"\x7f\xff\xff\xff"),
        (U64, 1, bytes(7) + b"\x01"),
        (U64, (1 << 64) - 1, b"\xff" * 8),
        (HOST_U32, 1, struct.pack("=I", 1)),
        (u8(Color), Color.RED, b"\x01"),
        (u8(Color), 9, b"\x09"),
        (u32(Bit), Bit.ONE | Bit.FOUR, b"\0\0\0\x05"),
        (u32(Bit), Bit(0), bytes(4)),
        (u32(Bit), Bit(0x80000001), b"\x80\0\0\x01"),
        (MaskedFlags(Bit), Bit.FOUR, b"\x04\xff"),
        (MaskedFlags(Bit), Bit(0), b"\x00\xff"),
        (IPV4, IPv4Address("1.2.3.4"), b"\1\2\3\4"),
        (IPV6, IPv6Address("::1"), bytes(15) + b"\1"),
        (Text(8), "", b"\0"),
        (Text(8), "1234567", b"1234567\0"),
        (Text(8), "é", b"\xc3\xa9\0"),
        (Text(8), "\udcff", b"\xff\0"),
        (Bytes(4), b"", b""),
        (Bytes(4), b"\0\1\2\3", b"\0\1\2\3"),
        (Bitmap(16), 1 << 127 | 1 << 32 | 1, pack_unsigned_longs(1 << 127 | 1 << 32 | 1)),
    ],
    ids=repr,
)
def test_values_are_written_and_read(wire: Any, value: object, data: bytes) -> None:
    assert write(wire, value) == data
    decoded = read(wire, data)
    assert decoded == value
    assert type(decoded) is type(value)
    scalar = scalar_of(wire)
    assert scalar.size in (None, len(data))
    assert len(data) <= scalar.maximum
    assert isinstance(value, scalar.types)


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        (U8, -1),
        (U8, 256),
        (U16, 65536),
        (U32, 1 << 32),
        (U64, 1 << 64),
        (U64, -1),
        (S32, 1 << 31),
        (S32, -(1 << 31) - 1),
        (HOST_U32, 1 << 32),
        (U8, "1"),
        (U8, 1.0),
        (U8, None),
        (u8(Color), 256),
        (u32(Bit), Bit(1 << 32)),
        (MaskedFlags(Bit), 256),
        (IPV6, IPv6Address("fe80::1%lo")),
        (Text(8), "12345678"),
        (Text(8), "éééé"),
        (Text(8), "a\0"),
        (Text(8), "\0"),
        (Text(8), "\ud800"),
        (Bytes(4), bytes(5)),
        (Bitmap(16), 1 << 128),
        (Bitmap(16), -1),
    ],
    ids=repr,
)
def test_values_out_of_range_are_refused(wire: Any, value: object) -> None:
    with pytest.raises(EncodeError):
        write(wire, value)


def test_text_ends_at_its_nul_or_its_end() -> None:
    assert read(Text(8), b"ab\0cd") == "ab"
    assert read(Text(8), b"ab") == "ab"
    assert read(Text(8), b"") == ""


def test_flags_are_read_without_their_mask() -> None:
    assert read(MaskedFlags(Bit), b"\x04\x00") == Bit.FOUR


def test_a_nest_has_no_scalar() -> None:
    with pytest.raises(TypeError):
        scalar_of(Nest(Tuple))


def test_equal_addresses_are_one_object() -> None:
    assert read(IPV4, b"\1\2\3\4") is read(IPV4, b"\1\2\3\4")


# The bitmap

LABELS = 0x0F0E0D0C0B0A09080706050403020100


@pytest.mark.parametrize(
    ("byteorder", "word", "data"),
    [
        ("little", 4, "000102030405060708090a0b0c0d0e0f"),
        ("little", 8, "000102030405060708090a0b0c0d0e0f"),
        ("big", 4, "03020100070605040b0a09080f0e0d0c"),
        ("big", 8, "07060504030201000f0e0d0c0b0a0908"),
    ],
)
def test_bitmaps_of_other_machines(byteorder: str, word: int, data: str) -> None:
    assert to_words(LABELS, 16, byteorder, word).hex() == data
    assert from_words(bytes.fromhex(data), byteorder, word) == LABELS


@given(st.integers(0, (1 << 128) - 1), st.sampled_from(["little", "big"]), st.sampled_from([4, 8]))
def test_bitmaps_survive_encoding(value: int, byteorder: str, word: int) -> None:
    assert from_words(to_words(value, 16, byteorder, word), byteorder, word) == value


@pytest.mark.parametrize("word", [4, 8])
@pytest.mark.parametrize("bit", [0, 31, 32, 63, 64, 127])
def test_a_bit_is_in_the_same_word_as_in_the_kernel(bit: int, word: int) -> None:
    """``test_bit()`` counts within the word ``bit / BITS_PER_LONG``, read as a number."""
    for byteorder in ("little", "big"):
        data = to_words(1 << bit, 16, byteorder, word)
        index = bit // (8 * word) * word
        number = int.from_bytes(data[index : index + word], byteorder)  # type: ignore[arg-type]
        assert number == 1 << bit % (8 * word)
        assert not any(data[:index] + data[index + word :])


def test_bitmaps_of_this_machine() -> None:
    assert to_words(LABELS, 16) == pack_unsigned_longs(LABELS)
    assert from_words(pack_unsigned_longs(LABELS)) == LABELS
    size = struct.calcsize("l")
    assert to_words(LABELS, 16) == to_words(LABELS, 16, sys.byteorder, size)


@pytest.mark.parametrize(("size", "value"), [(0, 0), (4, 1), (8, 1), (12, 1)])
@pytest.mark.skipif(
    sys.byteorder == "big", reason="the bytes of a part of a word are in another order"
)
def test_short_bitmaps_are_read(size: int, value: int) -> None:
    assert read(Bitmap(16), pack_unsigned_longs(1)[:size]) == value


@pytest.mark.parametrize("size", [1, 2, 3, 5, 15])
def test_bitmaps_that_are_not_whole_words_are_refused(size: int) -> None:
    with pytest.raises(DecodeError):
        read(Bitmap(16), bytes(size))
