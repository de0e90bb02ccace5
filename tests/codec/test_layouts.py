"""Compiled readers: they read what the reference reads, as it does, and know when they can't."""

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
from support.cases import BOTH, CASES, TCP4_BACK_INSIDE, attr, be8, be16, be32, nest
from support.effort import examples
from support.strategies import edited

from conntrack_aio import DecodeError, EventType, Expectation, Flow, FlowEvent, TCPInfo, TCPState
from conntrack_aio.codec import decoder as decoders
from conntrack_aio.codec.decoder import Datagram, Decoder, pack_seq
from conntrack_aio.codec.messages import (
    CT_DELETE,
    CT_NEW,
    decode_cpu_statistics,
    decode_event,
    decode_expect_cpu_statistics,
    decode_expect_event,
    decode_expectation,
    decode_flow,
    decode_helper,
    decode_timeout_policy,
)
from conntrack_aio.codec.scalars import scalar_of
from conntrack_aio.model.declare import IPV4
from conntrack_aio.model.helpers import UserspaceHelper
from conntrack_aio.model.statistics import ClientStatistics
from conntrack_aio.model.timeouts import TimeoutPolicy
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.messages import Message

bounded = settings(
    deadline=timedelta(seconds=5),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
MULTI, CREATE = 0x2, 0x400
SEQ = pack_seq(1)


def fresh(known: Decoder[Any]) -> Decoder[Any]:
    """The same decoder, with nothing learnt."""
    return Decoder(
        known._cls,
        known._description,
        known._header_values,
        port_field=known._port_field,
        resource_field=known._resource_field,
    )


def message(
    attributes: bytes, kind: int = CT_NEW, flags: int = MULTI, *, seq: int = 1, port: int = 7
) -> bytes:
    return messages.pack(kind, flags, seq, b"\2\0\0\0" + attributes, port)


def every(buffer: bytes, message: Message) -> bool:
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
            portion: Items = []
            wanted = None if seq is None else pack_seq(seq)
            try:
                decoder.read(datagram, takes, wanted, portion, counters)
            finally:
                assert len(portion) <= decoders.BATCH
                items += portion
    except DecodeError as error:
        items.append(error)
    return comparable(items)


def is_known(decoder: Decoder[Any], data: bytes) -> bool:
    """Whether a layout reads it, rather than the reference."""
    counters = ClientStatistics()
    by_layouts(decoder, data, counters=counters)
    return counters.fallbacks == 0


def wrapped(cls: type, kind: int, flags: int = MULTI) -> list[bytes]:
    return [message(case.data, kind, flags) for case in CASES if isinstance(case.object, cls)]


FLOWS = [capture.data for capture in CAPTURED if capture.event is None] + wrapped(Flow, CT_NEW)
EVENTS = [capture.data for capture in CAPTURED if capture.event is not None]
EVENTS += wrapped(FlowEvent, CT_NEW, CREATE) + wrapped(FlowEvent, CT_DELETE, 0)
EXPECTED = wrapped(Expectation, 0x200)
KINDS = [
    (decode_flow, FLOWS),
    (decode_event, EVENTS),
    (decode_expectation, [c.data for c in EXPECTATIONS if not c.event] + EXPECTED),
    (decode_expect_event, [c.data for c in EXPECTATIONS if c.event] + EXPECTED),
    (decode_timeout_policy, wrapped(TimeoutPolicy, 0x800)),
    (decode_helper, wrapped(UserspaceHelper, 0x900)),
    (decode_cpu_statistics, [message(be32(2, 5), 0x104)]),
    (decode_expect_cpu_statistics, [message(be32(1, 5), 0x203)]),
]
kinds = pytest.mark.parametrize(("decoder", "known"), KINDS, ids=lambda value: value_id(value))


def value_id(value: object) -> str | None:
    return value._cls.__name__ if isinstance(value, Decoder) else "messages"


# What is read


@kinds
def test_what_was_met_is_known(decoder: Decoder[Any], known: Sequence[bytes]) -> None:
    for data in known:
        decoder = fresh(decoder)  # which learns what it meets first at once
        if any(isinstance(item, tuple) for item in by_reference(decoder, data)):
            continue
        by_layouts(decoder, data)
        told = by_layouts(decoder, data)
        assert told == by_reference(decoder, data)
        if not any(item.unknown for item in map(flow_in, told) if item is not None):
            assert is_known(decoder, data)


def flow_in(item: Any) -> Any:
    flow = item.flow if isinstance(item, FlowEvent) else item
    return flow if hasattr(flow, "unknown") else None


@kinds
@settings(bounded, max_examples=examples(30))
@given(data=st.data())
def test_any_bytes_are_read_as_the_reference_does(
    decoder: Decoder[Any], known: list[bytes], data: st.DataObject
) -> None:
    """Edited messages meet the layouts of those that they were, and of others edited before."""
    edits = data.draw(st.lists(edited(known), min_size=1, max_size=4))
    decoder = fresh(decoder)
    for each in [*known, *edits, *reversed(edits)]:
        assert by_layouts(decoder, each) == by_reference(decoder, each)


@settings(bounded, max_examples=examples(25))
@given(data=st.data())
def test_any_values_are_read_as_the_reference_does(data: st.DataObject) -> None:
    """Every byte that is no header may be anything."""
    known = data.draw(st.sampled_from([each for each in FLOWS if len(each) > 100]))
    decoder = fresh(decode_flow)
    by_layouts(decoder, known)
    layouts = [layout for alike in decoder._layouts.values() for layout in alike]
    if not layouts:
        return
    (layout,) = layouts
    free = [i for i in range(20, len(known)) if not layout.mask >> 8 * i & 0xFF]
    edited_values = bytearray(known)
    for i in data.draw(st.lists(st.sampled_from(free), max_size=20)):
        edited_values[i] = data.draw(st.integers(0, 255))
    changed = bytes(edited_values)
    assert by_layouts(decoder, changed) == by_reference(decoder, changed)


@settings(bounded, max_examples=examples(25))
@given(data=st.data())
def test_any_datagram_of_many(data: st.DataObject) -> None:
    """Runs of messages alike, broken by others and by what is none."""
    few = data.draw(st.lists(st.sampled_from(FLOWS), min_size=1, max_size=3))
    parts = data.draw(
        st.lists(
            st.tuples(st.sampled_from(few) | edited(few), st.integers(1, 90)),
            min_size=1,
            max_size=6,
        )
    )
    datagram = b"".join(part * count for part, count in parts)
    decoder = fresh(decode_flow)
    for _ in range(2):
        assert by_layouts(decoder, datagram) == by_reference(decoder, datagram)
        assert by_layouts(decoder, datagram, 1) == by_reference(decoder, datagram, 1)


@kinds
@settings(bounded, max_examples=examples(25))
@given(data=st.data())
def test_a_message_alone(decoder: Decoder[Any], known: list[bytes], data: st.DataObject) -> None:
    decoder = fresh(decoder)
    for each in [*known, *known, data.draw(edited(known))]:
        whole = each[: int.from_bytes(each[:4], sys.byteorder)]  # what is behind it is another's
        told = by_reference(decoder, whole)
        try:
            alone: Items = [decoder.one(whole)]
        except DecodeError as error:
            alone = [error]
        assert comparable(alone) == told or not whole


# What tells messages apart


def port(number: int) -> bytes:
    return nest(2, be8(1, 6) + be16(2, number) + be16(3, 80))


def known_after(first: bytes, second: bytes) -> bool:
    """Whether a flow's attributes are read by the layout of another's; rightly, in any case."""
    decoder = fresh(decode_flow)
    by_layouts(decoder, message(first))
    known = is_known(decoder, message(second))
    decoder = fresh(decode_flow)
    by_layouts(decoder, message(first))
    data = message(second)
    assert by_layouts(decoder, data) == by_reference(decoder, data)
    return known


def test_values_are_no_part_of_a_skeleton() -> None:
    assert known_after(BOTH + be32(7, 1), BOTH + be32(7, 0xFFFFFFFF))


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
def test_one_length_and_another_skeleton(first: bytes, second: bytes) -> None:
    assert len(first) == len(second)
    assert not known_after(BOTH + first, BOTH + second)


def test_what_an_attribute_means_is_said_by_another() -> None:
    """The first timeout of a policy for TCP is another one than that of a policy for UDP."""

    def policy(proto: int) -> bytes:
        data = attr(1, b"name\0") + be16(2, 2) + be8(3, proto) + nest(4, be32(1, 5))
        return message(data, 0x800)

    decoder = fresh(decode_timeout_policy)
    for proto in (6, 6, 17, 17, 6, 99):
        told = by_layouts(decoder, policy(proto))
        assert told == by_reference(decoder, policy(proto))
    assert is_known(decoder, policy(6))
    assert is_known(decoder, policy(17))
    assert len(decoder._layouts) == 1


def test_unknown_attributes_are_kept_by_a_layout_too() -> None:
    decoder = fresh(decode_flow)
    for payload in (b"abcd", b"efgh"):
        data = message(BOTH + attr(99, payload))
        (flow,) = by_layouts(decoder, data)
        assert [kept.payload for kept in flow.unknown] == [payload]
    assert is_known(decoder, message(BOTH + attr(99, b"ijkl")))


def test_what_is_shared_is_one_object() -> None:
    decoder = fresh(decode_flow)
    data = message(BOTH + nest(4, nest(1, be8(1, 3))))
    (_,), (first,), (second,) = (by_layouts(decoder, data) for _ in range(3))
    assert first.protoinfo == TCPInfo(state=TCPState.ESTABLISHED)
    assert first.protoinfo is second.protoinfo
    assert first.orig is not second.orig


@pytest.mark.parametrize(
    "odd",
    [be8(1, 3) + attr(99, b"abcd"), be8(1, 3) + attr(2, b"123") + b"abcd"],
    ids=["unknown inside", "no attributes at all"],
)
def test_a_shared_object_that_is_not_whole(odd: bytes) -> None:
    """Its nest is as long as that of one that is whole, and of other bytes."""
    whole = be8(1, 3) + be8(2, 0)
    odd = odd[: len(whole)] if len(odd) != len(whole) else odd
    plain = BOTH + nest(4, nest(1, be8(1, 3) + be8(2, 0)))
    strange = BOTH + nest(4, nest(1, odd))
    decoder = fresh(decode_flow)
    by_layouts(decoder, message(plain))
    many = message(plain) * 50 + message(strange) + message(plain) * 50
    assert by_layouts(decoder, many) == by_reference(decoder, many)


# Headers


def test_an_event_is_what_its_header_says() -> None:
    decoder = fresh(decode_event)
    kinds = [(CT_NEW, CREATE), (CT_NEW, 0), (CT_DELETE, 0)]
    for _ in range(2):
        for author in (0, 4711):
            told = [
                by_layouts(decoder, message(BOTH, kind, flags, seq=author, port=author))[0]
                for kind, flags in kinds
            ]
            assert [event.type for event in told] == list(EventType)
            assert {event.port_id for event in told} == {author}


def test_the_number_of_the_processor_is_in_the_header() -> None:
    decoder = fresh(decode_cpu_statistics)
    for cpu in (0, 1, 0xFFFF):
        head = struct.pack("!BBH", 0, 0, cpu)
        data = messages.pack(0x104, MULTI, 1, head + be32(2, 5))
        assert by_layouts(decoder, data)[0].cpu == cpu
    assert is_known(decoder, data)


def test_an_answer_of_another_conversation_is_asked_about() -> None:
    decoder = fresh(decode_flow)
    by_layouts(decoder, message(BOTH), 1)
    strays = message(BOTH, seq=2)
    assert by_layouts(decoder, strays, 1) == []
    many = message(BOTH) * 50 + strays * 50 + message(BOTH) * 50
    assert len(by_layouts(decoder, many, 1)) == 100


def test_a_dump_that_was_interrupted_is_always_looked_at() -> None:
    decoder = fresh(decode_flow)
    data = message(BOTH, flags=MULTI | 0x10)
    by_layouts(decoder, data)
    assert not is_known(decoder, data)


def test_a_message_that_is_cut() -> None:
    decoder = fresh(decode_flow)
    data = message(BOTH + be32(7, 1))
    by_layouts(decoder, data)
    for end in range(1, len(data)):
        cut = data + data[:end]
        assert by_layouts(decoder, cut) == by_reference(decoder, cut)


# Bounds


def test_a_stream_of_which_no_message_is_like_another_grows_nothing() -> None:
    """Nor is a layout compiled for each: that would take fifty times as long."""
    decoder = fresh(decode_flow)
    counters = ClientStatistics()
    count = 20_000
    for number in range(count):
        data = message(BOTH + attr(100 + number % 16000, bytes(number % 7)))
        by_layouts(decoder, data, counters=counters)
    assert counters.fallbacks > count / 2
    assert 0 < decoder.layouts <= decoders.MAX_LAYOUTS
    assert decoders.count_layouts() >= decoder.layouts
    assert decoder._compiled < count / 30
    assert all(len(alike) <= decoders._MAX_SIMILAR for alike in decoder._layouts.values())


def test_no_layout_is_made_of_a_message_such_as_no_kernel_sends() -> None:
    decoder = fresh(decode_flow)
    fitting = (decoders._MAX_MESSAGE - len(message(BOTH))) // 4
    for count, known in ((fitting, True), (fitting + 1, False)):
        data = message(BOTH + attr(99, b"") * count)
        assert by_layouts(decoder, data) == by_reference(decoder, data)
        assert is_known(decoder, data) == known


def test_layouts_are_forgotten_when_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of messages that differ in their length, too: those are looked for in other places."""
    monkeypatch.setattr(decoders, "MAX_LAYOUTS", 8)
    decoder = fresh(decode_flow)
    most = 0
    for number in range(decoders._COMPILED_AT_ONCE):
        by_layouts(decoder, message(BOTH + attr(99, bytes(4 * number))))
        most = max(most, decoder.layouts)
    assert most == 8


def test_after_such_a_stream_what_is_usual_is_learnt_again() -> None:
    decoder = fresh(decode_flow)
    for number in range(3000):
        by_layouts(decoder, message(BOTH + attr(100 + number, b"")))
    usual = message(BOTH + be32(7, 1))
    for _ in range(decoders._MISSES_PER_LAYOUT + 1):
        by_layouts(decoder, usual)
    assert is_known(decoder, usual)


def test_a_memory_of_values_starts_anew_when_it_is_full() -> None:
    decoder = fresh(decode_flow)
    memory = scalar_of(IPV4).memo
    assert memory is not None
    for number in range(1 << 15):
        source = be32(1, number) + be32(2, 1)
        data = message(nest(1, nest(1, source) + port(1)) + nest(2, TCP4_BACK_INSIDE))
        (flow,) = by_layouts(decoder, data)
        assert int(flow.orig.src) == number
        assert len(memory) <= memory.limit < 1 << 15
    flow_layouts = [layout for alike in decoder._layouts.values() for layout in alike]
    assert len(flow_layouts) == 1
