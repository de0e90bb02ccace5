"""Receive dumps, in an event loop on a worker thread ahead of their reader.

The kernel walks its table inside the system calls of a dump, so these run off the event loop: see
:mod:`.table_walks`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from .. import eventloop
from ..errors import DecodeError, DumpInterrupted, NoReply, ResourceExhausted
from .exchange import DumpExchange, Request
from .messages import Completion
from .owner import Owner
from .socket import NetlinkSocket
from .threads import Threads

_CHECKPOINT_PERIOD: Final = 0.001
"""Seconds after which other tasks run, although chunks wait. A checkpoint takes as long as decoding
a dozen flows."""


class _ChunkReader(Protocol):
    """Sends the request for a dump, and reads its chunks."""

    async def take(self, reply_timeout: float) -> bytes:
        """Return the next chunk.

        :raises TimeoutError: when nothing comes for ``reply_timeout`` seconds.
        :raises DecodeError: when a datagram is larger than any that the kernel makes.
        :raises ResourceExhausted: when no thread can be started.
        :raises anyio.ClosedResourceError: when the dump is closed.
        :raises OSError: when the socket raises it, and whatever else the socket raises.
        """
        ...

    def close(self) -> None:
        """Wake the reader with an error."""
        ...


class _BlockingReader:
    """Reads chunks in this thread, where no event loop runs."""

    def __init__(self, socket: NetlinkSocket, request: bytes) -> None:
        self._socket = socket
        self._request: bytes | None = request
        self._received: deque[bytes | DecodeError] = deque()

    async def take(self, reply_timeout: float) -> bytes:
        if self._request is not None:
            request, self._request = self._request, None
            self._socket.send(request)
        while not self._received:
            try:
                self._received += self._socket.receive_datagram()
            except BlockingIOError:
                with eventloop.move_on_after(reply_timeout) as limit:
                    await self._socket.wait_readable()
                if limit.cancelled_caught:
                    raise TimeoutError from None
        chunk = self._received.popleft()
        if isinstance(chunk, DecodeError):
            raise chunk
        return chunk

    def close(self) -> None:
        pass


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
        self._chunks: _ChunkReader | None = None
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
            raise eventloop.closed_error("the dump is closed")
        if self._busy:
            raise eventloop.busy_error("iterating over")
        self._busy = True
        try:
            return await self._receive()
        finally:
            self._busy = False

    async def _receive(self) -> bytes | None:
        if time.monotonic() >= self._checkpoint_due:
            await eventloop.checkpoint()
            self._checkpoint_due = time.monotonic() + _CHECKPOINT_PERIOD
        while True:
            if self._closed:  # by another task, while this one waited
                raise eventloop.closed_error("the dump is closed")
            if self.exchange.completion is not None:
                self._finish(self.exchange.completion)
                if self._closed:
                    return None
            if self._chunks is None:
                socket = self._open_socket()
                self.sockets.append(socket)
                self._chunks = self._read_chunks(socket)
            try:
                return await self._chunks.take(self._reply_timeout)
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

    def _read_chunks(self, socket: NetlinkSocket) -> _ChunkReader:
        if self.owner.blocks:
            return _BlockingReader(socket, self.exchange.data)
        from .prefetching import PrefetchThread

        return PrefetchThread(socket, self.exchange.data, self._threads)

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
            self._chunks = None
            self._closed = False

    def close(self) -> None:
        """End the dump. Idempotent, and safe while the thread is receiving."""
        self._closed = True
        if self._chunks is not None:
            self._chunks.close()
        if self.sockets:
            self.sockets[-1].close()
