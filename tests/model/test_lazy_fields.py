"""Decoded objects get the values of most fields when these are first read."""

from __future__ import annotations

import copy
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from support.captured import CAPTURED
from support.decoders import without_layouts

from conntrack_aio import Flow, FlowEvent, Match, to_dict
from conntrack_aio.codec import event_messages
from conntrack_aio.codec import messages as decoders
from conntrack_aio.codec.decoder import Decoder
from conntrack_aio.codec.layouts import Layout
from conntrack_aio.model.lazy_fields import has_lazy_fields, is_absent, lazy_classes_of, own_class
from conntrack_aio.netlink import messages

decode_flow = without_layouts(decoders.decode_flow)
decode_event = without_layouts(event_messages.decode_event)
FLOW = lazy_classes_of(Flow)
EVENT = lazy_classes_of(FlowEvent)
FLOWS = [capture.data for capture in CAPTURED if capture.event is None]
EVENTS = [capture.data for capture in CAPTURED if capture.event is not None]
FLOW_FIELDS = [field.name for field in attrs.fields(Flow)]
SAMPLES = [*[(decode_flow, data) for data in FLOWS], *[(decode_event, data) for data in EVENTS]]


def by_reference(decoder: Decoder[Any], data: bytes) -> Any:
    return decoder(data, messages.parse_header(data, 0, len(data)))


def unread(decoder: Decoder[Any], data: bytes) -> Any:
    """Return the object of a message, decoded by a layout, of which nothing was read."""
    decoder.one(data)
    return decoder.one(data)


def layout_of(decoder: Decoder[Any], data: bytes) -> Layout:
    unread(decoder, data)
    number = int.from_bytes(data, "little")
    return next(each for each in decoder._layouts[data[:8]] if number & each.mask == each.template)


each_sample = pytest.mark.parametrize(("decoder", "data"), SAMPLES, ids=range(len(SAMPLES)))


def test_a_new_object_has_its_message_and_no_values() -> None:
    flow = unread(decode_flow, FLOWS[0])
    assert type(flow) is FLOW.unread
    assert FLOWS[0].endswith(flow._message)
    event = unread(decode_event, EVENTS[0])
    assert type(event) is EVENT.unread
    assert type(event.flow) is FLOW.unread
    assert event.flow._message is event._message


@each_sample
def test_fields_read_one_by_one_are_those_of_the_reference(
    decoder: Decoder[Any], data: bytes
) -> None:
    expected = by_reference(decoder, data)
    for field in attrs.fields(type(expected)):
        assert getattr(unread(decoder, data), field.name) == getattr(expected, field.name)
    obj = unread(decoder, data)
    for field in reversed(attrs.fields(type(expected))):
        assert getattr(obj, field.name) == getattr(expected, field.name)
    assert type(obj) is type(expected)
    assert obj._message is None


def test_the_fields_of_a_group_are_set_together() -> None:
    flow = unread(decode_flow, FLOWS[0])
    assert flow.mark is not None
    assert type(flow) is FLOW.partly_read
    message = flow._message
    flow.orig, flow.status, flow.zone, flow.id  # noqa: B018 - read
    assert type(flow) is FLOW.partly_read
    assert flow._message is message
    assert flow.reply is flow.reply
    assert type(flow) is Flow
    assert flow._message is None


Change = Callable[[Any], Any]
EQUAL: dict[str, Change] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda obj: pickle.loads(pickle.dumps(obj)),
    "pickle with protocol 2": lambda obj: pickle.loads(pickle.dumps(obj, 2)),
    "evolve": attrs.evolve,
    "call its class": lambda obj: type(by_reference(*sample_of(obj)))(
        **{field.name: getattr(obj, field.name) for field in attrs.fields(type(obj))}
    ),
}


def sample_of(obj: object) -> tuple[Decoder[Any], bytes]:
    return (decode_flow, FLOWS[0]) if isinstance(obj, Flow) else (decode_event, EVENTS[0])


@pytest.mark.parametrize("change", EQUAL.values(), ids=EQUAL)
@each_sample
def test_a_copy_of_an_unread_object_is_equal(
    decoder: Decoder[Any], data: bytes, change: Change
) -> None:
    expected = by_reference(decoder, data)
    copied = change(unread(decoder, data))
    assert type(copied) is type(expected)
    assert copied == expected


@each_sample
def test_an_unread_object_is_like_any_other(decoder: Decoder[Any], data: bytes) -> None:
    expected = by_reference(decoder, data)
    assert unread(decoder, data) == expected
    assert expected == unread(decoder, data)
    assert unread(decoder, data) == unread(decoder, data)
    other = attrs.evolve(expected)
    setattr(other, "port_id" if isinstance(other, FlowEvent) else "use", 77)
    assert unread(decoder, data) != other
    assert repr(unread(decoder, data)) == repr(expected)
    assert str(unread(decoder, data)) == str(expected)
    assert to_dict(unread(decoder, data)) == to_dict(expected)
    assert attrs.asdict(unread(decoder, data)) == attrs.asdict(expected)
    obj = unread(decoder, data)
    assert isinstance(obj, type(expected))
    assert obj.__class__ is own_class(obj) is type(expected)
    assert type(obj).__name__ == type(expected).__name__
    assert has_lazy_fields(type(obj))
    assert weakref.ref(obj)() is obj
    with pytest.raises(TypeError, match="unhashable"):
        hash(obj)


