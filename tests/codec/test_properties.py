"""Properties of any object, any bytes and any JSON."""

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
from conntrack_aio.codec.event_messages import decode_event
from conntrack_aio.codec.expectation_messages import decode_expect_event, decode_expectation
from conntrack_aio.codec.json import from_dict, to_dict
from conntrack_aio.codec.messages import decode_flow
from conntrack_aio.codec.reference import decode, encode
from conntrack_aio.codec.schema import schema_of
from conntrack_aio.model.expectations import Expectation
from conntrack_aio.model.wire import INLINE, PLACES
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.messages import HEADER_SIZE, Message

bounded = settings(
    deadline=timedelta(seconds=5),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""The deadline finds endless loops, and is long enough for a busy machine."""

PAYLOADS = [capture.data[HEADER_SIZE + 4 :] for capture in CAPTURED]


def header_values(obj: Any) -> dict[str, object]:
    """Return the values of the fields that no attribute holds."""
    schema = schema_of(type(obj))
    json_data = {field.name for field in schema.fields} | {inline.name for inline in schema.inlines}
    return {
        field.name: getattr(obj, field.name)
        for field in attrs.fields(type(obj))
        if field.name not in json_data | {"unknown"}
    }


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
@settings(bounded, max_examples=examples(15))
@given(data=st.data())
def test_any_object_survives_encoding(cls: type, data: st.DataObject) -> None:
    obj = data.draw(objects(cls))
    encoded = encode(obj)
    assert decode(cls, encoded, 0, len(encoded), **header_values(obj)) == obj


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
@settings(bounded, max_examples=examples(10))
@given(data=st.data())
def test_any_object_survives_json_and_has_a_text(cls: type, data: st.DataObject) -> None:
    obj = data.draw(objects(cls))
    json_data = json.loads(json.dumps(to_dict(obj)))
    assert json_data == to_dict(obj)
    assert from_dict(cls, json_data) == obj
    assert str(obj)
    assert repr(obj).startswith(cls.__name__ + "(")


def attempt(read: Callable[[], Any]) -> Any:
    """Return what was read, or ``None`` for a DecodeError. Any other error fails the test."""
    try:
        return read()
    except DecodeError:
        return None


def check_conversions(read: Callable[[], Any]) -> None:
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
        return  # the bytes may have addresses of two families, which no kernel accepts
    assert decode(type(obj), encoded, 0, len(encoded), **header_values(obj)) == obj


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
@bounded
@given(data=st.binary(max_size=200))
def test_any_bytes_are_an_object_or_an_error(cls: type, data: bytes) -> None:
    required = {
        field.name: None
        for field in attrs.fields(cls)
        if field.default is attrs.NOTHING and not {PLACES, INLINE} & set(field.metadata)
    }
    attempt(lambda: decode(cls, data, 0, len(data), **required))


@bounded
@given(st.binary(max_size=300))
def test_any_bytes_behind_two_tuples(data: bytes) -> None:
    check_conversions(lambda: decode(Flow, BOTH_TUPLES + data, 0, len(BOTH_TUPLES) + len(data)))


@settings(bounded, max_examples=examples(150))
@given(edited_payloads(PAYLOADS + [case.data for case in CASES if isinstance(case.object, Flow)]))
def test_edited_messages_are_an_object_or_an_error(data: bytes) -> None:
    check_conversions(lambda: decode(Flow, data, 0, len(data)))


@settings(bounded, max_examples=examples(80))
@given(edited_payloads([case.data for case in CASES if isinstance(case.object, Expectation)]))
def test_edited_expectations_are_an_object_or_an_error(data: bytes) -> None:
    check_conversions(lambda: decode(Expectation, data, 0, len(data)))


@settings(bounded, max_examples=examples(80))
@given(edited_payloads([capture.data for capture in [*CAPTURED, *EXPECTATIONS]]))
def test_edited_datagrams_raise_only_decode_errors(data: bytes) -> None:
    def decode_all(decoder: Callable[[bytes, Message], Any]) -> None:
        for message in attempt(lambda: list(messages.walk(data, len(data)))) or ():
            attempt(lambda message=message: decoder(data, message))

    decode_all(decode_flow)
    decode_all(decode_event)
    decode_all(decode_expectation)
    decode_all(decode_expect_event)


@pytest.mark.parametrize("capture", CAPTURED, ids=lambda capture: capture.name)
def test_truncated_messages_raise_only_decode_errors(capture: Any) -> None:
    for end in range(len(capture.data)):
        data = capture.data[:end]
        attempt(lambda data=data: list(messages.walk(data, len(data))))
        if end >= HEADER_SIZE + 4:
            check_conversions(lambda data=data: decode(Flow, data, HEADER_SIZE + 4, len(data)))


def test_many_empty_attributes_are_read_quickly() -> None:
    """A nest has 64 KiB of the smallest attributes."""
    empty = attr(99, b"") * 16380
    data = BOTH_TUPLES + nest(9, empty)
    flow = decode(Flow, data, 0, len(data))
    assert len(flow.unknown) == 16380


# Any JSON

ANY_JSON = st.recursive(
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


def places(json_data: Any) -> list[tuple[Any, Any]]:
    """Return each container with each of its keys or indexes, the outermost first."""
    keys = list(json_data) if isinstance(json_data, dict) else list(range(len(json_data)))
    found = [(json_data, key) for key in keys]
    for key in keys:
        if isinstance(json_data[key], dict | list):
            found += places(json_data[key])
    return found


@st.composite
def edited_json(draw: st.DrawFn, cls: type) -> Any:
    """Draw the JSON of an object with one or two values changed, removed or added."""
    json_data = json.loads(json.dumps(to_dict(draw(objects(cls)))))
    for _ in range(draw(st.integers(1, 2))):
        found = places(json_data)
        if not found:
            break
        container, key = draw(st.sampled_from(found))
        action = draw(st.integers(0, 2))
        if action == 0:
            del container[key]
        elif action == 1:
            container[key] = draw(ANY_JSON)
        elif isinstance(container, dict):
            container[draw(st.text(max_size=8) | st.sampled_from(["kind", "mark", "src"]))] = draw(
                ANY_JSON
            )
        else:
            container.append(draw(ANY_JSON))
    return json_data


@pytest.mark.parametrize("cls", [*classes(), UnknownAttribute], ids=lambda cls: cls.__name__)
@bounded
@given(data=st.data())
def test_any_json_is_an_object_or_an_error(cls: type, data: st.DataObject) -> None:
    value = data.draw(ANY_JSON)
    read = attempt(lambda: from_dict(cls, value))
    assert read is None or from_dict(cls, to_dict(read)) == read


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
@settings(bounded, max_examples=examples(15))
@given(data=st.data())
def test_edited_json_is_an_object_or_an_error(cls: type, data: st.DataObject) -> None:
    json_data = data.draw(edited_json(cls))
    read = attempt(lambda: from_dict(cls, json_data))
    assert read is None or from_dict(cls, json.loads(json.dumps(to_dict(read)))) == read
