"""Layouts read messages as the reference does, and leave the other messages to it."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.captured import CAPTURED, EXPECTATIONS
from support.codec_cases import BOTH_TUPLES, CASES, TCP4_REPLY_PAYLOAD, attr, be8, be16, be32, nest
from support.decoders import without_layouts
from support.effort import examples
from support.model_strategies import edited_payloads

from conntrack_aio import DecodeError, EventType, Expectation, Flow, FlowEvent, TCPInfo, TCPState
from conntrack_aio.codec import decoder as decoders
from conntrack_aio.codec.decoder import Datagram, Decoder, pack_seq
from conntrack_aio.codec.event_messages import decode_event
from conntrack_aio.codec.expectation_messages import (
    decode_expect_cpu_statistics,
    decode_expect_event,
    decode_expectation,
)
from conntrack_aio.codec.messages import CT_DELETE, CT_NEW, decode_flow
from conntrack_aio.codec.policy_messages import decode_helper, decode_timeout_policy
from conntrack_aio.codec.scalars import scalar_of
from conntrack_aio.codec.statistics_messages import decode_cpu_statistics
from conntrack_aio.model.client_statistics import ClientStatistics
from conntrack_aio.model.helpers import UserspaceHelper
from conntrack_aio.model.timeouts import TimeoutPolicy
from conntrack_aio.model.wire import IPV4
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.messages import Message

bounded = settings(
    deadline=timedelta(seconds=5),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
MULTI, CREATE = 0x2, 0x400
SEQ = pack_seq(1)


def message(
    attributes: bytes,
    message_type: int = CT_NEW,
    flags: int = MULTI,
    *,
    seq: int = 1,
    port_id: int = 7,
) -> bytes:
    return messages.pack(message_type, flags, seq, b"\2\0\0\0" + attributes, port_id)


def accept_all(buffer: bytes, message: Message) -> bool:
    return True


Items = list[Any]


def comparable(items: Iterable[Any]) -> Items:
    return [
        (type(item), item.reason, item.path) if isinstance(item, DecodeError) else item
        for item in items
    ]


def by_reference(decoder: Decoder[Any], data: bytes, seq: int | None = None) -> Items:
    items: Items = []
    try:
        for each in messages.walk(data, len(data)):
            if seq is not None and each.seq != seq:
                continue
            try:
                items.append(decoder(data, each))
            except DecodeError as error:
                items.append(error)
    except DecodeError as error:
        items.append(error)
    return comparable(items)


def by_layouts(
    decoder: Decoder[Any],
    data: bytes,
    seq: int | None = None,
    counters: ClientStatistics | None = None,
) -> Items:
    counters = counters or ClientStatistics()
    datagram = Datagram(data)
    items: Items = []

    def takes(buffer: bytes, message: Message) -> bool:
        return seq is None or message.seq == seq

    try:
        while not datagram.done:
            batch: Items = []
            wanted = None if seq is None else pack_seq(seq)
            try:
                decoder.read(datagram, takes, wanted, batch, counters)
            finally:
                assert len(batch) <= decoders.BATCH
                items += batch
    except DecodeError as error:
        items.append(error)
    return comparable(items)


def has_layout(decoder: Decoder[Any], data: bytes) -> bool:
    """Return whether layouts read the whole datagram."""
    counters = ClientStatistics()
    by_layouts(decoder, data, counters=counters)
    return counters.fallbacks == 0


def messages_of(cls: type, message_type: int, flags: int = MULTI) -> list[bytes]:
    return [
        message(case.data, message_type, flags) for case in CASES if isinstance(case.object, cls)
    ]


FLOWS = [capture.data for capture in CAPTURED if capture.event is None] + messages_of(Flow, CT_NEW)
EVENTS = [capture.data for capture in CAPTURED if capture.event is not None]
EVENTS += messages_of(FlowEvent, CT_NEW, CREATE) + messages_of(FlowEvent, CT_DELETE, 0)
EXPECTED = messages_of(Expectation, 0x200)
DECODERS = [
    (decode_flow, FLOWS),
    (decode_event, EVENTS),
    (decode_expectation, [c.data for c in EXPECTATIONS if not c.event] + EXPECTED),
    (decode_expect_event, [c.data for c in EXPECTATIONS if c.event] + EXPECTED),
    (decode_timeout_policy, messages_of(TimeoutPolicy, 0x800)),
    (decode_helper, messages_of(UserspaceHelper, 0x900)),
    (decode_cpu_statistics, [message(be32(2, 5), 0x104)]),
    (decode_expect_cpu_statistics, [message(be32(1, 5), 0x203)]),
]
each_decoder = pytest.mark.parametrize(
    ("decoder", "known_messages"), DECODERS, ids=lambda value: value_id(value)
)


def value_id(value: object) -> str | None:
    return value._cls.__name__ if isinstance(value, Decoder) else "messages"


# Equal to the reference


@each_decoder
def test_a_message_has_a_layout_after_it_was_read_once(
    decoder: Decoder[Any], known_messages: Sequence[bytes]
) -> None:
    for data in known_messages:
        decoder = without_layouts(decoder)  # it compiles the first layouts at once
        if any(isinstance(item, tuple) for item in by_reference(decoder, data)):
            continue
        by_layouts(decoder, data)
        read = by_layouts(decoder, data)
        assert read == by_reference(decoder, data)
        if not any(item.unknown for item in map(flow_in, read) if item is not None):
            assert has_layout(decoder, data)


def flow_in(item: Any) -> Any:
    flow = item.flow if isinstance(item, FlowEvent) else item
    return flow if hasattr(flow, "unknown") else None


@each_decoder
@settings(bounded, max_examples=examples(30))
@given(data=st.data())
def test_any_bytes_are_read_as_the_reference_does(
    decoder: Decoder[Any], known_messages: list[bytes], data: st.DataObject
) -> None:
    """Edited messages are compared with the layouts of the originals and of earlier edits."""
    edits = data.draw(st.lists(edited_payloads(known_messages), min_size=1, max_size=4))
    decoder = without_layouts(decoder)
    for each in [*known_messages, *edits, *reversed(edits)]:
        assert by_layouts(decoder, each) == by_reference(decoder, each)


@settings(bounded, max_examples=examples(25))
@given(data=st.data())
def test_any_values_are_read_as_the_reference_does(data: st.DataObject) -> None:
    """Every byte that does not belong to a header may have any value."""
    original = data.draw(st.sampled_from([each for each in FLOWS if len(each) > 100]))
    decoder = without_layouts(decode_flow)
    by_layouts(decoder, original)
    layouts = [layout for similar in decoder._layouts.values() for layout in similar]
    if not layouts:
        return
    (layout,) = layouts
    free = [i for i in range(20, len(original)) if not layout.mask >> 8 * i & 0xFF]
    edited_values = bytearray(original)
    for i in data.draw(st.lists(st.sampled_from(free), max_size=20)):
        edited_values[i] = data.draw(st.integers(0, 255))
    changed = bytes(edited_values)
    assert by_layouts(decoder, changed) == by_reference(decoder, changed)


@settings(bounded, max_examples=examples(25))
@given(data=st.data())
def test_runs_of_messages_are_read_as_the_reference_does(data: st.DataObject) -> None:
    """Runs of messages of one skeleton are interrupted by other messages and by invalid bytes."""
    samples = data.draw(st.lists(st.sampled_from(FLOWS), min_size=1, max_size=3))
    parts = data.draw(
        st.lists(
            st.tuples(st.sampled_from(samples) | edited_payloads(samples), st.integers(1, 90)),
            min_size=1,
            max_size=6,
        )
    )
    datagram = b"".join(part * count for part, count in parts)
    decoder = without_layouts(decode_flow)
    for _ in range(2):
        assert by_layouts(decoder, datagram) == by_reference(decoder, datagram)
        assert by_layouts(decoder, datagram, 1) == by_reference(decoder, datagram, 1)


@each_decoder
@settings(bounded, max_examples=examples(25))
@given(data=st.data())
def test_a_single_message_is_read_as_the_reference_does(
    decoder: Decoder[Any], known_messages: list[bytes], data: st.DataObject
) -> None:
    decoder = without_layouts(decoder)
    for each in [*known_messages, *known_messages, data.draw(edited_payloads(known_messages))]:
        message_bytes = each[: int.from_bytes(each[:4], sys.byteorder)]  # without what follows it
        expected = by_reference(decoder, message_bytes)
        try:
            alone: Items = [decoder.one(message_bytes)]
        except DecodeError as error:
            alone = [error]
        assert comparable(alone) == expected or not message_bytes


# Skeletons


def port(number: int) -> bytes:
    return nest(2, be8(1, 6) + be16(2, number) + be16(3, 80))


def shares_layout(first: bytes, second: bytes) -> bool:
    """Return whether the layout of one flow reads another, and check that the result is right."""
    decoder = without_layouts(decode_flow)
    by_layouts(decoder, message(first))
    shared = has_layout(decoder, message(second))
    decoder = without_layouts(decode_flow)
    by_layouts(decoder, message(first))
    data = message(second)
    assert by_layouts(decoder, data) == by_reference(decoder, data)
    return shared


def test_values_are_not_part_of_a_skeleton() -> None:
    assert shares_layout(BOTH_TUPLES + be32(7, 1), BOTH_TUPLES + be32(7, 0xFFFFFFFF))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (be32(7, 1), be32(8, 1)),
        (be32(7, 1) + be32(8, 2), be32(8, 1) + be32(7, 2)),
        (attr(99, b"abcd"), attr(98, b"abcd")),
        (be32(7, 1) + be32(7, 2), be32(7, 1) + be32(99, 2)),
        (attr(7, b"") + be32(8, 1), attr(8, b"") + be32(7, 1)),
    ],
    ids=["another number", "another order", "another unknown one", "twice", "padding"],
)
def test_messages_of_one_length_may_have_different_skeletons(first: bytes, second: bytes) -> None:
    assert len(first) == len(second)
    assert not shares_layout(BOTH_TUPLES + first, BOTH_TUPLES + second)


def test_the_deciding_attribute_is_part_of_the_skeleton() -> None:
    """The same attribute number is another timeout in a policy for TCP than in one for UDP."""

    def policy(proto: int) -> bytes:
        data = attr(1, b"name\0") + be16(2, 2) + be8(3, proto) + nest(4, be32(1, 5))
        return message(data, 0x800)

    decoder = without_layouts(decode_timeout_policy)
    for proto in (6, 6, 17, 17, 6, 99):
        read = by_layouts(decoder, policy(proto))
        assert read == by_reference(decoder, policy(proto))
    assert has_layout(decoder, policy(6))
    assert has_layout(decoder, policy(17))
    assert len(decoder._layouts) == 1


def test_layouts_keep_unknown_attributes() -> None:
    decoder = without_layouts(decode_flow)
    for payload in (b"abcd", b"efgh"):
        data = message(BOTH_TUPLES + attr(99, payload))
        (flow,) = by_layouts(decoder, data)
        assert [unknown.payload for unknown in flow.unknown] == [payload]
    assert has_layout(decoder, message(BOTH_TUPLES + attr(99, b"ijkl")))


def test_equal_shared_objects_are_one_object() -> None:
    decoder = without_layouts(decode_flow)
    data = message(BOTH_TUPLES + nest(4, nest(1, be8(1, 3))))
    (_,), (first,), (second,) = (by_layouts(decoder, data) for _ in range(3))
    assert first.protoinfo == TCPInfo(state=TCPState.ESTABLISHED)
    assert first.protoinfo is second.protoinfo
    assert first.orig is not second.orig


@pytest.mark.parametrize(
    "unusual",
    [be8(1, 3) + attr(99, b"abcd"), be8(1, 3) + attr(2, b"123") + b"abcd"],
    ids=["unknown inside", "no attributes at all"],
)
def test_a_shared_object_that_only_the_reference_can_read(unusual: bytes) -> None:
    """Its nest has the same length as that of an ordinary object, but other bytes."""
    ordinary = be8(1, 3) + be8(2, 0)
    unusual = unusual[: len(ordinary)] if len(unusual) != len(ordinary) else unusual
    plain = BOTH_TUPLES + nest(4, nest(1, be8(1, 3) + be8(2, 0)))
    reference_only = BOTH_TUPLES + nest(4, nest(1, unusual))
    decoder = without_layouts(decode_flow)
    by_layouts(decoder, message(plain))
    many = message(plain) * 50 + message(reference_only) + message(plain) * 50
    assert by_layouts(decoder, many) == by_reference(decoder, many)


# Headers


def test_the_header_determines_the_event_type_and_port_id() -> None:
    decoder = without_layouts(decode_event)
    headers = [(CT_NEW, CREATE), (CT_NEW, 0), (CT_DELETE, 0)]
    for _ in range(2):
        for port_id in (0, 4711):
            events = [
                by_layouts(
                    decoder, message(BOTH_TUPLES, message_type, flags, seq=port_id, port_id=port_id)
                )[0]
                for message_type, flags in headers
            ]
            assert [event.type for event in events] == list(EventType)
            assert {event.port_id for event in events} == {port_id}


def test_the_header_has_the_number_of_the_processor() -> None:
    decoder = without_layouts(decode_cpu_statistics)
    for cpu in (0, 1, 0xFFFF):
        head = struct.pack("!BBH", 0, 0, cpu)
        data = messages.pack(0x104, MULTI, 1, head + be32(2, 5))
        assert by_layouts(decoder, data)[0].cpu == cpu
    assert has_layout(decoder, data)


def test_messages_with_another_sequence_number_are_not_read() -> None:
    decoder = without_layouts(decode_flow)
    by_layouts(decoder, message(BOTH_TUPLES), 1)
    strays = message(BOTH_TUPLES, seq=2)
    assert by_layouts(decoder, strays, 1) == []
    many = message(BOTH_TUPLES) * 50 + strays * 50 + message(BOTH_TUPLES) * 50
    assert len(by_layouts(decoder, many, 1)) == 100


def test_messages_of_an_interrupted_dump_get_no_layout() -> None:
    decoder = without_layouts(decode_flow)
    data = message(BOTH_TUPLES, flags=MULTI | 0x10)
    by_layouts(decoder, data)
    assert not has_layout(decoder, data)


def test_truncated_messages_are_read_as_the_reference_does() -> None:
    decoder = without_layouts(decode_flow)
    data = message(BOTH_TUPLES + be32(7, 1))
    by_layouts(decoder, data)
    for end in range(1, len(data)):
        cut = data + data[:end]
        assert by_layouts(decoder, cut) == by_reference(decoder, cut)


# Bounds


def test_layouts_are_bounded_if_all_messages_differ() -> None:
    """A layout is not compiled for every message: that would take fifty times as long."""
    decoder = without_layouts(decode_flow)
    counters = ClientStatistics()
    count = 20_000
    for number in range(count):
        data = message(BOTH_TUPLES + attr(100 + number % 16000, bytes(number % 7)))
        by_layouts(decoder, data, counters=counters)
    assert counters.fallbacks > count / 2
    assert 0 < decoder.layouts <= decoders.MAX_LAYOUTS
    assert decoders.count_layouts() >= decoder.layouts
    assert decoder._compiled < count / 30
    assert all(len(similar) <= decoders._MAX_SIMILAR for similar in decoder._layouts.values())


def test_too_large_messages_get_no_layout() -> None:
    decoder = without_layouts(decode_flow)
    fitting = (decoders._MAX_MESSAGE - len(message(BOTH_TUPLES))) // 4
    for count, expected in ((fitting, True), (fitting + 1, False)):
        data = message(BOTH_TUPLES + attr(99, b"") * count)
        assert by_layouts(decoder, data) == by_reference(decoder, data)
        assert has_layout(decoder, data) == expected


def test_each_skeleton_of_interleaved_messages_has_one_layout() -> None:
    """A skeleton that is met first while the functions of others are compiled is no exception."""
    decoder = without_layouts(decode_flow)
    counters = ClientStatistics()
    kinds = [message(BOTH_TUPLES + attr(99, bytes(4 * number))) for number in range(8)]
    for _ in range(3):
        by_layouts(decoder, b"".join([kinds[0] * 2, *kinds, *reversed(kinds)]), counters=counters)
    assert decoder.layouts == counters.fallbacks == len(kinds)


def test_layouts_are_dropped_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages of different lengths have their layouts under different keys."""
    monkeypatch.setattr(decoders, "MAX_LAYOUTS", 8)
    decoder = without_layouts(decode_flow)
    most = 0
    for number in range(decoders._COMPILED_IMMEDIATELY):
        by_layouts(decoder, message(BOTH_TUPLES + attr(99, bytes(4 * number))))
        most = max(most, decoder.layouts)
    assert most == 8


