"""Work on other threads that goes on while the loop does something else.

``anyio.to_thread`` is for work whose result is awaited at once. What receives ahead, or sends
ahead, has nobody who awaits it: it runs here, and rings when there is something to fetch.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import anyio


class Threads:
    """Some threads, started when there is work for them, which end with their owner."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._executor: ThreadPoolExecutor | None = None

    def start(self, work: Callable[[], object]) -> None:
        """Have it done, as soon as a thread is free. It must not raise, nor wait for long."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._limit, "conntrack_aio")
        self._executor.submit(work)

    def close(self) -> None:
        """What was started is still done. Idempotent."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)


class Doorbell:
    """Wakes one task from other threads: an eventfd, which every event loop can wait for."""

    def __init__(self) -> None:
        self._fd: int | None = None
        self._rung = False
        self._awaited = False
        self._closed = False
        self._lock = threading.Lock()

    def ring(self) -> None:
        """Wake the task that waits, or the next that will. From any thread."""
        with self._lock:
            self._rung = True
            # To write is a system call, after which another thread may be running.
            if self._awaited and self._fd is not None:
                self._awaited = False
                os.eventfd_write(self._fd, 1)

    async def wait(self) -> None:
        """Return once it was rung since the last return.

        Raises :exc:`anyio.ClosedResourceError` when it is closed, :exc:`anyio.BusyResourceError`
        when another task waits, and :exc:`OSError` if there are no descriptors left.
        """
        while (fd := self._answer()) is not None:
            await anyio.wait_readable(fd)

    def _answer(self) -> int | None:
        """``None`` if it was rung; else what to wait for."""
        with self._lock:
            if self._closed:
                raise anyio.ClosedResourceError("it is closed")
            rung, self._rung = self._rung, False
            self._awaited = not rung
            if self._fd is None:
                if rung:
                    return None  # whoever never has to wait needs no descriptor
                self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            elif rung:
                try:
                    os.eventfd_read(self._fd)
                except BlockingIOError:
                    pass  # nobody waited
            return None if rung else self._fd

    def close(self) -> None:
        """Wake who waits, with an error. In the event loop's thread, if a task may be waiting."""
        with self._lock:
            self._closed = True
            fd, self._fd = self._fd, None
        if fd is not None:
            try:
                anyio.notify_closing(fd)
            except RuntimeError:
                pass  # no event loop here, so nobody waits
            os.close(fd)
