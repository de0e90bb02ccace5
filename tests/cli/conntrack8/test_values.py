"""Test the values of options."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6

import pytest

from conntrack_aio.cli.conntrack8 import values
from conntrack_aio.cli.conntrack8.messages import CommandFailure


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5", 5),
        (" 5x", 5),
        ("+5", 5),
        ("0x1F", 31),
        ("010", 8),
        ("0x", 0),
        ("08", 0),
        ("", 0),
        ("x", 0),
        ("-1", 0xFFFF),
        ("65537", 1),
        ("9" * 5000, 0xFFFF),
        ("-" + "9" * 5000, 0xFFFF),
        ("\udcff", 0),
    ],
)
def test_unsigned_numbers(text: str, number: int) -> None:
    assert values.parse_unsigned(text, 16) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [("010", 10), ("0x10", 0), ("-1", 0xFFFFFFFF), ("9" * 5000, 0xFFFFFFFF), ("-" + "9" * 99, 0)],
)
def test_decimal_numbers(text: str, number: int) -> None:
    assert values.parse_decimal(text, 32) == number


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("1", (1, 0xFFFFFFFF)),
        ("1/2", (1, 2)),
        ("0x10/0xff", (16, 255)),
        ("1/", (1, 0)),
        ("1x/2", (1, 0xFFFFFFFF)),
        ("/2", (0, 2)),
        ("-1/-1", (0xFFFFFFFF, 0xFFFFFFFF)),
    ],
)
def test_marks(text: str, mark: tuple[int, int]) -> None:
    assert tuple(values.parse_mark(text)) == mark


def test_addresses() -> None:
    assert values.split_address("10.1") == (IPv4Address("10.0.0.1"), None)
    assert values.split_address("::1/64") == (IPv6Address("::1"), "64")
    for text in ("", "x/8", "10.0.0.256", "fe80::1%lo", "\udcff", "1\0"):
        with pytest.raises(CommandFailure, match="Invalid IP address"):
            values.split_address(text)


def test_prefixes() -> None:
    address = IPv4Address("10.0.0.1")
    assert values.parse_prefix("8", address) == IPv4Address("255.0.0.0")
    assert values.parse_prefix("0", address) == IPv4Address("0.0.0.0")
    assert values.parse_prefix("32", address) is None
    for bits in ("", "33", "-1", "8x", "255.0.0.0"):
        with pytest.raises(CommandFailure, match="Invalid netmask"):
            values.parse_prefix(bits, address)


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("10.0.0.1", "10.0.0.1", None),
        ("10.0.0.1:080", "10.0.0.1", 80),
        ("::1:5", "::1:5", None),
        ("[::1]:5", "::1", 5),
        ("[::1]x", "[::1]x", None),
    ],
)
def test_endpoints(text: str, address: str, port: int | None) -> None:
    assert values.split_endpoint(text) == (address, port)


@pytest.mark.parametrize("port", ["65536", "x", "-1", "+1", " 1", "9" * 5000, "\u0661"])
def test_invalid_ports(port: str) -> None:
    with pytest.raises(CommandFailure) as caught:
        values.split_endpoint(f"10.0.0.1:{port}")
    assert caught.value.text == f"Invalid port `{port}'"


def test_words() -> None:
    words = ("NEW", "NEWEST", "OLD")
    assert [*values.parse_words("new,o", words)] == [("NEW", False), ("OLD", False)]
    assert [*values.parse_words("!o,ANY", words, "ANY", negatable=True)] == [
        ("OLD", True),
        ("ANY", False),
    ]
    for text, shown in (("x,new", "x,new"), ("new,", ""), ("new,,old", ",old"), ("!new", "!new")):
        with pytest.raises(CommandFailure) as caught:
            [*values.parse_words(text, words)]
        assert caught.value.text == f"Bad parameter `{shown}'"


def test_words_of_nat_are_ignored_as_they_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CommandFailure, match="Bad parameter `x'"):
        [*values.parse_words("d,src_nat,x", ("DESTROY",))]
    assert capsys.readouterr().err == (
        "WARNING: ignoring DST_NAT, use --dst-nat instead\n"
        "WARNING: ignoring SRC_NAT, use --src-nat instead\n"
    )


def test_families() -> None:
    assert values.parse_family("ipv4") == AF_INET
    assert values.parse_family("ipv6 and more") == AF_INET6
    for text in ("", "ipv", "IPv4", "inet", "\udcff"):
        with pytest.raises(CommandFailure, match="unsupported protocol"):
            values.parse_family(text)


def test_protocols() -> None:
    assert [values.parse_protocol(text) for text in ("TCP", "6", "0x6", "igmp")] == [6, 6, 6, 2]
    for text in ("", "256", "-1", "6x", "nosuch", "\udcff"):
        with pytest.raises(CommandFailure, match="unsupported protocol"):
            values.parse_protocol(text)
