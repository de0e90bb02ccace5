"""Work on other threads that goes on while the loop does something else.

``anyio.to_thread`` is for work whose result is awaited at once. What receives ahead, or sends
ahead, has nobody who awaits it: it runs here, and rings when there is something to fetch.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import anyio
import anyio.to_thread
from anyio import CapacityLimiter

from .. import eventloop
from ..errors import ResourceExhausted
from ..eventloop import EventLoop

T = TypeVar("T")

SCHEDULING: Final = 1.0
"""Seconds that a thread may take to begin, on a busy machine, before the kernel's time counts."""

NO_THREAD: Final = "no thread can be started, and nothing was sent"
"""Why a request that has to run on a thread was not carried out."""

_LIMITS: Final = (
    "The process or the system has reached its limit of tasks (ulimit -u, the cgroup's pids.max)"
)


def is_no_thread(error: RuntimeError) -> bool:
    """Return whether an error says that no thread can be started: it has no class of its own."""
    return str(error).startswith("can't start new thread")


def no_thread() -> ResourceExhausted:
    """Return the error that says that no thread can be started."""
    return ResourceExhausted(errno.EAGAIN, "start a thread", NO_THREAD, _LIMITS)


async def run_in_thread(
    function: Callable[[], T], limiter: CapacityLimiter | None = None, *, abandon: bool = False
) -> T:
    """Call ``function`` on a worker thread, and return what it returns.

    It runs to its end even if the caller is cancelled meanwhile: the caller waits for that, unless
    it is to ``abandon`` the thread.

    :raises ResourceExhausted: when no thread can be started; then it has not been called.
    """
    begun = False

    def begin() -> T:
        nonlocal begun
        begun = True
        return function()

    try:
        return await anyio.to_thread.run_sync(begin, limiter=limiter, abandon_on_cancel=abandon)
    except RuntimeError as error:
        if begun or not is_no_thread(error):
            raise
        raise no_thread() from error


class Threads:
    """Some threads, started when there is work for them, which end with their owner."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._executor: ThreadPoolExecutor | None = None
        self._pid = os.getpid()

    def start(self, work: Callable[[], object]) -> None:
        """Have ``work`` called as soon as a thread is free. It must not raise, nor wait for long.

        :raises ResourceExhausted: when no thread can be started; then it is never called.
        """
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._limit, "conntrack_aio")
        waiting = [work]
        try:
            self._executor.submit(lambda: waiting and waiting[0]())
        except RuntimeError as error:
            # The executor keeps what it could not start a thread for, for a later one.
            waiting.clear()
            raise no_thread() from error

    def close(self) -> None:
        """What was started is still done. Idempotent."""
        executor, self._executor = self._executor, None
        # In a forked process there are no such threads, and their locks may be held for ever.
        if executor is not None and self._pid == os.getpid():
            executor.shutdown(wait=False)


class Doorbell:
    """Wakes one task from other threads. It takes no descriptor."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._rung = False
        self._closed = False
        self._waiter: tuple[EventLoop, anyio.Event] | None = None
        # The collector may close it while this very thread is in here.
        self._lock = threading.RLock()

    def ring(self) -> None:
        """Wake the task that waits, or the next that will. From any thread."""
        with self._lock:
            self._rung = True
            waiter, self._waiter = self._waiter, None
        if waiter is not None:
            loop, event = waiter
            loop.call_soon(event.set)

    async def wait(self) -> None:
        """Return once it was rung since the last return.

        :raises anyio.ClosedResourceError: when it is closed.
        """
        while (event := self._answer()) is not None:
            await event.wait()

    def _answer(self) -> anyio.Event | None:
        """``None`` if it was rung; else what to wait for."""
        with self._lock:
            if self._closed:
                raise anyio.ClosedResourceError("it is closed")
            rung, self._rung = self._rung, False
            if rung:
                return None
            event = anyio.Event()
            self._waiter = eventloop.current(), event
            return event

    def close(self) -> None:
        """Wake the task that waits, with an error. In the event loop's thread, if one may be."""
        if self._pid != os.getpid():
            return  # a thread of the other process may have held the lock when this one was forked
        with self._lock:
            self._closed = True
            waiter, self._waiter = self._waiter, None
        if waiter is not None:
            eventloop.wake(waiter[1])
