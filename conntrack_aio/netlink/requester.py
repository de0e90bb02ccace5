"""Send requests and receive their replies over one socket that any number of tasks share.

The kernel carries a request out, and queues the answer, before ``sendmsg`` returns. So a request
is a send and a receive with nothing to wait for in between, and no cancellation can separate them.
An answer whose caller was cancelled is recognized by its sequence number.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from .. import eventloop
from ..errors import ResourceExhausted
from .exchange import Exchange, OnResponses, Request, Response, SequenceNumbers
from .messages import Completion
from .owner import Owner
from .receive_buffer import ANSWER_COST
from .receiving import receive_answers, wait_for_answers
from .socket import NetlinkSocket
from .table_walks import table_walks
from .threads import NO_THREAD, THREAD_START_TIMEOUT, Threads, Wakeup

if TYPE_CHECKING:
    import anyio

TABLE_WALK_TIMEOUT = 60.0
"""The least number of seconds to wait for the reply to a request that walks the kernel's table.

The kernel needs some 0.4 seconds to delete a million entries."""

REQUESTS_PER_DATAGRAM = 64
"""Requests in one datagram at most: the default receive buffer of 208 KiB holds their answers."""


class _QueuedCall:
    """A call's place in the queue for the socket."""

    def __init__(self) -> None:
        self.event: anyio.Event | None = None
        """Set when the call becomes the first, if it waits for that."""


