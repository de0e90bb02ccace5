"""Table walks: requests whose system calls run off the event loop.

A dump's first chunk is made inside ``sendmsg``; with a filter that matches nothing that is the
whole walk, and so is a flush: 300 to 400 ms at a million entries, on a non-blocking socket. All
that time the subsystem's mutex is held, machine-wide, so that the ``sendmsg`` of any other request
blocks too. Hence the count of walks under way in this process: while there is one, requests go to
a worker thread as well.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import anyio
import anyio.lowlevel

from ..errors import DecodeError, DumpInterrupted, NoReply, ResourceExhausted
from .exchange import DumpExchange, Request
from .messages import Failure
from .owner import Owner
from .socket import NetlinkSocket
from .threads import SCHEDULING, Doorbell, Threads

AHEAD = 16
"""Chunks (of 32 KiB, some 140 flows) that are received before they are asked for."""

AT_ONCE = 4
"""Of them so many come in one system call. A thread that comes back from one waits until the loop's
thread lets it run; so the fewer calls, the less of the kernel's work is put off."""

_FEW = AHEAD // 2
"""Of them so many may be left before a thread goes on."""


class _Gauge:
    """How many threads of this process are inside a call that holds the kernel's mutex."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin at nothing, as in a forked process, which has no such threads."""
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
os.register_at_fork(after_in_child=walking.reset)


class Walk:
    """One dump, chunk by chunk, or several, one after the other; each on a socket of its own.

    Nothing happens before the first :meth:`receive`. From then on a thread receives ahead, some
    chunks at most: the kernel makes a chunk in the very call that takes the one before, and so does
    its work while what came is decoded. Abandoning it (:meth:`close`, or dropping it) closes the
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
        """``reply_timeout`` is how many seconds the kernel may take to hand out a chunk.

        ``owner`` is where it may be used; unless given, where it is made.
        """
        self.owner = Owner() if owner is None else owner
        self.exchange = DumpExchange(request, seq=1)
        self.sockets: list[NetlinkSocket] = []
        """Of the dump that is under way, and of those before it, which are closed."""
        self._more: list[Request] = []
        self._strays = 0
        self._open_socket = open_socket
        self._threads = threads
        self._reply_timeout = reply_timeout
        self._ahead: _Ahead | None = None
        self._busy = False
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def strays(self) -> int:
        """Replies that answered something else."""
        return self._strays + self.exchange.strays

    def ask(self, requests: Sequence[Request]) -> None:
        """Send these, one when the one before is answered, and not the one that it was made with.
        Before the first :meth:`receive`."""
        first, *self._more = requests
        self._strays += self.exchange.strays
        self.exchange = DumpExchange(first, self.exchange.seq)

    async def receive(self) -> bytes | None:
        """The next chunk, for :attr:`exchange` to be asked of each message; ``None`` at the end.

        Raises what the kernel answers as a :exc:`KernelError`; :exc:`DumpInterrupted` instead of
        the end, if the kernel says that the dump is not consistent; :exc:`NoReply`;
        :exc:`ResourceExhausted`, after which it may be called again;
        :exc:`anyio.ClosedResourceError`; :exc:`anyio.BusyResourceError` while another task is
        in here; :exc:`UsedElsewhere`.
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
        await anyio.lowlevel.checkpoint()
        while True:
            if self._closed:  # by another task, while this one waited
                raise anyio.ClosedResourceError("the dump is closed")
            if self.exchange.failure is not None:
                self._finish(self.exchange.failure)
                if self._closed:
                    return None
            if self._ahead is None:
                socket = self._open_socket()
                self.sockets.append(socket)
                self._ahead = _Ahead(socket, self.exchange.data, self._threads)
            try:
                return await self._ahead.take(self._reply_timeout)
            except TimeoutError:
                self.close()
                raise NoReply(f"{self.exchange.request}: the dump stopped halfway") from None
            except ResourceExhausted:
                raise  # nothing was lost by it
            except OSError as error:
                self._finish(Failure.of(error))
            except Exception:
                self.close()
                raise

    def _finish(self, failure: Failure) -> None:
        """One dump is at its end: go on to the next, or close."""
        self.close()
        if failure.errno:
            raise self.exchange.request.error(failure)
        if self.exchange.interrupted:
            raise DumpInterrupted(f"{self.exchange.request}: the table changed under it")
        if self._more:
            self.ask(self._more)
            self._ahead = None
            self._closed = False

    def close(self) -> None:
        """End it: idempotent, and safe while the thread is at it."""
        self._closed = True
        if self._ahead is not None:
            self._ahead.bell.close()
        if self.sockets:
            self.sockets[-1].close()


class _Ahead:
    """The chunks that have been received, and the work of receiving more."""

    def __init__(self, socket: NetlinkSocket, request: bytes, threads: Threads) -> None:
        self.bell = Doorbell()
        self._socket = socket
        self._request: bytes | None = request
        self._threads = threads
        self._chunks: deque[bytes | DecodeError] = deque()
        self._active = False
        """Whether a thread is at it, or will be. What it has done is seen once it is not."""
        self._dry = False
        self._failure: Exception | None = None

    async def take(self, patience: float) -> bytes:
        """The next chunk.

        Raises :exc:`OSError` and whatever else the socket does, :exc:`TimeoutError` if nothing
        comes for so many seconds, :exc:`ResourceExhausted` if no thread can be started, and
        :exc:`anyio.ClosedResourceError`.
        """
        while True:
            active = self._active
            chunk = self._chunks.popleft() if self._chunks else None
            more = not active and not self._dry and self._failure is None
            if more and len(self._chunks) <= _FEW:
                active = self._start(required=chunk is None)
            if isinstance(chunk, DecodeError):
                raise chunk
            if chunk is not None:
                return chunk
            if active:
                await self._wait(patience)
            elif self._failure is not None:
                raise self._failure
            else:
                # The kernel makes the next chunk in the very call that takes this one, so a real
                # one never gets here with the dump unfinished; a scripted one may.
                with anyio.fail_after(patience):
                    await self._socket.wait_readable()
                self._dry = False

    def _start(self, *, required: bool) -> bool:
        """Have a thread receive more; whether one does, or has done by now.

        Raises :exc:`ResourceExhausted`, if it is ``required``.
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

    async def _wait(self, patience: float) -> None:
        """Wait for the thread, which waits for the kernel.

        Raises :exc:`TimeoutError` if nothing comes for so many seconds.
        """
        with anyio.move_on_after(patience + SCHEDULING):
            await self.bell.wait()
            return
        # This process may have been stopped for that long, and the thread too.
        if self._active and not self._chunks:
            raise TimeoutError

    def _receive(self) -> None:
        """On a thread: until enough wait, or nothing more comes."""
        socket = self._socket
        try:
            with socket.using():
                if self._request is not None:
                    request, self._request = self._request, None
                    with walking():
                        socket.send(request)
                while len(self._chunks) < AHEAD and not socket.closed:
                    chunks: list[bytes | DecodeError] = []
                    socket.receive_some(chunks, AT_ONCE)
                    self._chunks += chunks
                    self.bell.ring()
        except BlockingIOError:
            self._dry = True
        except Exception as error:
            self._failure = error
        finally:
            self._active = False
            self.bell.ring()
