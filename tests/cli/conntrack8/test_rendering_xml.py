"""Flows, expectations and events as XML. The expected elements are those of conntrack 1.4.7."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import pytest
from support.attribute_encoding import with_values
from support.codec_cases import expectation

from conntrack_aio import (
    Counters,
    EventType,
    Flow,
    FlowEvent,
    Helper,
    LabelNames,
    Status,
    Timestamp,
    Tuple,
)
from conntrack_aio.cli.conntrack8.output_options import OutputOptions
from conntrack_aio.cli.conntrack8.rendering import Renderer
from conntrack_aio.model.expectations import ExpectEvent

NAMES = LabelNames({"zero": 0, "five": 5})
XML = OutputOptions.XML
FULL = XML | OutputOptions.LABELS | OutputOptions.KTIMESTAMP
TIMED = XML | OutputOptions.TIMESTAMP
FOUR = '<layer3 protonum="2" protoname="ipv4">'
UDP = Tuple.udp("10.0.0.1", 1, "10.0.0.2", 2)
LAYER4 = '<layer4 protonum="17" protoname="udp">'
ORIG = (
    f'<meta direction="original">{FOUR}<src>10.0.0.1</src><dst>10.0.0.2</dst></layer3>'
    f"{LAYER4}<sport>1</sport><dport>2</dport></layer4>"
)
REPLY = (
    f'</meta><meta direction="reply">{FOUR}<src>10.0.0.2</src><dst>10.0.0.1</dst></layer3>'
    f"{LAYER4}<sport>2</sport><dport>1</dport></layer4>"
)
REST = '</meta><meta direction="independent">'
RECEIVED = 1_767_582_245_000_000_000
WHEN = (
    "<when><hour>3</hour><min>04</min><sec>05</sec><wday>2</wday><day>5</day><month>1</month>"
    "<year>2026</year></when>"
)


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC0")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def flow(**fields: object) -> Flow:
    return with_values(Flow(orig=UDP, reply=UDP.inverse), **fields)


S = Status
FLOWS: list[tuple[dict[str, object], str]] = [
    ({}, f"{ORIG}{REPLY}{REST}</meta>"),
    (
        {"timeout": 5, "mark": 0, "zone": 7, "use": 1, "id": 9, "labels": 0},
        f"{ORIG}{REPLY}{REST}<timeout>5</timeout><mark>0</mark><labels></labels><zone>7</zone>"
        "<use>1</use><id>9</id></meta>",
    ),
    ({"status": S(0)}, f"{ORIG}{REPLY}{REST}<unreplied/></meta>"),
    ({"status": S.ASSURED}, f"{ORIG}{REPLY}{REST}<assured/><unreplied/></meta>"),
    ({"status": S(0xC00E)}, f"{ORIG}{REPLY}{REST}<assured/></meta>"),
    (
        {"labels": 1 | 1 << 5 | 1 << 9},
        f"{ORIG}{REPLY}{REST}<labels><label>zero</label><label>five</label></labels></meta>",
    ),
    (
        {"timestamp": Timestamp(start=10**9 - 1, stop=2 * 10**9)},
        f"{ORIG}{REPLY}{REST}<timestamp><start>999999999</start><stop>2000000000</stop>"
        "</timestamp><deltatime>1</deltatime></meta>",
    ),
    (
        {"timestamp": Timestamp(start=10**18, stop=0)},
        f"{ORIG}{REPLY}{REST}<timestamp><start>1000000000000000000</start><stop>0</stop>"
        "</timestamp><deltatime>17446744073</deltatime></meta>",
    ),
    ({"timestamp": Timestamp()}, f"{ORIG}{REPLY}{REST}</meta>"),
    (
        {"helper": Helper(name="ftp"), "secctx": "a"},
        f"{ORIG}{REPLY}{REST}<secctx>a</secctx></meta><helper>ftp</helper>",
    ),
    (
        {"counters_orig": Counters(packets=1, bytes=2)},
        f"{ORIG}<counters><packets>1</packets><bytes>2</bytes></counters>"
        f"{REPLY}<counters><packets>0</packets><bytes>0</bytes></counters>{REST}</meta>",
    ),
    ({"counters_reply": Counters(packets=1, bytes=2)}, f"{ORIG}{REPLY}{REST}</meta>"),
    (
        {"orig": with_values(UDP, zone=4), "reply": with_values(UDP.inverse, zone=0)},
        f"{ORIG}<zone>4</zone>{REPLY}<zone>0</zone>{REST}</meta>",
    ),
]


@pytest.mark.parametrize(("fields", "expected"), FLOWS)
def test_flows(fields: dict[str, object], expected: str) -> None:
    assert Renderer(FULL, NAMES).flows([flow(**fields)]) == f"<flow>{expected}</flow>\n"


PROTOCOLS = [
    (Tuple.icmp("::1", "::2", id=5), '<layer4 protonum="58" protoname="icmpv6"></layer4>'),
    (
        with_values(UDP, proto=47, sport=1, dport=17),
        '<layer4 protonum="47" protoname="gre"><srckey>0x1</srckey><dstkey>0x11</dstkey></layer4>',
    ),
    (
        with_values(UDP, proto=50, sport=None, dport=None),
        '<layer4 protonum="50" protoname="unknown"></layer4>',
    ),
    (
        with_values(UDP, proto=33, sport=None, dport=None),
        '<layer4 protonum="33" protoname="dccp"><sport>0</sport><dport>0</dport></layer4>',
    ),
]


@pytest.mark.parametrize(("orig", "expected"), PROTOCOLS)
def test_protocols(orig: Tuple, expected: str) -> None:
    shown = Renderer(XML, NAMES).flows([flow(orig=orig)])
    assert f"</layer3>{expected}</meta>" in shown


def test_without_options_there_are_no_labels_and_times() -> None:
    shown = Renderer(XML, NAMES).flows([flow(labels=1, timestamp=Timestamp(start=5, stop=6))])
    assert shown == f"<flow>{ORIG}{REPLY}{REST}<deltatime>0</deltatime></meta></flow>\n"


@pytest.mark.parametrize("kind", EventType)
def test_events(kind: EventType) -> None:
    event = FlowEvent(type=kind, flow=flow(), port_id=4_294_967_295, receive_timestamp=RECEIVED)
    assert Renderer(TIMED, NAMES).events([event]) == (
        f'<flow type="{kind.value}">{ORIG}{REPLY}{REST}</meta>{WHEN}</flow>'
        " [USERSPACE] portid=4294967295\n"
    )


def test_names_are_escaped() -> None:
    one = flow(helper=Helper(name="<a&b>"), secctx="c<d", labels=1)
    renderer = Renderer(FULL, LabelNames({"x<y": 0}))
    root = ET.fromstring(renderer.header() + renderer.flows([one, one]) + renderer.footer())
    assert [element.findtext("helper") for element in root] == ["<a&b>", "<a&b>"]
    assert root.findtext(".//secctx") == "c<d"
    assert root.findtext(".//label") == "x<y"


@pytest.mark.parametrize("root", ["conntrack", "expect"])
def test_the_document(root: str) -> None:
    renderer = Renderer(XML, NAMES)
    declaration = '<?xml version="1.0" encoding="utf-8"?>'
    assert renderer.header(root) == f"{declaration}\n<{root}>\n"
    assert renderer.footer(root) == f"</{root}>\n"
    assert Renderer(OutputOptions.NONE, NAMES).header(root) == ""
    assert Renderer(OutputOptions.SAVE, NAMES).footer(root) == ""


EXPECTED = (
    f"{FOUR}<expected><src>10.0.0.1</src><dst>10.0.0.2</dst></expected>"
    "<mask><src>255.255.255.255</src><dst>255.255.255.255</dst></mask>"
    "<master><src>10.0.0.1</src><dst>10.0.0.2</dst></master></layer3>"
    '<layer4 protonum="6" protoname="tcp"><expected><sport>0</sport><dport>2050</dport></expected>'
    "<mask><sport>0</sport><dport>65535</dport></mask>"
    "<master><sport>1024</sport><dport>80</dport></master></layer4><meta>"
)


def test_expectations() -> None:
    plain = expectation()
    full = expectation(timeout=9, expect_class=3, flags=7, helper="f<tp", id=5)
    assert Renderer(FULL, NAMES).expectations([plain, full]) == (
        f"<flow>{EXPECTED}</meta></flow>\n"
        f"<flow>{EXPECTED}<helper-name>f&lt;tp</helper-name><timeout>9</timeout><class>3</class>"
        "<permanent/><inactive/><userspace/></meta></flow>\n"
    )


def test_events_of_expectations() -> None:
    event = ExpectEvent(
        type=EventType.NEW, expectation=expectation(flags=1), receive_timestamp=RECEIVED
    )
    assert Renderer(TIMED, NAMES).expectation_events([event]) == (
        f'<flow type="new">{EXPECTED}{WHEN}<permanent/></meta></flow>\n'
    )


def test_a_list_of_expectations_has_the_time_of_now() -> None:
    assert "</year></when></meta>" in Renderer(TIMED, NAMES).expectations([expectation()])
