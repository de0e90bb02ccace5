"""Test the demo as root, as an unprivileged user, and without user namespaces."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from itertools import product

import pytest
from support.lab import Lab
from support.processes import TIMEOUT, Process

pytestmark = pytest.mark.kernel

DEMO = (sys.executable, "-W", "error::ResourceWarning", "-m", "conntrack_aio", "demo")
TYPES = ("NEW", "UPDATE", "DESTROY")
CONNECTIONS = [
    ("tcp", "127.0.0.1"),
    ("udp", "127.0.0.1"),
    ("icmp", "127.0.0.1"),
    ("tcp", "::1"),
    ("udp", "::1"),
    ("icmpv6", "::1"),
]
EVENT = re.compile(r"(NEW|UPDATE|DESTROY) +(\w+) (?:[A-Z_0-9]+ )?\[?(127\.0\.0\.1|::1)")

# Run the demo as the user nobody. This user may have no access to the files of this Python, so all
# modules are imported before. A process that gives up root becomes non-dumpable: root owns its
# /proc/self until PR_SET_DUMPABLE is set again. In a user namespace that maps only one user there
# is no other user to change to, but its root has no privileges outside anyway.
AS_NOBODY = """
import codecs, os, sys
import anyio._backends._asyncio, anyio._core._eventloop, conntrack_aio.netlink.recvmmsg, ctypes
import conntrack_aio.eventloop.asyncio_loop
from conntrack_aio.connecting import import_for_event_loop
from conntrack_aio.cli import demonstration
codecs.lookup("ascii")
import_for_event_loop()
if int(open("/proc/self/uid_map").read().split()[2]) > 65534:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    PR_SET_DUMPABLE = 4
    assert ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0
sys.exit(demonstration.main())
"""

# Run a program in a new user namespace that allows no further user namespaces. The user is mapped
# to another number than 0, so that the program does not get root's capabilities on execv().
WITHOUT_USER_NAMESPACES = """
import os, sys
from conntrack_aio.netlink.namespaces import unshare
from conntrack_aio.proc_sys import set_sysctl
from conntrack_aio.uapi.sched import CLONE_NEWUSER
uid, gid = os.geteuid(), os.getegid()
unshare(CLONE_NEWUSER)
for name, line in ("setgroups", "deny"), ("uid_map", f"7 {uid} 1"), ("gid_map", f"7 {gid} 1"):
    with open(f"/proc/self/{name}", "w") as file:
        file.write(line)
set_sysctl("user.max_user_namespaces", 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture(autouse=True)
def buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python buffer standard output, so that write errors occur at exit."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


def run(*command: str) -> tuple[int, str, str]:
    """Run a command, and return its exit status, standard output and standard error."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    return done.returncode, done.stdout, done.stderr


def check_text(out: str) -> None:
    """Check that every connection has all types of events, and that the summary is correct."""
    introduction, events, summary = out.split("\n\n")
    assert "network namespace of its own" in introduction
    matches = [EVENT.match(line) for line in events.splitlines()]
    assert all(matches)
    parsed = [match.groups() for match in matches if match]
    assert set(parsed) == {(type, *connection) for type, connection in product(TYPES, CONNECTIONS)}
    counts = Counter(type for type, *_ in parsed)
    assert counts["NEW"] == counts["DESTROY"] == 6
    assert summary == (
        f"{len(parsed)} events (6 NEW, {counts['UPDATE']} UPDATE, 6 DESTROY), 0 lost, "
        "of 6 flows (1 icmp, 2 tcp, 2 udp, 1 icmpv6).\n"
    )


def test_the_demo_prints_events_and_a_summary() -> None:
    status, out, err = run(*DEMO)
    assert (status, err) == (0, "")
    check_text(out)


def test_the_demo_runs_without_root() -> None:
    status, out, err = run(sys.executable, "-c", AS_NOBODY)
    assert (status, err) == (0, "")
    check_text(out)


def test_the_demo_prints_events_as_json() -> None:
    status, out, err = run(*DEMO, "--json")
    assert (status, err) == (0, "")
    events = [json.loads(line) for line in out.splitlines()]
    types = {(event["type"], event["flow"]["orig"]["proto"]) for event in events}
    assert types == set(product(("new", "update", "destroy"), (1, 6, 17, 58)))
    destroyed = [event["flow"] for event in events if event["type"] == "destroy"]
    assert len(destroyed) == 6
    for flow in destroyed:
        assert flow["counters_orig"]["packets"] >= 1
        assert flow["timestamp"]["stop"] >= flow["timestamp"]["start"] > 0


def test_without_user_namespaces_the_error_says_how_to_enable_them() -> None:
    status, out, err = run(sys.executable, "-c", WITHOUT_USER_NAMESPACES, *DEMO)
    assert (status, out) == (1, "")
    assert re.fullmatch(r"conntrack-aio: .*`sysctl user\.max_user_namespaces=10000`\n", err)


def test_the_demo_ends_when_its_reader_closes_the_pipe(lab: Lab) -> None:
    with Process(lab, *DEMO) as demo:
        assert demo.line()
        demo.stop_reading()
        assert demo.wait() == (0, "")


def test_the_demo_creates_no_entries_in_the_current_namespace(lab: Lab) -> None:
    lab.track()
    assert lab.run(run, *DEMO)[0] == 0
    assert lab.read_sysctl("nf_conntrack_count") == "0"
