"""Run the async functions of commands."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ..connection import Connection
    from .parsing import Run

T = TypeVar("T")


def run_async(function: Callable[[], Awaitable[T]]) -> T:
    """Run an async function in an event loop, and return its result.

    An interrupt during a write ends the write with :exc:`.output.Interrupted`.
    """
    import anyio

    from .output import interrupting_writes

    async def run() -> T:
        with interrupting_writes():
            return await function()

    return anyio.run(run)


Action = Callable[["Connection", argparse.Namespace], Awaitable[int | None]]
"""Does what a subcommand does with a connection and the options. Returns the exit status, or
``None`` for 0."""


def connected(action: Action, check: Callable[[argparse.Namespace], None] | None = None) -> Run:
    """Return the function that runs a subcommand with a connection to its network namespace.

    :param action: does what the subcommand does.
    :param check: called before with the options, to check and convert them.
    """

    def run(options: argparse.Namespace) -> int | None:
        async def main() -> int | None:
            from ..connecting import connect

            async with connect(netns=options.netns) as conn:
                return await action(conn, options)

        if check is not None:
            check(options)
        return run_async(main)

    return run
