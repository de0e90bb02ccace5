"""The first thing that uses connection tracking on a machine, with no module of it loaded before.

Run in a guest of ``tests/kernels``: the modules are unloaded before each test.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import anyio
import pytest
from support import flows
from support.first_use_programs import READ_ONLY, WRITABLE
from support.lab import Lab
from support.processes import DESTROY, NEW, UPDATE, Process, count_subscribers, wait_until

from conntrack_aio import connect

ROOT = Path(__file__).parents[2]

NOBODY = 65534
PATIENCE = 300.0
"""Seconds that a process may take: a guest is slow."""

_PR_SET_DUMPABLE = 4

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
    """Run Python, with the package in its path."""
    return subprocess.run(
        [sys.executable, *arguments],
        user=user,
        group=user,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def run_forked(program: str, user: int) -> tuple[int, str]:
    """Run a program in a copy of this process, which has imported what takes a guest seconds.

    Returns its exit status, and what it wrote.
    """
    with tempfile.TemporaryFile() as output:
        pid = os.fork()
        if pid == 0:
            _run_as(program, user, output.fileno())
        _, status = os.waitpid(pid, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read().decode()


def _run_as(program: str, user: int, output: int) -> NoReturn:
    status = 1
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout = sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        os.setgid(user)
        os.setuid(user)
        # Else /proc/self would be root's, where a user namespace's map is written.
        assert ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0) == 0
        signal.alarm(int(PATIENCE))
        exec(compile(program, "<first>", "exec"), {"__name__": "__main__"})
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


SMOKE = ("conn.sysctls.read", "conn.sysctls.set", "a setting is read", "a stream", "a table")


@pytest.mark.parametrize(
    ("who", "first"),
    [
        pytest.param(who, first, marks=[pytest.mark.smoke] if first in SMOKE else [])
        for who, (_, _, programs) in WHO.items()
        for first in programs
    ],
)
def test_the_first_thing_that_is_done(who: str, first: str) -> None:
    before, user, programs = WHO[who]
    assert run_forked(before + programs[first], user) == (0, "")


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
        wait_until(lambda: count_subscribers(here, NEW | UPDATE | DESTROY))
        process.signal(signal.SIGINT)
        process.wait()


@pytest.fixture
def here() -> Iterator[Lab]:
    """The guest's own namespace."""
    descriptor = os.open("/proc/self/ns/net", os.O_RDONLY)
    yield Lab(descriptor)
    os.close(descriptor)


def begin_asyncio_server(here: Lab, example: Process) -> None:
    assert example.line().startswith("listening on ")


def begin_live_table(here: Lab, example: Process) -> None:
    assert example.line().startswith("0 connections, ")
    assert example.line().startswith("listening on ")


def begin_trio_application(here: Lab, example: Process) -> None:
    wait_until(lambda: count_subscribers(here, DESTROY))
    anyio.run(end_one)
    assert example.line().startswith("ended: ")


def begin_first(here: Lab, example: Process) -> None:
    wait_until(lambda: count_subscribers(here, NEW | UPDATE | DESTROY))


async def end_one() -> None:
    """A flow that comes and goes."""
    async with connect() as conn:
        await conn.delete(await conn.create(flows.tcp()))


BEGIN = {
    "first.py": begin_first,
    "asyncio_server.py": begin_asyncio_server,
    "live_table.py": begin_live_table,
    "trio_application.py": begin_trio_application,
}


@pytest.mark.parametrize("name", BEGIN)
def test_an_example(here: Lab, name: str) -> None:
    with Process(here, sys.executable, "-u", str(ROOT / "examples" / name)) as example:
        BEGIN[name](here, example)
        example.signal(signal.SIGINT)
        _, errors = example.wait()
        if name != "first.py":  # ten lines, that leave the interrupt to Python
            assert errors == ""
