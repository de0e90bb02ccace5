"""The command as people run it: a program of its own, in a namespace."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
import attrs
import pytest
from support.lab import Lab
from support.processes import (
    DESTROY,
    NEW,
    PATIENCE,
    UPDATE,
    Process,
    subscribers,
    wait_until,
    waiting_bytes,
)

from conntrack_aio import Connection, Flow, Status, Tuple, connect
from conntrack_aio.sandbox import links
from conntrack_aio.sandbox.namespace import new_network_namespace

pytestmark = pytest.mark.kernel

COMMAND = (sys.executable, "-W", "error::ResourceWarning", "-m", "conntrack_aio")
EVENTS = (*COMMAND, "events")

TCP = Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 80, timeout=600, mark=0x50)
UDP = Flow.udp("fd00::1", 1000, "fd00::2", 53, timeout=600, zone=7)
PING = Flow.icmp("10.0.0.1", "10.0.0.2", id=9, timeout=600)
_PLAIN = Tuple.udp("10.0.0.1", 1000, "10.0.0.2", 53)
ORIG_ZONE = Flow(orig=attrs.evolve(_PLAIN, zone=1), reply=_PLAIN.inverse, timeout=600)
_OTHER = Tuple.udp("10.0.0.1", 1001, "10.0.0.2", 53)
REPLY_ZONE = Flow(orig=_OTHER, reply=attrs.evolve(_OTHER.inverse, zone=2), timeout=600)

LINES = [
    "tcp ESTABLISHED 10.0.0.1:1000 -> 10.0.0.2:80 [UNREPLIED] timeout=N mark=0x50",
    "udp [fd00::1]:1000 -> [fd00::2]:53 [UNREPLIED] timeout=N zone=7",
    "icmp 10.0.0.1 -> 10.0.0.2 type=8 code=0 id=9 [UNREPLIED] timeout=N",
    "udp 10.0.0.1:1000 -> 10.0.0.2:53 zone=1 [UNREPLIED] timeout=N",
    "udp 10.0.0.1:1001 -> 10.0.0.2:53 (reply 10.0.0.2:53 -> 10.0.0.1:1001 zone=2) [UNREPLIED] "
    "timeout=N",
]


UNSEEN = "conntrack-aio: flows have no counters here: net.netfilter.nf_conntrack_acct is 0\n"
"""What ``list`` says with the kernel's defaults, but for events."""
UNSEEN_TIMES = (
    "conntrack-aio: flows and their events have no timestamps here: "
    "net.netfilter.nf_conntrack_timestamp is 0\n"
)
"""And what it says if it is asked for all."""
UNTRACKED = r"conntrack-aio: no flow is tracked here: .* firewall rule .*\n"


@pytest.fixture(autouse=True)
def buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that is written at the end fails at the end."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


def run(lab: Lab, *arguments: str, command: tuple[str, ...] = COMMAND) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    start = partial(subprocess.run, (*command, *arguments), capture_output=True, text=True)
    done = lab.run(partial(start, timeout=PATIENCE, check=False))
    return done.returncode, done.stdout, done.stderr


def do(lab: Lab, action: Callable[[Connection], Awaitable[object]]) -> None:
    """Something with a connection of our own."""

    async def main() -> None:
        async with connect(netns=lab.netns) as conn:
            await action(conn)

    anyio.run(main)


def make(lab: Lab, *flows: Flow) -> None:
    async def action(conn: Connection) -> None:
        for flow in flows:
            await conn.create(flow)

    do(lab, action)


def timeless(line: str) -> str:
    return re.sub(r"timeout=(\d+)", "timeout=N", line)


# list, count


def test_list_is_a_line_for_each_flow(lab: Lab) -> None:
    make(lab, TCP, UDP, PING, ORIG_ZONE, REPLY_ZONE)
    status, out, err = run(lab, "list")
    assert (status, err) == (0, UNSEEN)
    assert sorted(map(timeless, out.splitlines())) == sorted(LINES)


