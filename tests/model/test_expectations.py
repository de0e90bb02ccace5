"""Expectations as objects: their creation, their text and their JSON."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import attrs
import pytest
from support.codec_cases import EXPECTED4, MASK4, TCP4, expectation

from conntrack_aio import EncodeError, EventType, Tuple
from conntrack_aio.codec.json import to_dict
from conntrack_aio.model.enums import Direction, ExpectFlags
from conntrack_aio.model.expectations import Expectation, ExpectEvent, ExpectNAT

ONES = IPv4Address("255.255.255.255")
V6 = Tuple.udp("fd00::1", 7, "fd00::2", 9)
ONES6 = IPv6Address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")


@pytest.mark.parametrize(
    ("tuple_", "arguments", "mask"),
    [
        (EXPECTED4, {"any_sport": True}, MASK4),
        (
            EXPECTED4,
            {},
            Tuple(src=ONES, dst=ONES, proto=6, sport=0xFFFF, dport=0xFFFF),
        ),
        (
            V6,
            {"any_src": True},
            Tuple(src=IPv6Address(0), dst=ONES6, proto=17, sport=0xFFFF, dport=0xFFFF),
        ),
        (
            Tuple.icmp("10.0.0.1", "10.0.0.2", id=3),
            {"any_sport": True},
            Tuple(src=ONES, dst=ONES, proto=1, icmp_id=0, icmp_type=255, icmp_code=255),
        ),
        (
            Tuple(src=ONES, dst=ONES, proto=50),
            {"any_src": True, "any_sport": True},
            Tuple(src=IPv4Address(0), dst=ONES, proto=50),
        ),
    ],
)
def test_of_creates_the_mask(tuple_: Tuple, arguments: dict[str, bool], mask: Tuple) -> None:
    expectation_ = Expectation.of(TCP4, tuple_, **arguments)
    assert (expectation_.master, expectation_.tuple, expectation_.mask) == (TCP4, tuple_, mask)


def test_of_takes_the_other_fields() -> None:
    fields: dict[str, Any] = {
        "timeout": 5,
        "flags": ExpectFlags.PERMANENT,
        "expect_class": 1,
        "nat": ExpectNAT.of("10.0.0.3", 7),
        "function": "sip",
    }
    assert Expectation.of(TCP4, EXPECTED4, any_sport=True, **fields) == expectation(**fields)


@pytest.mark.parametrize("wrong", ["tcp", None, b"", 5])
def test_of_refuses_other_types(wrong: Any) -> None:
    with pytest.raises(EncodeError):
        Expectation.of(TCP4, wrong)


def test_expect_nat_of_an_address_and_a_port() -> None:
    nat = ExpectNAT.of("fd00::9", 99, direction=Direction.REPLY, proto=17)
    assert nat == ExpectNAT(direction=Direction.REPLY, tuple=Tuple.udp("fd00::9", 99, "::", 0))
    with pytest.raises(ValueError, match="nope"):
        ExpectNAT.of("nope", 1)
    with pytest.raises(TypeError, match="must be an address"):
        ExpectNAT.of(5, 1)  # type: ignore[arg-type]


MASTER = "master=(tcp 10.0.0.1:1024 -> 10.0.0.2:80)"


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "tcp 10.0.0.1 -> 10.0.0.2:2050"),
        (
            {"timeout": 0, "helper": "ftp", "expect_class": 0, "flags": ExpectFlags(0)},
            "tcp 10.0.0.1 -> 10.0.0.2:2050 timeout=0 helper=ftp",
        ),
        (
            {"expect_class": 2, "function": "sip", "flags": ExpectFlags(0x15)},
            "tcp 10.0.0.1 -> 10.0.0.2:2050 [PERMANENT] [USERSPACE] function=sip class=2",
        ),
        (
            {"nat": ExpectNAT.of("10.0.0.3", 7, direction=Direction.REPLY)},
            "tcp 10.0.0.1 -> 10.0.0.2:2050 nat=(REPLY 10.0.0.3:7)",
        ),
        (
            {"nat": ExpectNAT(direction=2, tuple=TCP4)},
            "tcp 10.0.0.1 -> 10.0.0.2:2050 nat=(2 10.0.0.1:1024)",
        ),
        (
            {"mask": attrs.evolve(MASK4, src=IPv4Address(0))},
            "tcp any -> 10.0.0.2:2050",
        ),
        (
            {"mask": attrs.evolve(MASK4, src=IPv4Address(0), sport=0xFFFF)},
            "tcp any:0 -> 10.0.0.2:2050",
        ),
        (
            {"mask": attrs.evolve(MASK4, src=IPv4Address("255.255.0.0"), sport=0xFF00)},
            "tcp 10.0.0.1:0/255.255.0.0/0xff00 -> 10.0.0.2:2050",
        ),
        (
            {"tuple": V6, "mask": Expectation.of(TCP4, V6).mask},
            "udp [fd00::1]:7 -> [fd00::2]:9",
        ),
        (
            {"tuple": V6, "mask": Expectation.of(TCP4, V6, any_sport=True).mask},
            "udp fd00::1 -> [fd00::2]:9",
        ),
    ],
)
def test_the_text_of_an_expectation(fields: dict[str, Any], line: str) -> None:
    assert str(attrs.evolve(expectation(), **fields)) == f"{line} {MASTER}"


@pytest.mark.parametrize("any_sport", [False, True])
def test_the_text_of_an_icmp_expectation(any_sport: bool) -> None:
    echo = Tuple.icmp("10.0.0.1", "10.0.0.2", id=3)
    id = "" if any_sport else " id=3"
    assert str(Expectation.of(TCP4, echo, any_sport=any_sport)) == (
        f"icmp 10.0.0.1 -> 10.0.0.2 type=8 code=0{id} {MASTER}"
    )


def test_the_text_of_an_event() -> None:
    event = ExpectEvent(type=EventType.DESTROY, expectation=expectation(), port_id=5)
    assert str(event) == f"DESTROY tcp 10.0.0.1 -> 10.0.0.2:2050 {MASTER} portid=5"
    event = ExpectEvent(
        type=EventType.NEW, expectation=expectation(), receive_timestamp=10**9 + 1500
    )
    line = f"NEW     tcp 10.0.0.1 -> 10.0.0.2:2050 {MASTER}"
    assert str(event) == f"{line} received=1970-01-01T00:00:01.000001Z"
    event.receive_timestamp = None
    assert str(event) == line


def test_the_json_of_an_expectation() -> None:
    expectation_ = expectation(
        flags=ExpectFlags.PERMANENT, expect_class=0, nat=ExpectNAT.of("::", 9)
    )
    written = to_dict(expectation_)
    assert written.keys() == {"master", "tuple", "mask", "flags", "expect_class", "nat"}
    assert written["flags"] == ["PERMANENT"]
    nat = written["nat"]
    assert isinstance(nat, dict)
    assert nat["direction"] == "ORIGINAL"
