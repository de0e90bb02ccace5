"""Flows for programs of mirror operations, as objects and as messages."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import attrs

from conntrack_aio import (
    DecodeError,
    EncodeError,
    EventType,
    Flow,
    FlowEvent,
    Helper,
    Status,
    Timestamp,
    Tuple,
    UnknownAttribute,
)
from conntrack_aio.codec.decoder import Decoder
from conntrack_aio.codec.event_messages import decode_event
from conntrack_aio.codec.messages import decode_flow
from conntrack_aio.codec.reference import encode
from conntrack_aio.table.merging import duplicate
from conntrack_aio.table.tuple_keys import orig_key

from . import seeds


def _base_flows() -> list[Flow]:
    """Return flows of all kinds, and some that share a tuple or an id with another."""
    flows = [event.flow for event in map(decode_event.one, seeds.EVENTS)]
    flows += map(decode_flow.one, seeds.FLOWS)
    kinds = list({orig_key(flow): flow for flow in flows}.values())[:11]
    one, two = (Flow.tcp("10.0.0.1", port, "10.0.0.2", 80, timeout=60) for port in (1, 2))
    return [
        *kinds,
        one,
        attrs.evolve(two, reply=one.reply),
        attrs.evolve(one, reply=attrs.evolve(one.reply, proto=17)),
        attrs.evolve(
            one,
            orig=Tuple(src=one.orig.src, dst=one.orig.dst, proto=1, icmp_type=3),
            reply=Tuple(src=one.orig.dst, dst=one.orig.src, proto=1, icmp_type=4),
        ),
        attrs.evolve(two, orig=attrs.evolve(two.orig, sport=3)),
        attrs.evolve(one, orig=attrs.evolve(one.orig, zone=3)),
        attrs.evolve(one, orig=attrs.evolve(one.orig, zone=4), reply=two.reply),
    ]


_VARIANTS: list[dict[str, object]] = [
    {"id": 1},
    {"id": 1, "mark": None},
    {"id": 1, "mark": 0},
    {"id": 1, "mark": 5},
    {"id": 1, "mark": 6, "labels": 8},
    {"id": 1, "labels": None},
    {"id": 1, "labels": 16},
    {"id": 1, "helper": Helper(name="ftp")},
    {"id": 1, "helper": None, "timestamp": None, "protoinfo": None},
    {"id": 1, "status": Status.DYING | Status.CONFIRMED},
    {"id": 1, "status": Status.CONFIRMED, "timeout": 77},
    {"id": 1, "timestamp": Timestamp(start=1)},
    {"id": 1, "timestamp": Timestamp(start=2)},
    {"id": 1, "unknown": (UnknownAttribute((99,), b"x"),)},
    {"id": 1, "unknown": (UnknownAttribute((99,), b"y"),)},
    {"id": 1, "unknown": ()},
    {"id": 2},
    {"id": 2, "mark": 5, "timestamp": None},
    {"id": 2, "labels": 1, "mark": 6},
    {"id": 3, "mark": None},
    {"id": None},
    {"id": None, "mark": 6},
    {"id": 1, "zone": 7},
    {"id": 1, "zone": None},
]
_POOL = [[attrs.evolve(base, **variant) for variant in _VARIANTS] for base in _base_flows()]  # type: ignore[arg-type]
FLOWS = [flow for flows in _POOL for flow in flows]
SAME_ENTRY: dict[bytes, list[int]] = {}
"""The indices of the flows with the same original tuple, by its key."""
for _number, _flow in enumerate(FLOWS):
    SAME_ENTRY.setdefault(orig_key(_flow), []).append(_number)


# -- the same flows as messages ---------------------------------------------------------------

_EVENT_HEADERS = {
    EventType.NEW: (0x100, 0x600),
    EventType.UPDATE: (0x100, 0),
    EventType.DESTROY: (0x102, 0),
}


class FlowSource:
    """Passes flows to a mirror as objects that do not know their messages."""

    def flow(self, number: int) -> Flow:
        return duplicate(FLOWS[number])

    def event(self, number: int, kind: EventType, port_id: int) -> FlowEvent:
        return FlowEvent(type=kind, flow=self.flow(number), port_id=port_id)


class _MessageSource(FlowSource):
    """Decodes the flows from messages, so that a mirror can store records.

    Flows that no kernel can send stay objects.
    """

    def __init__(self) -> None:
        self._payloads = [_payload(each) for each in FLOWS]
        # A decoder compiles some layouts at once, and others later.
        self._decoders = [
            (
                Decoder(Flow, "", _accept),
                Decoder(FlowEvent, "", _event_type, port_id_field="port_id"),
            )
            for _ in _POOL
        ]

    def flow(self, number: int) -> Flow:
        payload = self._payloads[number]
        if payload is None:
            return super().flow(number)
        decoder = self._decoders[number // len(_VARIANTS)][0]
        data = seeds.message(payload, 0x100)
        decoder.one(data)  # the first time, this compiles the layout
        return decoder.one(data)

    def event(self, number: int, kind: EventType, port_id: int) -> FlowEvent:
        payload = self._payloads[number]
        if payload is None:
            return super().event(number, kind, port_id)
        decoder = self._decoders[number // len(_VARIANTS)][1]
        data = seeds.message(payload, *_EVENT_HEADERS[kind])
        data = data[:12] + port_id.to_bytes(4, sys.byteorder) + data[16:]
        decoder.one(data)
        return decoder.one(data)


def _payload(flow: Flow) -> bytes | None:
    """Return the payload of a message of a flow; ``None`` if there is none."""
    try:
        payload = b"\2\0\0\0" + encode(flow)
        found = decode_flow.one(seeds.message(payload, 0x100))
    except (EncodeError, DecodeError):
        return None
    return payload if found == flow else None


def _accept(message_type: int, flags: int) -> Mapping[str, object]:
    return {}


def _event_type(message_type: int, flags: int) -> Mapping[str, object]:
    found = [kind for kind, header in _EVENT_HEADERS.items() if header == (message_type, flags)]
    return {"type": found[0]}


SOURCES = (FlowSource(), _MessageSource())