def test_layouts_are_compiled_again_after_many_different_messages() -> None:
    decoder = without_layouts(decode_flow)
    for number in range(3000):
        by_layouts(decoder, message(BOTH_TUPLES + attr(100 + number, b"")))
    usual = message(BOTH_TUPLES + be32(7, 1))
    for _ in range(decoders._MISSES_PER_LAYOUT + 1):
        by_layouts(decoder, usual)
    assert has_layout(decoder, usual)


def test_a_full_memo_of_values_is_cleared() -> None:
    decoder = without_layouts(decode_flow)
    memo = scalar_of(IPV4).memo
    assert memo is not None
    for number in range(1 << 15):
        source = be32(1, number) + be32(2, 1)
        data = message(nest(1, nest(1, source) + port(1)) + nest(2, TCP4_REPLY_PAYLOAD))
        (flow,) = by_layouts(decoder, data)
        assert int(flow.orig.src) == number
        assert len(memo) <= memo.limit < 1 << 15
    flow_layouts = [layout for similar in decoder._layouts.values() for layout in similar]
    assert len(flow_layouts) == 1


def clients_of_a_server(count: int) -> list[bytes]:
    """Return the messages of flows, each from another client to the same server.

    Each second one has another length, so that there is no run.
    """
    sources = [nest(1, be32(1, 0x0A000000 + number) + be32(2, 1)) for number in range(count)]
    flows = [message(nest(1, each + port(1)) + nest(2, TCP4_REPLY_PAYLOAD)) for each in sources]
    return [
        flow if number % 2 else message(flow[20:] + be32(7, number))
        for number, flow in enumerate(flows)
    ]


