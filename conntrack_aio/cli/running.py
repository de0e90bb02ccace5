"""Run the async functions of commands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import argparse

    from ..connection import Connection
    from .parsing import Run

T = TypeVar("T")


def run_async(function: Callable[[], Awaitable[T]]) -> T:
    """Run an async function in an event loop, and return its result.

    An interrupt during a write ends the write with :exc:`.output.Interrupted`.
    """
    import logging

    import anyio

    from .output import interrupting_writes

    # Without a handler, Python prints the library's warnings to standard error. The command reports
    # the same conditions itself.
    logging.getLogger("conntrack_aio").addHandler(logging.NullHandler())

    async def run() -> T:
        with interrupting_writes():
            return await function()

    return anyio.run(run)


def run_requests(function: Callable[[], Coroutine[object, object, T]]) -> T:
    """Run an async function that needs no event loop, and return its result.

    That is sooner done than importing an event loop. The function may send requests, and dump
    tables that are not large. The library logs no warnings here.
    """
    from ..eventloop import blocking

    return blocking.run(function)


def runs_without_event_loop() -> bool:
    """Return whether :func:`run_requests` runs this."""
    from ..eventloop import current

    return current().blocks


Action = Callable[["Connection", "argparse.Namespace"], "Awaitable[int | None]"]
"""Does what a subcommand does with a connection and the options. Returns the exit status, or
``None`` for 0."""


def connected(
    action: Action,
    check: Callable[[argparse.Namespace], None] | None = None,
    *,
    needs_loop: bool = False,
) -> Run:
    """Return the function that runs a subcommand with a connection to its network namespace.

    :param action: does what the subcommand does.
    :param check: called before with the options, to check and convert them.
    :param needs_loop: whether it needs an event loop, because it waits for events or changes many
        entries.
    """

    def run(options: argparse.Namespace) -> int | None:
        async def main() -> int | None:
            from ..connecting import connect

            async with connect(netns=options.netns) as conn:
                return await action(conn, options)

        if check is not None:
            check(options)
        return run_async(main) if needs_loop else run_requests(main)

    return run
