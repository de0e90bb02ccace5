"""What the renderers print is what conntrack(8) prints, byte for byte, for the same table."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from typing import Any, TypeVar

import anyio
import attrs
import pytest
from support.conntrack8 import COMMAND, LABELS, conntrack
from support.expectations import create_expectation, ftp, ftp6
from support.lab import Lab
from support.processes import DESTROY, NEW, TIMEOUT, UPDATE, Process, count_subscribers, wait_until

from conntrack_aio import (
    Connection,
    EventType,
    Flow,
    Helper,
    LabelNames,
    NATRange,
    SCTPInfo,
    SCTPState,
    Status,
    TCPInfo,
    TCPState,
    Tuple,
)
from conntrack_aio.cli.conntrack8.output_options import OutputOptions
from conntrack_aio.cli.conntrack8.rendering import Renderer
from conntrack_aio.sandbox import traffic

T = TypeVar("T")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.kernel,
    pytest.mark.program("conntrack", "conntrack"),
    pytest.mark.program("nft", "nftables"),
    pytest.mark.program("unshare", "util-linux"),
]

NAMES = LabelNames({name: bit for bit, name in LABELS.items()})
LABELS_IN_USE = "add table t; add chain t c; add rule t c ct label set 5"
A, B, C = "10.0.0.1", "10.0.0.2", "10.0.0.3"
A6, B6 = "fd00::1", "fd00::2"
ASSURED = Status.SEEN_REPLY | Status.ASSURED
UNSAVED_LABEL = 1 << 64
"""A label without a name."""


@pytest.fixture
def lab(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A lab whose flows have counters, timestamps and labels, and the time zone of the program."""
    lab.sysctl("nf_conntrack_acct", 1)
    lab.sysctl("nf_conntrack_timestamp", 1)
    lab.program("nft", LABELS_IN_USE)
    monkeypatch.setenv("TZ", "UTC0")
    time.tzset()
    yield lab
    monkeypatch.undo()
    time.tzset()


def options(words: str) -> OutputOptions:
    output = OutputOptions.NONE
    for word in words.split(","):
        output |= OutputOptions[word.upper() or "NONE"]
    return output


def arguments(words: str) -> Sequence[str]:
    return ("-o", words) if words else ()


def other(proto: int, *ports: int, **changes: object) -> Flow:
    sport, dport = ports or (None, None)
    orig = Tuple(src=ip_address(A), dst=ip_address(B), proto=proto, sport=sport, dport=dport)
    return Flow(orig=orig, reply=orig.inverse, timeout=500, **changes)  # type: ignore[arg-type]


def udp(sport: int, **changes: object) -> Flow:
    return attrs.evolve(Flow.udp(A, sport, B, 53, timeout=500), **changes)


def restorable() -> Iterator[tuple[Flow, dict[str, Any]]]:
    """Yield flows that options of conntrack(8) can restore, and arguments that translate them."""
    for state in TCPState:
        yield Flow.tcp(A, 100 + state, B, 80, timeout=500, state=state), {}
    for kind in SCTPState:
        if kind < SCTPState.HEARTBEAT_SENT:
            info = SCTPInfo(state=kind, vtag_orig=0x01020304, vtag_reply=7)
            yield other(132, 200 + kind, 80, protoinfo=info), {}
    yield other(136, 1, 2), {}
    yield other(47, 1000, 2), {}
    yield other(2), {}
    yield other(50), {}
    yield Flow.icmp(A, B, id=0xBEEF, timeout=500), {}
    yield Flow.icmp(A, B, id=1, type=13, timeout=500), {}
    yield Flow.icmp(A6, B6, id=7, timeout=500), {}
    yield Flow.udp(A6, 1, B6, 2, timeout=500, mark=1 << 31), {}
    yield Flow.udp("::1.2.3.4", 1, "::2", 2, timeout=500), {}
    yield Flow.tcp(A, 1, B, 2, timeout=500, status=ASSURED), {}
    yield Flow.tcp(A, 2, B, 2, timeout=500, status=Status.SEEN_REPLY | Status.FIXED_TIMEOUT), {}
    plain = udp(1)
    yield udp(1, zone=65535), {}
    yield udp(1, orig=attrs.evolve(plain.orig, zone=7)), {}
    yield udp(1, reply=attrs.evolve(plain.reply, zone=8)), {}
    yield udp(2, mark=0xFFFFFFFF, labels=1 | 1 << 5 | 1 << 127), {}
    yield udp(3, status=ASSURED), {"nat_src": NATRange.of("10.0.0.9", 77)}
    yield udp(4), {"nat_dst": "10.0.0.9"}
    yield udp(5), {"nat_src": NATRange.of(A, 78)}
    yield udp(6), {"nat_src": NATRange.of("10.0.0.9", 79), "nat_dst": NATRange.of(C, 80)}
    yield Flow.tcp(A6, 9, B6, 9, timeout=500), {"nat_dst": NATRange.of("fd00::9", 90)}


