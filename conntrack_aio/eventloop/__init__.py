"""Provide one interface to what runs in this thread: asyncio, uvloop, trio, or no event loop.

The library uses anyio for what anyio offers. This package adds what anyio lacks:

- start a task that belongs to an object instead of a task group;
- call a function in the loop's thread from another thread, without waiting for the result;
- end a wait for a file descriptor while the loop does not run;
- run a few requests without an event loop (:mod:`.blocking`).

The functions that a request needs do not import anyio where no event loop runs, nor does anything
here import asyncio or trio before it is needed: a short command is done sooner than these imports.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, cast

from .interface import EventLoop as EventLoop
from .interface import OnEnd as OnEnd
from .interface import TaskFunction as TaskFunction
from .interface import TimeLimit, this_thread
from .interface import Wait as Wait
from .interface import busy_error as busy_error
from .interface import closed_error as closed_error

if TYPE_CHECKING:
    import anyio

    from .trio_loop import Lowlevel


def current() -> EventLoop:
    """Return the event loop that runs in this thread.

    :raises RuntimeError: when no event loop runs here.
    """
    if this_thread.blocking is not None:
        return this_thread.blocking
    # A program that runs trio has imported it. The library does not depend on trio.
    lowlevel = cast("Lowlevel | None", sys.modules.get("trio.lowlevel"))
    if lowlevel is not None and _is_in_task(lowlevel):
        from .trio_loop import TrioLoop

        return TrioLoop(lowlevel)
    import asyncio

    from .asyncio_loop import AsyncioLoop

    return AsyncioLoop(asyncio.get_running_loop())


def _is_in_task(lowlevel: Lowlevel) -> bool:
    """Return whether the caller runs in a trio task. ``in_trio_task`` exists since trio 0.28."""
    try:
        lowlevel.current_task()
    except RuntimeError:
        return False
    return True


async def checkpoint() -> None:
    """Let other tasks run, and raise the cancellation if the task is cancelled."""
    if this_thread.blocking is None:
        import anyio.lowlevel

        await anyio.lowlevel.checkpoint()


def move_on_after(seconds: float) -> AbstractContextManager[TimeLimit]:
    """Return a context manager that ends its block when the time is over."""
    return current().move_on_after(seconds)


def new_event() -> anyio.Event:
    """Return a new event."""
    import anyio

    return anyio.Event()


def wake(event: anyio.Event) -> None:
    """Set an event and so wake the tasks that wait for it.

    Call this function in the thread of the tasks' loop. The loop need not be running. If the loop
    has ended, and in a forked process, there is no task to wake.
    """
    with suppress(RuntimeError):  # the loop has ended
        event.set()
