"""Tuples, flows and events as values."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6

import attrs
import pytest

from conntrack_aio import (
    Counters,
    EncodeError,
    EventType,
    Flow,
    FlowEvent,
    Helper,
    NATRange,
    Status,
    TCPInfo,
    TCPState,
    Timestamp,
    Tuple,
)

TCP = Tuple.tcp("10.0.0.1", 1234, "10.0.0.2", 80)


def test_a_tuple_is_a_hashable_value() -> None:
    assert Tuple.tcp(IPv4Address("10.0.0.1"), 1234, "10.0.0.2", 80) == TCP
    assert len({TCP, copy.copy(TCP), TCP.inverse}) == 2
    assert pickle.loads(pickle.dumps(TCP)) == TCP
    assert Tuple.udp("10.0.0.1", 1234, "10.0.0.2", 80) != TCP


@pytest.mark.parametrize(
    ("tuple_", "inverse"),
    [
        (TCP, Tuple.tcp("10.0.0.2", 80, "10.0.0.1", 1234)),
        (
            Tuple.icmp("10.0.0.1", "10.0.0.2", id=7),
            Tuple.icmp("10.0.0.2", "10.0.0.1", id=7, type=0),
        ),
        (Tuple.icmp("::1", "::2", id=7), Tuple.icmp("::2", "::1", id=7, type=129)),
        (Tuple.tcp("::1", 1, "::2", 2, zone=3), Tuple.tcp("::2", 2, "::1", 1)),
    ],
)
def test_the_inverse_of_a_tuple(tuple_: Tuple, inverse: Tuple) -> None:
    assert tuple_.inverse == inverse
    assert inverse.inverse == tuple_.without_zone


@pytest.mark.parametrize("address", ["10.0.0.1", "::1"])
def test_an_icmp_type_without_a_reply_is_refused(address: str) -> None:
    with pytest.raises(EncodeError, match="icmp_type: must be a type with a reply; got 3"):
        Flow.icmp(address, address, id=1, type=3, timeout=1)


def test_both_addresses_are_of_one_family() -> None:
    assert TCP.family == AF_INET
    assert Tuple.udp("::1", 1, "::2", 2).family == AF_INET6
    with pytest.raises(EncodeError, match="of the family of src"):
        Tuple(src=IPv4Address("10.0.0.1"), dst=IPv6Address("::1"), proto=6)
    mixed = copy.copy(TCP)
    mixed.dst = IPv6Address("::1")
    with pytest.raises(EncodeError, match="of the family of src"):
        mixed.validate()


@pytest.mark.parametrize(
    ("tuple_", "field"),
    [
        (Tuple(src=TCP.src, dst=TCP.dst, proto=6, sport=1), "dport"),
        (Tuple(src=TCP.src, dst=TCP.dst, proto=47), "sport"),
        (Tuple(src=TCP.src, dst=TCP.dst, proto=1, icmp_id=1, icmp_type=8), "icmp_code"),
    ],
)
def test_an_incomplete_tuple_is_refused(tuple_: Tuple, field: str) -> None:
    with pytest.raises(EncodeError) as caught:
        tuple_.require_complete()
    assert caught.value.path == (field,)


def test_a_protocol_without_ports_needs_none() -> None:
    Tuple(src=TCP.src, dst=TCP.dst, proto=50).require_complete()


@pytest.mark.parametrize(
    ("tuple_", "text"),
    [
        (TCP, "tcp 10.0.0.1:1234 -> 10.0.0.2:80"),
        (Tuple.udp("::1", 1, "::2", 2, zone=3), "udp [::1]:1 -> [::2]:2 zone 3"),
        (Tuple(src=TCP.src, dst=TCP.dst, proto=99), "99 10.0.0.1 -> 10.0.0.2"),
        (
            Tuple.icmp("10.0.0.1", "10.0.0.2", id=7),
            "icmp 10.0.0.1 -> 10.0.0.2 type 8 code 0 id 7",
        ),
    ],
)
def test_the_text_of_a_tuple(tuple_: Tuple, text: str) -> None:
    assert str(tuple_) == text


def test_a_bad_address_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"300\.0\.0\.1"):
        Tuple.tcp("300.0.0.1", 1, "10.0.0.1", 2)


def test_a_new_flows_reply_is_the_inverse() -> None:
    for flow in (
        Flow.tcp("10.0.0.1", 1, "10.0.0.2", 2, timeout=9),
        Flow.udp("::1", 1, "::2", 2, timeout=9),
        Flow.icmp("::1", "::2", id=5, timeout=9),
    ):
        assert flow.reply == flow.orig.inverse
        assert flow.timeout == 9
        flow.validate()


def test_flows_compare_by_all_their_fields_and_have_a_key() -> None:
    flow = Flow(orig=TCP, reply=TCP.inverse, id=5, zone=2)
    other = attrs.evolve(flow, mark=0)
    assert flow != other
    assert flow.key == other.key == (TCP, 2, 5)
    assert hash(flow.key) == hash(other.key)


def test_tuples_of_different_connections_are_refused() -> None:
    ipv6 = Tuple.tcp("::1", 1, "::2", 2)
    with pytest.raises(EncodeError, match=r"reply: .*family"):
        Flow(orig=TCP, reply=ipv6).validate()
    with pytest.raises(EncodeError, match="reply/proto"):
        Flow(orig=TCP, reply=Tuple.udp("10.0.0.2", 80, "10.0.0.1", 1234)).validate()


def test_a_repr_shows_the_fields_that_are_present() -> None:
    flow = Flow(orig=TCP, reply=TCP.inverse, mark=0)
    assert "mark=0" in repr(flow)
    assert "None" not in repr(flow)


def test_timestamps_as_datetime() -> None:
    moment = datetime(2026, 11, 23, 9, 7, 1, 123456, tzinfo=UTC)
    start = int(moment.timestamp()) * 10**9 + 123456789
    stamp = Timestamp(start=start)
    assert stamp.start_time == moment
    assert stamp.stop_time is None
    assert Timestamp(start=2**64 - 1).start_time is not None
    event = FlowEvent(type=EventType.NEW, flow=Flow(orig=TCP, reply=TCP), timestamp=start)
    assert event.time == moment


@pytest.mark.parametrize(
    ("flow", "text"),
    [
        (
            Flow(
                orig=TCP,
                reply=Tuple.tcp("10.0.0.2", 80, "192.0.2.1", 5),
                protoinfo=TCPInfo(state=TCPState.ESTABLISHED),
                status=Status.SEEN_REPLY | Status.ASSURED | Status.CONFIRMED,
                timeout=60,
                mark=16,
                zone=2,
                counters_orig=Counters(packets=1, bytes=2),
                counters_reply=Counters(packets=0, bytes=0),
                helper=Helper(name="ftp"),
                labels=0b101,
            ),
            "tcp ESTABLISHED 10.0.0.1:1234 -> 10.0.0.2:80 (reply 10.0.0.2:80 -> 192.0.2.1:5) "
            "[ASSURED] timeout=60 mark=0x10 zone=2 labels=0,2 helper=ftp packets=1/0 bytes=2/0",
        ),
        (
            Flow(orig=TCP, reply=TCP.inverse, status=Status.CONFIRMED),
            "tcp 10.0.0.1:1234 -> 10.0.0.2:80 [UNREPLIED]",
        ),
        (
            Flow(orig=TCP, reply=TCP.inverse, protoinfo=TCPInfo(state=77)),
            "tcp state-77 10.0.0.1:1234 -> 10.0.0.2:80",
        ),
    ],
)
def test_the_text_of_a_flow(flow: Flow, text: str) -> None:
    assert str(flow) == text


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({}, ()),
        ({"port_max": 5}, ()),
        ({"address_min": TCP.src, "port_max": 5}, ("port_max",)),
        ({"port_min": 5, "port_max": 4}, ("port_max",)),
        ({"address_min": TCP.dst, "address_max": TCP.src}, ("address_max",)),
        ({"address_min": TCP.src, "address_max": IPv6Address("::1")}, ("address_max",)),
    ],
)
def test_nat_ranges_that_are_not_valid_are_refused(
    values: dict[str, int], path: tuple[str, ...]
) -> None:
    with pytest.raises(EncodeError) as caught:
        NATRange(**values).validate()  # type: ignore[arg-type]
    assert caught.value.path == path
