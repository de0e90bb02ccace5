"""The keys of ulogd2's JSON output, for programs that read its files.

An event is an object with these keys: NEW at the start of a flow, DESTROY at its end. A record of a
flow that lives on is one of UPDATE. A counter or a time that the kernel did not report is left out;
ulogd2 writes 0. A gap has only the keys that begin with ``conntrack``.
"""

from __future__ import annotations

import json
import time
from typing import Final

from conntrack_aio import EventType, Flow, Tuple

from ..records import EventRecord, FlowRecord, LostRecord, Record, SnapshotRecord, Traffic

JSON = dict[str, object]

_EVENTS: Final = {EventType.NEW: 1, EventType.UPDATE: 2, EventType.DESTROY: 4}
_DEVICE: Final = "Netfilter"
_SECOND: Final = 1_000_000_000
_FAMILIES: Final = {4: 2, 6: 10}


def line(record: Record) -> str:
    """Return a record as one line of JSON, without its newline."""
    return json.dumps(_object(record))


def _object(record: Record) -> JSON:
    if isinstance(record, EventRecord):
        flow = record.event.flow
        counted = [
            None
            if counters is None or counters.packets is None or counters.bytes is None
            else Traffic(packets=counters.packets, bytes=counters.bytes)
            for counters in (flow.counters_orig, flow.counters_reply)
        ]
        start = None if flow.timestamp is None else flow.timestamp.start
        is_end = record.event.type is EventType.DESTROY
        return {
            **_head(record.time),
            **_flow(flow, _EVENTS[record.event.type], counted[0], counted[1]),
            **_times(start, record.time if is_end else None),
        }
    if isinstance(record, FlowRecord):
        event = _EVENTS[EventType.DESTROY if record.is_final else EventType.UPDATE]
        return {
            **_head(record.until),
            **_flow(record.flow, event, record.orig, record.reply),
            **_times(record.start, record.until if record.is_final else None),
        }
    if isinstance(record, SnapshotRecord):
        flow = record.flow
        return {**_head(record.time), **_flow(flow, _EVENTS[EventType.UPDATE], None, None)}
    if isinstance(record, LostRecord):
        lost = {"conntrack.lost.records": record.records, "conntrack.lost.events": record.events}
        return {**_head(record.time), **lost}
    return {**_head(record.time), "conntrack.resynchronized.flows": record.flows}


def _head(nanoseconds: int) -> JSON:
    seconds, rest = divmod(nanoseconds, _SECOND)
    local = time.localtime(seconds)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", local)
    return {
        "timestamp": f"{text}.{rest // 1000:06d}{time.strftime('%z', local)}",
        "dvc": _DEVICE,
    }


def _flow(flow: Flow, event: int, orig: Traffic | None, reply: Traffic | None) -> JSON:
    found: JSON = {
        "src_ip": str(flow.orig.src),
        "dest_ip": str(flow.orig.dst),
        "oob.family": _FAMILIES[flow.orig.src.version],
        "oob.protocol": 0,
        "reply.ip.saddr.str": str(flow.reply.src),
        "reply.ip.daddr.str": str(flow.reply.dst),
        "ct.event": event,
        "ct.id": flow.id,
        "ct.mark": flow.mark,
        "icmp.type": flow.orig.icmp_type,
        "icmp.code": flow.orig.icmp_code,
    }
    for direction, tuple_, traffic in (("orig", flow.orig, orig), ("reply", flow.reply, reply)):
        found |= _direction(direction, tuple_)
        if traffic is not None:
            found[f"{direction}.raw.pktlen"] = traffic.bytes
            found[f"{direction}.raw.pktcount"] = traffic.packets
    return {name: value for name, value in found.items() if value is not None}


def _direction(direction: str, tuple_: Tuple) -> JSON:
    return {
        f"{direction}.ip.protocol": tuple_.proto,
        f"{direction}.l4.sport": tuple_.sport,
        f"{direction}.l4.dport": tuple_.dport,
    }


def _times(start: int | None, end: int | None) -> JSON:
    found: JSON = {}
    for name, value in (("start", start), ("end", end)):
        if value is not None:
            found[f"flow.{name}.sec"] = value // _SECOND
            found[f"flow.{name}.usec"] = value % _SECOND // 1000
    return found