async def fill(conn: Connection) -> None:
    """Create flows of every kind."""
    for flow, nat in restorable():
        await conn.create(flow, **nat)
    master = await conn.create(attrs.evolve(ftp(), labels=UNSAVED_LABEL))
    assert master.helper == Helper(name="ftp")
    child = Flow.tcp(B, 20, A, 3000, timeout=500)
    child.master = master.orig
    await conn.create(child)
    await conn.create(other(33))
    heartbeat = SCTPInfo(state=SCTPState.HEARTBEAT_SENT, vtag_orig=1, vtag_reply=2)
    await conn.create(other(132, 5, 6, protoinfo=heartbeat))


async def compared(ours: Callable[[], Any], theirs: Callable[[], str]) -> tuple[str, str]:
    """Return what both print while nothing changes, not even a timeout."""
    with anyio.fail_after(TIMEOUT):
        while True:
            before = await ours()
            printed = theirs()
            if before == await ours():
                return before, printed


def lines(text: str) -> list[str]:
    return sorted(text.splitlines())


OUTPUTS = [
    "",
    "id",
    "extended",
    "ktimestamp",
    "labels",
    "timestamp",
    "userspace",
    "extended,id,labels,ktimestamp",
    "xml",
    "xml,id,labels,ktimestamp,timestamp",
]


@pytest.mark.parametrize("compiled", [False, True])
async def test_flows(lab: Lab, conn: Connection, compiled: bool) -> None:
    lab.track()
    await fill(conn)
    lab.run(traffic.tcp_exchange)
    lab.run(traffic.ping)
    for words in OUTPUTS:
        renderer = Renderer(options(words), NAMES, many=compiled)

        async def ours(renderer: Renderer = renderer) -> str:
            return renderer.flows(await conn.list())

        mine, theirs = await compared(
            ours, lambda words=words: conntrack(lab, "-L", *arguments(words))
        )
        assert lines(renderer.header() + mine + renderer.footer()) == lines(theirs)
        assert theirs.startswith(renderer.header())


async def test_a_single_flow(lab: Lab, conn: Connection) -> None:
    """In XML, a look-up prints no end of the document, and a deletion no beginning either."""
    flow = await conn.create(udp(1, mark=7))
    named = ("-p", "udp", "-s", A, "-d", B, "--sport", "1", "--dport", "53")
    for words in ("", "id", "xml"):
        renderer = Renderer(options(words), NAMES)

        async def ours(renderer: Renderer = renderer) -> str:
            return renderer.flows([await conn.get(flow)])

        mine, theirs = await compared(
            ours, lambda words=words: conntrack(lab, "-G", *named, *arguments(words))
        )
        assert renderer.header() + mine == theirs
    for words in ("xml", "save"):
        await conn.flush()
        (listed,) = [await conn.create(udp(1))]
        deleted = conntrack(lab, "-D", *named, *arguments(words))
        expected = Renderer(options(words), NAMES).flows([listed], command="-D")
        assert masked(deleted) == masked(expected)


def masked(text: str) -> str:
    """Return a text without what changes while an entry exists."""
    words = text.replace("<", " <").split()
    changing = ("<timeout>", "<deltatime>", "<use>", "<mark>", "<id>", "500", "499")
    return " ".join([word for word in words if not word.startswith(changing)])


async def test_saved_flows_are_those_of_conntrack8_and_more(lab: Lab, conn: Connection) -> None:
    plain = 0
    for flow, nat in restorable():
        await conn.flush()
        await conn.create(flow, **nat)

        async def ours() -> str:
            return Renderer(OutputOptions.SAVE, NAMES).flows(await conn.list())

        mine, theirs = await compared(ours, lambda: conntrack(lab, "-L", "-o", "save"))
        port = {each.port_min for each in nat.values() if isinstance(each, NATRange)}
        if flow.mark or flow.labels or port:
            assert mine != theirs
            assert len(mine) > len(theirs)
        else:
            assert mine == theirs
            plain += 1
    assert plain > 20


async def test_saved_flows_are_restored(lab: Lab, conn: Connection) -> None:
    """conntrack(8) itself accepts the added options, and restores the table from them."""
    for flow, nat in restorable():
        await conn.create(flow, **nat)
    before = await conn.list()
    saved = Renderer(OutputOptions.SAVE, NAMES).flows(before)
    await conn.flush()
    # The program restores the lines after one with labels, but crashes at its end.
    labelled = [line for line in saved.splitlines() if "--label-add" in line]
    assert len(labelled) == 1
    for part in (saved.replace(f"{labelled[0]}\n", ""), f"{labelled[0]}\n"):
        lab.program(*COMMAND, "-R", "-", input=part)
    after = await conn.list()
    assert sorted(map(lasting, after), key=repr) == sorted(map(lasting, before), key=repr)


