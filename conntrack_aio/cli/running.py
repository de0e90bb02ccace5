"""Run the async functions of commands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

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
