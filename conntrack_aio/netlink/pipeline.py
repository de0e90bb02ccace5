"""Many requests, window after window: while the kernel carries one out, the next is made.

Netlink does its work inside ``send``, which for many requests is most of the time there is. So a
thread sends, and meanwhile the event loop's thread makes the next window and reads the answers of
the one before.

The thread makes one system call a window and leaves the answers to the loop: every call gives up
the interpreter's lock, and from a loop that is busy it takes up to 5 ms to get it back. Once a
window that is nothing; once an answer it would be all there is.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import anyio

from ..errors import DecodeError, ResourceExhausted
from .exchange import Answers, Sequence32
from .messages import Failure
from .socket import NetlinkSocket
from .threads import Doorbell, Threads

WINDOW: Final = 256
"""Requests that are sent by one call, at most."""

DEPTH: Final = 2
"""Windows that may be under way: one that is being sent, and one whose answers are read."""

ACKNOWLEDGEMENT: Final = 1536
"""What an acknowledgement takes of the receive buffer at most: some 830 bytes as a rule, 1,344
with many words of the kernel's."""

ANSWER: Final = 3072
"""What a reply of up to 2 KiB takes, and the acknowledgement behind it."""

RECEIVE_BUFFER: Final = DEPTH * WINDOW * ANSWER // 2
"""What is asked for (the kernel doubles it). Where less is granted, the windows are smaller."""

_DATAGRAM: Final = 128 * 1024
"""A send is no larger, which the default send buffer of 208 KiB has room for."""


class Flight(Answers):
    """A window of requests that is under way."""

    def __init__(self, requests: Sequence[bytes], seq: int) -> None:
        super().__init__(seq, len(requests))
        self.sent = False
        """Whether the kernel has carried it out, or refused to take it."""
        self.error: BaseException | None = None
        """Why it could not be sent."""
        self._requests = requests

    def datagrams(self) -> list[bytes]:
        """What is to be sent: nearly always one; none for no requests, of which a send fails."""
        if not self._requests:
            return []
        whole = b"".join(self._requests)
        if len(whole) <= _DATAGRAM or len(self._requests) == 1:
            return [whole]
        datagrams = [b""]
        for request in self._requests:
            if len(datagrams[-1]) + len(request) > _DATAGRAM:
                datagrams.append(b"")
            datagrams[-1] += request
        return [datagram for datagram in datagrams if datagram]


class Pipeline:
    """Requests on a socket of their own, of which the answers come in order.

    ``answer`` is what those to one request take of the receive buffer, by which the window is
    chosen: none must be lost.
    """

    def __init__(
        self, socket: NetlinkSocket, threads: Threads, reply_timeout: float, answer: int
    ) -> None:
        self.socket = socket
        self.window = max(1, min(WINDOW, socket.least_receive_buffer // (DEPTH * answer)))
        """How many requests a :meth:`push` may take."""
        self.requests = 0
        self.strays = 0
        self.overruns = 0
        self._threads = threads
        self._reply_timeout = reply_timeout
        self._sequence = Sequence32()
        self._pid = os.getpid()
        self._bell = Doorbell()
        # The collector may close it while this very thread is in here.
        self._lock = threading.RLock()
        self._queue: deque[Flight] = deque()
        self._sending = False
        self._unanswered: deque[Flight] = deque()

    def reserve(self, count: int) -> int:
        """The first of ``count`` sequence numbers, for the requests of the next push."""
        return self._sequence.take(count)

    def push(self, requests: Sequence[bytes], seq: int) -> Flight:
        """Send them, numbered from ``seq``, behind what was pushed before. Does not wait.

        Of those that were pushed, :data:`DEPTH` may be unfinished.
        """
        flight = Flight(requests, seq)
        self.requests += len(requests)
        if self._unanswered:
            self._unanswered[-1].following = flight
        self._unanswered.append(flight)
        with self._lock:
            if not self.socket.closed:
                self._queue.append(flight)
            start = bool(self._queue) and not self._sending
            self._sending = self._sending or start
        if start:
            try:
                self._threads.start(self._send)
            except ResourceExhausted as error:  # nothing of it was sent
                with self._lock:
                    self._sending = False
                    self._queue.clear()
                flight.error, flight.sent = error, True
        return flight

    def _send(self) -> None:
        """On a thread: send what there is, and then end."""
        while True:
            with self._lock:
                if not self._queue:
                    self._sending = False
                    return
                flight = self._queue.popleft()
            try:
                with self.socket.using():
                    for datagram in flight.datagrams():
                        self.socket.send(datagram)
            except BaseException as error:  # the loop's thread raises it, or tells of it
                flight.error = error
            flight.sent = True
            self._bell.ring()

    async def finish(self, flight: Flight) -> None:
        """Return when it has been answered. Flights need not be finished in their order.

        What is unanswered then, the kernel did not answer within the time for it, or the answer
        was lost. Cancelled, it may be called again. Raises :exc:`anyio.ClosedResourceError`.
        """
        while not flight.sent:
            self._check_open()
            await self._bell.wait()
        if isinstance(flight.error, OSError):
            # Of several datagrams the first may have gone: what was answered stays so.
            self._receive(flight)
            flight.settle(Failure.of(flight.error))
        elif flight.error is not None:
            raise flight.error
        else:
            self._receive(flight)
            if flight.open and not flight.lossy:
                await self._wait_for_the_rest(flight)
        if flight in self._unanswered:
            self._unanswered.remove(flight)
        self.strays += flight.strays
        flight.strays = 0

    def _receive(self, flight: Flight) -> None:
        """Take in what has come, until the flight is done."""
        self._check_open()
        receive, buffer = self.socket.receive, self.socket.buffer
        while flight.open:
            # What was sent before it is answered before it.
            first = self._unanswered[0]
            feed = first.feed
            try:
                while first.open:
                    feed(buffer, receive())
                self._unanswered.popleft()
            except BlockingIOError:
                flight.dry()
                return
            except DecodeError:
                self._lose(first)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    # The answers can't be read, though the requests were carried out.
                    self._lose(first, error)
                    return
                self._lose(first)
                self.overruns += 1

    def _lose(self, flight: Answers | None, error: OSError | None = None) -> None:
        """Answers are missing, of this or of what follows; ``error`` is why none can be read."""
        while flight is not None:
            flight.lossy = True
            flight.unreadable = error
            flight = flight.following

    async def _wait_for_the_rest(self, flight: Flight) -> None:
        """Give a kernel that answers later its time."""
        with anyio.move_on_after(self._reply_timeout), suppress(ResourceExhausted):
            while flight.open and not flight.lossy:
                await self.socket.wait_readable()
                self._receive(flight)

    def _check_open(self) -> None:
        if self.socket.closed:
            raise anyio.ClosedResourceError("it is closed")

    def close(self) -> None:
        """Send nothing more. Idempotent; in the event loop's thread.

        What the thread is sending just now is carried out; it closes the socket afterwards.
        """
        if self._pid == os.getpid():
            with self._lock:
                self._queue.clear()
        self.socket.close()
        self._bell.close()