def lasting(flow: Flow) -> Flow:
    """Return a copy without what no request can set, and without the timeout."""
    info = flow.protoinfo
    if isinstance(info, TCPInfo):
        info = TCPInfo(state=info.state)
    return attrs.evolve(
        flow,
        timeout=None,
        id=None,
        use=None,
        timestamp=None,
        counters_orig=None,
        counters_reply=None,
        protoinfo=info,
        synproxy=None,
        seqadj_orig=None,
        seqadj_reply=None,
    )


EVENT_OUTPUTS = ["", "extended,id,labels,ktimestamp", "save", "xml", "xml,labels,ktimestamp"]


@pytest.mark.parametrize("words", EVENT_OUTPUTS)
async def test_events(lab: Lab, conn: Connection, words: str) -> None:
    """The kernel sends both one message, so that even the timeouts are equal."""
    lab.track()
    renderer = Renderer(options(words), NAMES)
    save = words == "save"
    async with conn.events() as stream:
        with Process(lab, *COMMAND, "-E", *arguments(words)) as listener:
            wait_until(lambda: count_subscribers(lab, NEW | UPDATE | DESTROY) == 2)
            if not save:  # as to marks and labels, ours has more
                flow = await conn.create(udp(1, mark=9, orig=attrs.evolve(udp(1).orig, zone=7)))
                await conn.update(flow, mark=0, labels=1)
                await conn.create(ftp())
            lab.run(traffic.tcp_exchange)
            lab.run(traffic.udp_exchange, "::1")
            lab.run(traffic.ping)
            await conn.flush()
            ended = 0
            for expected in renderer.header().splitlines():
                assert listener.line() == expected
            with anyio.fail_after(TIMEOUT):
                while ended < (3 if save else 5):
                    event = await anext(stream)
                    mine = lab.run(renderer.events, [event])
                    assert without_age(listener.line()) == without_age(mine.removesuffix("\n"))
                    ended += event.type is EventType.DESTROY
            listener.signal(signal.SIGINT)
            for expected in renderer.footer().splitlines():
                assert listener.line() == expected
            status, errors = listener.wait()
            assert (status, "flow events have been shown" in errors) == (0, True), errors


def without_age(line: str) -> str:
    """Return a line without the age of an entry that has not ended: it goes by the clock."""
    return line if "stop" in line else line.partition(" delta-time=")[0]


async def test_the_time_of_an_event(lab: Lab, conn: Connection) -> None:
    renderer = Renderer(OutputOptions.TIMESTAMP, NAMES)
    async with conn.events() as stream:
        with Process(lab, *COMMAND, "-E", "-o", "timestamp") as listener:
            wait_until(lambda: count_subscribers(lab, NEW | UPDATE | DESTROY) == 2)
            await conn.create(udp(1))
            with anyio.fail_after(TIMEOUT):
                event = await anext(stream)
            mine, theirs = lab.run(renderer.events, [event]), listener.line()
    (own, own_line), (time_of_theirs, line) = (
        text.removesuffix("\n").split("\t") for text in (mine, theirs)
    )
    assert own_line == line
    assert len(own) == len(time_of_theirs)
    assert abs(float(own[1:-1]) - float(time_of_theirs[1:-1])) < TIMEOUT


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
async def test_expectations(lab: Lab, conn: Connection, family: str) -> None:
    expectation = await create_expectation(conn, ftp() if family == "ipv4" else ftp6())
    other_family = await create_expectation(conn, ftp6() if family == "ipv4" else ftp())
    assert expectation.tuple.family != other_family.tuple.family
    for words in ("", "id,extended,labels", "xml", "xml,timestamp"):
        renderer = Renderer(options(words), NAMES)

        async def ours(renderer: Renderer = renderer) -> str:
            listed = await conn.expectations.list()
            return renderer.expectations([one for one in listed if one.tuple == expectation.tuple])

        command = ("-L", "expect", "-f", family, *arguments(words))
        mine, theirs = await compared(ours, lambda command=command: conntrack(lab, *command))
        assert renderer.header("expect") + mine + renderer.footer("expect") == theirs


@pytest.mark.parametrize("words", ["", "xml"])
async def test_expectation_events(lab: Lab, conn: Connection, words: str) -> None:
    renderer = Renderer(options(words), NAMES)
    async with conn.expectations.events() as stream:
        with Process(lab, *COMMAND, "-E", "expect", *arguments(words)) as listener:
            wait_until(lambda: count_subscribers(lab, 0x8 | 0x10 | 0x20) == 1)
            await create_expectation(conn)
            await conn.expectations.flush()
            for expected in renderer.header("expect").splitlines():
                assert listener.line() == expected
            with anyio.fail_after(TIMEOUT):
                for _ in range(2):
                    mine = renderer.expectation_events([await anext(stream)])
                    assert listener.line() == mine.removesuffix("\n")
