"""Read and write the shared cases, and messages that a real kernel sent."""

from __future__ import annotations

import sys
from operator import attrgetter

import pytest
from support import captured_s390x
from support.attribute_encoding import Captured
from support.captured import CAPTURED
from support.codec_cases import CASES, Case
from support.model_strategies import declared_classes as classes

from conntrack_aio import EventType, Flow, FlowEvent
from conntrack_aio.codec.event_messages import decode_event
from conntrack_aio.codec.messages import decode_flow
from conntrack_aio.codec.reference import decode, encode
from conntrack_aio.codec.schema import Branch, Leaf, schema_of
from conntrack_aio.netlink import attributes, messages
from conntrack_aio.netlink.messages import Message

pytestmark = pytest.mark.kernels

WITHOUT_TIME = {capture.name for capture in captured_s390x.FLOWS}
"""The names of messages from a kernel whose events have no time."""

cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
captured = pytest.mark.parametrize("capture", CAPTURED, ids=lambda capture: capture.name)


@cases
def test_case_decodes(case: Case) -> None:
    assert decode(type(case.object), case.data, 0, len(case.data), **case.plain) == case.object


@cases
def test_case_encodes(case: Case) -> None:
    assert encode(case.object) == case.data


@cases
@pytest.mark.parametrize("buffer", [bytearray, memoryview])
def test_any_buffer_and_offset_can_be_decoded(case: Case, buffer: type) -> None:
    data = buffer(b"before" + case.data + b"behind")
    decoded = decode(type(case.object), data, 6, 6 + len(case.data), **case.plain)
    assert decoded == case.object


def test_the_names_of_cases_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


def test_every_declared_attribute_is_in_a_case() -> None:
    declared: set[str] = set()
    present: set[str] = set()
    for cls in classes():
        declared |= _declared(schema_of(cls).root)
    for case in CASES:
        present |= _present(schema_of(type(case.object)).root, case.data, 0, len(case.data))
    assert present == declared


def _declared(branch: Branch) -> set[str]:
    names: set[str] = set()
    for child in branch.children.values():
        names |= _declared(child) if isinstance(child, Branch) else {child.name}
    return names


def _present(branch: Branch, data: bytes, start: int, end: int) -> set[str]:
    names: set[str] = set()
    for number, _, first, last in attributes.walk(data, start, end):
        child = branch.children.get(number)
        if isinstance(child, Branch):
            names |= _present(child, data, first, last)
        elif child is not None:
            names.add(child.name)
            if isinstance(child, Leaf) and child.nest is not None:
                names |= _present(child.nest.root, data, first, last)
    return names


# What the kernel sent


def message_of(capture: Captured) -> Message:
    (message,) = messages.walk(capture.data, len(capture.data))
    return message


def read(capture: Captured) -> Flow:
    message = message_of(capture)
    if capture.event is None:
        return decode_flow(capture.data, message)
    event = decode_event(capture.data, message)
    assert event.type is capture.event
    return event.flow


@captured
def test_captured_message_has_the_expected_values(capture: Captured) -> None:
    flow = read(capture)
    assert {name: attrgetter(name)(flow) for name in capture.fields} == capture.fields
    assert flow.unknown == ()


@captured
def test_captured_message_survives_encoding(capture: Captured) -> None:
    flow = read(capture)
    data = encode(flow)
    assert decode(Flow, data, 0, len(data)) == flow


@captured
def test_captured_message_is_written_as_the_kernel_wrote_it(capture: Captured) -> None:
    """The attributes are equal, except for the mask of the TCP flags: the kernel sends 0."""
    message = message_of(capture)
    event = decode(
        FlowEvent, capture.data, message.start + 4, message.end, type=EventType.NEW, port_id=0
    )
    encoded = encode(event)
    assert _flat(encoded, 0, len(encoded)) == _flat(capture.data, message.start + 4, message.end)


def _flat(data: bytes, start: int, end: int, path: tuple[int, ...] = ()) -> list[object]:
    found: list[object] = []
    for number, nested, first, last in attributes.walk(data, start, end):
        here = (*path, number)
        if nested:
            found += _flat(data, first, last, here)
        elif here in ((4, 1, 4), (4, 1, 5)):
            found.append((here, data[first]))
        else:
            found.append((here, data[first:last]))
    return sorted(found, key=str)


@pytest.mark.parametrize("capture", [c for c in CAPTURED if c.event], ids=lambda c: c.name)
def test_captured_event_has_its_port_id_and_time(capture: Captured) -> None:
    event = decode_event(capture.data, message_of(capture))
    assert event.port_id == int.from_bytes(capture.data[12:16], sys.byteorder)
    if capture.name in WITHOUT_TIME:
        assert event.time is None
    else:
        assert event.time is not None
        assert event.time.year == 2026
