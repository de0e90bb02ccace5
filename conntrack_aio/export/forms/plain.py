"""The form of this package: a JSON object with the fields of the record and of the flow.

Every object has ``record``, the kind of the record, and ``time``. Times are text in UTC, with
nanoseconds.
"""

from __future__ import annotations

from conntrack_aio import to_json

from ..records import (
    EventRecord,
    FlowRecord,
    LostRecord,
    Record,
    ResynchronizedRecord,
    SnapshotRecord,
    Traffic,
)
from .times import utc_text


def line(record: Record) -> str:
    """Return a record as one line of JSON, without its newline."""
    if isinstance(record, FlowRecord):
        return _flow_line(record)
    if isinstance(record, EventRecord):
        # The object of an event has its type, its flow and, for a program, its port id.
        return f"{_head('event', record.time)}, {to_json(record.event)[1:]}"
    if isinstance(record, SnapshotRecord):
        return f'{_head("snapshot", record.time)}, "flow": {to_json(record.flow)}}}'
    if isinstance(record, LostRecord):
        events = "null" if record.events is None else record.events
        return f'{_head("lost", record.time)}, "events": {events}, "records": {record.records}}}'
    assert isinstance(record, ResynchronizedRecord)
    return f'{_head("resynchronized", record.time)}, "flows": {record.flows}}}'


def _head(kind: str, time: int) -> str:
    return f'{{"record": "{kind}", "time": "{utc_text(time)}"'


def _flow_line(record: FlowRecord) -> str:
    parts = [_head("flow", record.until)]
    if record.start is not None:
        parts.append(f', "start": "{utc_text(record.start)}"')
        parts.append(f', "duration": {record.duration}')
    if record.since is not None:
        parts.append(f', "since": "{utc_text(record.since)}"')
    parts.append(f', "reason": "{record.reason.name.lower()}"')
    for name, traffic in (("orig", record.orig), ("reply", record.reply)):
        if traffic is not None:
            parts.append(f', "{name}": {_traffic(traffic)}')
    if not record.exact:
        parts.append(', "exact": false')
    parts.append(f', "flow": {to_json(record.flow)}}}')
    return "".join(parts)


def _traffic(traffic: Traffic) -> str:
    return f'{{"packets": {traffic.packets}, "bytes": {traffic.bytes}}}'
