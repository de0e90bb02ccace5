"""The text of flows and events, including those that a real kernel sent."""

from __future__ import annotations

import contextlib

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.captured import CAPTURED
from support.codec_cases import TCP4_REPLY, flow
from support.model_strategies import objects

from conntrack_aio import (
    Counters,
    EncodeError,
    EventType,
    Flow,
    FlowEvent,
    Helper,
    Status,
    TCPInfo,
)
from conntrack_aio.codec.event_messages import decode_event
from conntrack_aio.model.tuples import is_plain_inverse
from conntrack_aio.netlink import messages

LINES = {
    "tcp_dnat": "UPDATE  tcp ESTABLISHED 10.1.0.1:57738 -> 10.9.9.9:80 (reply 10.1.0.2:8080 -> "
    "10.1.0.1:5143) [ASSURED] timeout=431999 mark=0x2a labels=3 packets=4/3 bytes=220/168 "
    "portid=6750",
    "icmp_destroy": "DESTROY icmp 10.1.0.1 -> 10.1.0.2 type=8 code=0 id=77 [DYING] timeout=29 "
    "packets=1/1 bytes=28/28 portid=6765 time=2026-11-23T09:57:53.600484Z",
    "zone_original": "UPDATE  udp 10.1.0.1:33286 -> 10.1.0.2:7002 zone=7 timeout=29 packets=1/1 "
    "bytes=29/29 portid=6750",
    "zone_reply": "UPDATE  udp 10.1.0.1:1 -> 10.1.0.2:2 (reply 10.1.0.2:2 -> 10.1.0.1:1 zone=9) "
    "[UNREPLIED] timeout=29 packets=0/0 bytes=0/0 portid=6750",
    "sctp": "UPDATE  sctp ESTABLISHED [fd00::1]:1000 -> [fd00::2]:2000 [UNREPLIED] timeout=99 "
    "packets=0/0 bytes=0/0 portid=6750",
    "ftp_data_new": "NEW     tcp SYN_SENT 10.1.0.2:20 -> 10.1.0.1:2050 [UNREPLIED] [EXPECTED] "
    "timeout=120 master=(tcp 10.1.0.1:58563 -> 10.1.0.2:21) "
    "time=2026-11-23T09:57:54.030286Z",
}


@pytest.mark.parametrize("name", LINES)
def test_the_text_of_captured_events(name: str) -> None:
    data = next(capture.data for capture in CAPTURED if capture.name == name)
    (message,) = messages.walk(data, len(data))
    assert str(decode_event(data, message)) == LINES[name]


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ({}, ""),
        ({"nsid": 3}, " in namespace 3"),
        ({"timestamp": 1_795_876_891_745_644_340}, " time=2026-11-28T14:41:31.745644Z"),
        ({"receive_timestamp": 0}, " received=1970-01-01T00:00:00.000000Z"),
        (
            {"nsid": 3, "netns": "blue", "port_id": 7, "timestamp": 0, "receive_timestamp": 2_000},
            " in blue portid=7 time=1970-01-01T00:00:00.000000Z "
            "received=1970-01-01T00:00:00.000002Z",
        ),
    ],
)
def test_the_text_ends_with_namespace_port_id_and_times(
    fields: dict[str, object], end: str
) -> None:
    event = FlowEvent(type=EventType.NEW, flow=flow(), **fields)  # type: ignore[arg-type]
    assert str(event) == f"NEW     {flow()}{end}"


TUPLE = "10.0.0.1:1024 -> 10.0.0.2:80"


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, f"tcp {TUPLE}"),
        ({"mark": 0, "labels": 0, "timeout": 0, "zone": 0}, f"tcp {TUPLE} timeout=0 zone=0"),
        ({"status": Status(0)}, f"tcp {TUPLE} [UNREPLIED]"),
        ({"status": Status.SEEN_REPLY | Status.OFFLOAD}, f"tcp {TUPLE} [OFFLOAD]"),
        ({"protoinfo": TCPInfo(wscale_orig=1)}, f"tcp {TUPLE}"),
        ({"helper": Helper(info=b"x")}, f"tcp {TUPLE}"),
        ({"counters_reply": Counters(bytes=0)}, f"tcp {TUPLE} bytes=/0"),
        ({"master": TCP4_REPLY}, f"tcp {TUPLE} master=(tcp 10.0.0.2:80 -> 10.0.0.1:1024)"),
    ],
)
def test_the_text_has_only_the_fields_that_are_present(
    fields: dict[str, object], line: str
) -> None:
    assert str(flow(**fields)) == line


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine makes strategies slowly
@given(data=st.data())
def test_a_reply_is_shown_unless_it_is_the_inverse(data: st.DataObject) -> None:
    one = data.draw(objects(Flow))
    choices = [one.reply]
    with contextlib.suppress(EncodeError):
        choices += [one.orig.inverse, attrs.evolve(one.orig.inverse, zone=5)]
        choices.append(attrs.evolve(one.orig.inverse, src=one.orig.src))
    reply = data.draw(st.sampled_from(choices))
    try:
        expected = bool(reply == one.orig.inverse)
    except EncodeError:
        expected = False
    assert is_plain_inverse(one.orig, reply) is expected
    one.reply = reply
    assert ("(reply " in str(one)) is not expected
