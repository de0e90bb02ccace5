"""Test records in the Elastic Common Schema."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from support.export_records import FLOW, RECORDS

from conntrack_aio import Status, Tuple
from conntrack_aio.export.community_id import community_id
from conntrack_aio.export.forms.ecs import line
from conntrack_aio.export.records import FlowRecord

TIME = "2026-12-01T02:51:24.094628860Z"


def written(kind: str) -> dict[str, Any]:
    text = line(RECORDS[kind])
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    assert found["@timestamp"] == TIME
    assert found["event"]["category"] == ["network"]
    return found


def test_a_flow_has_both_ends_and_its_life() -> None:
    found = written("flow")
    assert found["source"] == {"ip": "10.0.0.1", "port": 40000, "packets": 3, "bytes": 200}
    assert found["destination"] == {"ip": "192.0.2.1", "port": 443, "packets": 1, "bytes": 40}
    assert found["network"] == {
        "type": "ipv4",
        "iana_number": "6",
        "transport": "tcp",
        "community_id": community_id(FLOW.orig),
        "packets": 4,
        "bytes": 240,
    }
    event = found["event"]
    assert (event["start"], event["end"], event["duration"]) == (
        "2026-12-01T02:51:22.094628860Z",
        TIME,
        2_000_000_000,
    )
    assert (event["type"], event["reason"]) == (["connection", "end"], "end")
    assert found["conntrack"] == {
        "id": "7",
        "mark": 5,
        "state": "ESTABLISHED",
        "since": "2026-12-01T02:51:23.094628860Z",
    }


def test_a_translation_has_its_ends_and_its_id() -> None:
    reply = Tuple.tcp("10.0.0.9", 8443, "203.0.113.9", 61000)
    both = Status.SRC_NAT | Status.DST_NAT | Status.SRC_NAT_DONE | Status.DST_NAT_DONE
    record = RECORDS["flow"]
    assert isinstance(record, FlowRecord)
    flow = attrs.evolve(FLOW, reply=reply, status=both)
    found = json.loads(line(attrs.evolve(record, flow=flow)))
    assert found["source"]["nat"] == {"ip": "203.0.113.9", "port": 61000}
    assert found["destination"]["nat"] == {"ip": "10.0.0.9", "port": 8443}
    assert found["network"]["community_id"] == community_id(flow.orig)
    assert found["conntrack"]["nat"] == {"community_id": community_id(reply)}


def test_what_was_not_counted_is_absent() -> None:
    found = written("silent flow")
    for part in ("source", "destination", "network"):
        assert not {"packets", "bytes"} & found[part].keys()
    assert not {"start", "duration"} & found["event"].keys()
    assert found["conntrack"]["exact"] is False


@pytest.mark.parametrize(
    ("kind", "action", "type_"),
    [
        ("event", "conntrack-destroy", ["connection", "end"]),
        ("snapshot", "conntrack-snapshot", ["connection", "info"]),
        ("lost", "conntrack-lost", ["info"]),
        ("resynchronized", "conntrack-resynchronized", ["info"]),
    ],
)
def test_other_records_have_an_action(kind: str, action: str, type_: list[str]) -> None:
    event = written(kind)["event"]
    assert (event["action"], event["type"]) == (action, type_)


def test_a_gap_says_what_is_missing() -> None:
    assert written("lost")["conntrack"] == {"lost": {"records": 0, "events": 12}}
    assert written("dropped")["conntrack"] == {"lost": {"records": 3}}
    assert written("lost")["event"]["kind"] == "pipeline_error"
