"""The compiled functions write the same lines as the plain ones, from any bytes and values."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.decoders import without_layouts
from support.effort import examples
from support.flow_messages import EVENTS, FLOWS
from support.model_strategies import edited_payloads, objects

from conntrack_aio import DecodeError, Flow, LabelNames, Status
from conntrack_aio.cli.conntrack8 import text
from conntrack_aio.cli.conntrack8.output_options import OutputOptions
from conntrack_aio.cli.conntrack8.rendering import Renderer
from conntrack_aio.cli.conntrack8.text import flow_text, names_by_bit
from conntrack_aio.cli.conntrack8.text_writer import FlowTextForm
from conntrack_aio.codec.decoder import Decoder
from conntrack_aio.codec.event_messages import decode_event
from conntrack_aio.codec.line_forms import lines_of
from conntrack_aio.codec.messages import decode_flow
from conntrack_aio.model.lazy_fields import unread_classes
from conntrack_aio.netlink import messages

bounded = settings(
    deadline=timedelta(seconds=5),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
LABELS = LabelNames({"zero": 0, "five": 5, "last": 127})
SHOWN = (
    OutputOptions.EXTENDED,
    OutputOptions.ID,
    OutputOptions.KTIMESTAMP,
    OutputOptions.LABELS,
)
ALL = OutputOptions.EXTENDED | OutputOptions.ID | OutputOptions.KTIMESTAMP | OutputOptions.LABELS
OUTPUTS = [OutputOptions.NONE, ALL, *SHOWN]
SAMPLES = [*[(decode_flow, data) for data in FLOWS], *[(decode_event, data) for data in EVENTS]]


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock: the age of an entry is part of its line."""
    monkeypatch.setattr(text.time, "time", lambda: 1_800_000_000.5)


def form(output: OutputOptions) -> FlowTextForm:
    return FlowTextForm(output, tuple(names_by_bit(LABELS).items()))


def flow_of(obj: Any) -> Flow:
    flow: Flow = obj if isinstance(obj, Flow) else obj.flow
    return flow


def check(decoder: Decoder[Any], data: bytes, output: OutputOptions) -> Flow | None:
    """Check the line of the flow of a message; return the flow as a layout decodes it."""
    try:
        read = flow_of(decoder(data, messages.parse_header(data, 0, len(data))))
    except DecodeError:
        return None
    decoder.one(data)
    flow = flow_of(decoder.one(data))
    expected = flow_text(read, output, names_by_bit(LABELS))
    assert lines_of([flow, read], form(output)) == [expected, expected]
    return flow


@pytest.mark.parametrize("output", OUTPUTS, ids=str)
@pytest.mark.parametrize(("decoder", "data"), SAMPLES, ids=range(len(SAMPLES)))
def test_samples(decoder: Decoder[Any], data: bytes, output: OutputOptions) -> None:
    assert check(without_layouts(decoder), data, output) is not None


def test_usual_flows_are_written_from_their_messages() -> None:
    written = 0
    for data in FLOWS:
        decoder = without_layouts(decode_flow)
        decoder.one(data)
        flow = decoder.one(data)
        line = flow._reader.line_writers[form(ALL)](flow, flow._message)  # type: ignore[arg-type]
        written += line is not None
        assert type(flow) in unread_classes, "writing the line has set fields"
    assert written > 0.8 * len(FLOWS), "only unusual messages are left to the plain function"


@pytest.mark.parametrize(("decoder", "known"), [(decode_flow, FLOWS), (decode_event, EVENTS)])
@settings(bounded, max_examples=examples(200))
@given(data=st.data(), output=st.sampled_from(OUTPUTS))
def test_any_bytes(
    decoder: Decoder[Any], known: list[bytes], data: st.DataObject, output: OutputOptions
) -> None:
    edited = data.draw(edited_payloads(known))
    size = int.from_bytes(edited[:4], sys.byteorder)
    try:
        check(without_layouts(decoder), edited[: max(size, 20)], output)
    except DecodeError:
        pass


@settings(bounded, max_examples=examples(300))
@given(
    sample=st.sampled_from(SAMPLES),
    changes=st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), max_size=30),
    output=st.sampled_from(OUTPUTS),
)
def test_any_values(
    sample: tuple[Decoder[Any], bytes], changes: list[tuple[int, int]], output: OutputOptions
) -> None:
    """Every byte that does not belong to a header may have any value."""
    decoder, original = without_layouts(sample[0]), sample[1]
    decoder.one(original)
    ((layout,),) = decoder._layouts.values()
    free = [i for i in range(20, len(original)) if not layout.mask >> 8 * i & 0xFF]
    edited = bytearray(original)
    for position, byte in changes:
        edited[free[position % len(free)]] = byte
    check(decoder, bytes(edited), output)


ANY_OUTPUT = st.sampled_from(
    [
        *OUTPUTS,
        OutputOptions.XML,
        OutputOptions.XML | ALL | OutputOptions.TIMESTAMP,
        OutputOptions.SAVE,
        OutputOptions.TIMESTAMP | OutputOptions.USERSPACE,
    ]
)


@settings(bounded, max_examples=examples(300))
@given(flow=objects(Flow), output=ANY_OUTPUT)
def test_every_flow_has_one_line_in_every_output(flow: Flow, output: OutputOptions) -> None:
    lines = Renderer(output, LABELS).flows([flow])
    texts = [flow.secctx or "", (flow.helper and flow.helper.name) or ""]
    shown = 0 if output is OutputOptions.SAVE else sum(each.count("\n") for each in texts)
    assert lines.endswith("\n")
    assert lines.count("\n") == 1 + shown


def test_many_flows_are_written_as_few_are() -> None:
    decoder = without_layouts(decode_flow)
    flows = [decoder.one(data) for data in FLOWS * 20]
    again = [decoder.one(data) for data in FLOWS * 20]
    few, many = Renderer(ALL, LABELS), Renderer(ALL, LABELS, many=True)
    assert many.flows(flows) == few.flows(again)


def test_a_changed_flow_is_written_from_its_fields() -> None:
    decoder = without_layouts(decode_flow)
    decoder.one(FLOWS[0])
    flow = decoder.one(FLOWS[0])
    lines_of([flow], form(ALL))
    flow.mark, flow.status = 77, Status(0)
    (line,) = lines_of([flow], form(ALL))
    assert " mark=77" in line
    assert " [UNREPLIED]" in line


def test_equal_forms_share_their_functions() -> None:
    decoder = without_layouts(decode_flow)
    decoder.one(FLOWS[0])
    flow = decoder.one(FLOWS[0])
    lines_of([flow], form(ALL))
    lines_of([flow], form(ALL))
    assert len(flow._reader.line_writers) == 1
    lines_of([flow], form(OutputOptions.NONE))
    assert len(flow._reader.line_writers) == 2


def test_few_flows_need_no_other_modules() -> None:
    code = (
        "import sys\n"
        "from conntrack_aio import Flow, LabelNames\n"
        "from conntrack_aio.cli.conntrack8.output_options import OutputOptions\n"
        "from conntrack_aio.cli.conntrack8.rendering import Renderer\n"
        "flow = Flow.udp('10.0.0.1', 1, '10.0.0.2', 2, timeout=5)\n"
        "Renderer(OutputOptions.NONE, LabelNames()).flows([flow])\n"
        "own = 'conntrack_aio.cli.conntrack8.'\n"
        "print(sorted(m.removeprefix(own) for m in sys.modules if m.startswith(own)))\n"
        "print('conntrack_aio.codec.message_lines' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['output_options', 'rendering', 'text']\nFalse\n"
