"""Requests and their answers, over one socket that any number of tasks share.

The kernel carries a request out, and queues the answer, before ``sendmsg`` returns. So a request
is a send and a receive with nothing to wait for in between, and no point at which a cancellation
could tear them apart. What an abandoned request leaves behind is told by its sequence number.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import anyio
import anyio.lowlevel

from ..errors import ResourceExhausted
from .exchange import Exchange, Outcome, Request, Sequence32, Taker
from .messages import Failure
from .owner import Owner
from .socket import NetlinkSocket
from .threads import NO_THREAD, SCHEDULING, Doorbell, Threads
from .walks import walking

LONGEST_WALK = 60.0
"""Seconds that the kernel may take to delete all entries of a table, at least: of a million, it
needs some 0.4."""

WINDOW = 64
"""Requests in flight at most: the default buffer of 208 KiB holds the answers to so many."""

_ANSWER = 3072
"""What the answer to one request takes of the receive buffer at most: a reply up to 2 KiB, its
acknowledgement some 830 bytes. What does not fit is lost although the request was carried out."""


class _Turn:
    """A call's place in the queue."""

    def __init__(self) -> None:
        self.event: anyio.Event | None = None
        """Set when it is the first, if it waits for that."""


class Requester:
    """The shared request socket."""

    def __init__(self, socket: NetlinkSocket, *, offload: bool, reply_timeout: float) -> None:
        """:raises RuntimeError: when no event loop runs here: it belongs to the one that does."""
        self.owner = Owner()
        self.socket = socket
        self.requests = 0
        self.offloaded = 0
        self.strays = 0
        self.overruns = 0
        self._offload = offload
        self._reply_timeout = reply_timeout
        self._window = max(1, min(WINDOW, socket.least_receive_buffer // _ANSWER))
        self._sequence = Sequence32()
        self._turns: deque[_Turn] = deque()
        """Of the calls of :meth:`run`, the one whose turn it is first. A lock of anyio's would be
        held for ever if an interrupt struck between its taking and the block that releases it."""
        self._threads = Threads(1)
        self._at_work = False
        """Whether the thread is at an exchange, or will be; perhaps that of a cancelled call."""
        self._ended = Doorbell()
        """Rung by the thread when it has done with an exchange."""

    async def run(
        self,
        requests: Sequence[Request],
        *,
        walk: bool = False,
        taker: Taker | None = None,
        on_unsent: Callable[[int], None] | None = None,
    ) -> list[Outcome]:
        """Send the requests in order, some in each datagram; an outcome for each.

        What can't be sent for want of a thread has an outcome that says so.

        :param walk: whether the kernel walks its table for them.
        :param taker: called with the outcomes of each datagram, perhaps on a worker thread, and
            whether or not this call is cancelled meanwhile: for answers that must not be lost.
        :param on_unsent: called when this call is cancelled or raises, with the number of requests,
            the last ones, that will never be sent.

        Raises :exc:`anyio.ClosedResourceError`, :exc:`UsedElsewhere`, and :exc:`DecodeError` for an
        answer that is not netlink.
        """
        self.owner.check()
        outcomes: list[Outcome] = []
        unsent = len(requests)

        async def converse() -> None:
            nonlocal unsent
            for start in range(0, len(requests), self._window):
                if start:
                    await anyio.lowlevel.checkpoint()
                window = requests[start : start + self._window]
                exchange = Exchange(window, self._sequence.take(len(window)), taker)
                self.requests += len(window)
                try:
                    await self._converse(exchange, walk)
                finally:
                    # A thread that is still at it, its caller cancelled, ends it itself; one that
                    # has not begun won't.
                    exchange.leave()
                    if exchange.begun:
                        unsent -= len(window)
                self.strays += exchange.strays
                outcomes.extend(exchange.outcomes)

        try:
            await self._in_turn(converse)
        except BaseException:
            if on_unsent is not None:
                on_unsent(unsent)
            raise
        return outcomes

    async def settle(self) -> None:
        """Return once no thread is at work for a call of :meth:`run` that was cancelled."""
        await self._in_turn(self._wait_for_the_thread)

    async def _in_turn(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work once all those who came before have done theirs."""
        turn = _Turn()
        try:
            self._turns.append(turn)
            await anyio.lowlevel.checkpoint()
            while self._turns[0] is not turn:
                turn.event = anyio.Event()
                await turn.event.wait()
            await work()
        finally:
            # Written out: an interrupt may strike at the call of a function.
            if turn in self._turns:
                self._turns.remove(turn)
            if self._turns and (event := self._turns[0].event) is not None:
                event.set()

    async def _converse(self, exchange: Exchange, walk: bool) -> None:
        self._check_open()
        if walk or self._offload or walking.active or self._at_work or self.socket.in_use:
            self.offloaded += len(exchange.requests)
            await self._converse_in_thread(exchange, walk)
            if exchange.late:
                return
        else:
            exchange.begin()
            try:
                self._send_and_receive(exchange, False)
            finally:
                exchange.leave()
        # What can't be read, or waited for, was carried out all the same: without an answer.
        if not exchange.done and exchange.unreadable is None:
            with suppress(OSError):
                await self._wait_for_the_rest(exchange)

    def _check_open(self) -> None:
        if self.socket.closed:
            raise anyio.ClosedResourceError("the connection is closed")

    async def _converse_in_thread(self, exchange: Exchange, walk: bool) -> None:
        """Have the thread send and receive. When it is late it goes on without its caller.

        It is given nothing while it is at the exchange of a call that was cancelled: whoever is
        cancelled in turn leaves nothing behind.
        """
        patience = self._reply_timeout + SCHEDULING
        with anyio.move_on_after(max(patience, LONGEST_WALK) if walk else patience) as scope:
            await self._wait_for_the_thread()
            self._check_open()
            self._at_work = True
            try:
                self._threads.start(lambda: self._work(exchange, walk))
            except BaseException as error:
                self._at_work = False
                if not isinstance(error, ResourceExhausted):
                    raise
                exchange.settle(Failure(error.errno or errno.EAGAIN, NO_THREAD))
            await self._wait_for_the_thread()
        exchange.late = scope.cancelled_caught
        if exchange.error is not None:
            raise exchange.error

    async def _wait_for_the_thread(self) -> None:
        while self._at_work:
            await self._ended.wait()

    def _work(self, exchange: Exchange, walk: bool) -> None:
        """On the thread: send and receive, unless the caller has gone."""
        try:
            if exchange.begin():
                try:
                    self._send_and_receive(exchange, walk)
                finally:
                    exchange.leave()
        except Exception as error:
            exchange.error = error
        finally:
            self._at_work = False
            self._ended.ring()

    def _send_and_receive(self, exchange: Exchange, walk: bool) -> None:
        try:
            self.socket.use(lambda: self._carry_out(exchange, walk))
        except OSError as error:
            exchange.unreadable = error

    def _carry_out(self, exchange: Exchange, walk: bool) -> None:
        self._send(exchange, walk)
        self._receive(exchange)

    def _send(self, exchange: Exchange, walk: bool) -> None:
        exchange.sent = True
        try:
            if walk:
                with walking():
                    self.socket.send(exchange.data)
            else:
                self.socket.send(exchange.data)
        except OSError as error:
            exchange.settle(Failure.of(error))

    def _receive(self, exchange: Exchange) -> None:
        """Take in what has come. Raises :exc:`OSError` where that can't be read."""
        while not exchange.done:
            try:
                size = self.socket.receive()
            except BlockingIOError:
                exchange.dry()
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
                exchange.lossy = True
                continue
            exchange.feed(self.socket.buffer, size)

    async def _wait_for_the_rest(self, exchange: Exchange) -> None:
        """Give a kernel that answers later its time; the outcomes it leaves open say so."""
        with anyio.move_on_after(self._reply_timeout):
            while not exchange.done:
                await self.socket.wait_readable()
                self.socket.use(lambda: self._receive(exchange))

    def close(self) -> None:
        """Idempotent. What a thread is at, it ends."""
        self.socket.close()
        self._threads.close()