def test_list_in_json_has_the_fields_of_the_classes(lab: Lab) -> None:
    make(lab, TCP, UDP)
    status, out, err = run(lab, "list", "--json")
    assert (status, err) == (0, "")
    flows = {flow["orig"]["proto"]: flow for flow in map(json.loads, out.splitlines())}
    tcp, udp = flows[6], flows[17]
    orig = {"src": "10.0.0.1", "dst": "10.0.0.2", "proto": 6, "sport": 1000, "dport": 80}
    reply = {"src": "10.0.0.2", "dst": "10.0.0.1", "proto": 6, "sport": 80, "dport": 1000}
    assert (tcp["orig"], tcp["reply"], tcp["mark"]) == (orig, reply, 0x50)
    assert (tcp["status"], tcp["protoinfo"]["state"]) == (["CONFIRMED"], "ESTABLISHED")
    assert 580 <= tcp["timeout"] <= 600
    assert udp["orig"]["src"] == "fd00::1"
    assert (udp["zone"], udp["mark"]) == (7, 0)
    assert "protoinfo" not in udp


def test_list_says_why_there_are_no_counters(lab: Lab) -> None:
    make(lab, TCP)
    for name in ("acct", "timestamp"):
        lab.sysctl(f"nf_conntrack_{name}", 1)
    # The flow is older than the settings: it has neither, but not for the reason that would be
    # said.
    assert run(lab, "list")[2] == run(lab, "list", "--verbose")[2] == ""
    make(lab, UDP)
    for name in ("acct", "timestamp"):
        lab.sysctl(f"nf_conntrack_{name}", 0)
    assert run(lab, "list")[2] == UNSEEN
    assert run(lab, "list", "--verbose")[2] == UNSEEN + UNSEEN_TIMES
    assert run(lab, "list", "--json")[2] == ""
    assert run(lab, "list", "--verbose", "--json")[2] == UNSEEN + UNSEEN_TIMES
    do(lab, lambda conn: conn.delete(TCP))
    status, out, err = run(lab, "list")
    assert (status, err) == (0, "")
    assert "bytes" in out


def test_list_says_what_emits_no_events(lab: Lab) -> None:
    make(lab, TCP)
    lab.sysctl("nf_conntrack_events", 2)
    assert run(lab, "list")[2] == (
        "conntrack-aio: flows that were made while nobody listened emit no events here: "
        f"net.netfilter.nf_conntrack_events is 2\n{UNSEEN}"
    )


def test_the_hint_stands_behind_the_list(lab: Lab) -> None:
    """Where both go to one place."""
    make(lab, TCP)
    with Process(lab, *COMMAND, "list", merged=True) as listing:
        assert listing.line().startswith("tcp ")
        assert f"{listing.line()}\n" == UNSEEN


def test_an_empty_table(lab: Lab) -> None:
    status, out, err = run(lab, "list")
    assert (status, out) == (0, "")
    assert re.fullmatch(UNTRACKED, err)
    assert run(lab, "list", "--json") == (0, "", "")
    assert run(lab, "count") == (0, "0\n", "")


def test_an_empty_table_where_connections_are_tracked(lab: Lab) -> None:
    lab.track()
    status, out, err = run(lab, "list")
    assert (status, out) == (0, "")
    assert (
        err
        == "conntrack-aio: the table is empty: connections are tracked here, but there are none\n"
    )
    assert run(lab, "list", "--json") == (0, "", "")
    make(lab, UDP)
    assert run(lab, "list", "proto tcp") == (0, "", "")


