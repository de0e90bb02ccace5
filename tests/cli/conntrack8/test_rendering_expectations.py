"""Expectations as lines of text. The expected lines are those of conntrack 1.4.7."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.attribute_encoding import with_values
from support.codec_cases import expectation
from support.effort import examples
from support.model_strategies import objects

from conntrack_aio import EventType, LabelNames, Tuple
from conntrack_aio.cli.conntrack8.output_options import OutputOptions
from conntrack_aio.cli.conntrack8.rendering import Renderer
from conntrack_aio.model.expectations import Expectation, ExpectEvent

NAMES = LabelNames()
EXTENDED = OutputOptions.EXTENDED | OutputOptions.ID
SHOWN = (
    "proto=6 src=10.0.0.1 dst=10.0.0.2 sport=0 dport=2050"
    " mask-src=255.255.255.255 mask-dst=255.255.255.255 sport=0 dport=65535"
    " master-src=10.0.0.1 master-dst=10.0.0.2 sport=1024 dport=80"
)
ICMP = Tuple.icmp("10.0.0.1", "10.0.0.2", id=5)
GRE = Tuple(src=ICMP.src, dst=ICMP.dst, proto=47, sport=1, dport=18, zone=5)
ESP = Tuple(src=ICMP.src, dst=ICMP.dst, proto=50)

CASES: list[tuple[Expectation, str]] = [
    (expectation(), SHOWN),
    (expectation(timeout=0), f"0 {SHOWN}"),
    (expectation(timeout=5, id=9, function="f", nat=None), f"5 {SHOWN}"),
    (expectation(flags=0), SHOWN),
    (expectation(flags=1), f"{SHOWN} PERMANENT"),
    (expectation(flags=3), f"{SHOWN} PERMANENT,INACTIVE"),
    (expectation(flags=15), f"{SHOWN} PERMANENT,INACTIVE,USERSPACE"),
    (expectation(expect_class=0, helper="ftp"), f"{SHOWN} class=0 helper=ftp"),
    (expectation(helper=""), f"{SHOWN} helper="),
    (
        with_values(expectation(), tuple=ICMP),
        SHOWN.replace("proto=6", "proto=1").replace("sport=0 dport=2050", "type=8 code=0 id=5"),
    ),
    (
        with_values(expectation(), tuple=GRE),
        SHOWN.replace("proto=6", "proto=47").replace(
            "sport=0 dport=2050", "srckey=0x1 dstkey=0x12"
        ),
    ),
    (
        with_values(expectation(), tuple=ESP),
        SHOWN.replace("proto=6", "proto=50").replace(" sport=0 dport=2050", ""),
    ),
]


@pytest.mark.parametrize("output", [OutputOptions.NONE, EXTENDED, OutputOptions.SAVE], ids=str)
@pytest.mark.parametrize(("one", "expected"), CASES)
def test_lines(one: Expectation, expected: str, output: OutputOptions) -> None:
    assert Renderer(output, NAMES).expectations([one]) == f"{expected}\n"


def test_lines_with_a_time() -> None:
    shown = Renderer(OutputOptions.TIMESTAMP, NAMES).expectations([expectation()] * 2)
    assert re.fullmatch(rf"(\[\d+\.\d{{6}}\]\t{re.escape(SHOWN)}\n){{2}}", shown)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (EventType.NEW, "    [NEW]"),
        (EventType.UPDATE, " [UPDATE]"),
        (EventType.DESTROY, "[DESTROY]"),
    ],
)
def test_events(kind: EventType, name: str) -> None:
    event = ExpectEvent(
        type=kind, expectation=expectation(), port_id=9, receive_timestamp=5_000_001_999
    )
    assert Renderer(OutputOptions.NONE, NAMES).expectation_events([event]) == f"{name} {SHOWN}\n"
    timed = Renderer(OutputOptions.TIMESTAMP, NAMES).expectation_events([event])
    assert timed == f"[5.000001]\t{name} {SHOWN}\n"


@settings(deadline=None, max_examples=examples(100), suppress_health_check=[HealthCheck.too_slow])
@given(one=objects(Expectation), output=st.sampled_from([OutputOptions.NONE, OutputOptions.XML]))
def test_every_expectation_has_one_line(one: Expectation, output: OutputOptions) -> None:
    lines = Renderer(output, NAMES).expectations([one])
    assert lines.count("\n") == 1 + (one.helper or "").count("\n")
