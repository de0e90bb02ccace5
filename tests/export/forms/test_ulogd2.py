"""Test records with the keys of ulogd2."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from support.export_records import RECORDS

from conntrack_aio.export.forms.ulogd2 import line

HEAD = {"timestamp": "2026-12-01T03:51:24.094628+0100", "dvc": "Netfilter"}


@pytest.fixture(autouse=True)
def time_zone(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_flow_has_the_keys_of_a_destroy_event() -> None:
    assert json.loads(line(RECORDS["flow"])) == HEAD | {
        "src_ip": "10.0.0.1",
        "dest_ip": "192.0.2.1",
        "oob.family": 2,
        "oob.protocol": 0,
        "reply.ip.saddr.str": "192.0.2.1",
        "reply.ip.daddr.str": "10.0.0.1",
        "ct.event": 4,
        "ct.id": 7,
        "ct.mark": 5,
        "orig.ip.protocol": 6,
        "orig.l4.sport": 40000,
        "orig.l4.dport": 443,
        "orig.raw.pktlen": 200,
        "orig.raw.pktcount": 3,
        "reply.ip.protocol": 6,
        "reply.l4.sport": 443,
        "reply.l4.dport": 40000,
        "reply.raw.pktlen": 40,
        "reply.raw.pktcount": 1,
        "flow.start.sec": 1_796_093_482,
        "flow.start.usec": 94_628,
        "flow.end.sec": 1_796_093_484,
        "flow.end.usec": 94_628,
    }


def test_what_was_not_counted_is_absent() -> None:
    found = json.loads(line(RECORDS["silent flow"]))
    assert not [name for name in found if ".raw." in name or name.startswith("flow.start")]
    assert found["flow.end.sec"] == 1_796_093_484


def test_an_event_has_its_counters() -> None:
    found = json.loads(line(RECORDS["event"]))
    assert (found["ct.event"], found["orig.raw.pktcount"], found["reply.raw.pktlen"]) == (4, 6, 221)


def test_gaps_have_keys_of_their_own() -> None:
    for kind, keys in {
        "lost": {"conntrack.lost.records": 0, "conntrack.lost.events": 12},
        "dropped": {"conntrack.lost.records": 3, "conntrack.lost.events": None},
        "resynchronized": {"conntrack.resynchronized.flows": 200},
    }.items():
        assert json.loads(line(RECORDS[kind])) == HEAD | keys


def test_a_snapshot_is_no_event_of_an_end() -> None:
    assert json.loads(line(RECORDS["snapshot"]))["ct.event"] == 2
