"""Objects as JSON."""

from __future__ import annotations

import json

import attrs
import pytest
from support.cases import A6, CASES, TCP4, Case, flow

from conntrack_aio import (
    Counters,
    EventType,
    FlowEvent,
    Helper,
    SCTPInfo,
    Status,
    TCPFlags,
    TCPInfo,
    TCPState,
    Tuple,
    UnknownAttribute,
)
from conntrack_aio.codec.json import to_json

ORIG = {"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 6, "sport": 1024, "dport": 80}
REPLY = {"src": "10.0.0.2", "dst": "10.0.0.1", "proto": 6, "sport": 80, "dport": 1024}
BOTH = {"orig": ORIG, "reply": REPLY}


def test_absent_is_left_out_and_zero_is_not() -> None:
    assert to_json(flow()) == BOTH
    assert to_json(flow(mark=0, timeout=0)) == BOTH | {"mark": 0, "timeout": 0}


def test_tuple() -> None:
    assert to_json(attrs.evolve(TCP4, src=A6, dst=A6, zone=0)) == ORIG | {
        "src": "2001:db8::1",
        "dst": "2001:db8::1",
        "zone": 0,
    }
    ping = Tuple.icmp("10.0.0.1", "10.0.0.2", id=7)
    assert to_json(ping)["icmp_type"] == 8


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"status": Status.ASSURED | Status.SEEN_REPLY}, {"status": ["SEEN_REPLY", "ASSURED"]}),
        ({"status": Status(0)}, {"status": []}),
        ({"status": Status(0x80010008)}, {"status": ["CONFIRMED", 0x80010000]}),
        ({"labels": 0}, {"labels": []}),
        ({"labels": 1 << 127 | 5}, {"labels": [0, 2, 127]}),
        ({"protoinfo": TCPInfo(state=TCPState.CLOSE)}, {"protoinfo": {"state": "CLOSE"}}),
        ({"protoinfo": TCPInfo(state=99)}, {"protoinfo": {"state": 99}}),
        ({"protoinfo": TCPInfo()}, {"protoinfo": {}}),
        ({"protoinfo": SCTPInfo(vtag_orig=0)}, {"protoinfo": {"vtag_orig": 0}}),
        (
            {"protoinfo": TCPInfo(flags_orig=TCPFlags.BE_LIBERAL)},
            {"protoinfo": {"flags_orig": ["BE_LIBERAL"]}},
        ),
        ({"helper": Helper(name="", info=b"\x00\xff")}, {"helper": {"name": "", "info": "00ff"}}),
        ({"counters_orig": Counters(packets=0)}, {"counters_orig": {"packets": 0}}),
        ({"master": TCP4}, {"master": ORIG}),
        (
            {"unknown": (UnknownAttribute((1, 9), b"\x01"),)},
            {"unknown": [{"path": [1, 9], "payload": "01", "nested": False}]},
        ),
    ],
)
def test_fields(fields: dict[str, object], told: dict[str, object]) -> None:
    assert to_json(flow(**fields)) == BOTH | told


def test_event() -> None:
    event = FlowEvent(type=EventType.DESTROY, flow=flow(mark=1), timestamp=5)
    assert to_json(event) == {
        "type": "destroy",
        "flow": BOTH | {"mark": 1},
        "port_id": 0,
        "timestamp": 5,
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_is_json(case: Case) -> None:
    told = to_json(case.object)
    assert json.loads(json.dumps(told)) == told
    present = [
        field.name
        for field in attrs.fields(type(case.object))  # type: ignore[arg-type]
        if getattr(case.object, field.name) not in (None, ())
    ]
    assert list(told) == present
