"""Read and write messages about expectations, including those that a real kernel sent."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

import attrs
import pytest
from support import captured_s390x
from support.attribute_encoding import Captured
from support.byte_order import to_host_byte_order
from support.captured import EXPECTATIONS, STATISTICS
from support.codec_cases import EXPECTATION_TUPLES, expectation

from conntrack_aio import DecodeError, EventType
from conntrack_aio.codec.expectation_messages import (
    decode_expect_cpu_statistics,
    decode_expect_event,
    decode_expectation,
)
from conntrack_aio.codec.reference import decode, encode
from conntrack_aio.model.expectations import Expectation, ExpectEvent
from conntrack_aio.model.statistics import ExpectCPUStatistics
from conntrack_aio.netlink import attributes, messages
from conntrack_aio.netlink.attributes import BytesLike
from conntrack_aio.netlink.messages import Message

pytestmark = pytest.mark.kernels

captured = pytest.mark.parametrize("capture", EXPECTATIONS, ids=lambda capture: capture.name)


def message_of(data: bytes) -> Message:
    (message,) = messages.walk(data, len(data))
    return message


def read(capture: Captured) -> Expectation:
    message = message_of(capture.data)
    if capture.event is None:
        return decode_expectation(capture.data, message)
    event = decode_expect_event(capture.data, message)
    assert event.type is capture.event
    return event.expectation


@captured
def test_captured_message_has_the_expected_values(capture: Captured) -> None:
    found = read(capture)
    assert {name: attrgetter(name)(found) for name in capture.fields} == capture.fields
    assert found.unknown == ()


@captured
def test_captured_message_is_written_as_the_kernel_wrote_it(capture: Captured) -> None:
    encoded = encode(read(capture))
    start = message_of(capture.data).start + 4
    captured_attributes = capture.data[start:]
    assert sorted(parts(encoded)) == sorted(parts(captured_attributes))


def parts(data: bytes) -> list[tuple[int, bytes]]:
    return [(number, data[a:b]) for number, _, a, b in attributes.walk(data, 0, len(data))]


@captured
def test_truncated_messages_raise_only_decode_errors(capture: Captured) -> None:
    for end in range(20, len(capture.data)):
        data = capture.data[:end]
        try:
            found = decode(Expectation, data, 20, end)
        except DecodeError:
            continue
        assert found.master == read(capture).master


def test_captured_event_has_its_port_id() -> None:
    events = [decode_expect_event(c.data, message_of(c.data)) for c in EXPECTATIONS if c.event]
    assert [event.port_id for event in events] == [0, 18519, 0xC4B13AC6]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (STATISTICS, ExpectCPUStatistics(cpu=1, new=1, create=2, delete=2)),
        (
            to_host_byte_order(captured_s390x.STATISTICS, "big"),
            ExpectCPUStatistics(cpu=0, new=0, create=1, delete=0),
        ),
    ],
    ids=["little", "big"],
)
def test_captured_statistics(data: bytes, expected: ExpectCPUStatistics) -> None:
    assert decode_expect_cpu_statistics(data, message_of(data)) == expected


Decoder = Callable[[BytesLike, Message], object]


@pytest.mark.parametrize(
    ("decoder", "message_type", "expected"),
    [
        (decode_expectation, 0x200, expectation()),
        (decode_expect_event, 0x200, ExpectEvent(type=EventType.NEW, expectation=expectation())),
        (
            decode_expect_event,
            0x202,
            ExpectEvent(type=EventType.DESTROY, expectation=expectation()),
        ),
        # The type that the kernel sends, and the type that it should send.
        (decode_expect_cpu_statistics, 0x103, ExpectCPUStatistics(cpu=7)),
        (decode_expect_cpu_statistics, 0x203, ExpectCPUStatistics(cpu=7)),
    ],
)
def test_each_message_type_is_decoded(
    decoder: Decoder, message_type: int, expected: object
) -> None:
    body = b"" if isinstance(expected, ExpectCPUStatistics) else EXPECTATION_TUPLES
    data = messages.pack(message_type, 0, 0, b"\2\0\0\7" + body)
    assert decoder(data, message_of(data)) == expected


@pytest.mark.parametrize(
    ("decoder", "message_types"),
    [
        (decode_expectation, {0x200}),
        (decode_expect_event, {0x200, 0x202}),
        (decode_expect_cpu_statistics, {0x103, 0x203}),
    ],
)
def test_messages_of_another_type_are_refused(decoder: Decoder, message_types: set[int]) -> None:
    others = {0x100, 0x101, 0x102, 0x103, 0x104, 0x200, 0x201, 0x202, 0x203} - message_types
    for message_type in others:
        data = messages.pack(message_type, 0, 0, b"\2\0\0\0" + EXPECTATION_TUPLES)
        with pytest.raises(DecodeError, match=f"{message_type:#x}"):
            decoder(data, message_of(data))
    for message_type in message_types:
        data = messages.pack(message_type, 0, 0, b"\2\0")
        with pytest.raises(DecodeError, match="nfgenmsg"):
            decoder(data, message_of(data))


@pytest.mark.parametrize("name", ["master", "tuple", "mask"])
def test_master_tuple_and_mask_are_required(name: str) -> None:
    data = encode(expectation())
    number = {"master": 1, "tuple": 2, "mask": 3}[name]
    rest = b"".join(attributes.pack(n, d, nested=True) for n, d in parts(data) if n != number)
    with pytest.raises(DecodeError, match=f"{name} is missing"):
        decode(Expectation, rest, 0, len(rest))


def test_expectations_compare_by_all_fields() -> None:
    assert expectation(id=1) == expectation(id=1) != expectation(id=2)
    assert attrs.evolve(expectation(id=2), id=1) == expectation(id=1)
