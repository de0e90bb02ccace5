"""The Elastic Common Schema: JSON objects as Elasticsearch, Kibana and OpenSearch expect them.

What the schema has no field for is under ``conntrack``.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Final, cast

from conntrack_aio import EventType, Flow, Tuple

from ..community_id import community_id
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

JSON = dict[str, object]

_TRANSPORTS: Final = {
    1: "icmp",
    6: "tcp",
    17: "udp",
    33: "dccp",
    47: "gre",
    50: "esp",
    51: "ah",
    58: "ipv6-icmp",
    132: "sctp",
    136: "udplite",
}
"""The names of protocols, as the schema writes them: in lower case, from IANA's list."""

_TYPES: Final = {
    EventType.NEW: ["connection", "start"],
    EventType.UPDATE: ["connection", "change"],
    EventType.DESTROY: ["connection", "end"],
}


def line(record: Record) -> str:
    """Return a record as one line of JSON, without its newline."""
    return json.dumps(_object(record), separators=(",", ":"))


def _object(record: Record) -> JSON:
    if isinstance(record, EventRecord):
        event = record.event
        return _flow_object(
            record.time,
            event.flow,
            action=f"conntrack-{event.type.value}",
            type_=_TYPES[event.type],
        )
    if isinstance(record, FlowRecord):
        found = _flow_object(
            record.until,
            record.flow,
            action="conntrack-flow",
            type_=["connection", "end" if record.is_final else "info"],
        )
        _add_traffic(found, record.orig, record.reply)
        _add_times(found, record)
        return found
    if isinstance(record, SnapshotRecord):
        return _flow_object(
            record.time, record.flow, action="conntrack-snapshot", type_=["connection", "info"]
        )
    if isinstance(record, LostRecord):
        return _gap(record)
    assert isinstance(record, ResynchronizedRecord)
    return _base(record.time, "conntrack-resynchronized", ["info"]) | {
        "conntrack": {"flows": record.flows}
    }


def _base(time: int, action: str, type_: list[str]) -> JSON:
    return {
        "@timestamp": utc_text(time),
        "event": {
            "kind": "event",
            "category": ["network"],
            "type": type_,
            "action": action,
            "module": "conntrack",
            "dataset": "conntrack.flow",
        },
    }


def _gap(record: LostRecord) -> JSON:
    found = _base(record.time, "conntrack-lost", ["info"])
    _part(found, "event").update(kind="pipeline_error", outcome="failure")
    lost: JSON = {"records": record.records}
    if record.events is not None:
        lost["events"] = record.events
    return found | {"conntrack": {"lost": lost}}


def _flow_object(time: int, flow: Flow, *, action: str, type_: list[str]) -> JSON:
    orig, reply = flow.orig, flow.reply
    source, destination = _end(orig, "src"), _end(orig, "dst")
    own: JSON = {"id": None if flow.id is None else str(flow.id)}
    network: JSON = {
        "type": "ipv4" if orig.src.version == 4 else "ipv6",
        "iana_number": str(orig.proto),
        "community_id": community_id(orig),
    }
    if orig.proto in _TRANSPORTS:
        network["transport"] = _TRANSPORTS[orig.proto]
    nat = flow.nat
    if nat is not None:
        if nat.src is not None:
            source["nat"] = _end(reply, "dst")
        if nat.dst is not None:
            destination["nat"] = _end(reply, "src")
        own["nat"] = {"community_id": community_id(reply)}
    for name in ("mark", "zone"):
        value: int | None = getattr(flow, name)
        if value is not None:
            own[name] = value
    if flow.protoinfo is not None and flow.protoinfo.state is not None:
        own["state"] = str(flow.protoinfo.state)
    if flow.helper is not None and flow.helper.name is not None:
        network["application"] = flow.helper.name
    return _base(time, action, type_) | {
        "source": source,
        "destination": destination,
        "network": network,
        "conntrack": {name: value for name, value in own.items() if value is not None},
    }


def _part(found: JSON, name: str) -> JSON:
    """Return an object inside an object."""
    return cast("JSON", found[name])


def _end(tuple_: Tuple, end: str) -> JSON:
    """Return the address and the port of an end of a tuple."""
    found: JSON = {"ip": _address_text(getattr(tuple_, end))}
    port: int | None = tuple_.sport if end == "src" else tuple_.dport
    if port is not None:
        found["port"] = port
    return found


@lru_cache(8192)
def _address_text(address: object) -> str:
    return str(address)


def _add_traffic(found: JSON, orig: Traffic | None, reply: Traffic | None) -> None:
    """Add what passed: the source sends in the original direction."""
    for name, traffic in (("source", orig), ("destination", reply)):
        if traffic is not None:
            _part(found, name).update(packets=traffic.packets, bytes=traffic.bytes)
    network = _part(found, "network")
    counted = [each for each in (orig, reply) if each is not None]
    if counted:
        network["packets"] = sum(each.packets for each in counted)
        network["bytes"] = sum(each.bytes for each in counted)


def _add_times(found: JSON, record: FlowRecord) -> None:
    event, own = _part(found, "event"), _part(found, "conntrack")
    if record.start is not None:
        event["start"] = utc_text(record.start)
        event["duration"] = record.duration
    if record.is_final:
        event["end"] = utc_text(record.until)
    if record.since is not None:
        own["since"] = utc_text(record.since)
    event["reason"] = record.reason.name.lower()
    if not record.exact:
        own["exact"] = False
