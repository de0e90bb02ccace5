"""Receive the chunks of a dump on a worker thread, ahead of their reader."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio

from ..errors import DecodeError, ResourceExhausted
from .socket import NetlinkSocket
from .table_walks import table_walks
from .threads import THREAD_START_TIMEOUT, Threads, Wakeup

if TYPE_CHECKING:
    from .recvmmsg import MessageVector

CHUNKS_PER_CALL: Final = 48
"""The most chunks (of 32 KiB, some 140 flows) that one system call receives.

A thread that returns from a system call waits until the event loop's thread lets it run, and the
kernel does nothing in the meantime. So fewer calls keep the kernel working. But a request of
another task may wait until a call ends, because both need the same lock in the kernel."""

_VECTORS: Final = 2
"""How many calls may have been made whose chunks are not yet taken by the reader: while the kernel
fills the buffers of one, the reader takes the chunks of the other."""

PREFETCHED_CHUNKS: Final = _VECTORS * CHUNKS_PER_CALL
"""The most chunks that are received ahead of their reader."""

_FIRST_CHUNKS: Final = 2
"""How many chunks the first call receives, so that the reader soon has something to do."""

_CALL_TIME: Final = 0.016
"""Seconds that a system call should take at most, roughly. If few flows match a filter of the
kernel, each chunk takes long, and the reader should not wait for many of them."""


class _Received(NamedTuple):
    """What one system call received."""

    vector: MessageVector | None
    """The buffers of the call; ``None`` if the datagram is in :attr:`chunks` already."""
    filled: int
    """How many of the buffers are filled."""
    chunks: list[bytes | DecodeError]


class PrefetchThread:
    """Receive chunks of one dump on a worker thread, ahead of the reader."""

    def __init__(self, socket: NetlinkSocket, request: bytes, threads: Threads) -> None:
        self.progress = Wakeup()
        """Notified by the thread when it has received chunks, or ends."""
        self._socket = socket
        self._request: bytes | None = request
        self._threads = threads
        self._received: deque[_Received] = deque()
        """What the thread has received and the reader has not taken."""
        self._taken: _Received | None = None
        """What the reader is taking."""
        self._chunks: Iterator[bytes | DecodeError] = iter(())
        """The chunks of that which are not returned yet."""
        self._free: deque[MessageVector | None] = deque()
        """The buffers that the thread may fill, one vector for each system call. ``None`` stands
        for a call that receives a single datagram."""
        self._limit = _FIRST_CHUNKS
        """How many chunks the next call may receive."""
        self._active = False
        """Whether a thread is receiving, or about to. Its results are complete once it is not."""
        self._drained = False
        """Whether the socket had nothing more to read."""
        self._failure: Exception | None = None

    def close(self) -> None:
        """Wake the reader with an error."""
        self.progress.close()

    async def take(self, reply_timeout: float) -> bytes:
        """Return the next chunk.

        :raises TimeoutError: when nothing comes for ``reply_timeout`` seconds.
        :raises DecodeError: when a datagram is larger than any that the kernel makes.
        :raises ResourceExhausted: when no thread can be started.
        :raises anyio.ClosedResourceError: when the dump is closed.
        :raises OSError: when the socket raises it, and whatever else the socket raises.
        """
        while True:
            active = self._active
            chunk = next(self._chunks, None)
            if chunk is None and (self._taken or self._received):
                self._take_received()
                continue
            more = not active and not self._drained and self._failure is None
            if more and (self._free or self._request is not None):
                active = self._start(required=chunk is None)
            if isinstance(chunk, DecodeError):
                raise chunk
            if chunk is not None:
                return chunk
            if active:
                await self._wait(reply_timeout)
            elif self._received:
                continue  # the thread ended since the first line of this loop
            elif self._failure is not None:
                raise self._failure
            else:
                # The kernel makes the next chunk in the very call that returns this one, so it
                # never leaves the socket empty before the end of a dump. A scripted kernel may.
                with anyio.fail_after(reply_timeout):
                    await self._socket.wait_readable()
                self._drained = False

    def _take_received(self) -> None:
        """Let the thread fill the buffers that were read, and begin to take the next ones."""
        if self._taken is not None:
            self._free.append(self._taken.vector)
            self._taken = None
        if self._received:
            self._taken = self._received.popleft()
            vector, count, chunks = self._taken
            self._chunks = iter(chunks) if vector is None else self._socket.take(vector, count)

    def _start(self, *, required: bool) -> bool:
        """Start a thread that receives; return whether one was started.

        :raises ResourceExhausted: when no thread can be started, if one is ``required``.
        """
        self._active = True
        try:
            self._threads.start(self._receive)
        except ResourceExhausted:
            self._active = False
            if required:
                raise
            return False
        return True

    async def _wait(self, reply_timeout: float) -> None:
        """Wait for the thread, which waits for the kernel.

        :raises TimeoutError: when nothing comes for ``reply_timeout`` seconds.
        """
        with anyio.move_on_after(reply_timeout + THREAD_START_TIMEOUT):
            await self.progress.wait()
            return
        # This process may have been stopped for that long, and the thread too.
        if self._active and not self._received:
            raise TimeoutError

    def _receive(self) -> None:
        """Receive on the thread until enough chunks wait for the reader, or no more come."""
        socket = self._socket
        try:
            with socket.keep_open():
                if self._request is not None:
                    request, self._request = self._request, None
                    for _ in range(_VECTORS):
                        self._add_buffers(socket.make_vector(CHUNKS_PER_CALL))
                    with table_walks.count():
                        socket.send(request)
                while self._free and not socket.closed:
                    self._receive_some()
                    self.progress.notify()
        except BlockingIOError:
            self._drained = True
        except Exception as error:
            self._failure = error
        finally:
            self._active = False
            self.progress.notify()

    def _add_buffers(self, vector: MessageVector | None) -> None:
        """Let the thread fill a vector or, without one, as many datagrams one by one."""
        self._free += [None] * CHUNKS_PER_CALL if vector is None else [vector]

    def _receive_some(self) -> None:
        """Receive chunks with one system call."""
        socket, vector = self._socket, self._free[0]
        if vector is None:
            received = _Received(None, 0, socket.receive_datagram())
        else:
            start = time.monotonic()
            count = socket.fill(vector, self._limit)
            if count is None:
                self._add_buffers(None)
                received = _Received(None, 0, [])
            else:
                self._adapt_limit(time.monotonic() - start)
                received = _Received(vector, count, [])
        # The reader returns the vector to self._free, so it must not find it there twice.
        self._free.popleft()
        self._received.append(received)

    def _adapt_limit(self, duration: float) -> None:
        """Choose how many chunks the next call may receive.

        :param duration: the seconds that a call took.
        """
        if duration < _CALL_TIME / 2:
            self._limit = min(2 * self._limit, CHUNKS_PER_CALL)
        elif duration > 2 * _CALL_TIME:
            self._limit = max(self._limit // 2, 1)
