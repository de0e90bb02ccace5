"""Records of each kind, for tests of what writes them."""

from __future__ import annotations

import attrs

from conntrack_aio import Counters, EventType, Flow, FlowEvent, TCPState
from conntrack_aio.export.records import (
    EndReason,
    EventRecord,
    FlowRecord,
    LostRecord,
    Record,
    ResynchronizedRecord,
    SnapshotRecord,
    Traffic,
)

TIME = 1_796_093_484_094_628_860
"""2026-12-01T02:51:24.094628860Z"""

FLOW = attrs.evolve(
    Flow.tcp("10.0.0.1", 40000, "192.0.2.1", 443, timeout=60, state=TCPState.ESTABLISHED),
    id=7,
    mark=5,
    counters_orig=Counters(packets=6, bytes=325),
    counters_reply=Counters(packets=4, bytes=221),
)

RECORDS: dict[str, Record] = {
    "event": EventRecord(
        event=FlowEvent(type=EventType.DESTROY, flow=FLOW, port_id=9, timestamp=TIME), time=TIME
    ),
    "flow": FlowRecord(
        flow=FLOW,
        start=TIME - 2_000_000_000,
        since=TIME - 1_000_000_000,
        until=TIME,
        orig=Traffic(packets=3, bytes=200),
        reply=Traffic(packets=1, bytes=40),
        reason=EndReason.END,
    ),
    "silent flow": FlowRecord(
        flow=FLOW,
        start=None,
        since=None,
        until=TIME,
        orig=None,
        reply=None,
        reason=EndReason.UNKNOWN,
        exact=False,
    ),
    "lost": LostRecord(time=TIME, events=12),
    "dropped": LostRecord(time=TIME, records=3),
    "resynchronized": ResynchronizedRecord(time=TIME, flows=200),
    "snapshot": SnapshotRecord(time=TIME, flow=FLOW),
}
