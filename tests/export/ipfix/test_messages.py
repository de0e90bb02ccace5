"""Test IPFIX messages as a collector reads them."""

from __future__ import annotations

from itertools import pairwise

import attrs
import pytest
from support.export_records import FLOW, RECORDS, TIME
from support.ipfix_reader import Collector, Message

from conntrack_aio import EventType, Flow, FlowEvent, Status, Tuple
from conntrack_aio.export.ipfix.layouts import Values, biflow, nat_event, uniflows
from conntrack_aio.export.ipfix.messages import MessageWriter, messages_of
from conntrack_aio.export.records import EventRecord, FlowRecord

_MILLISECONDS = TIME // 1_000_000
_REVERSE = 29305

SNAT = attrs.evolve(
    FLOW,
    reply=Tuple.tcp("192.0.2.1", 443, "203.0.113.9", 61000),
    status=Status.SRC_NAT | Status.SRC_NAT_DONE | Status.DST_NAT_DONE,
    zone=3,
)


def flow_record(flow: Flow = FLOW, **changes: object) -> FlowRecord:
    record = RECORDS["flow"]
    assert isinstance(record, FlowRecord)
    return attrs.evolve(record, flow=flow, **changes)


def read(*records: Values) -> list[Message]:
    collector = Collector()
    writer = MessageWriter(domain=9)
    return [collector.read(each) for each in messages_of(writer, records, TIME)]


def test_a_biflow_has_both_directions() -> None:
    (message,) = read(biflow(flow_record(SNAT)))
    assert (message.export_time, message.sequence, message.domain) == (TIME // 10**9, 0, 9)
    (record,) = message.records
    for (element, pen), value in {
        (152, None): _MILLISECONDS - 1000,
        (153, None): _MILLISECONDS,
        (8, None): 0x0A000001,
        (12, None): 0xC0000201,
        (4, None): 6,
        (7, None): 40000,
        (11, None): 443,
        (136, None): 3,
        (148, None): 7,
        (234, None): 3,
        (4, 21373): 5,
        (2, None): 3,
        (1, None): 200,
        (2, _REVERSE): 1,
        (1, _REVERSE): 40,
        (225, None): 0xCB007109,
        (226, None): 0xC0000201,
        (227, None): 61000,
        (228, None): 443,
        (239, None): 1,
    }.items():
        assert record.number(element, pen) == value, (element, pen)
    assert len(record.values) == 20


def test_two_uniflows_have_a_direction_each() -> None:
    (message,) = read(*uniflows(flow_record(SNAT)))
    there, back = message.records
    assert [there.number(each) for each in (8, 7, 12, 11)] == [0x0A000001, 40000, 0xC0000201, 443]
    assert [there.number(each) for each in (225, 227)] == [0xCB007109, 61000]
    assert [back.number(each) for each in (8, 7, 12, 11)] == [0xC0000201, 443, 0xCB007109, 61000]
    assert [back.number(each) for each in (226, 228)] == [0x0A000001, 40000]
    assert [each.number(2) for each in (there, back)] == [3, 1]
    assert len([*uniflows(flow_record(SNAT, reply=None))]) == 1


def test_what_was_not_reported_has_no_element() -> None:
    bare = flow_record(
        attrs.evolve(Flow.udp("fd00::1", 1, "fd00::2", 53, timeout=5)),
        orig=None,
        reply=None,
        since=None,
    )
    (message,) = read(biflow(bare))
    (record,) = message.records
    assert [number for number, _ in record.values] == [153, 27, 28, 4, 7, 11, 136, 239]


@pytest.mark.parametrize(
    ("flow", "element", "value"),
    [
        (Flow.icmp("10.0.0.1", "10.0.0.2", id=1, timeout=5), 32, 8 << 8),
        (Flow.icmp("fd00::1", "fd00::2", id=1, timeout=5), 139, 128 << 8),
    ],
)
def test_icmp_has_its_type_and_code(flow: Flow, element: int, value: int) -> None:
    (message,) = read(biflow(flow_record(flow)))
    (record,) = message.records
    assert record.number(element) == value
    assert (7, None) not in record.values


@pytest.mark.parametrize(("type_", "number"), [(EventType.NEW, 4), (EventType.DESTROY, 5)])
def test_a_translation_has_events(type_: EventType, number: int) -> None:
    event = EventRecord(event=FlowEvent(type=type_, flow=SNAT), time=TIME)
    values = nat_event(event)
    assert values is not None
    (message,) = read(values)
    (record,) = message.records
    assert [record.number(each) for each in (323, 230, 234)] == [_MILLISECONDS, number, 3]
    assert [record.number(each) for each in (8, 7, 225, 227)] == [
        *(0x0A000001, 40000),
        *(0xCB007109, 61000),
    ]


def test_other_events_are_no_translations() -> None:
    for type_, flow in ((EventType.UPDATE, SNAT), (EventType.NEW, FLOW)):
        assert nat_event(EventRecord(event=FlowEvent(type=type_, flow=flow), time=TIME)) is None


@pytest.mark.parametrize("largest", [512, 1400, 65_535])
def test_messages_have_their_size_and_the_sequence_numbers_add_up(largest: int) -> None:
    collector, writer = Collector(), MessageWriter(domain=0, largest=largest)
    flows = [FLOW, SNAT, Flow.udp("fd00::1", 1, "fd00::2", 53, timeout=5)]
    records = [biflow(flow_record(flows[number % 3])) for number in range(2000)]
    data = [*messages_of(writer, records, TIME)]
    assert max(map(len, data)) <= largest
    assert len(data) >= sum(map(len, data)) // largest
    messages = [collector.read(each) for each in data]
    assert sum(len(each.records) for each in messages) == 2000
    for one, other in pairwise(messages):
        assert other.sequence == one.sequence + len(one.records)
    assert [len(each.templates) for each in messages[1:]] == [0] * (len(messages) - 1) or (
        largest == 512
    )


def test_templates_are_announced_again() -> None:
    collector, writer = Collector(), MessageWriter(domain=0)
    for again in (False, False, True):
        if again:
            writer.announce_again()
        (data,) = messages_of(writer, [biflow(flow_record())], TIME)
        late = Collector()  # it was started now
        if again or not collector.read(data).sequence:
            assert late.read(data).templates
        else:
            with pytest.raises(KeyError):
                late.read(data)


def test_a_gap_is_an_options_record() -> None:
    collector, writer = Collector(), MessageWriter(domain=9)
    assert writer.flush(TIME) is None
    for count in (12, 15):
        assert writer.add_gap(TIME, count, TIME) is None
        message = collector.read(writer.flush(TIME) or b"")
        (record,) = message.records
        assert [record.number(each) for each in (149, 323, 166)] == [9, _MILLISECONDS, count]


@pytest.mark.parametrize(
    "options", [{"domain": -1}, {"domain": 1 << 32}, {"domain": 0, "largest": 511}]
)
def test_invalid_numbers_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="got"):
        MessageWriter(**options)
