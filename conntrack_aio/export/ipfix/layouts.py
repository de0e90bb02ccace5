"""Which elements the record of a flow has, and their values.

A value that the kernel did not report has no element: records without it use another template.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from conntrack_aio import EventType, Flow, Tuple

from ..records import EventRecord, FlowRecord, Traffic
from . import elements as e
from .elements import Element

Values = list[tuple[Element, int | bytes]]
"""Elements and their values, in the order of the template."""

_MILLISECOND: Final = 1_000_000
_INITIATOR: Final = 1
_CREATED: Final = 4
_DELETED: Final = 5


def biflow(record: FlowRecord) -> Values:
    """Return a record of both directions (RFC 5103)."""
    values = [*_head(record, record.flow.orig)]
    values += _traffic(record.orig, e.PACKETS, e.OCTETS)
    values += _traffic(record.reply, e.REVERSE_PACKETS, e.REVERSE_OCTETS)
    values += _translation(record.flow)
    values.append((e.BIFLOW_DIRECTION, _INITIATOR))
    return values


def uniflows(record: FlowRecord) -> Iterator[Values]:
    """Yield a record of each direction, for collectors that do not know biflows.

    The record of the reply direction has the addresses of the packets of replies as they arrive,
    and those that they leave with after the translation.
    """
    flow = record.flow
    yield [
        *_head(record, flow.orig),
        *_traffic(record.orig, e.PACKETS, e.OCTETS),
        *_translation(flow),
    ]
    if record.reply is not None and record.reply.packets:
        yield [
            *_head(record, flow.reply),
            *_traffic(record.reply, e.PACKETS, e.OCTETS),
            *_post_nat(flow.reply, flow.orig, is_translated=flow.nat is not None),
        ]


def nat_event(record: EventRecord) -> Values | None:
    """Return the start or end of a translation (RFC 8158); ``None`` for other events."""
    event = record.event
    if event.type is EventType.UPDATE or event.flow.nat is None:
        return None
    flow = event.flow
    return [
        (e.OBSERVATION_TIME, record.time // _MILLISECOND),
        (e.NAT_EVENT, _CREATED if event.type is EventType.NEW else _DELETED),
        *_ends(flow.orig),
        *_post_nat(flow.orig, flow.reply, is_translated=True),
        (e.VRF, flow.zone or 0),
    ]


def _head(record: FlowRecord, tuple_: Tuple) -> Iterator[tuple[Element, int | bytes]]:
    flow = record.flow
    if record.since is not None:
        yield e.START, min(record.since, record.until) // _MILLISECOND
    yield e.END, record.until // _MILLISECOND
    yield from _ends(tuple_)
    yield e.FLOW_END_REASON, record.reason.value
    if flow.id is not None:
        yield e.FLOW_ID, flow.id
    if flow.zone is not None:
        yield e.VRF, flow.zone
    if flow.mark is not None:
        yield e.MARK, flow.mark


def _ends(tuple_: Tuple) -> Iterator[tuple[Element, int | bytes]]:
    ipv4 = tuple_.src.version == 4
    yield (e.SOURCE_IPV4 if ipv4 else e.SOURCE_IPV6), tuple_.src.packed
    yield (e.DESTINATION_IPV4 if ipv4 else e.DESTINATION_IPV6), tuple_.dst.packed
    yield e.PROTOCOL, tuple_.proto
    if tuple_.sport is not None and tuple_.dport is not None:
        yield e.SOURCE_PORT, tuple_.sport
        yield e.DESTINATION_PORT, tuple_.dport
    if tuple_.icmp_type is not None:
        element = e.ICMP_TYPE_CODE_IPV4 if ipv4 else e.ICMP_TYPE_CODE_IPV6
        yield element, tuple_.icmp_type << 8 | (tuple_.icmp_code or 0)


def _traffic(
    traffic: Traffic | None, packets: Element, octets: Element
) -> Iterator[tuple[Element, int | bytes]]:
    if traffic is not None:
        yield packets, traffic.packets
        yield octets, traffic.bytes


def _translation(flow: Flow) -> Iterator[tuple[Element, int | bytes]]:
    return _post_nat(flow.orig, flow.reply, is_translated=flow.nat is not None)


def _post_nat(
    tuple_: Tuple, other: Tuple, *, is_translated: bool
) -> Iterator[tuple[Element, int | bytes]]:
    """Yield the ends of packets behind a translation: those of the other direction, reversed."""
    if not is_translated:
        return
    ipv4 = other.src.version == 4
    yield (e.POST_NAT_SOURCE_IPV4 if ipv4 else e.POST_NAT_SOURCE_IPV6), other.dst.packed
    yield (e.POST_NAT_DESTINATION_IPV4 if ipv4 else e.POST_NAT_DESTINATION_IPV6), other.src.packed
    if tuple_.sport is not None and other.sport is not None and other.dport is not None:
        yield e.POST_NAT_SOURCE_PORT, other.dport
        yield e.POST_NAT_DESTINATION_PORT, other.sport
