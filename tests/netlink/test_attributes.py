"""Attributes, walked and packed."""

from __future__ import annotations

import struct

import pytest

from conntrack_aio.errors import DecodeError
from conntrack_aio.netlink.attributes import MAX_PAYLOAD, pack, pack_nest, walk


def walked(data: bytes) -> list[tuple[int, bool, bytes]]:
    return [(number, nested, data[a:b]) for number, nested, a, b in walk(data, 0, len(data))]


@pytest.mark.parametrize("size", range(9))
def test_what_is_packed_is_walked(size: int) -> None:
    payload = bytes(range(size))
    data = pack(7, payload) + pack_nest(8, pack(9, b"x"))
    assert len(data) % 4 == 0
    assert walked(data) == [(7, False, payload), (8, True, pack(9, b"x"))]


def test_the_last_one_needs_no_padding() -> None:
    assert walked(pack(1, b"abc") + pack(2, b"d")[:5]) == [(1, False, b"abc"), (2, False, b"d")]


def test_the_byte_order_flag_is_no_part_of_the_number() -> None:
    assert walked(struct.pack("=HH", 4, 0x4000 | 3)) == [(3, False, b"")]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\1", "1 bytes are left over"),
        (b"\1\0\0", "3 bytes are left over"),
        (struct.pack("=HH", 0, 5), "its length of 0"),
        (struct.pack("=HH", 3, 5), "its length of 3"),
        (struct.pack("=HH", 9, 5) + bytes(4), "claims 9 bytes, 8 are left"),
        (struct.pack("=HH", 65535, 5) + bytes(4), "claims 65535 bytes"),
    ],
)
def test_what_does_not_fit(data: bytes, words: str) -> None:
    good = pack(1, b"good")
    walker = walk(good + data, 0, len(good + data))
    assert next(walker)[0] == 1
    with pytest.raises(DecodeError, match=words):
        next(walker)


def test_no_more_than_an_attribute_holds() -> None:
    assert len(pack(1, bytes(MAX_PAYLOAD))) == 65536
    with pytest.raises(ValueError, match="65531"):
        pack(1, bytes(MAX_PAYLOAD + 1))
