"""The first thing that uses connection tracking on a machine, with no module of it loaded before.

Run in a guest of ``tests/kernels``: the modules are unloaded before each test.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.firsts import READ_ONLY, WRITABLE
from support.lab import Lab
from support.processes import Process, subscribers, wait_until

ROOT = Path(__file__).parents[2]

NOBODY = 65534
PATIENCE = 300.0
"""Seconds that a process may take: a guest is slow."""

_OURS = re.compile(r"(nf_|nft_|nfnetlink|xt_|ip6?_tables|ip6?table_|libcrc32c)")

_UNSHARED = """
from conntrack_aio.netlink.namespaces import unshare
from conntrack_aio.uapi.sched import CLONE_NEWNET
unshare(CLONE_NEWNET)
"""

_SANDBOX = """
from conntrack_aio.sandbox.namespace import enter_sandbox
enter_sandbox()
"""

_CONTAINER = (
    _UNSHARED
    + """
import subprocess
unshare(0x20000)  # CLONE_NEWNS
for command in (
    "mount --make-rprivate /",
    "mount --bind /proc/sys /proc/sys",
    "mount -o remount,ro,bind /proc/sys",
    "mount -t tmpfs none /sys",
):
    subprocess.run(command.split(), check=True)
"""
)

WHO: dict[str, tuple[str, int, dict[str, str]]] = {
    "root": ("", 0, WRITABLE),
    "root in a namespace": (_UNSHARED, 0, WRITABLE),
    "a user in a user namespace": (_SANDBOX, NOBODY, WRITABLE),
    "a container": (_CONTAINER, 0, READ_ONLY),
}


def modules() -> dict[str, int]:
    """The loaded modules of netfilter, and how many use each."""
    lines = [line.split() for line in Path("/proc/modules").read_text().splitlines()]
    return {name: int(users) for name, _, users, *_ in lines if _OURS.match(name)}


def unload() -> None:
    """Unload all of them, whatever depends on what."""
    subprocess.run(["nft", "flush", "ruleset"], check=False, capture_output=True)

    def gone() -> bool:
        loaded = modules()
        free = [name for name, users in loaded.items() if users == 0]
        if free:
            subprocess.run(["rmmod", *free], check=False, capture_output=True)
        return not modules()

    wait_until(gone)
    assert not Path("/proc/sys/net/netfilter/nf_conntrack_count").exists()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    unload()


def run(*arguments: str, user: int = 0) -> subprocess.CompletedProcess[str]:
    """Run Python, with the package and the tests in its path."""
    return subprocess.run(
        [sys.executable, *arguments],
        user=user,
        env=os.environ | {"PYTHONPATH": f"{ROOT}/tests:{os.environ['PYTHONPATH']}"},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize(
    ("who", "first"), [(who, first) for who, (_, _, programs) in WHO.items() for first in programs]
)
def test_the_first_thing_that_is_done(who: str, first: str) -> None:
    before, user, programs = WHO[who]
    done = run("-c", before + programs[first], user=user)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("user", [0, NOBODY])
def test_the_demo(user: int) -> None:
    done = run("-m", "conntrack_aio", "demo", user=user)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"6 NEW, \d+ UPDATE, 6 DESTROY\), 0 lost", done.stdout)


@pytest.mark.parametrize("command", [["list"], ["count"], ["explain", "mark", "5"]])
def test_a_command(command: list[str]) -> None:
    done = run("-m", "conntrack_aio", *command)
    assert done.returncode == 0
    assert done.stdout or command == ["list"]
    assert re.fullmatch(r"(conntrack-aio: no flow is tracked here: .*\n)?", done.stderr)


def test_events_by_the_command(here: Lab) -> None:
    with Process(here, sys.executable, "-m", "conntrack_aio", "events") as process:
        wait_until(lambda: subscribers(here, 7))
        process.signal(signal.SIGINT)
        process.end()


@pytest.fixture
def here() -> Iterator[Lab]:
    """The guest's own namespace."""
    descriptor = os.open("/proc/self/ns/net", os.O_RDONLY)
    yield Lab(descriptor)
    os.close(descriptor)


LISTENING = {"first.py": 7, "trio_application.py": 4}
TELLING = {"asyncio_server.py": "listening on ", "live_table.py": "0 connections, "}


@pytest.mark.parametrize("example", LISTENING | TELLING)
def test_an_example(here: Lab, example: str) -> None:
    with Process(here, sys.executable, "-u", str(ROOT / "examples" / example)) as process:
        if example in TELLING:
            assert process.line().startswith(TELLING[example])
        else:
            wait_until(lambda: subscribers(here, LISTENING[example]))
        process.signal(signal.SIGINT)
        _, told = process.end()
        if example != "first.py":
            assert told == ""
