"""Run ``conntrack-aio`` in the namespace of a test, and read the kernel's table beside it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import NamedTuple, TypeVar

import anyio

from conntrack_aio import Connection, Flow, Match, connect

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
    """Run the command, which has no terminal."""
    start = partial(subprocess.run, (*COMMAND, *arguments), capture_output=True, text=True)
    done = lab.run(partial(start, stdin=subprocess.DEVNULL, timeout=TIMEOUT, check=False))
    return Ran(done.returncode, done.stdout, done.stderr)


def do(lab: Lab, action: Callable[[Connection], Awaitable[T]]) -> T:
    """Run an action with a connection to the lab's namespace, and return its result."""

    async def main() -> T:
        async with connect(netns=lab.netns) as conn:
            return await action(conn)

    return anyio.run(main)


def create(lab: Lab, flows: Iterable[Flow]) -> None:
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
