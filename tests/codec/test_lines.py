"""Lines of JSON and text are those of the reference, whichever function writes them.

There are three ways: the reference (``to_dict`` and ``describe_flow``), the functions of classes,
and the functions of skeletons, which read the bytes of a message.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.attribute_encoding import with_values
from support.codec_cases import TCP4
from support.decoders import without_layouts
from support.effort import examples
from support.flow_messages import EVENTS, FLOWS
from support.hostile_arguments import INTEGERS, OverriddenIPv4, OverriddenStr
from support.model_strategies import declared_classes, edited_payloads, objects

from conntrack_aio import (
    Counters,
    DecodeError,
    EncodeError,
    EventType,
    Flow,
    FlowEvent,
    Helper,
    Status,
    TCPInfo,
    TCPState,
    UnknownAttribute,
    json_lines,
    text_lines,
    to_dict,
    to_json,
)
from conntrack_aio.codec.decoder import Decoder
from conntrack_aio.codec.event_messages import decode_event
from conntrack_aio.codec.messages import decode_flow
from conntrack_aio.codec.object_json import line_of
from conntrack_aio.model.lazy_fields import has_lazy_fields, unread_classes
from conntrack_aio.model.text import describe_event, describe_flow
from conntrack_aio.netlink import messages

bounded = settings(
    deadline=timedelta(seconds=5),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
SAMPLES = [*[(decode_flow, data) for data in FLOWS], *[(decode_event, data) for data in EVENTS]]
each_sample = pytest.mark.parametrize(("decoder", "data"), SAMPLES, ids=range(len(SAMPLES)))


def by_reference(decoder: Decoder[Any], data: bytes) -> Any:
    return decoder(data, messages.parse_header(data, 0, len(data)))


def reference_json(obj: object) -> str:
    return json.dumps(to_dict(obj))


def check(decoder: Decoder[Any], data: bytes) -> Any:
    """Check all ways to write the object of a message; return it as a layout decodes it."""
    try:
        expected = by_reference(decoder, data)
    except DecodeError:
        return None
    written, text = reference_json(expected), str(expected)
    if isinstance(expected, Flow):
        assert text == describe_flow(expected)
    assert line_of(expected) == written
    decoder.one(data)
    new = decoder.one(data)
    assert to_json(new) == written
    assert to_json(decoder.one(data)) == written
    assert str(decoder.one(data)) == text
    partly = decoder.one(data)
    flow = partly if isinstance(partly, Flow) else partly.flow
    assert flow.orig == (expected if isinstance(expected, Flow) else expected.flow).orig
    assert to_json(partly) == written
    assert str(partly) == text
    return new


@each_sample
def test_samples_are_written_from_their_messages(decoder: Decoder[Any], data: bytes) -> None:
    new = check(without_layouts(decoder), data)
    assert type(new) in unread_classes, "writing JSON has set fields"
    reader, flow = new._reader, new if isinstance(new, Flow) else new.flow
    assert reader.write_json(new, new._message) is not None
    plain = reader.write_text(new, new._message) is not None
    assert plain or flow.orig.proto in (1, 58), "only unusual messages are left to the reference"


@pytest.mark.parametrize(("decoder", "known"), [(decode_flow, FLOWS), (decode_event, EVENTS)])
@settings(bounded, max_examples=examples(100))
@given(data=st.data())
def test_any_bytes_are_written_as_by_the_reference(
    decoder: Decoder[Any], known: list[bytes], data: st.DataObject
) -> None:
    decoder = without_layouts(decoder)
    edited = data.draw(edited_payloads(known))
    size = int.from_bytes(edited[:4], sys.byteorder)
    try:
        check(decoder, edited[: max(size, 20)])
    except DecodeError:
        pass


CHANGES_OF_BYTES = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), max_size=30)


@settings(bounded, max_examples=examples(300))
@given(sample=st.sampled_from(SAMPLES), changes=CHANGES_OF_BYTES)
def test_any_values_are_written_as_by_the_reference(
    sample: tuple[Decoder[Any], bytes], changes: list[tuple[int, int]]
) -> None:
    """Every byte that does not belong to a header may have any value."""
    decoder, original = without_layouts(sample[0]), sample[1]
    decoder.one(original)
    ((layout,),) = decoder._layouts.values()
    free = [i for i in range(20, len(original)) if not layout.mask >> 8 * i & 0xFF]
    edited = bytearray(original)
    for position, byte in changes:
        edited[free[position % len(free)]] = byte
    check(decoder, bytes(edited))


@pytest.mark.parametrize("cls", declared_classes())
@settings(bounded, max_examples=examples(50))
@given(data=st.data())
def test_objects_of_every_class_are_written_as_by_the_reference(
    cls: type, data: st.DataObject
) -> None:
    obj = data.draw(objects(cls))
    written = reference_json(obj)
    assert line_of(obj) == written
    assert to_json(obj) == written
    if cls is Flow:
        assert str(obj) == describe_flow(obj)


# Values that are not plain, and objects that a program has changed


def flow(**fields: object) -> Flow:
    made = Flow.tcp("10.0.0.1", 1024, "10.0.0.2", 80, timeout=5, state=TCPState.CLOSE)
    return with_values(made, **fields)


WRONG: list[dict[str, object]] = [
    {"mark": "1"},
    {"mark": 1 << 32},
    {"mark": -1},
    {"mark": True},
    {"mark": 1.0},
    {"orig": None},
    {"orig": "tcp"},
    {"orig": with_values(TCP4, src="10.0.0.1")},
    {"orig": with_values(TCP4, src=IPv6Address("fe80::1%lo"))},
    {"orig": with_values(TCP4, src=IPv6Address("::ffff:1.2.3.4"))},
    {"orig": with_values(TCP4, src=OverriddenIPv4("1.2.3.4"))},
    {"orig": with_values(TCP4, proto=None)},
    {"status": "ASSURED"},
    {"status": 6},
    {"status": -1},
    {"status": True},
    {"labels": -1},
    {"labels": 1 << 128},
    {"protoinfo": Counters()},
    {"protoinfo": TCPInfo(state=3)},
    {"protoinfo": attrs.evolve(TCPInfo(), state=77)},
    {"helper": Helper(name=b"ftp")},  # type: ignore[arg-type]
    {"helper": with_values(Helper(), name=OverriddenStr("ftp"))},
    {"helper": Helper(name="a\0b")},
    {"helper": Helper(name="\ud800")},
    {"helper": Helper(info="00")},  # type: ignore[arg-type]
    {"helper": Helper(info=bytes(40))},
    {"helper": Helper(info=bytearray(b"x"))},  # type: ignore[arg-type]
    {"unknown": [1]},
    {"unknown": [UnknownAttribute((1,), b"x")]},
    {"unknown": (1,)},
    {"unknown": None},
    {"unknown": []},
    *[{"mark": create(5)} for create in INTEGERS.values()],
    *[{"protoinfo": with_values(Counters(), packets=create(5))} for create in INTEGERS.values()],
    *[{"counters_orig": with_values(Counters(), packets=make(5))} for make in INTEGERS.values()],
]


def outcome(write: Callable[[Any], str], obj: object) -> object:
    try:
        return write(obj)
    except (EncodeError, TypeError, AttributeError) as error:
        return type(error), str(error), getattr(error, "path", None)


@pytest.mark.parametrize("fields", WRONG, ids=range(len(WRONG)))
def test_any_values_that_a_program_assigned(fields: dict[str, object]) -> None:
    assert outcome(to_json, flow(**fields)) == outcome(reference_json, flow(**fields))
    assert outcome(json_lines, [flow(**fields)]) == outcome(
        lambda each: reference_json(each[0]) + "\n", [flow(**fields)]
    )


def test_a_deleted_field() -> None:
    one = flow()
    del one.mark
    assert outcome(to_json, one) == outcome(reference_json, one)


@attrs.define
class OwnFlow(Flow):
    """A subclass of a program, with a field of its own."""

    note: str = "x"


def test_a_subclass() -> None:
    one = OwnFlow(orig=TCP4, reply=TCP4.inverse)
    assert outcome(to_json, one) == outcome(reference_json, one)
    assert str(one) == describe_flow(one)


@pytest.mark.parametrize("obj", [1, {}, None, Flow, EventType.NEW, "text", TCP4, Status(6)])
def test_other_objects(obj: object) -> None:
    assert outcome(to_json, obj) == outcome(reference_json, obj)


def test_an_indent_is_kept() -> None:
    assert to_json(flow(), indent=2) == json.dumps(to_dict(flow()), indent=2)


def change_type(event: FlowEvent) -> None:
    event.type = EventType.UPDATE if event.type is not EventType.UPDATE else EventType.NEW


def replace_flow(event: FlowEvent) -> None:
    event.flow = flow()


def change_flow(event: FlowEvent) -> None:
    event.flow.mark = 77


def replace_by_unread(event: FlowEvent) -> None:
    decode_event.one(EVENTS[1])
    event.flow = decode_event.one(EVENTS[1]).flow


def set_namespace(event: FlowEvent) -> None:
    event.nsid, event.netns, event.receive_timestamp = 5, "blue", 10**18


def delete_type(event: FlowEvent) -> None:
    del event.type


CHANGES = [change_type, replace_flow, change_flow, replace_by_unread, set_namespace, delete_type]


@pytest.mark.parametrize("change", CHANGES)
def test_a_new_event_that_a_program_changed(change: Callable[[FlowEvent], None]) -> None:
    expected = by_reference(decode_event, EVENTS[0])
    decode_event.one(EVENTS[0])
    for write, reference in ((to_json, reference_json), (str, text_of_event)):
        event = decode_event.one(EVENTS[0])
        assert outcome(write, event) == reference(by_reference(decode_event, EVENTS[0]))
        change(event)
        change(expected)
        assert outcome(write, event) == outcome(reference, expected)
        expected = by_reference(decode_event, EVENTS[0])


def text_of_event(event: FlowEvent) -> str:
    return describe_event(event, event.flow, event.timestamp)


def test_a_new_flow_that_a_program_changed() -> None:
    decode_flow.one(FLOWS[0])
    new = decode_flow.one(FLOWS[0])
    to_json(new)
    new.mark = 0x77
    assert to_json(new) == reference_json(new)
    assert '"mark": 119' in to_json(new)
    assert "mark=0x77" in str(new)


# Many objects


def test_lines_of_many_objects() -> None:
    some = [flow(), decode_flow.one(FLOWS[0]), decode_event.one(EVENTS[0]), TCP4]
    assert json_lines(iter(some)) == "".join(f"{reference_json(each)}\n" for each in some)
    assert text_lines(iter(some)) == "".join(f"{each}\n" for each in some)
    assert json_lines([]) == text_lines([]) == ""


def test_lines_of_an_object_of_another_class() -> None:
    with pytest.raises(TypeError, match="expected a class of the model"):
        json_lines([flow(), 5])


def test_tuples_of_mapped_addresses() -> None:
    mapped = IPv6Address("::ffff:10.0.0.1")
    for src, dst in ((mapped, mapped), (mapped, IPv6Address("::1")), (mapped, IPv4Address(1))):
        one = with_values(TCP4, src=src, dst=dst)
        assert line_of(one) == reference_json(one)
        assert ('"mapped": true' in to_json(one)) == (src is dst)


def test_the_writers_are_imported_when_they_are_used() -> None:
    modules = ["message_json", "message_text", "object_json", "json_lines", "json", "message_lines"]
    code = (
        "import sys, conntrack_aio.cli.command; "
        f"print([m for m in {modules} if f'conntrack_aio.codec.{{m}}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_classes_with_lazy_fields_are_those_with_functions_of_skeletons() -> None:
    assert {cls for cls in declared_classes() if has_lazy_fields(cls)} == {Flow, FlowEvent}