@pytest.mark.parametrize("name", ["typo", "_private", "_messages"])
def test_other_attributes_do_not_exist(name: str) -> None:
    for obj in (unread(decode_flow, FLOWS[0]), by_reference(decode_flow, FLOWS[0])):
        assert not hasattr(obj, name)
        with pytest.raises(AttributeError, match=f"'Flow' object has no attribute '{name}'"):
            getattr(obj, name)
        with pytest.raises(AttributeError):
            setattr(obj, name, 1)


@pytest.mark.parametrize("read_first", [None, "mark", "use"])
@pytest.mark.parametrize("name", FLOW_FIELDS)
def test_an_assigned_value_is_kept(name: str, read_first: str | None) -> None:
    expected = by_reference(decode_flow, FLOWS[0])
    flow = unread(decode_flow, FLOWS[0])
    if read_first:
        getattr(flow, read_first)
    assigned: Any = object()
    setattr(flow, name, assigned)
    assert getattr(flow, name) is assigned
    for other in FLOW_FIELDS:
        assert getattr(flow, other) == (assigned if other == name else getattr(expected, other))


def test_a_deleted_value_is_gone() -> None:
    flow = unread(decode_flow, FLOWS[0])
    del flow.mark
    assert not hasattr(flow, "mark")
    assert flow.orig == by_reference(decode_flow, FLOWS[0]).orig


def test_a_match_reads_an_unread_flow() -> None:
    flow = by_reference(decode_flow, FLOWS[0])
    assert Match(orig_src=flow.orig.src)(unread(decode_flow, FLOWS[0]))
    event = by_reference(decode_event, EVENTS[0])
    assert Match(orig_src=event.flow.orig.src)(unread(decode_event, EVENTS[0]).flow)


STATES = [
    *[(decode_flow, data, (cls,)) for data in FLOWS for cls in FLOW[3:]],
    *[
        (decode_event, data, (outer, inner))
        for data in EVENTS
        for outer in dict.fromkeys(EVENT[3:])
        for inner in FLOW[3:]
    ],
]


@pytest.mark.parametrize(("decoder", "data", "state"), STATES, ids=range(len(STATES)))
def test_objects_can_be_created_in_any_state(
    decoder: Decoder[Any], data: bytes, state: tuple[type, ...]
) -> None:
    expected = by_reference(decoder, data)
    layout = layout_of(decoder, data)
    made = [layout.make(data, state)]
    if layout.size == layout.step:
        layout.read_run(data * 3, state, made.append)
    for obj in made:
        assert decoder._state_of(obj) == state
        assert obj == expected


def test_what_was_read_of_a_sample_is_set_at_once() -> None:
    sample = unread(decode_flow, FLOWS[0])
    states: list[tuple[type, ...]] = [decode_flow._state_of(sample)]
    for name in ("mark", "use"):
        getattr(sample, name)
        states.append(decode_flow._state_of(sample))
    assert states == [(FLOW.unread,), (FLOW.partly_read,), (Flow,)]


def test_threads_may_read_the_same_object() -> None:
    expected = by_reference(decode_flow, FLOWS[0])
    for _ in range(200):
        flow = unread(decode_flow, FLOWS[0])
        start = threading.Barrier(3)
        found: list[Any] = []

        def read(
            flow: Flow = flow, start: threading.Barrier = start, found: list[Any] = found
        ) -> None:
            start.wait()
            found.append([getattr(flow, name) for name in FLOW_FIELDS])

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [[getattr(expected, name) for name in FLOW_FIELDS]] * 3


def test_a_thread_that_was_overtaken_returns_the_value() -> None:
    """Another thread has set all fields after this one found the property."""
    flow = unread(decode_flow, FLOWS[0])
    getter = vars(FLOW.unread)["reply"].fget
    assert flow.reply == flow.reply
    flow.mark = 77
    assert getter(flow) is flow.reply
    assert flow.mark == 77
    assert type(flow) is Flow


@each_sample
def test_whether_a_field_is_absent_is_known_without_reading_it(
    decoder: Decoder[Any], data: bytes
) -> None:
    expected, new = by_reference(decoder, data), unread(decoder, data)
    lazy = FLOW if isinstance(expected, Flow) else EVENT
    for name in (*lazy.often_read, *lazy.others):
        absent = getattr(expected, name) is None
        assert is_absent(new, name) is is_absent(expected, name) is absent
    assert type(new) is lazy.unread
    repr(new)
    assert is_absent(new, lazy.others[-1]) is is_absent(expected, lazy.others[-1])


def test_whether_an_assigned_field_is_absent() -> None:
    flow = unread(decode_flow, FLOWS[0])
    assert not is_absent(flow, "orig")
    flow.counters_orig = None
    assert is_absent(flow, "counters_orig")