@pytest.mark.program("iptables-legacy", "iptables")
def test_an_empty_table_where_it_is_not_known(lab: Lab) -> None:
    lab.program("iptables-legacy", "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "NEW")
    status, out, err = run(lab, "list")
    assert (status, out) == (0, "")
    assert re.fullmatch(r"conntrack-aio: the table is empty: .*iptables rule.*\n", err)
    assert told_at_the_start(lab, something=False) == ""


def test_count(lab: Lab) -> None:
    make(lab, TCP, UDP, PING)
    assert run(lab, "count") == (0, "3\n", "")


def test_those_that_match(lab: Lab) -> None:
    make(lab, TCP, UDP, PING)
    status, out, _ = run(lab, "list", "proto", "tcp", "or", "zone", "7")
    assert status == 0
    assert sorted(line.split()[0] for line in out.splitlines()) == ["tcp", "udp"]
    assert run(lab, "count", "not (proto icmp or mark 0x50)") == (0, "1\n", "")
    assert run(lab, "count", "orig.dport >= 81") == (0, "0\n", "")


def test_what_is_done_where(lab: Lab) -> None:
    status, out, err = run(lab, "explain", "mark", "3", "--program")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "match:   mark 3"
    assert lines[1] == "dump:    the kernel sends only flows that match: mark 3"
    assert lines[-1] == "   8: accept"
    assert run(lab, "explain", "all", "--program")[1].splitlines()[-1] == "no program"
    assert run(lab, "explain") == run(lab, "explain", "all")


def test_another_namespace(lab: Lab) -> None:
    make(lab, TCP, UDP)
    path = f"/proc/{os.getpid()}/fd/{lab.descriptor}"
    done = subprocess.run(
        [*COMMAND, "count", "--netns", path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


# events


def test_events_as_they_happen(lab: Lab) -> None:
    async def live_and_die(conn: Connection) -> None:
        flow = await conn.create(TCP)
        await conn.update(flow, mark=7, status=Status.ASSURED | Status.SEEN_REPLY)
        await conn.delete(flow)

    lab.track()
    with Process(lab, *EVENTS, "--json") as events:
        wait_until(lambda: subscribers(lab, NEW | UPDATE | DESTROY))
        do(lab, live_and_die)
        told = [json.loads(events.line()) for _ in range(3)]
        assert [event["type"] for event in told] == ["new", "update", "destroy"]
        assert [event["flow"].get("mark") for event in told] == [0x50, 7, 7]
        assert len({(event["flow"]["id"], event["port_id"]) for event in told}) == 1
        assert told[0]["flow"]["orig"]["sport"] == 1000
        assert "ASSURED" in told[1]["flow"]["status"]
        assert "DYING" in told[2]["flow"]["status"]
        events.signal(signal.SIGINT)
        assert events.end() == (130, "")


def test_events_of_some_types_in_text(lab: Lab) -> None:
    async def action(conn: Connection) -> None:
        for flow in (PING, TCP):
            await conn.update(await conn.create(flow), mark=1)
            await conn.delete(flow)

    lab.track()
    with Process(lab, *EVENTS, "--type", "destroy") as events:
        wait_until(lambda: subscribers(lab, DESTROY))
        do(lab, action)
        assert re.match(r"DESTROY icmp 10\.0\.0\.1 -> 10\.0\.0\.2 type=8 .* portid=", events.line())
        assert re.match(r"DESTROY tcp ESTABLISHED .* mark=0x1 portid=", events.line())
        events.signal(signal.SIGINT)
        assert events.end() == (130, "")


def test_events_that_match(lab: Lab) -> None:
    lab.track()
    with Process(lab, *EVENTS, "mark 0x50 or zone 7") as events:
        wait_until(lambda: subscribers(lab, NEW | UPDATE | DESTROY))
        make(lab, PING, TCP, UDP)
        assert [events.line().split()[:2] for _ in range(2)] == [["NEW", "tcp"], ["NEW", "udp"]]
        events.signal(signal.SIGINT)
        assert events.end() == (130, "")


def told_at_the_start(lab: Lab, *, something: bool) -> str:
    """What ``events`` says on standard error before the first event."""
    with Process(lab, *EVENTS) as events:
        wait_until(lambda: subscribers(lab, NEW | UPDATE | DESTROY))
        if something:
            wait_until(lambda: waiting_bytes(events.stderr))
        else:
            make(lab, PING)
            assert events.line()
        events.signal(signal.SIGINT)
        status, told = events.end()
    assert status == 130
    return told


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (0, r"conntrack-aio: no event will ever come .*nf_conntrack_events is 0.*\n"),
        (1, ""),
        (2, r"conntrack-aio: .*older.*nf_conntrack_events is not 1.*\n"),
    ],
)
def test_events_says_which_flows_are_silent(lab: Lab, mode: int, words: str) -> None:
    make(lab, TCP)
    lab.sysctl("nf_conntrack_events", mode)
    assert re.fullmatch(words, told_at_the_start(lab, something=bool(words)))


def test_events_says_that_nothing_is_tracked(lab: Lab) -> None:
    told = told_at_the_start(lab, something=True)
    assert re.fullmatch(r"conntrack-aio: no flow is tracked yet here: .*firewall rule.*\n", told)
    lab.track()
    assert told_at_the_start(lab, something=False) == ""


def test_events_of_all_namespaces(lab: Lab) -> None:
    other = new_network_namespace()
    try:
        there = Lab(other)
        there.sysctl("nf_conntrack_events", 1)
        assert lab.run(links.assign_nsid, other, 5) == 5
        lab.track()
        with Process(lab, *EVENTS, "--all-netns", "--json") as events:
            wait_until(lambda: subscribers(lab, NEW | UPDATE | DESTROY))
            make(there, TCP)
            make(lab, UDP)
            told = [json.loads(events.line()) for _ in range(2)]
            assert [event.get("nsid") for event in told] == [5, None]
            events.signal(signal.SIGINT)
            assert events.end()[0] == 130
    finally:
        os.close(other)


def test_events_with_the_time_of_receipt(lab: Lab) -> None:
    lab.track()
    for form in ([], ["--json"]):
        with Process(lab, *EVENTS, "--timestamp", *form) as events:
            wait_until(lambda: subscribers(lab, NEW | UPDATE | DESTROY))
            before = time.time_ns()
            make(lab, TCP)
            line = events.line()
            do(lab, lambda conn: conn.flush())
        if form:
            assert before < json.loads(line)["time_received"] < time.time_ns()
        else:
            assert re.search(r" received=20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$", line)


def test_events_of_a_reliable_stream_with_a_small_buffer(lab: Lab) -> None:
    lab.track()
    make(lab, *(Flow.udp("10.0.0.1", port, "10.0.0.2", 53, timeout=600) for port in range(100)))
    options = ("--reliable", "--type", "destroy", "--receive-buffer", "4K")
    with Process(lab, *EVENTS, *options) as events:
        wait_until(lambda: subscribers(lab, DESTROY))
        do(lab, lambda conn: conn.flush())
        ports = {re.findall(r"10\.0\.0\.1:(\d+) ->", events.line())[0] for _ in range(100)}
        assert len(ports) == 100
        events.signal(signal.SIGINT)
        assert events.end() == (130, "")


@pytest.mark.parametrize("form", [[], ["--json"], ["--json", "--timestamp"]])
def test_events_says_what_was_lost_and_goes_on(lab: Lab, form: list[str]) -> None:
    def storm() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for port in range(1024, 24024):  # what its buffer holds, as root, and more
                sender.sendto(b"", ("127.0.0.1", port))

    lab.track()
    with Process(lab, *EVENTS, "--type", "new", *form, merged=True) as events:
        wait_until(lambda: subscribers(lab, NEW))
        events.pause()
        lab.run(storm)
        events.signal(signal.SIGCONT)
        before = ""
        while not (line := events.line()).startswith("conntrack-aio: "):
            assert line.startswith('{"type": "new"' if form else "NEW ") or '"lost"' in line
            before = line
        if form:
            loss = json.loads(before)
            assert f" {loss['lost']} events were lost" in line
            assert ("time_received" in loss) is ("--timestamp" in form)
        assert re.match(r"conntrack-aio: [1-9]\d* events were lost here", line)
        make(lab, TCP)
        wanted = '"src": "10.0.0.1", "dst"' if form else " 10.0.0.1:1000 "
        while wanted not in events.line():
            pass


# How it ends


def test_a_shortage_of_descriptors_is_said_once(lab: Lab) -> None:
    """Whichever is the one too many: also where the event loop can't be opened."""
    endings: list[str] = []
    for limit in range(5, 12):
        command = ("sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *COMMAND)
        status, _, errors = run(lab, "list", command=command)
        if status == 0:
            break
        endings.append(errors)
    assert any("socket(AF_NETLINK): Too many open files" in errors for errors in endings)
    for errors in endings:
        assert re.fullmatch(r"conntrack-aio: .*Too many open files.*\n", errors)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_reader_of_a_long_list_may_stop(lab: Lab, form: list[str]) -> None:
    # More than a pipe holds.
    make(lab, *(Flow.udp("10.0.0.1", port, "10.0.0.2", 53, timeout=600) for port in range(2000)))
    with Process(lab, *COMMAND, "list", *form) as listing:
        assert "10.0.0.1" in listing.line()
        listing.stop_reading()
        assert listing.end() == (0, "")


def test_a_reader_of_events_may_stop(lab: Lab) -> None:
    lab.track()
    with Process(lab, *EVENTS) as events:
        wait_until(lambda: subscribers(lab, NEW | UPDATE | DESTROY))
        make(lab, TCP)
        assert events.line().startswith("NEW ")
        events.stop_reading()
        make(lab, UDP)
        assert events.end() == (0, "")


@pytest.mark.parametrize("command", ["list", "count"])
def test_a_reader_may_be_gone_from_the_start(lab: Lab, command: str) -> None:
    make(lab, TCP)
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as output:
        start = partial(subprocess.run, (*COMMAND, command), stdout=output, stderr=subprocess.PIPE)
        done = lab.run(partial(start, timeout=PATIENCE, check=False))
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("command", ["list", "count"])
def test_a_full_disk_is_a_failure(lab: Lab, command: str) -> None:
    make(lab, TCP)
    with Path("/dev/full").open("wb") as output:
        start = partial(subprocess.run, (*COMMAND, command), stdout=output, stderr=subprocess.PIPE)
        done = lab.run(partial(start, timeout=PATIENCE, check=False))
    assert done.returncode == 1
    assert done.stderr == b"conntrack-aio: standard output: No space left on device\n"


@pytest.mark.parametrize("command", ["list", "count", "events"])
@pytest.mark.parametrize(
    ("netns", "words"),
    [
        ("no-such-thing", "'no-such-thing': .* There is no such namespace"),
        ("/no/such/thing", "'/no/such/thing': .* There is no such namespace"),
        ("/dev/null", "It is not a network namespace"),
    ],
)
def test_a_namespace_that_is_none(lab: Lab, command: str, netns: str, words: str) -> None:
    status, out, err = run(lab, command, "--netns", netns)
    assert (status, out) == (1, "")
    assert re.fullmatch(rf"conntrack-aio: .*{words}\n", err)


UNPRIVILEGED = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_NET_ADMIN = 24, 12
assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_NET_ADMIN, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("command", ["list", "count", "events"])
def test_without_the_capability_it_says_so(lab: Lab, command: str) -> None:
    as_no_admin = (sys.executable, "-c", UNPRIVILEGED, *COMMAND)
    status, out, err = run(lab, command, command=as_no_admin)
    assert (status, out) == (1, "")
    assert re.fullmatch(r"conntrack-aio: .*\(EPERM\)\. This needs CAP_NET_ADMIN .*\n", err)


def test_bad_arguments(lab: Lab) -> None:
    status, out, err = run(lab, "nonsense")
    assert (status, out) == (2, "")
    assert err.startswith("usage: conntrack-aio ")
