"""Check how netlink attributes are read and packed."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.codec_cases import attr, be8, nest

from conntrack_aio import DecodeError
from conntrack_aio.netlink.attributes import (
    MAX_PAYLOAD,
    pack,
    pack_be32,
    pack_nest,
    pack_text,
    walk,
)


def attributes_in(data: bytes) -> list[tuple[int, bool, bytes]]:
    """Return the number, the nested flag and the payload of each attribute."""
    return [
        (number, nested, data[first:last])
        for number, nested, first, last in walk(data, 0, len(data))
    ]


@pytest.mark.parametrize("length", range(9))
def test_padding_is_no_part_of_the_payload(length: int) -> None:
    data = attr(1, b"x" * length) + attr(2, b"y")
    assert attributes_in(data) == [(1, False, b"x" * length), (2, False, b"y")]
    assert pack(1, b"x" * length) + pack(2, b"y") == data


def test_flags_are_no_part_of_the_attribute_number() -> None:
    data = attr(5, b"", 0x8000) + attr(5, b"", 0x4000) + attr(0x3FFF, b"", 0xC000)
    assert attributes_in(data) == [(5, True, b""), (5, False, b""), (0x3FFF, True, b"")]


def test_the_last_attribute_may_lack_its_padding() -> None:
    assert attributes_in(attr(1, b"x")[:-3]) == [(1, False, b"x")]


def test_an_empty_range_has_no_attributes() -> None:
    assert attributes_in(b"") == []
    assert list(walk(b"abcd", 4, 4)) == []


@pytest.mark.parametrize(
    ("tail", "path"),
    [
        (b"\0", ()),
        (b"\0\0\0", ()),
        (struct.pack("=HH", 0, 7), ("7",)),
        (struct.pack("=HH", 3, 7), ("7",)),
        (struct.pack("=HH", 5, 7), ("7",)),
        (struct.pack("=HH", 65535, 0x8007), ("7",)),
    ],
)
def test_complete_attributes_are_yielded_before_an_error(
    tail: bytes, path: tuple[str, ...]
) -> None:
    data = attr(1, b"abc") + tail
    attributes = walk(data, 0, len(data))
    assert next(attributes) == (1, False, 4, 7)
    with pytest.raises(DecodeError) as caught:
        next(attributes)
    assert caught.value.path == path


def test_an_error_names_the_attribute() -> None:
    with pytest.raises(DecodeError) as caught:
        list(walk(struct.pack("=HH", 0, 0x8007), 0, 4, "attribute {}".format))
    assert caught.value.path == ("attribute 7",)


def test_an_attribute_that_exceeds_its_nest_is_an_error() -> None:
    data = nest(1, attr(2, b"abcd")) + attr(3, b"")
    with pytest.raises(DecodeError):
        list(walk(data, 4, 8))


@given(st.binary(max_size=64))
def test_walking_any_bytes_ends(data: bytes) -> None:
    try:
        attributes = attributes_in(data)
    except DecodeError:
        return
    assert len(attributes) <= len(data) // 4


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.booleans(), st.binary(max_size=20))))
def test_walking_returns_the_packed_attributes(attributes: list[tuple[int, bool, bytes]]) -> None:
    data = b"".join(pack(number, payload, nested=nested) for number, nested, payload in attributes)
    assert attributes_in(data) == attributes
    assert len(data) % 4 == 0


def test_the_largest_payload_can_be_packed() -> None:
    data = pack(1, bytes(MAX_PAYLOAD))
    assert data[:2] == b"\xff\xff"
    assert attributes_in(data) == [(1, False, bytes(MAX_PAYLOAD))]


@pytest.mark.parametrize(("number", "size"), [(1, MAX_PAYLOAD + 1), (0x4000, 0), (-1, 0)])
def test_packing_refuses_invalid_numbers_and_sizes(number: int, size: int) -> None:
    with pytest.raises(ValueError, match="attribute"):
        pack(number, bytes(size))


def test_packers_produce_the_wire_format() -> None:
    assert pack_nest(1, be8(2, 3), be8(4, 5)) == nest(1, be8(2, 3), be8(4, 5))
    assert pack_text(1, "lö") == attr(1, b"l\xc3\xb6\0")
    assert pack_be32(1, 0x01020304) == attr(1, b"\1\2\3\4")
