"""Work on other threads that continues while the event loop does something else.

``anyio.to_thread`` is for work whose result is awaited at once. Nothing awaits a thread that
receives ahead or sends ahead: such work runs here, and notifies the event loop of its progress.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from .. import eventloop
from ..errors import ResourceExhausted
from ..eventloop import EventLoop

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    import anyio

T = TypeVar("T")

THREAD_START_TIMEOUT: Final = 1.0
"""Seconds that a thread may take to begin on a busy machine, on top of the kernel's own timeout."""

NO_THREAD: Final = "no thread can be started, and nothing was sent"
"""The detail of the error for a request that must run on a thread when none can be started."""

_LIMITS: Final = (
    "The process or the system has reached its limit of tasks (ulimit -u, the cgroup's pids.max)"
)


def is_no_thread(error: RuntimeError) -> bool:
    """Return whether an error means that no thread can be started: Python has no class for it."""
    return str(error).startswith("can't start new thread")


def no_thread() -> ResourceExhausted:
    """Return the error that says that no thread can be started."""
    return ResourceExhausted(errno.EAGAIN, "start a thread", NO_THREAD, _LIMITS)


async def run_in_thread(
    function: Callable[[], T],
    limiter: anyio.CapacityLimiter | None = None,
    *,
    abandon: bool = False,
) -> T:
    """Call ``function`` on a worker thread and return its result.

    The function runs to its end even if the caller is cancelled in the meantime. Without an event
    loop, the function runs in this thread.

    :param function: the function, whose exceptions are raised here.
    :param limiter: limits how many such functions run at a time; anyio's default limiter if
        ``None``.
    :param abandon: whether a cancelled caller leaves at once; otherwise it waits for the function.
    :raises ResourceExhausted: when no thread can be started; then the function was not called.
    """
    if eventloop.current().blocks:
        return function()
    import anyio.to_thread

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
    """A pool of threads that are started when there is work, and end with their owner."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._executor: ThreadPoolExecutor | None = None
        self._pid = os.getpid()

    def start(self, work: Callable[[], object]) -> None:
        """Call ``work`` as soon as a thread is free. It must neither raise nor wait for long.

        :raises ResourceExhausted: when no thread can be started; then it is never called.
        """
        if self._executor is None:
            from concurrent.futures import ThreadPoolExecutor

            self._executor = ThreadPoolExecutor(self._limit, "conntrack_aio")
        waiting = [work]
        try:
            self._executor.submit(lambda: waiting and waiting[0]())
        except RuntimeError as error:
            # The executor keeps work for which it could not start a thread, and runs it later.
            waiting.clear()
            raise no_thread() from error

    def close(self) -> None:
        """Let the threads end after the work that they were given, without waiting. Idempotent."""
        executor, self._executor = self._executor, None
        # A forked process does not have these threads, and their locks may be held forever.
        if executor is not None and self._pid == os.getpid():
            executor.shutdown(wait=False)


class Wakeup:
    """Wake one task of the event loop from other threads. It takes no descriptor."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._notified = False
        self._closed = False
        self._waiter: tuple[EventLoop, anyio.Event] | None = None
        # The garbage collector may close this object on this very thread, inside the lock.
        self._lock = threading.RLock()

    def notify(self) -> None:
        """Wake the waiting task, or else the next one that waits. Call this from any thread."""
        with self._lock:
            self._notified = True
            waiter, self._waiter = self._waiter, None
        if waiter is not None:
            loop, event = waiter
            loop.call_soon(event.set)

    async def wait(self) -> None:
        """Return once :meth:`notify` was called since the last return.

        :raises anyio.ClosedResourceError: when this object is closed.
        """
        while (event := self._begin_wait()) is not None:
            await event.wait()

    def _begin_wait(self) -> anyio.Event | None:
        """Consume a notification and return ``None``, or return the event to wait for."""
        with self._lock:
            if self._closed:
                raise eventloop.closed_error("closed while a task was waiting")
            notified, self._notified = self._notified, False
            if notified:
                return None
            event = eventloop.new_event()
            self._waiter = eventloop.current(), event
            return event

    def close(self) -> None:
        """Wake the waiting task with an error. Call this in the event loop's thread."""
        if self._pid != os.getpid():
            return  # a thread of the parent process may have held the lock during the fork
        with self._lock:
            self._closed = True
            waiter, self._waiter = self._waiter, None
        if waiter is not None:
            eventloop.wake(waiter[1])
