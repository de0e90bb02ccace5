"""Receive dumps on a worker thread, ahead of their reader.

The kernel walks its table inside the system calls of a dump, so these run off the event loop: see
:mod:`.table_walks`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio
import anyio.lowlevel

from ..errors import DecodeError, DumpInterrupted, NoReply, ResourceExhausted
from .exchange import DumpExchange, Request
from .messages import Completion
from .owner import Owner
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

_CHECKPOINT_PERIOD: Final = 0.001
"""Seconds after which other tasks run, although chunks wait. A checkpoint takes as long as decoding
a dozen flows."""


class DumpReceiver:
    """Receive one dump, chunk by chunk, or several in sequence; each on a socket of its own.

    Nothing happens before the first :meth:`receive`. From then on a thread receives a few chunks
    ahead. The kernel makes a chunk in the very call that returns the previous one, so it works
    while the received chunks are decoded. :meth:`close`, or dropping this object, closes the
    socket, and the kernel stops.
    """

    def __init__(
        self,
        open_socket: Callable[[], NetlinkSocket],
        request: Request,
        threads: Threads,
        reply_timeout: float,
        owner: Owner | None = None,
    ) -> None:
        """Prepare a dump.

        :param open_socket: opens the socket of a dump.
        :param request: the request for the dump.
        :param threads: the threads that receive.
        :param reply_timeout: seconds that the kernel may take for one chunk.
        :param owner: the process and event loop that may receive; the current ones by default.
        """
        self.owner = Owner() if owner is None else owner
        self.exchange = DumpExchange(request, seq=1)
        self.sockets: list[NetlinkSocket] = []
        """The socket of the current dump, preceded by the closed ones of earlier dumps."""
        self._more: list[Request] = []
        self._stray_replies = 0
        self._open_socket = open_socket
        self._threads = threads
        self._reply_timeout = reply_timeout
        self._prefetcher: _PrefetchThread | None = None
        self._busy = False
        self._closed = False
        self._checkpoint_due = 0.0
        """When other tasks run next, in seconds of the monotonic clock."""

    @property
    def closed(self) -> bool:
        """Whether the dumps have ended, or :meth:`close` was called."""
        return self._closed

    @property
    def stray_replies(self) -> int:
        """The number of messages that did not belong to these dumps."""
        return self._stray_replies + self.exchange.stray_replies

    def set_requests(self, requests: Sequence[Request]) -> None:
        """Replace the request by others, each sent when the previous dump has ended.

        Call this before the first :meth:`receive`.
        """
        first, *self._more = requests
        self._stray_replies += self.exchange.stray_replies
        self.exchange = DumpExchange(first, self.exchange.seq)

    async def receive(self) -> bytes | None:
        """Return the next chunk, or ``None`` at the end.

        Pass each message of a chunk to :meth:`DumpExchange.accepts` of :attr:`exchange`.

        :raises KernelError: when the kernel refuses the dump.
        :raises DumpInterrupted: when the dump has ended, and the kernel reported that it is not
            consistent.
        :raises NoReply: when the kernel does not continue the dump in time.
        :raises DecodeError: when a datagram is larger than any that the kernel makes; the dump is
            closed.
        :raises ResourceExhausted: when no socket can be opened or no thread be started; this can be
            called again.
        :raises anyio.ClosedResourceError: when this receiver is closed.
        :raises anyio.BusyResourceError: when another task is receiving.
        :raises UsedElsewhere: when called in another process or event loop.
        """
        self.owner.check()
        if self._closed:
            raise anyio.ClosedResourceError("the dump is closed")
        if self._busy:
            raise anyio.BusyResourceError("iterating over")
        self._busy = True
        try:
            return await self._receive()
        finally:
            self._busy = False

    async def _receive(self) -> bytes | None:
        if time.monotonic() >= self._checkpoint_due:
            await anyio.lowlevel.checkpoint()
            self._checkpoint_due = time.monotonic() + _CHECKPOINT_PERIOD
        while True:
            if self._closed:  # by another task, while this one waited
                raise anyio.ClosedResourceError("the dump is closed")
            if self.exchange.completion is not None:
                self._finish(self.exchange.completion)
                if self._closed:
                    return None
            if self._prefetcher is None:
                socket = self._open_socket()
                self.sockets.append(socket)
                self._prefetcher = _PrefetchThread(socket, self.exchange.data, self._threads)
            try:
                return await self._prefetcher.take(self._reply_timeout)
            except TimeoutError:
                self.close()
                raise NoReply(
                    f"{self.exchange.request}: the kernel did not continue the dump within "
                    f"{self._reply_timeout:g} seconds"
                ) from None
            except ResourceExhausted:
                raise  # no chunk is lost
            except OSError as error:
                self._finish(Completion.of(error))
            except Exception:
                self.close()
                raise

    def _finish(self, completion: Completion) -> None:
        """End the current dump: go on to the next one, or close."""
        self.close()
        if completion.errno:
            raise self.exchange.request.error(completion)
        if self.exchange.interrupted:
            raise DumpInterrupted(
                f"{self.exchange.request}: the table changed during the dump, which is not "
                "consistent; dump it again"
            )
        if self._more:
            self.set_requests(self._more)
            self._prefetcher = None
            self._closed = False

    def close(self) -> None:
        """End the dump. Idempotent, and safe while the thread is receiving."""
        self._closed = True
        if self._prefetcher is not None:
            self._prefetcher.progress.close()
        if self.sockets:
            self.sockets[-1].close()


class _Received(NamedTuple):
    """What one system call received."""

    vector: MessageVector | None
    """The buffers of the call; ``None`` if the datagram is in :attr:`chunks` already."""
    filled: int
    """How many of the buffers are filled."""
    chunks: list[bytes | DecodeError]


class _PrefetchThread:
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
