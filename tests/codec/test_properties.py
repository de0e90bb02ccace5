"""What holds for any object, and for any bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from socket import AF_INET6
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.captured import CAPTURED, EXPECTATIONS
from support.codec_cases import BOTH_TUPLES, CASES, attr, nest
from support.effort import examples
from support.model_strategies import declared_classes as classes
from support.model_strategies import edited_payloads, objects

from conntrack_aio import DecodeError, EncodeError, Flow, FlowEvent, Match, UnknownAttribute
from conntrack_aio.codec.json import from_dict, to_dict
from conntrack_aio.codec.messages import (
    decode_event,
    decode_expect_event,
    decode_expectation,
    decode_flow,
)
from conntrack_aio.codec.reference import decode, encode
from conntrack_aio.codec.schema import schema_of
from conntrack_aio.model.declare import INLINE, PLACES
from conntrack_aio.model.expectations import Expectation
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.messages import HEADER_SIZE, Message

bounded = settings(
    deadline=timedelta(seconds=5),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""A hang fails, a busy machine doesn't."""

PAYLOADS = [capture.data[HEADER_SIZE + 4 :] for capture in CAPTURED]


def plain(obj: Any) -> dict[str, object]:
    """The fields that no attribute holds."""
    schema = schema_of(type(obj))
    told = {field.name for field in schema.fields} | {inline.name for inline in schema.inlines}
    return {
        field.name: getattr(obj, field.name)
        for field in attrs.fields(type(obj))
        if field.name not in told | {"unknown"}
    }


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
@settings(bounded, max_examples=examples(15))
@given(data=st.data())
def test_any_object_survives(cls: type, data: st.DataObject) -> None:
    obj = data.draw(objects(cls))
    encoded = encode(obj)
    assert decode(cls, encoded, 0, len(encoded), **plain(obj)) == obj


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
@settings(bounded, max_examples=examples(10))
@given(data=st.data())
def test_any_object_is_json_and_has_a_text(cls: type, data: st.DataObject) -> None:
    obj = data.draw(objects(cls))
    told = json.loads(json.dumps(to_dict(obj)))
    assert told == to_dict(obj)
    assert from_dict(cls, told) == obj
    assert str(obj)
    assert repr(obj).startswith(cls.__name__ + "(")


def attempt(read: Callable[[], Any]) -> Any:
    """What was read, or ``None`` for a DecodeError; anything else is the test's failure."""
    try:
        return read()
    except DecodeError:
        return None


def check(read: Callable[[], Any]) -> None:
    obj = attempt(read)
    if obj is None:
        return
    str(obj), repr(obj)
    assert from_dict(type(obj), json.loads(json.dumps(to_dict(obj)))) == obj
    flow = obj.flow if isinstance(obj, FlowEvent) else obj
    if isinstance(flow, Flow):
        Match(family=AF_INET6, mark=1)(flow)
        hash(flow.key)
    try:
        encoded = encode(obj)
    except EncodeError:
        return  # bytes may say what no kernel would take: addresses of two families
    assert decode(type(obj), encoded, 0, len(encoded), **plain(obj)) == obj


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
@bounded
@given(data=st.binary(max_size=200))
def test_any_bytes_are_an_object_or_an_error(cls: type, data: bytes) -> None:
    needed = {
        field.name: None
        for field in attrs.fields(cls)
        if field.default is attrs.NOTHING and not {PLACES, INLINE} & set(field.metadata)
    }
    attempt(lambda: decode(cls, data, 0, len(data), **needed))


@bounded
@given(st.binary(max_size=300))
def test_any_bytes_behind_tuples(data: bytes) -> None:
    check(lambda: decode(Flow, BOTH_TUPLES + data, 0, len(BOTH_TUPLES) + len(data)))


@settings(bounded, max_examples=examples(150))
@given(edited_payloads(PAYLOADS + [case.data for case in CASES if isinstance(case.object, Flow)]))
def test_edited_messages(data: bytes) -> None:
    check(lambda: decode(Flow, data, 0, len(data)))


@settings(bounded, max_examples=examples(80))
@given(edited_payloads([case.data for case in CASES if isinstance(case.object, Expectation)]))
def test_edited_expectations(data: bytes) -> None:
    check(lambda: decode(Expectation, data, 0, len(data)))


@settings(bounded, max_examples=examples(80))
@given(edited_payloads([capture.data for capture in [*CAPTURED, *EXPECTATIONS]]))
def test_edited_datagrams(data: bytes) -> None:
    def every(decoder: Callable[[bytes, Message], Any]) -> None:
        for message in attempt(lambda: list(messages.walk(data, len(data)))) or ():
            attempt(lambda message=message: decoder(data, message))

    every(decode_flow)
    every(decode_event)
    every(decode_expectation)
    every(decode_expect_event)


@pytest.mark.parametrize("capture", CAPTURED, ids=lambda capture: capture.name)
def test_every_truncation(capture: Any) -> None:
    for end in range(len(capture.data)):
        data = capture.data[:end]
        attempt(lambda data=data: list(messages.walk(data, len(data))))
        if end >= HEADER_SIZE + 4:
            check(lambda data=data: decode(Flow, data, HEADER_SIZE + 4, len(data)))


def test_a_buffer_of_nothing_but_headers_takes_no_time() -> None:
    """64 KiB of the smallest attributes, in a nest."""
    empty = attr(99, b"") * 16380
    data = BOTH_TUPLES + nest(9, empty)
    flow = decode(Flow, data, 0, len(data))
    assert len(flow.unknown) == 16380


# Any JSON

SCRAPS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 1 << 31, 1 << 32, 1 << 64, 1 << 500])
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["10.0.0.1", "::1", "00ff", "ASSURED", "ESTABLISHED", "tcp", "new"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def places(told: Any) -> list[tuple[Any, Any]]:
    """Every container in it with every key or index, outermost first."""
    keys = list(told) if isinstance(told, dict) else list(range(len(told)))
    found = [(told, key) for key in keys]
    for key in keys:
        if isinstance(told[key], dict | list):
            found += places(told[key])
    return found


@st.composite
def edited_json(draw: st.DrawFn, cls: type) -> Any:
    """What was written of an object, with a piece or two changed, taken away, or put in."""
    told = json.loads(json.dumps(to_dict(draw(objects(cls)))))
    for _ in range(draw(st.integers(1, 2))):
        every = places(told)
        if not every:
            break
        container, key = draw(st.sampled_from(every))
        act = draw(st.integers(0, 2))
        if act == 0:
            del container[key]
        elif act == 1:
            container[key] = draw(SCRAPS)
        elif isinstance(container, dict):
            container[draw(st.text(max_size=8) | st.sampled_from(["kind", "mark", "src"]))] = draw(
                SCRAPS
            )
        else:
            container.append(draw(SCRAPS))
    return told


@pytest.mark.parametrize("cls", [*classes(), UnknownAttribute], ids=lambda cls: cls.__name__)
@bounded
@given(data=st.data())
def test_any_json_is_an_object_or_an_error(cls: type, data: st.DataObject) -> None:
    scrap = data.draw(SCRAPS)
    read = attempt(lambda: from_dict(cls, scrap))
    assert read is None or from_dict(cls, to_dict(read)) == read


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
@settings(bounded, max_examples=examples(15))
@given(data=st.data())
def test_edited_json(cls: type, data: st.DataObject) -> None:
    told = data.draw(edited_json(cls))
    read = attempt(lambda: from_dict(cls, told))
    assert read is None or from_dict(cls, json.loads(json.dumps(to_dict(read)))) == read
