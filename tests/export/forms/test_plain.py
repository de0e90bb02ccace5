"""Test the form of records of this package."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.export_records import FLOW, RECORDS

from conntrack_aio import to_dict
from conntrack_aio.export.forms.plain import line

TIME = "2026-12-01T02:51:24.094628860Z"

EXPECTED: dict[str, dict[str, Any]] = {
    "event": {
        "record": "event",
        "type": "destroy",
        "port_id": 9,
        "timestamp": 1_796_093_484_094_628_860,
    },
    "flow": {
        "record": "flow",
        "start": "2026-12-01T02:51:22.094628860Z",
        "duration": 2_000_000_000,
        "since": "2026-12-01T02:51:23.094628860Z",
        "reason": "end",
        "orig": {"packets": 3, "bytes": 200},
        "reply": {"packets": 1, "bytes": 40},
    },
    "silent flow": {"record": "flow", "reason": "unknown", "exact": False},
    "lost": {"record": "lost", "events": 12, "records": 0},
    "dropped": {"record": "lost", "events": None, "records": 3},
    "resynchronized": {"record": "resynchronized", "flows": 200},
    "snapshot": {"record": "snapshot"},
}


@pytest.mark.parametrize("kind", RECORDS)
def test_a_line_is_an_object(kind: str) -> None:
    text = line(RECORDS[kind])
    assert "\n" not in text
    found = json.loads(text)
    flow = (
        {"flow": to_dict(FLOW)} if EXPECTED[kind]["record"] in ("event", "flow", "snapshot") else {}
    )
    assert found == EXPECTED[kind] | flow | {"time": TIME}
