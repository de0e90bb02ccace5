"""Work on other threads that goes on while the loop does something else.

``anyio.to_thread`` is for work whose result is awaited at once. What receives ahead, or sends
ahead, has nobody who awaits it: it runs here, and rings when there is something to fetch.
"""

from __future__ import annotations

import socket
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
    """Wakes one task from other threads: two sockets, of which every event loop can await one."""

    def __init__(self) -> None:
        self._pair: tuple[socket.socket, socket.socket] | None = None
        self._rung = False
        self._awaited = False
        self._closed = False
        self._lock = threading.Lock()

    def ring(self) -> None:
        """Wake the task that waits, or the next that will. From any thread."""
        with self._lock:
            self._rung = True
            # To send is a system call, after which another thread may be running.
            if self._awaited and self._pair is not None:
                self._awaited = False
                self._pair[1].send(b"\0")

    async def wait(self) -> None:
        """Return once it was rung since the last return.

        Raises :exc:`anyio.ClosedResourceError` when it is closed, :exc:`anyio.BusyResourceError`
        when another task waits, and :exc:`OSError` if there are no descriptors left.
        """
        while (awaited := self._answer()) is not None:
            await anyio.wait_readable(awaited)

    def _answer(self) -> socket.socket | None:
        """``None`` if it was rung; else what to wait for."""
        with self._lock:
            if self._closed:
                raise anyio.ClosedResourceError("it is closed")
            rung, self._rung = self._rung, False
            self._awaited = not rung
            if self._pair is None:
                if rung:
                    return None  # whoever never has to wait needs no descriptors
                self._pair = socket.socketpair()
                for each in self._pair:
                    each.setblocking(False)
            elif rung:
                try:
                    self._pair[0].recv(64)
                except BlockingIOError:
                    pass  # nobody waited
            return None if rung else self._pair[0]

    def close(self) -> None:
        """Wake who waits, with an error. In the event loop's thread, if a task may be waiting."""
        with self._lock:
            self._closed = True
            pair, self._pair = self._pair, None
        if pair is not None:
            try:
                anyio.notify_closing(pair[0])
            except RuntimeError:
                pass  # no event loop here, so nobody waits
            for each in pair:
                each.close()
