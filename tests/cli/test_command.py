"""Test the subcommands as processes, in a network namespace."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import attrs
import pytest
from support import links
from support.command import COMMAND, create, do, run_process
from support.lab import Lab
from support.namespaces import new_network_namespace
from support.processes import (
    DESTROY,
    NEW,
    TIMEOUT,
    UPDATE,
    Process,
    count_subscribers,
    unread_bytes,
    wait_until,
)

from conntrack_aio import Connection, Flow, Status, Tuple
from conntrack_aio.model.settings import TRACKING_RULES, ConntrackSysctls, EventMode

pytestmark = pytest.mark.kernel

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


def hint(settings: ConntrackSysctls) -> str:
    """Return the report about a setting, which every subcommand makes in the same words."""
    (spot,) = settings.blind_spots()
    return f"conntrack-aio: {spot}\n"


NO_COUNTERS = hint(ConntrackSysctls(acct=False))
NO_TIMESTAMPS = hint(ConntrackSysctls(timestamp=False))
NO_EVENTS = hint(ConntrackSysctls(events=EventMode.OFF))
NO_EVENTS_OF_SOME = hint(ConntrackSysctls(events=EventMode.AUTO))
NOT_TRACKED = (
    "conntrack-aio: no flow is tracked here: no firewall rule needs connection tracking; "
    f"{TRACKING_RULES}\n"
)


@pytest.fixture(autouse=True)
def buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python buffer standard output, so that write errors occur at exit."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


def without_timeout(line: str) -> str:
    """Return a line with its timeout replaced by ``N``."""
    return re.sub(r"timeout=(\d+)", "timeout=N", line)


# list, count


def test_list_prints_a_line_for_each_flow(lab: Lab) -> None:
    create(lab, TCP, UDP, PING, ORIG_ZONE, REPLY_ZONE)
    status, out, err = run_process(lab, "list")
    assert (status, err) == (0, "")
    assert sorted(map(without_timeout, out.splitlines())) == sorted(LINES)


def test_list_prints_json_with_the_fields_of_the_classes(lab: Lab) -> None:
    create(lab, TCP, UDP)
    status, out, err = run_process(lab, "list", "--json")
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


def test_list_reports_why_there_are_no_counters(lab: Lab) -> None:
    create(lab, TCP)
    for name in ("acct", "timestamp"):
        lab.sysctl(f"nf_conntrack_{name}", 1)
    # The flow was created before the settings were changed. It has neither counters nor timestamps,
    # but the current settings are not the reason.
    assert run_process(lab, "list")[2] == run_process(lab, "list", "--verbose")[2] == ""
    create(lab, UDP)
    for name in ("acct", "timestamp"):
        lab.sysctl(f"nf_conntrack_{name}", 0)
    assert run_process(lab, "list")[2] == ""
    assert run_process(lab, "list", "--sort", "bytes")[2] == NO_COUNTERS
    assert run_process(lab, "list", "--verbose")[2] == NO_COUNTERS + NO_TIMESTAMPS
    assert run_process(lab, "list", "--json")[2] == ""
    assert run_process(lab, "list", "--verbose", "--json")[2] == NO_COUNTERS + NO_TIMESTAMPS
    do(lab, lambda conn: conn.delete(TCP))
    status, out, err = run_process(lab, "list", "--sort", "bytes")
    assert (status, err) == (0, "")
    assert "bytes" in out


@pytest.mark.parametrize(("mode", "report"), [(0, NO_EVENTS), (2, NO_EVENTS_OF_SOME)])
def test_list_reports_which_flows_emit_no_events_only_on_request(
    lab: Lab, mode: int, report: str
) -> None:
    create(lab, TCP)
    lab.sysctl("nf_conntrack_events", mode)
    assert run_process(lab, "list")[2] == ""
    assert run_process(lab, "list", "--verbose")[2].startswith(report)


def test_list_prints_the_flows_before_the_report(lab: Lab) -> None:
    """The order is visible where standard output and standard error are one pipe."""
    create(lab, TCP)
    with Process(lab, *COMMAND, "list", "--sort", "bytes", merged=True) as listing:
        assert listing.line().startswith("tcp ")
        assert f"{listing.line()}\n" == NO_COUNTERS


def test_list_and_count_report_that_no_flow_is_tracked(lab: Lab) -> None:
    assert "firewall rule" in NOT_TRACKED
    assert run_process(lab, "list") == (0, "", NOT_TRACKED)
    assert run_process(lab, "list", "--json") == (0, "", "")
    assert run_process(lab, "count") == (0, "0\n", NOT_TRACKED)
    assert run_process(lab, "count", "proto tcp") == (0, "0\n", NOT_TRACKED)


def test_count_prints_its_number_before_the_report(lab: Lab) -> None:
    with Process(lab, *COMMAND, "count", merged=True) as count:
        assert count.line() == "0"
        assert f"{count.line()}\n" == NOT_TRACKED


def test_list_reports_that_the_table_is_empty_though_connections_are_tracked(lab: Lab) -> None:
    lab.track()
    status, out, err = run_process(lab, "list")
    assert (status, out) == (0, "")
    assert (
        err
        == "conntrack-aio: the table is empty: connections are tracked here, but there are none\n"
    )
    assert run_process(lab, "list", "--json") == (0, "", "")
    assert run_process(lab, "count") == (0, "0\n", "")
    create(lab, UDP)
    assert run_process(lab, "list", "proto tcp") == (0, "", "")


@pytest.mark.program("iptables-legacy", "iptables")
def test_list_and_count_report_that_iptables_rules_cannot_be_listed(lab: Lab) -> None:
    lab.program("iptables-legacy", "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "NEW")
    status, out, err = run_process(lab, "list")
    assert (status, out) == (0, "")
    assert re.fullmatch(r"conntrack-aio: the table is empty: .*iptables rule.*\n", err)
    assert run_process(lab, "count") == (0, "0\n", err)
    assert report_at_start(lab, expected=False) == ""


def test_count_prints_the_number_of_flows(lab: Lab) -> None:
    create(lab, TCP, UDP, PING)
    assert run_process(lab, "count") == (0, "3\n", "")


def test_list_and_count_select_flows_by_a_match(lab: Lab) -> None:
    create(lab, TCP, UDP, PING)
    status, out, _ = run_process(lab, "list", "proto", "tcp", "or", "zone", "7")
    assert status == 0
    assert sorted(line.split()[0] for line in out.splitlines()) == ["tcp", "udp"]
    assert run_process(lab, "count", "not (proto icmp or mark 0x50)") == (0, "1\n", "")
    assert run_process(lab, "count", "orig.dport >= 81") == (0, "0\n", "")


def test_explain_prints_where_a_match_is_evaluated(lab: Lab) -> None:
    status, out, err = run_process(lab, "explain", "mark", "3", "--program")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "match:   mark 3"
    assert lines[1] == "dump:    the kernel sends only flows that match: mark 3"
    assert lines[-1] == "   8: accept"
    assert (
        run_process(lab, "explain", "all", "--program")[1].splitlines()[-1]
        == "no program filters the events"
    )
    assert run_process(lab, "explain") == run_process(lab, "explain", "all")


def test_count_in_another_namespace(lab: Lab) -> None:
    create(lab, TCP, UDP)
    path = f"/proc/{os.getpid()}/fd/{lab.descriptor}"
    done = subprocess.run(
        [*COMMAND, "count", "--netns", path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


# events


def test_events_are_printed_as_they_occur(lab: Lab) -> None:
    async def create_update_delete(conn: Connection) -> None:
        flow = await conn.create(TCP)
        await conn.update(flow, mark=7, status=Status.ASSURED | Status.SEEN_REPLY)
        await conn.delete(flow)

    lab.track()
    with Process(lab, *EVENTS, "--json") as events:
        wait_until(lambda: count_subscribers(lab, NEW | UPDATE | DESTROY))
        do(lab, create_update_delete)
        printed = [json.loads(events.line()) for _ in range(3)]
        assert [event["type"] for event in printed] == ["new", "update", "destroy"]
        assert [event["flow"].get("mark") for event in printed] == [0x50, 7, 7]
        assert len({(event["flow"]["id"], event["port_id"]) for event in printed}) == 1
        assert printed[0]["flow"]["orig"]["sport"] == 1000
        assert "ASSURED" in printed[1]["flow"]["status"]
        assert "DYING" in printed[2]["flow"]["status"]
        events.signal(signal.SIGINT)
        assert events.wait() == (130, "")


def test_events_are_selected_by_type(lab: Lab) -> None:
    async def action(conn: Connection) -> None:
        for flow in (PING, TCP):
            await conn.update(await conn.create(flow), mark=1)
            await conn.delete(flow)

    lab.track()
    with Process(lab, *EVENTS, "--type", "destroy") as events:
        wait_until(lambda: count_subscribers(lab, DESTROY))
        do(lab, action)
        assert re.match(r"DESTROY icmp 10\.0\.0\.1 -> 10\.0\.0\.2 type=8 .* portid=", events.line())
        assert re.match(r"DESTROY tcp ESTABLISHED .* mark=0x1 portid=", events.line())
        events.signal(signal.SIGINT)
        assert events.wait() == (130, "")


def test_events_are_selected_by_a_match(lab: Lab) -> None:
    lab.track()
    with Process(lab, *EVENTS, "mark 0x50 or zone 7") as events:
        wait_until(lambda: count_subscribers(lab, NEW | UPDATE | DESTROY))
        create(lab, PING, TCP, UDP)
        assert [events.line().split()[:2] for _ in range(2)] == [["NEW", "tcp"], ["NEW", "udp"]]
        events.signal(signal.SIGINT)
        assert events.wait() == (130, "")


def report_at_start(lab: Lab, *, expected: bool) -> str:
    """Return what ``events`` reports on standard error before the first event.

    :param expected: whether to wait for a report. Otherwise the command runs until an event.
    """
    with Process(lab, *EVENTS) as events:
        wait_until(lambda: count_subscribers(lab, NEW | UPDATE | DESTROY))
        if expected:
            wait_until(lambda: unread_bytes(events.stderr))
        else:
            create(lab, PING)
            assert events.line()
        events.signal(signal.SIGINT)
        status, report = events.wait()
    assert status == 130
    return report


@pytest.mark.parametrize(
    ("mode", "report"),
    [(0, NO_EVENTS), (1, ""), (2, NO_EVENTS_OF_SOME)],
)
def test_events_reports_which_flows_emit_no_events(lab: Lab, mode: int, report: str) -> None:
    create(lab, TCP)
    lab.sysctl("nf_conntrack_events", mode)
    assert report_at_start(lab, expected=bool(report)) == report


def test_events_reports_that_no_flow_is_tracked(lab: Lab) -> None:
    assert report_at_start(lab, expected=True) == NOT_TRACKED
    lab.track()
    assert report_at_start(lab, expected=False) == ""


def test_events_of_all_namespaces_have_the_id_of_their_namespace(lab: Lab) -> None:
    other = new_network_namespace()
    try:
        other_lab = Lab(other)
        other_lab.sysctl("nf_conntrack_events", 1)
        assert lab.run(links.assign_nsid, other, 5) == 5
        lab.track()
        with Process(lab, *EVENTS, "--all-netns", "--json") as events:
            wait_until(lambda: count_subscribers(lab, NEW | UPDATE | DESTROY))
            create(other_lab, TCP)
            create(lab, UDP)
            printed = [json.loads(events.line()) for _ in range(2)]
            assert [event.get("nsid") for event in printed] == [5, None]
            events.signal(signal.SIGINT)
            assert events.wait()[0] == 130
    finally:
        os.close(other)


def test_events_have_the_time_of_receipt(lab: Lab) -> None:
    lab.track()
    for form in ([], ["--json"]):
        with Process(lab, *EVENTS, "--receive-time", *form) as events:
            wait_until(lambda: count_subscribers(lab, NEW | UPDATE | DESTROY))
            before = time.time_ns()
            create(lab, TCP)
            line = events.line()
            do(lab, lambda conn: conn.flush())
        if form:
            assert before < json.loads(line)["receive_timestamp"] < time.time_ns()
        else:
            assert re.search(r" received=20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$", line)


def test_a_reliable_stream_with_a_small_buffer_loses_no_destroy_event(lab: Lab) -> None:
    lab.track()
    create(lab, *(Flow.udp("10.0.0.1", port, "10.0.0.2", 53, timeout=600) for port in range(100)))
    options = ("--reliable", "--type", "destroy", "--receive-buffer", "4K")
    with Process(lab, *EVENTS, *options) as events:
        wait_until(lambda: count_subscribers(lab, DESTROY))
        do(lab, lambda conn: conn.flush())
        ports = {re.findall(r"10\.0\.0\.1:(\d+) ->", events.line())[0] for _ in range(100)}
        assert len(ports) == 100
        events.signal(signal.SIGINT)
        assert events.wait() == (130, "")


@pytest.mark.parametrize("form", [[], ["--json"], ["--json", "--receive-time"]])
def test_events_reports_lost_events_and_continues(lab: Lab, form: list[str]) -> None:
    def storm() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for port in range(1024, 24024):  # more than fit into the receive buffer, as root too
                sender.sendto(b"", ("127.0.0.1", port))

    lab.track()
    with Process(lab, *EVENTS, "--type", "new", *form, merged=True) as events:
        wait_until(lambda: count_subscribers(lab, NEW))
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
            assert ("receive_timestamp" in loss) is ("--receive-time" in form)
        assert re.match(r"conntrack-aio: [1-9]\d* events were lost here", line)
        create(lab, TCP)
        new_flow = '"src": "10.0.0.1", "dst"' if form else " 10.0.0.1:1000 "
        while new_flow not in events.line():
            pass


# How the command ends


def test_a_shortage_of_descriptors_is_reported_once(lab: Lab) -> None:
    """The limit fails at each of the descriptors in turn, including those of the event loop."""
    reports: list[str] = []
    for limit in range(5, 12):
        command = ("sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *COMMAND)
        status, _, errors = run_process(lab, "list", command=command)
        if status == 0:
            break
        reports.append(errors)
    assert any("socket(AF_NETLINK): Too many open files" in errors for errors in reports)
    for errors in reports:
        assert re.fullmatch(r"conntrack-aio: .*Too many open files.*\n", errors)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_list_ends_when_its_reader_closes_the_pipe(lab: Lab, form: list[str]) -> None:
    # The list is longer than the capacity of a pipe.
    create(lab, *(Flow.udp("10.0.0.1", port, "10.0.0.2", 53, timeout=600) for port in range(2000)))
    with Process(lab, *COMMAND, "list", *form) as listing:
        assert "10.0.0.1" in listing.line()
        listing.stop_reading()
        assert listing.wait() == (0, "")


def test_events_ends_when_its_reader_closes_the_pipe(lab: Lab) -> None:
    lab.track()
    with Process(lab, *EVENTS) as events:
        wait_until(lambda: count_subscribers(lab, NEW | UPDATE | DESTROY))
        create(lab, TCP)
        assert events.line().startswith("NEW ")
        events.stop_reading()
        create(lab, UDP)
        assert events.wait() == (0, "")


@pytest.mark.parametrize("command", ["list", "count"])
def test_a_pipe_that_is_closed_from_the_start_is_no_failure(lab: Lab, command: str) -> None:
    create(lab, TCP)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as output:
        start = partial(subprocess.run, (*COMMAND, command), stdout=output, stderr=subprocess.PIPE)
        done = lab.run(partial(start, timeout=TIMEOUT, check=False))
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("command", ["list", "count"])
def test_standard_output_on_a_full_disk_is_a_failure(lab: Lab, command: str) -> None:
    create(lab, TCP)
    with Path("/dev/full").open("wb") as output:
        start = partial(subprocess.run, (*COMMAND, command), stdout=output, stderr=subprocess.PIPE)
        done = lab.run(partial(start, timeout=TIMEOUT, check=False))
    assert done.returncode == 1
    assert done.stderr == b"conntrack-aio: standard output: No space left on device\n"


@pytest.mark.parametrize("command", ["list", "count", "events"])
@pytest.mark.parametrize(
    ("netns", "message"),
    [
        ("no-such-thing", "'no-such-thing': .* There is no such namespace"),
        ("/no/such/thing", "'/no/such/thing': .* There is no such namespace"),
        ("/dev/null", "It is not a network namespace"),
    ],
)
def test_a_namespace_that_does_not_exist_is_a_failure(
    lab: Lab, command: str, netns: str, message: str
) -> None:
    status, out, err = run_process(lab, command, "--netns", netns)
    assert (status, out) == (1, "")
    assert re.fullmatch(rf"conntrack-aio: .*{message}\n", err)


UNPRIVILEGED = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_NET_ADMIN = 24, 12
assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_NET_ADMIN, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("command", ["list", "count", "events"])
def test_without_the_capability_the_error_names_it(lab: Lab, command: str) -> None:
    without_net_admin = (sys.executable, "-c", UNPRIVILEGED, *COMMAND)
    status, out, err = run_process(lab, command, command=without_net_admin)
    assert (status, out) == (1, "")
    assert re.fullmatch(r"conntrack-aio: .*\(EPERM\)\. This needs CAP_NET_ADMIN .*\n", err)


def test_invalid_arguments_have_status_2(lab: Lab) -> None:
    status, out, err = run_process(lab, "nonsense")
    assert (status, out) == (2, "")
    assert err.startswith("usage: conntrack-aio ")