def read_like(decoder: Decoder[Any], data: bytes, sample: Flow | None) -> list[Flow]:
    """Decode a datagram with the fields set that were read of a sample."""
    datagram = Datagram(data)
    items: Items = []
    while not datagram.done:
        decoder.read(datagram, accept_all, None, items, ClientStatistics(), sample)
    return items


def read_twice(decoder: Decoder[Any], data: bytes) -> list[Flow]:
    """Decode a datagram, read the original tuples, and decode it so that these are set."""
    sample = read_like(decoder, data, None)[-1]
    assert sample.orig
    return read_like(decoder, data, sample)


def count_sources(flows: list[Flow]) -> int:
    """Return how many address objects the sources of flows are."""
    return len({id(flow.orig.src) for flow in flows})


@pytest.mark.parametrize("runs", [False, True], ids=["single messages", "runs"])
def test_addresses_that_vary_are_read_as_the_reference_does(runs: bool) -> None:
    decoder = without_layouts(decode_flow)
    flows = clients_of_a_server(400)
    data = b"".join([*flows[::2], *flows[1::2]] if runs else flows)
    read_twice(decoder, data)
    found = read_twice(decoder, data)
    assert comparable(found) == by_reference(decoder, data)
    assert len({id(flow.orig.dst) for flow in found}) < 20, "it is looked up"


@pytest.mark.parametrize("runs", [False, True], ids=["single messages", "runs"])
def test_what_is_looked_up_is_chosen_again(monkeypatch: pytest.MonkeyPatch, runs: bool) -> None:
    monkeypatch.setattr(decoders, "_READS_PER_CHOICE", 16)
    decoder = without_layouts(decode_flow)
    flows = clients_of_a_server(400)
    varied = b"".join([*flows[::2], *flows[1::2]] if runs else flows)
    repeated = b"".join([flows[0]] * 200 + [flows[1]] * 200 if runs else flows[:2] * 200)
    for _ in range(3):
        for _ in range(40):
            found = read_twice(decoder, repeated)
        assert count_sources(found) == 2
        for _ in range(40):
            found = read_twice(decoder, varied)
        assert count_sources(found) == 400
        assert comparable(found) == by_reference(decoder, varied)
