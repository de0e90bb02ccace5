"""Check each first use of connection tracking, on a machine that has loaded none of its modules.

- The tests run in a guest of ``tests/kernels``.
- All netfilter modules are unloaded before each test.
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
TIMEOUT = 300.0
"""The seconds that a process may take; a guest is slow."""

_PR_SET_DUMPABLE = 4

_NETFILTER_MODULE = re.compile(r"(nf_|nft_|nfnetlink|xt_|ip6?_tables|ip6?table_|libcrc32c)")

_NEW_NAMESPACE = """
from conntrack_aio.netlink.namespaces import unshare
from conntrack_aio.uapi.sched import CLONE_NEWNET
unshare(CLONE_NEWNET)
"""

_SANDBOX = """
from conntrack_aio.sandbox.namespace import enter_sandbox
enter_sandbox()
"""

_CONTAINER = (
    _NEW_NAMESPACE
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

ENVIRONMENTS: dict[str, tuple[str, int, dict[str, str]]] = {
    "root": ("", 0, WRITABLE),
    "a user in a user namespace": (_SANDBOX, NOBODY, WRITABLE),
    "a container": (_CONTAINER, 0, READ_ONLY),
}
"""For each environment: the code that enters it, its user id, and the programs to run in it."""


def loaded_modules() -> dict[str, int]:
    """Return the use count of each loaded netfilter module, by its name."""
    lines = [line.split() for line in Path("/proc/modules").read_text().splitlines()]
    return {name: int(users) for name, _, users, *_ in lines if _NETFILTER_MODULE.match(name)}


@pytest.fixture(autouse=True)
def _unload_modules() -> None:
    """Unload all netfilter modules, in any order that their dependencies allow."""
    subprocess.run(["nft", "flush", "ruleset"], check=False, capture_output=True)

    def unload_unused() -> bool:
        unused = [name for name, users in loaded_modules().items() if users == 0]
        if unused:
            subprocess.run(["rmmod", *unused], check=False, capture_output=True)
        return not loaded_modules()

    wait_until(unload_unused)
    assert not Path("/proc/sys/net/netfilter/nf_conntrack_count").exists()


def run(*arguments: str, user: int = 0) -> subprocess.CompletedProcess[str]:
    """Run Python as a user, in a new process."""
    return subprocess.run(
        [sys.executable, *arguments],
        user=user,
        group=user,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def run_forked(program: str, user: int) -> tuple[int, str]:
    """Run Python code as a user, in a fork of this process.

    The fork need not import the package again, which would take seconds in a guest.

    :returns: the exit status and the output.
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
        # After a change of the user id, root owns the files in /proc/self unless the process is
        # dumpable. The process must write the maps of its user namespace there.
        assert ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0) == 0
        signal.alarm(int(TIMEOUT))
        exec(compile(program, "<first>", "exec"), {"__name__": "__main__"})
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


SMOKE = ("conn.sysctls.read", "conn.sysctls.set", "a setting is read", "a stream", "a table")
"""The names of the programs that are smoke tests."""


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        pytest.param(environment, name, marks=[pytest.mark.smoke] if name in SMOKE else [])
        for environment, (_, _, programs) in ENVIRONMENTS.items()
        for name in programs
    ],
)
def test_a_program_works_as_the_first_use(environment: str, name: str) -> None:
    enter, user, programs = ENVIRONMENTS[environment]
    assert run_forked(enter + programs[name], user) == (0, "")


@pytest.mark.parametrize("user", [0, NOBODY])
def test_the_demo_works_as_the_first_use(user: int) -> None:
    process = run("-m", "conntrack_aio", "demo", user=user)
    assert (process.returncode, process.stderr) == (0, "")
    assert re.search(r"6 NEW, \d+ UPDATE, 6 DESTROY\), 0 lost", process.stdout)


@pytest.mark.parametrize("command", [["list"], ["count"], ["explain", "mark", "5"]])
def test_a_command_works_as_the_first_use(command: list[str]) -> None:
    process = run("-m", "conntrack_aio", *command)
    assert process.returncode == 0
    assert process.stdout or command == ["list"]
    assert re.fullmatch(r"(conntrack-aio: no flow is tracked here: .*\n)?", process.stderr)


def test_the_events_command_works_as_the_first_use(namespace: Lab) -> None:
    with Process(namespace, sys.executable, "-m", "conntrack_aio", "events") as process:
        wait_until(lambda: count_subscribers(namespace, NEW | UPDATE | DESTROY))
        process.signal(signal.SIGINT)
        process.wait()


@pytest.fixture
def namespace() -> Iterator[Lab]:
    """Return the network namespace of this process, as a lab."""
    descriptor = os.open("/proc/self/ns/net", os.O_RDONLY)
    yield Lab(descriptor)
    os.close(descriptor)


def check_asyncio_server(namespace: Lab, example: Process) -> None:
    assert example.line().startswith("listening on ")


def check_live_table(namespace: Lab, example: Process) -> None:
    assert example.line().startswith("0 connections, ")
    assert example.line().startswith("listening on ")


def check_trio_application(namespace: Lab, example: Process) -> None:
    wait_until(lambda: count_subscribers(namespace, DESTROY))
    anyio.run(create_and_delete_flow)
    assert example.line().startswith("ended: ")


def check_first(namespace: Lab, example: Process) -> None:
    wait_until(lambda: count_subscribers(namespace, NEW | UPDATE | DESTROY))


async def create_and_delete_flow() -> None:
    """Create a flow and delete it."""
    async with connect() as conn:
        await conn.delete(await conn.create(flows.tcp()))


CHECK_STARTED = {
    "first.py": check_first,
    "asyncio_server.py": check_asyncio_server,
    "live_table.py": check_live_table,
    "trio_application.py": check_trio_application,
}
"""For each example, the function that checks that it has started."""


@pytest.mark.parametrize("name", CHECK_STARTED)
def test_an_example_works_as_the_first_use(namespace: Lab, name: str) -> None:
    with Process(namespace, sys.executable, "-u", str(ROOT / "examples" / name)) as example:
        CHECK_STARTED[name](namespace, example)
        example.signal(signal.SIGINT)
        _, errors = example.wait()
        if name != "first.py":  # this one does not handle KeyboardInterrupt: Python prints it
            assert errors == ""
