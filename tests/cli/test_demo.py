"""The demo: for whoever runs it, with what this machine allows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from itertools import product

import pytest
from support.lab import Lab
from support.processes import PATIENCE, Process

pytestmark = pytest.mark.kernel

DEMO = (sys.executable, "-W", "error::ResourceWarning", "-m", "conntrack_aio", "demo")
KINDS = ("NEW", "UPDATE", "DESTROY")
CONNECTIONS = [
    ("tcp", "127.0.0.1"),
    ("udp", "127.0.0.1"),
    ("icmp", "127.0.0.1"),
    ("tcp", "::1"),
    ("udp", "::1"),
    ("icmpv6", "::1"),
]
EVENT = re.compile(r"(NEW|UPDATE|DESTROY) +(\w+) (?:[A-Z_0-9]+ )?\[?(127\.0\.0\.1|::1)")

# Nobody may not be able to reach this Python; so it is all imported before. Who gives up root is
# not dumpable, and his /proc/self not his, until he says so. Root of a user namespace has nobody
# else in it, but then is not really root.
NOBODY = """
import codecs, os, sys
import anyio._backends._asyncio, anyio._core._eventloop, conntrack_aio.netlink.recvmmsg, ctypes
from conntrack_aio.cli import demo
codecs.lookup("ascii")
if int(open("/proc/self/uid_map").read().split()[2]) > 65534:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    PR_SET_DUMPABLE = 4
    assert ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0
sys.exit(demo.main())
"""

# In a user namespace of its own the limit can be set, for someone else than root, whose
# capabilities the next program does not get.
FORBIDDEN = """
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
    """Output that is written at the end fails at the end."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


def run(*command: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.returncode, done.stdout, done.stderr


def check_text(out: str) -> None:
    """That every connection began, changed and ended, and that the sum is right."""
    introduction, events, summary = out.split("\n\n")
    assert "network namespace of its own" in introduction
    told = [EVENT.match(line) for line in events.splitlines()]
    assert all(told)
    seen = [found.groups() for found in told if found]
    assert set(seen) == {(kind, *connection) for kind, connection in product(KINDS, CONNECTIONS)}
    counts = Counter(kind for kind, *_ in seen)
    assert counts["NEW"] == counts["DESTROY"] == 6
    assert summary == (
        f"{len(seen)} events (6 NEW, {counts['UPDATE']} UPDATE, 6 DESTROY), 0 lost, "
        "of 6 flows (1 icmp, 2 tcp, 2 udp, 1 icmpv6).\n"
    )


def test_the_demo() -> None:
    status, out, err = run(*DEMO)
    assert (status, err) == (0, "")
    check_text(out)


def test_the_demo_needs_no_root() -> None:
    status, out, err = run(sys.executable, "-c", NOBODY)
    assert (status, err) == (0, "")
    check_text(out)


def test_the_demo_in_json() -> None:
    status, out, err = run(*DEMO, "--json")
    assert (status, err) == (0, "")
    events = [json.loads(line) for line in out.splitlines()]
    told = {(event["type"], event["flow"]["orig"]["proto"]) for event in events}
    assert told == set(product(("new", "update", "destroy"), (1, 6, 17, 58)))
    ended = [event["flow"] for event in events if event["type"] == "destroy"]
    assert len(ended) == 6
    for flow in ended:
        assert flow["counters_orig"]["packets"] >= 1
        assert flow["timestamp"]["stop"] >= flow["timestamp"]["start"] > 0


def test_where_user_namespaces_are_switched_off_it_says_what_to_do() -> None:
    status, out, err = run(sys.executable, "-c", FORBIDDEN, *DEMO)
    assert (status, out) == (1, "")
    assert re.fullmatch(r"conntrack-aio: .*`sysctl user\.max_user_namespaces=10000`\n", err)


def test_its_reader_may_stop(lab: Lab) -> None:
    with Process(lab, *DEMO) as demo:
        assert demo.line()
        demo.stop_reading()
        assert demo.end() == (0, "")


def test_the_outside_sees_nothing_of_it(lab: Lab) -> None:
    lab.track()
    assert lab.run(run, *DEMO)[0] == 0
    assert lab.read_sysctl("nf_conntrack_count") == "0"
