"""Table walks: requests whose system calls run off the event loop.

A dump's first chunk is made inside ``sendmsg``; with a filter that matches nothing that is the
whole walk, and so is a flush: 300 to 400 ms at a million entries, on a non-blocking socket. All
that time the subsystem's mutex is held, machine-wide, so that the ``sendmsg`` of any other request
blocks too. Hence the count of walks under way in this process: while there is one, requests go to
a worker thread as well.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio import CapacityLimiter

from ..errors import DumpInterrupted, NoReply
from .exchange import DumpExchange, Request
from .messages import Failure, Message
from .socket import NetlinkSocket

CHUNKS_PER_STEP = 8
"""How many chunks (of 32 KiB) one visit to the worker thread brings back."""


class _Gauge:
    """How many threads of this process are inside a call that holds the kernel's mutex."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    @property
    def active(self) -> bool:
        return self._count > 0

    @contextmanager
    def __call__(self) -> Generator[None]:
        with self._lock:
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1


walking = _Gauge()


class Walk:
    """One dump, on a socket of its own, chunk by chunk.

    Nothing happens before the first :meth:`receive`. Abandoning it (:meth:`close`, or dropping
    it) closes the socket, and the kernel stops.
    """

    def __init__(
        self,
        open_socket: Callable[[], NetlinkSocket],
        request: Request,
        limiter: CapacityLimiter,
        reply_timeout: float,
    ) -> None:
        self.exchange = DumpExchange(request, seq=1)
        self.socket: NetlinkSocket | None = None
        self._open_socket = open_socket
        self._limiter = limiter
        self._reply_timeout = reply_timeout
        self._chunks: list[bytes] = []
        self._failure: OSError | None = None
        self._sent = False
        self._busy = False
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    async def receive(self) -> tuple[bytes, list[Message]] | None:
        """The next chunk and the entries in it; ``None`` at the end.

        Raises what the kernel answers as a :exc:`KernelError`; :exc:`DumpInterrupted` instead of
        the end, if the kernel says that the dump is not consistent; :exc:`NoReply`;
        :exc:`anyio.ClosedResourceError`; :exc:`anyio.BusyResourceError` while another task is
        in here.
        """
        if self._closed:
            raise anyio.ClosedResourceError("the dump is closed")
        if self._busy:
            raise anyio.BusyResourceError("iterating over")
        self._busy = True
        try:
            return await self._receive()
        finally:
            self._busy = False

    async def _receive(self) -> tuple[bytes, list[Message]] | None:
        await anyio.lowlevel.checkpoint()
        while True:
            if self._closed:  # by another task, while this one waited
                raise anyio.ClosedResourceError("the dump is closed")
            if self._chunks:
                chunk = self._chunks.pop(0)
                entries = self.exchange.feed(chunk, len(chunk))
                if entries:
                    return chunk, entries
            elif self.exchange.failure is not None:
                self._finish(self.exchange.failure)
                return None
            elif self._failure is not None:
                self._finish(Failure(self._failure.errno or errno.EIO))
            else:
                await self._advance()

    def _finish(self, failure: Failure) -> None:
        self.close()
        if failure.errno:
            raise self.exchange.request.error(failure)
        if self.exchange.interrupted:
            raise DumpInterrupted(f"{self.exchange.request}: the table changed under it")

    async def _advance(self) -> None:
        """Have more chunks, or a failure, by the worker's hand."""
        if self.socket is None:
            self.socket = self._open_socket()
        await anyio.to_thread.run_sync(self._step, self.socket, limiter=self._limiter)
        if not self._chunks and self._failure is None:
            # The kernel makes the next chunk in the very call that takes this one, so a real
            # one never gets here with the dump unfinished; a scripted one may.
            with anyio.move_on_after(self._reply_timeout) as scope:
                await self.socket.wait_readable()
            if scope.cancelled_caught:
                self.close()
                raise NoReply(f"{self.exchange.request}: the dump stopped halfway")

    def _step(self, socket: NetlinkSocket) -> None:
        try:
            with socket.using():
                if not self._sent:
                    self._sent = True
                    with walking():
                        socket.send(self.exchange.data)
                for _ in range(CHUNKS_PER_STEP):
                    size = socket.receive()
                    self._chunks.append(bytes(memoryview(socket.buffer)[:size]))
        except BlockingIOError:
            pass
        except OSError as error:
            self._failure = error

    def close(self) -> None:
        """End it: idempotent, and safe while the worker is at it."""
        self._closed = True
        if self.socket is not None:
            self.socket.close()
