"""Test the normalization of values to plain built-in objects."""

from __future__ import annotations

from enum import Enum, IntEnum, IntFlag
from ipaddress import IPv4Address, IPv6Address

import pytest
from support.hostile_arguments import case_name

from conntrack_aio.plain import as_address, as_bytes, as_int, as_str, unmapped


class Number(int):
    """An integer whose conversions all return the wrong value."""

    def __int__(self) -> int:
        return 99

    def __index__(self) -> int:
        return 99

    def __str__(self) -> str:
        return "99"

    __repr__ = __str__


class Member(int, Enum):
    SEVEN = 7


class Small(IntEnum):
    SEVEN = 7


class Bits(IntFlag):
    SEVEN = 7


class Indexed:
    """An integer that is no subclass of int, like those of NumPy."""

    def __init__(self, number: object) -> None:
        self.number = number

    def __index__(self) -> int:
        if isinstance(self.number, Exception):
            raise self.number
        return self.number  # type: ignore[return-value]


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "other"


class Four(IPv4Address):
    def __int__(self) -> int:
        return 0


class Six(IPv6Address):
    def __int__(self) -> int:
        return 0


@pytest.mark.parametrize(
    "value", [7, Number(7), Member.SEVEN, Small.SEVEN, Bits.SEVEN, Indexed(7)], ids=case_name
)
def test_subclasses_and_indexable_objects_become_plain_integers(value: object) -> None:
    converted = as_int(value)
    assert type(converted) is int
    assert converted == 7


def test_booleans_are_integers() -> None:
    assert (type(as_int(True)), as_int(True), as_int(False)) == (int, 1, 0)


@pytest.mark.parametrize("value", [1.0, "1", None, b"1", Indexed(ValueError()), Indexed("1")])
def test_other_types_are_not_integers(value: object) -> None:
    with pytest.raises(TypeError, match="must be an integer"):
        as_int(value)


def test_subclasses_of_str_become_plain_text() -> None:
    assert (type(as_str(Text("web"))), as_str(Text("web"))) == (str, "web")
    with pytest.raises(TypeError, match="must be text"):
        as_str(b"web")


def test_bytes_like_objects_become_plain_bytes() -> None:
    class Data(bytes):
        pass

    for value in (Data(b"ab"), bytearray(b"ab"), memoryview(b"ab")):
        assert (type(as_bytes(value)), as_bytes(value)) == (bytes, b"ab")
    with pytest.raises(TypeError, match="must be bytes"):
        as_bytes("ab")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Four("10.0.0.1"), IPv4Address("10.0.0.1")),
        (Six("2001:db8::1"), IPv6Address("2001:db8::1")),
        (Six("fe80::1%eth0"), IPv6Address("fe80::1%eth0")),
    ],
    ids=str,
)
def test_subclasses_of_addresses_become_plain_addresses(value: object, plain: object) -> None:
    converted = as_address(value)
    assert type(converted) is type(plain)
    assert converted == plain
    with pytest.raises(TypeError, match="must be an address"):
        as_address("10.0.0.1")


def test_only_ipv4_mapped_addresses_are_unmapped() -> None:
    assert unmapped(IPv6Address("::ffff:10.0.0.1")) == IPv4Address("10.0.0.1")
    for text in ("::10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1%eth0"):
        assert unmapped(IPv6Address(text)) == IPv6Address(text)
    assert unmapped(IPv4Address("10.0.0.1")) == IPv4Address("10.0.0.1")
