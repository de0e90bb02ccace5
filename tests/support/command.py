"""Run ``conntrack-aio`` in the namespace of a test, and read the kernel's table beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import StringIO
from typing import NamedTuple, TypeVar

import anyio

from conntrack_aio import Connection, Flow, Match, connect
from conntrack_aio.cli import command

from .lab import Lab
from .processes import TIMEOUT

T = TypeVar("T")

COMMAND = (sys.executable, "-W", "error::ResourceWarning", "-m", "conntrack_aio")


class Ran(NamedTuple):
    """What a command that has ended printed, and its exit status."""

    status: int
    out: str
    err: str


def run(lab: Lab, *arguments: str) -> Ran:
    """Run the command in this process, because a process of its own takes long to start.

    It has no terminal.
    """
    netns = ("--netns", f"/proc/{os.getpid()}/fd/{lab.descriptor}")
    return run_here(*arguments, *netns)


def run_here(*arguments: str) -> Ran:
    """Run the command in this process and its network namespace."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        status = command.run(arguments)
    return Ran(status, out.getvalue(), err.getvalue())


def run_process(
    lab: Lab, *arguments: str, input: str | bytes = "", command: tuple[str, ...] = COMMAND
) -> Ran:
    """Run the command in a process of its own, in the namespace of the test.

    :param lab: the namespace.
    :param arguments: the arguments of the command.
    :param input: its standard input.
    :param command: the program, and the arguments that come first.
    """
    data = input.encode() if isinstance(input, str) else input
    start = partial(subprocess.run, (*command, *arguments), capture_output=True, input=data)
    done = lab.run(partial(start, timeout=TIMEOUT, check=False))
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def do(lab: Lab, action: Callable[[Connection], Awaitable[T]]) -> T:
    """Run an action with a connection to the lab's namespace, and return its result."""

    async def main() -> T:
        async with connect(netns=lab.netns) as conn:
            return await action(conn)

    return anyio.run(main)


def create(lab: Lab, *flows: Flow) -> None:
    """Create entries."""

    async def action(conn: Connection) -> None:
        for outcome in await conn.create_many(flows):
            outcome.result()

    do(lab, action)


def table(lab: Lab, match: Match | None = None) -> dict[str, Flow]:
    """Return the flows in the kernel's table by the text of their original tuple."""
    return {str(flow.orig): flow for flow in do(lab, lambda conn: conn.list(match))}


def count(lab: Lab) -> int:
    """Return the number of flows in the kernel's table."""
    return do(lab, lambda conn: conn.count())
