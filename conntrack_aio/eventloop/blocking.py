"""Run a coroutine without an event loop, for a program that sends a few requests and ends.

The kernel answers a request before ``sendmsg`` returns, so nothing has to wait. An event loop would
take longer to import than the requests take. What does have to wait, for a reply that comes late,
blocks the thread.

Requests and dumps work here. Events, live tables and bulk operations need an event loop, and say
so.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import TypeVar

from .interface import EventLoop, OnEnd, TaskFunction, Wait, this_thread

T = TypeVar("T")

_NEEDS_LOOP = "this needs an event loop, and runs without one"


def run(function: Callable[[], Coroutine[object, object, T]]) -> T:
    """Call an async function in this thread without an event loop, and return its result.

    :param function: the function. It may use only what this module is for.
    :raises RuntimeError: when the function awaits something that needs an event loop.
    """
    if this_thread.blocking is not None:
        raise RuntimeError("a coroutine runs here already")
    this_thread.blocking = BlockingLoop()
    coroutine = function()
    try:
        coroutine.send(None)
    except StopIteration as stopped:
        result: T = stopped.value
        return result
    else:
        raise RuntimeError(_NEEDS_LOOP)
    finally:
        this_thread.blocking = None
        coroutine.close()


class _TimeLimit:
    """The scope of a limited time."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        """By :func:`time.monotonic`."""
        self.cancelled_caught = False


class _TimeOver(BaseException):
    """The time of a block of :meth:`BlockingLoop.move_on_after` is over."""

    def __init__(self, limit: _TimeLimit) -> None:
        super().__init__()
        self.limit = limit


class BlockingLoop(EventLoop):
    """What stands in for an event loop: a wait blocks the thread."""

    blocks = True

    def __init__(self) -> None:
        super().__init__()
        self._limits: list[_TimeLimit] = []

    def is_running_here(self) -> bool:
        return this_thread.blocking is self

    def call_soon(self, callback: Callable[[], object]) -> None:
        raise RuntimeError(_NEEDS_LOOP)

    def start(self, function: TaskFunction, name: str, on_end: OnEnd) -> Callable[[], None]:
        raise RuntimeError(_NEEDS_LOOP)

    def wait_readable(self, descriptor: int) -> Wait:
        return _BlockingWait(self, descriptor)

    @contextmanager
    def move_on_after(self, seconds: float) -> Generator[_TimeLimit]:
        """End the block at its next wait once the time is over."""
        limit = _TimeLimit(time.monotonic() + seconds)
        self._limits.append(limit)
        try:
            yield limit
        except _TimeOver as over:
            if over.limit is not limit:
                raise
            limit.cancelled_caught = True
        finally:
            self._limits.remove(limit)

    def wait(self, descriptor: int) -> None:
        """Block until the descriptor is readable.

        :raises _TimeOver: when the time of a block is over before.
        """
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        limit = min(self._limits, key=lambda each: each.deadline, default=None)
        if limit is None:
            poll.poll()
        elif not poll.poll(max(0.0, limit.deadline - time.monotonic()) * 1000):
            raise _TimeOver(limit)


class _BlockingWait:
    """A wait that blocks the thread. Nothing can end it before its time."""

    def __init__(self, loop: BlockingLoop, descriptor: int) -> None:
        self._loop = loop
        self._descriptor = descriptor

    async def finish(self) -> None:
        self._loop.wait(self._descriptor)

    def give_up(self) -> None:
        pass
