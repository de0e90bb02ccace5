"""Flows as lines of text and as saved options. The expected lines are those of conntrack 1.4.7."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.attribute_encoding import with_values

from conntrack_aio import (
    Counters,
    DCCPInfo,
    EventType,
    Flow,
    FlowEvent,
    Helper,
    LabelNames,
    SCTPInfo,
    Status,
    TCPInfo,
    Timestamp,
    Tuple,
)
from conntrack_aio.cli.conntrack8.output_options import OutputOptions
from conntrack_aio.cli.conntrack8.rendering import Renderer

NAMES = LabelNames({"zero": 0, "five": 5, "last": 127})
TEXT = OutputOptions.NONE
XML, SAVE = OutputOptions.XML, OutputOptions.SAVE
FULL = OutputOptions.EXTENDED | OutputOptions.ID | OutputOptions.KTIMESTAMP | OutputOptions.LABELS

A, B = "10.0.0.1", "10.0.0.2"
TCP = Tuple.tcp(A, 1, B, 2)
SHOWN = "src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2"
SHOWN_REPLY = "src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1"
SAVED = "-s 10.0.0.1 -d 10.0.0.2"
SAVED_PORTS = "--sport 1 --dport 2 --reply-port-src 2 --reply-port-dst 1"


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC0")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def flow(orig: Tuple = TCP, reply: Tuple | None = None, **fields: object) -> Flow:
    made = Flow(orig=orig, reply=orig.inverse if reply is None else reply, timeout=5)
    return with_values(made, **fields)


def bare(proto: int, **fields: object) -> Tuple:
    return Tuple(src=A, dst=B, proto=proto, **fields)  # type: ignore[arg-type]


def line(flow: Flow, output: OutputOptions = TEXT, names: LabelNames = NAMES) -> str:
    return Renderer(output, names).flows([flow]).removesuffix("\n")


PROTOCOLS = [
    (bare(0), "unknown  0 5 src=10.0.0.1 dst=10.0.0.2"),
    (bare(2), "unknown  2 5 src=10.0.0.1 dst=10.0.0.2"),
    (bare(50), "unknown  50 5 src=10.0.0.1 dst=10.0.0.2"),
    (bare(255), "unknown  255 5 src=10.0.0.1 dst=10.0.0.2"),
    (TCP, f"tcp      6 5 {SHOWN}"),
    (Tuple.udp(A, 1, B, 2), f"udp      17 5 {SHOWN}"),
    (bare(132, sport=1, dport=2), f"sctp     132 5 {SHOWN}"),
    (bare(136, sport=1, dport=2), f"udplite  136 5 {SHOWN}"),
    (bare(33, sport=1, dport=2), f"dccp     33 5 {SHOWN}"),
    (bare(33), "dccp     33 5 src=10.0.0.1 dst=10.0.0.2 sport=0 dport=0"),
    (bare(47, sport=1, dport=17), "gre      47 5 src=10.0.0.1 dst=10.0.0.2 srckey=0x1 dstkey=0x11"),
    (bare(47), "gre      47 5 src=10.0.0.1 dst=10.0.0.2 srckey=0x0 dstkey=0x0"),
    (Tuple.icmp(A, B, id=7), "icmp     1 5 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=7"),
    (Tuple.icmp("::1", "::2", id=7), "icmpv6   58 5 src=::1 dst=::2 type=128 code=0 id=7"),
    (Tuple.udp("::1.2.3.4", 1, "::", 2), "udp      17 5 src=::1.2.3.4 dst=:: sport=1 dport=2"),
    (
        Tuple.udp("1:0:0:2::3", 1, "1:0:1:0:1:0:1:0", 2),
        "udp      17 5 src=1:0:0:2::3 dst=1:0:1:0:1:0:1:0 sport=1 dport=2",
    ),
]


@pytest.mark.parametrize(("orig", "expected"), PROTOCOLS, ids=[text for _, text in PROTOCOLS])
def test_protocols(orig: Tuple, expected: str) -> None:
    first, _, second = line(flow(orig)).rpartition(" src=")
    assert first == expected
    assert second.startswith(str(orig.dst) if "1.2.3.4" not in expected else "::")


STATES = {
    TCPInfo: (
        "NONE SYN_SENT SYN_RECV ESTABLISHED FIN_WAIT CLOSE_WAIT LAST_ACK TIME_WAIT CLOSE "
        "SYN_SENT2 NONE NONE"
    ),
    SCTPInfo: (
        "NONE CLOSED COOKIE_WAIT COOKIE_ECHOED ESTABLISHED SHUTDOWN_SENT SHUTDOWN_RECD "
        "SHUTDOWN_ACK_SENT HEARTBEAT_SENT HEARTBEAT_ACKED NONE"
    ),
    DCCPInfo: (
        "NONE REQUEST RESPOND PARTOPEN OPEN CLOSEREQ CLOSING TIMEWAIT IGNORE INVALID NONE NONE"
    ),
}


@pytest.mark.parametrize("cls", STATES)
def test_states(cls: type[TCPInfo] | type[SCTPInfo] | type[DCCPInfo]) -> None:
    shown = [
        line(flow(protoinfo=cls(state=number))).split()[3]
        for number in range(len(STATES[cls].split()))
    ]
    assert shown == STATES[cls].split()
    # XML calls the states of all protocols by the names of TCP.
    names = [*STATES[TCPInfo].split(), "NONE"]
    for number in range(len(shown)):
        xml = line(flow(protoinfo=cls(state=number)), XML)
        assert f'direction="independent"><state>{names[number]}</state>' in xml


S = Status
FIELDS: list[tuple[dict[str, object], str]] = [
    ({}, f"tcp      6 5 {SHOWN} {SHOWN_REPLY}"),
    ({"timeout": None}, f"tcp      6 {SHOWN} {SHOWN_REPLY}"),
    ({"mark": 0}, f"tcp      6 5 {SHOWN} {SHOWN_REPLY} mark=0"),
    ({"status": S(0)}, f"tcp      6 5 {SHOWN} [UNREPLIED] {SHOWN_REPLY}"),
    ({"status": S(0xE)}, f"tcp      6 5 {SHOWN} {SHOWN_REPLY} [ASSURED]"),
    ({"status": S(0x400E)}, f"tcp      6 5 {SHOWN} {SHOWN_REPLY} [OFFLOAD]"),
    ({"status": S(0x800E)}, f"tcp      6 5 {SHOWN} {SHOWN_REPLY} [HW_OFFLOAD]"),
    ({"status": S(0xC00E)}, f"tcp      6 5 {SHOWN} {SHOWN_REPLY} [HW_OFFLOAD]"),
    ({"status": S(0x4000)}, f"tcp      6 5 {SHOWN} [UNREPLIED] {SHOWN_REPLY} [OFFLOAD]"),
    ({"zone": 0}, f"tcp      6 5 {SHOWN} {SHOWN_REPLY} zone=0"),
    (
        {"zone": 7, "mark": 5, "secctx": "a b", "helper": Helper(name="ftp")},
        f"tcp      6 5 {SHOWN} {SHOWN_REPLY} mark=5 secctx=a b zone=7 helper=ftp",
    ),
    ({"helper": Helper(name="")}, f"tcp      6 5 {SHOWN} {SHOWN_REPLY} helper="),
    ({"helper": Helper()}, f"tcp      6 5 {SHOWN} {SHOWN_REPLY}"),
    ({"counters_orig": Counters(packets=1)}, f"tcp      6 5 {SHOWN} {SHOWN_REPLY}"),
    (
        {"counters_reply": Counters(packets=1, bytes=2)},
        f"tcp      6 5 {SHOWN} {SHOWN_REPLY} packets=1 bytes=2",
    ),
    ({"use": 4, "id": 9}, f"tcp      6 5 {SHOWN} {SHOWN_REPLY} use=4"),
    (
        {
            "orig": with_values(TCP, zone=4),
            "reply": with_values(TCP.inverse, zone=0),
            "counters_orig": Counters(packets=3, bytes=99),
        },
        f"tcp      6 5 {SHOWN} zone-orig=4 packets=3 bytes=99 {SHOWN_REPLY} zone-reply=0",
    ),
]


@pytest.mark.parametrize(("fields", "expected"), FIELDS)
def test_fields(fields: dict[str, object], expected: str) -> None:
    assert line(flow(**fields)) == expected


BEFORE = f"ipv4     2 tcp      6 5 {SHOWN} {SHOWN_REPLY}"
OPTIONS: list[tuple[dict[str, object], str]] = [
    ({"use": 4, "id": 0, "labels": 1}, " use=4 id=0 labels=zero"),
    ({"labels": 1 | 1 << 5 | 1 << 64 | 1 << 127}, " labels=zero,five,last"),
    ({"labels": 0}, " labels"),
    ({"labels": 2}, " labels"),
    ({"timestamp": Timestamp(stop=5)}, " [stop=Thu Jan  1 00:00:00 1970]"),
    ({"timestamp": Timestamp()}, ""),
    (
        {"timestamp": Timestamp(start=4_999_999_999, stop=7_000_000_000)},
        " delta-time=3 [start=Thu Jan  1 00:00:04 1970] [stop=Thu Jan  1 00:00:07 1970]",
    ),
    (
        {"timestamp": Timestamp(start=10_000_000_000, stop=5)},
        " delta-time=18446744073709551606 [start=Thu Jan  1 00:00:10 1970]"
        " [stop=Thu Jan  1 00:00:00 1970]",
    ),
    (
        {"timestamp": Timestamp(start=0, stop=(1 << 64) - 1)},
        " delta-time=18446744073 [start=Thu Jan  1 00:00:00 1970] [stop=Sun Jul 21 23:34:33 2554]",
    ),
]


@pytest.mark.parametrize(("fields", "expected"), OPTIONS)
def test_options(fields: dict[str, object], expected: str) -> None:
    assert line(flow(**fields), FULL) == BEFORE + expected


def test_the_family_of_ipv6() -> None:
    assert line(flow(Tuple.udp("::1", 1, "::2", 2)), FULL).startswith("ipv6     10 udp      17 ")


def test_an_entry_that_has_not_ended_has_the_age_of_now() -> None:
    for stop in (None, 0):
        before = int(time.time())
        shown = line(flow(timestamp=Timestamp(start=10**18, stop=stop)))
        age = int(shown.rpartition(" delta-time=")[2])
        assert before <= age + 10**9 <= time.time()


def test_without_any_names_no_labels_are_printed() -> None:
    assert line(flow(labels=1), FULL, LabelNames()) == BEFORE


def test_text_that_is_not_utf8() -> None:
    assert line(flow(helper=Helper(name="\udcff"))).endswith(" helper=\udcff")


# -- options that restore the entry --------------------------------------------------------------

DONE = S.SRC_NAT_DONE | S.DST_NAT_DONE
NATTED = DONE | S.SRC_NAT | S.DST_NAT
TAIL = f"-p tcp {SAVED_PORTS}"


def vtag(number: int) -> int:
    """Return a tag as the option has it: conntrack(8) does not convert the byte order."""
    return int.from_bytes(number.to_bytes(4, "big"), sys.byteorder)


def ports(orig: tuple[int, int], reply: tuple[int, int]) -> str:
    names = ("--sport", "--dport", "--reply-port-src", "--reply-port-dst")
    return " ".join(f"{name} {port}" for name, port in zip(names, orig + reply, strict=True))


SAVES: list[tuple[Flow, str]] = [
    (flow(), f"-A -t 5 {SAVED} -r {B} -q {A} {TAIL}"),
    (flow(status=S(0)), f"-A -t 5 -u UNSET {SAVED} -r {B} -q {A} {TAIL}"),
    (
        flow(status=S(0x40E), protoinfo=TCPInfo(state=3)),
        f"-A -t 5 -u SEEN_REPLY,ASSURED,FIXED_TIMEOUT {SAVED} -r {B} -q {A} {TAIL}"
        " --state ESTABLISHED",
    ),
    (flow(zone=0), f"-A -t 5 -w 0 {SAVED} -r {B} -q {A} {TAIL}"),
    (
        flow(orig=with_values(TCP, zone=4), reply=with_values(TCP.inverse, zone=0)),
        f"-A -t 5 --orig-zone 4 --reply-zone 0 {SAVED} -r {B} -q {A} {TAIL}",
    ),
    (
        flow(bare(132, sport=1, dport=2), protoinfo=SCTPInfo(state=2, vtag_orig=3, vtag_reply=9)),
        f"-A -t 5 {SAVED} -r {B} -q {A} -p sctp {SAVED_PORTS} --state COOKIE_WAIT"
        f" --orig-vtag {vtag(3)} --reply-vtag {vtag(9)}",
    ),
    (
        flow(bare(33, sport=1, dport=2), protoinfo=DCCPInfo(state=4, role=1)),
        f"-A -t 5 {SAVED} -r {B} -q {A} -p dccp {SAVED_PORTS} --state OPEN --role server",
    ),
    (flow(bare(33)), f"-A -t 5 {SAVED} -r {B} -q {A} -p dccp"),
    (
        flow(bare(47, sport=1, dport=17)),
        f"-A -t 5 {SAVED} -r {B} -q {A} -p gre"
        " --srckey 1 --dstkey 17 --reply-key-src 17 --reply-key-dst 1",
    ),
    (
        flow(Tuple.icmp(A, B, id=5, code=3)),
        f"-A -t 5 {SAVED} -r {B} -q {A} -p icmp --icmp-type 8 --icmp-code 3 --icmp-id 5",
    ),
    (
        flow(Tuple.icmp("::1", "::2", id=5)),
        "-A -t 5 -s ::1 -d ::2 -r ::2 -q ::1 -p icmpv6"
        " --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 5",
    ),
    (flow(bare(50)), f"-A -t 5 {SAVED} -r {B} -q {A} -p 50"),
    # Translations
    (
        flow(reply=Tuple.tcp("10.9.9.8", 2, "10.9.9.9", 1), status=NATTED),
        f"-A -t 5 -u UNSET {SAVED} -g 10.9.9.8 -n 10.9.9.9 {TAIL}",
    ),
    (
        flow(reply=Tuple.tcp("10.9.9.8", 2, "10.9.9.9", 1), status=S(0)),
        f"-A -t 5 -u UNSET {SAVED} -r 10.9.9.8 -q 10.9.9.9 {TAIL}",
    ),
    (
        flow(reply=Tuple.tcp("10.9.9.8", 2, A, 1), status=DONE | S.DST_NAT),
        f"-A -t 5 -u UNSET {SAVED} -g 10.9.9.8 -q {A} {TAIL}",
    ),
    # What conntrack(8) does not write
    (flow(mark=5), f"-A -t 5 {SAVED} -r {B} -q {A} {TAIL} -m 5"),
    (flow(mark=0), f"-A -t 5 {SAVED} -r {B} -q {A} {TAIL}"),
    (
        flow(labels=1 | 1 << 5 | 1 << 64, mark=1),
        f"-A -t 5 {SAVED} -r {B} -q {A} {TAIL} -m 1 --label-add zero,five",
    ),
    (
        flow(reply=Tuple.tcp("10.9.9.8", 99, "10.9.9.9", 88), status=NATTED),
        f"-A -t 5 -u UNSET {SAVED} -g 10.9.9.8:99 -n 10.9.9.9:88 -p tcp {ports((1, 2), (99, 88))}",
    ),
    (
        flow(reply=Tuple.tcp(B, 2, A, 88), status=NATTED),
        f"-A -t 5 -u UNSET {SAVED} -r {B} -n {A}:88 -p tcp {ports((1, 2), (2, 88))}",
    ),
    (
        flow(reply=Tuple.tcp(B, 2, A, 88), status=S(0)),
        f"-A -t 5 -u UNSET {SAVED} -r {B} -q {A} -p tcp {ports((1, 2), (2, 88))}",
    ),
    (
        flow(Tuple.udp("::1", 1, "::2", 2), Tuple.udp("::9", 3, "::1", 1), status=NATTED),
        f"-A -t 5 -u UNSET -s ::1 -d ::2 -g [::9]:3 -q ::1 -p udp {ports((1, 2), (3, 1))}",
    ),
    (
        flow(timeout=None, status=S(0x400E)),
        f"-A -t 86400 -u SEEN_REPLY,ASSURED {SAVED} -r {B} -q {A} {TAIL}",
    ),
    (
        flow(status=S.EXPECTED | S.SEEN_REPLY),
        f"-A -t 5 -u SEEN_REPLY {SAVED} -r {B} -q {A} {TAIL}",
    ),
    (flow(status=S.EXPECTED), f"-A -t 5 -u UNSET {SAVED} -r {B} -q {A} {TAIL}"),
    # What conntrack(8) ends at, or writes as "(null)"
    (flow(protoinfo=TCPInfo(state=12)), f"-A -t 5 {SAVED} -r {B} -q {A} {TAIL}"),
    (
        flow(bare(33), protoinfo=DCCPInfo(state=12, role=2)),
        f"-A -t 5 {SAVED} -r {B} -q {A} -p dccp",
    ),
]


@pytest.mark.parametrize(("saved", "expected"), SAVES, ids=[text for _, text in SAVES])
def test_saved_flows(saved: Flow, expected: str) -> None:
    assert line(saved, SAVE) == expected


def test_deleted_flows_are_saved_as_their_deletion() -> None:
    deleted = flow(mark=5, labels=1, timeout=None, status=S.EXPECTED)
    assert Renderer(SAVE, NAMES).flows([deleted], command="-D") == (
        f"-D -u EXPECTED {SAVED} -r {B} -q {A} {TAIL}\n"
    )


# -- events ----------------------------------------------------------------------------------------


def event(kind: EventType, **fields: object) -> FlowEvent:
    return with_values(FlowEvent(type=kind, flow=flow(mark=0, labels=1)), **fields)


EVENTS = [
    (TEXT, EventType.NEW, f"    [NEW] tcp      6 5 {SHOWN} {SHOWN_REPLY} mark=0"),
    (TEXT, EventType.UPDATE, f" [UPDATE] tcp      6 5 {SHOWN} {SHOWN_REPLY} mark=0"),
    (TEXT, EventType.DESTROY, f"[DESTROY] tcp      6 5 {SHOWN} {SHOWN_REPLY} mark=0"),
    (SAVE, EventType.NEW, f"-A -t 5 {SAVED} -r {B} -q {A} {TAIL} --label-add zero"),
    (SAVE, EventType.UPDATE, f"-U -t 5 {SAVED} -r {B} -q {A} {TAIL} -m 0 --label-add zero"),
    (SAVE, EventType.DESTROY, f"-D -t 5 {SAVED} -r {B} -q {A} {TAIL}"),
]


@pytest.mark.parametrize(("output", "kind", "expected"), EVENTS)
def test_events(output: OutputOptions, kind: EventType, expected: str) -> None:
    assert Renderer(output, NAMES).events([event(kind)]) == f"{expected}\n"


def test_the_time_of_an_event() -> None:
    received = event(EventType.NEW, receive_timestamp=1_795_413_563_000_999_999)
    shown = Renderer(OutputOptions.TIMESTAMP, NAMES).events([received])
    assert shown.startswith("[1795413563.000999]\t    [NEW] tcp")


def test_an_event_without_a_time_has_that_of_now() -> None:
    before = time.time()
    shown = Renderer(OutputOptions.TIMESTAMP, NAMES).events([event(EventType.NEW)])
    assert before - 1e-3 <= float(shown[1:].partition("]")[0]) <= time.time()


def test_a_program_that_is_gone() -> None:
    shown = Renderer(TEXT, NAMES).events([event(EventType.NEW, port_id=4_294_967_295)])
    assert shown.endswith(" mark=0 [USERSPACE] portid=4294967295\n")


def test_a_program_that_has_its_socket_open() -> None:
    name = Path("/proc/self/comm").read_text().removesuffix("\n")
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12))
            for _ in range(2)
        ]
        for each in sockets:  # the kernel names the first one after the process
            each.bind((0, 0))
        ports = [each.getsockname()[0] for each in sockets]
        events = [event(EventType.NEW, port_id=port) for port in ports]
        shown = Renderer(TEXT, NAMES).events(events)
    assert [line.partition(" mark=0")[2] for line in shown.splitlines()] == [
        f" [USERSPACE] portid={port} progname={name}" for port in ports
    ]