class Requester:
    """Send requests over the shared request socket of a connection."""

    def __init__(self, socket: NetlinkSocket, *, offload: bool, reply_timeout: float) -> None:
        """Use the socket in the event loop that runs here.

        :param socket: the request socket of the connection.
        :param offload: whether to run every request on the worker thread.
        :param reply_timeout: seconds that the kernel may take to answer a request.
        :raises RuntimeError: when no event loop runs here.
        """
        self.owner = Owner()
        self.socket = socket
        self.requests = 0
        self.offloaded = 0
        self.stray_replies = 0
        self._offload = offload
        self._reply_timeout = reply_timeout
        most = socket.least_receive_buffer // ANSWER_COST
        self._requests_per_datagram = max(1, min(REQUESTS_PER_DATAGRAM, most))
        self._sequence = SequenceNumbers()
        self._queue: deque[_QueuedCall] = deque()
        """The calls of :meth:`run`; the first one has the socket. This is not a lock of anyio's,
        which would stay locked forever if an interrupt struck between its acquisition and the
        block that releases it."""
        self._threads = Threads(1)
        self._thread_busy = False
        """Whether the thread has an exchange, which may be that of a cancelled call."""
        self._thread_done = Wakeup()
        """Notified by the thread when it is done with an exchange."""

    @property
    def overruns(self) -> int:
        """How often the receive buffer overflowed, which loses answers."""
        return self.socket.overruns

    async def run(
        self,
        requests: Sequence[Request],
        *,
        walks_table: bool = False,
        on_responses: OnResponses | None = None,
        on_unsent: Callable[[int], None] | None = None,
    ) -> list[Response]:
        """Send requests in order, several in each datagram, and return a response for each.

        If no thread can be started for a request, its response says so.

        :param requests: the requests.
        :param walks_table: whether the kernel walks its whole table for these requests.
        :param on_responses: called with the responses of each datagram, perhaps on a worker thread,
            even if this call is cancelled in the meantime: for replies that must not be lost.
        :param on_unsent: called when this call is cancelled or raises, with the number of requests
            at the end of the sequence that will never be sent.
        :raises anyio.ClosedResourceError: when the connection is closed.
        :raises UsedElsewhere: when called in another process or event loop.
        :raises DecodeError: when an answer is not netlink.
        """
        self.owner.check()
        responses: list[Response] = []
        unsent = len(requests)

        async def run_datagrams() -> None:
            nonlocal unsent
            size = self._requests_per_datagram
            for start in range(0, len(requests), size):
                if start:
                    await eventloop.checkpoint()
                batch = requests[start : start + size]
                exchange = Exchange(batch, self._sequence.reserve(len(batch)), on_responses)
                self.requests += len(batch)
                try:
                    await self._run_exchange(exchange, walks_table)
                finally:
                    # After a cancellation, the thread completes an exchange that it has started,
                    # and drops one that it has not.
                    exchange.release()
                    if exchange.started:
                        unsent -= len(batch)
                self.stray_replies += exchange.stray_replies
                responses.extend(exchange.responses)

        try:
            await self._in_turn(run_datagrams)
        except BaseException:
            if on_unsent is not None:
                on_unsent(unsent)
            raise
        return responses

    async def wait_until_idle(self) -> None:
        """Return once no thread works for a call of :meth:`run` that was cancelled."""
        await self._in_turn(self._wait_for_thread)

    async def _in_turn(self, work: Callable[[], Awaitable[None]]) -> None:
        """Await ``work`` after all calls that came before."""
        call = _QueuedCall()
        try:
            self._queue.append(call)
            await eventloop.checkpoint()
            while self._queue[0] is not call:
                call.event = eventloop.new_event()
                await call.event.wait()
            await work()
        finally:
            # This is not a function of its own, because an interrupt may strike when one is called.
            if call in self._queue:
                self._queue.remove(call)
            if self._queue and (event := self._queue[0].event) is not None:
                event.set()

    async def _run_exchange(self, exchange: Exchange, walks_table: bool) -> None:
        self._check_open()
        # Without an event loop there is nothing that a system call could hold up.
        if not self.owner.blocks and (
            walks_table
            or self._offload
            or table_walks.active
            or self._thread_busy
            or self.socket.in_use
        ):
            self.offloaded += len(exchange.requests)
            await self._run_on_thread(exchange, walks_table)
            if exchange.timed_out:
                return
        else:
            exchange.acquire()
            try:
                self._send_and_receive(exchange, walks_table)
            finally:
                exchange.release()
        # If answers cannot be read or waited for, the requests were carried out all the same.
        if not exchange.done and exchange.unreadable is None:
            with suppress(OSError):
                await wait_for_answers(
                    self.socket,
                    exchange,
                    self._reply_timeout,
                    lambda: self.socket.call_kept_open(
                        lambda: receive_answers(self.socket, exchange)
                    ),
                )

    def _check_open(self) -> None:
        if self.socket.closed:
            raise eventloop.closed_error("the connection is closed")

    async def _run_on_thread(self, exchange: Exchange, walks_table: bool) -> None:
        """Have the thread send and receive. After the timeout it continues without the caller.

        The thread gets the exchange only once it is done with that of a cancelled call. So a call
        that is cancelled while it waits leaves nothing for the thread to do.
        """
        timeout = self._reply_timeout + THREAD_START_TIMEOUT
        if walks_table:
            timeout = max(timeout, TABLE_WALK_TIMEOUT)
        with eventloop.move_on_after(timeout) as scope:
            await self._wait_for_thread()
            self._check_open()
            self._thread_busy = True
            try:
                self._threads.start(lambda: self._work(exchange, walks_table))
            except BaseException as error:
                self._thread_busy = False
                if not isinstance(error, ResourceExhausted):
                    raise
                exchange.fail_unanswered(Completion(error.errno or errno.EAGAIN, NO_THREAD))
            await self._wait_for_thread()
        exchange.timed_out = scope.cancelled_caught
        if exchange.error is not None:
            raise exchange.error

    async def _wait_for_thread(self) -> None:
        while self._thread_busy:
            await self._thread_done.wait()

    def _work(self, exchange: Exchange, walks_table: bool) -> None:
        """Send and receive on the thread, unless the caller was cancelled."""
        try:
            if exchange.acquire():
                try:
                    self._send_and_receive(exchange, walks_table)
                finally:
                    exchange.release()
        except Exception as error:
            exchange.error = error
        finally:
            self._thread_busy = False
            self._thread_done.notify()

    def _send_and_receive(self, exchange: Exchange, walks_table: bool) -> None:
        def work() -> None:
            self._send(exchange, walks_table)
            receive_answers(self.socket, exchange)

        try:
            self.socket.call_kept_open(work)
        except OSError as error:
            exchange.note_lost(error)

    def _send(self, exchange: Exchange, walks_table: bool) -> None:
        exchange.sent = True
        try:
            with table_walks.count() if walks_table else nullcontext():
                self.socket.send(exchange.data)
        except OSError as error:
            exchange.fail_unanswered(Completion.of(error))

    def close(self) -> None:
        """Close the socket once the thread is done with its exchange. Idempotent."""
        self.socket.close()
        self._threads.close()
