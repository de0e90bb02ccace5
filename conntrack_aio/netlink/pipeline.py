"""Send many requests, window by window: the next is made while the kernel carries one out.

The kernel does its work inside ``sendmsg``, which takes most of the time of many requests. So a
thread sends. At the same time the event loop's thread makes the next window, and reads the answers
to the previous one.

The thread makes one system call for all windows that wait, and leaves the answers to the event
loop. Every call releases the interpreter's lock, and the thread gets it back when the loop sleeps,
or after 5 ms. Once for each window or two that is little. Once for each answer it would take longer
than all the rest.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import anyio

from ..errors import DecodeError, ResourceExhausted
from .exchange import Answers, SequenceNumbers
from .messages import Completion
from .receive_buffer import ANSWER_COST
from .receiving import receive_answers, wait_for_answers
from .socket import NetlinkSocket
from .threads import Threads, Wakeup

REQUESTS_PER_WINDOW: Final = 256
"""Requests in a window at most."""

MAX_WINDOWS_IN_FLIGHT: Final = 4
"""Windows that may be unfinished: two that are being sent, and two that are made, or whose answers
are read."""

RECEIVE_BUFFER: Final = MAX_WINDOWS_IN_FLIGHT * REQUESTS_PER_WINDOW * ANSWER_COST // 2
"""The receive buffer to ask for, which the kernel doubles. If less is granted, the windows are
smaller."""

_DATAGRAM_SIZE: Final = 128 * 1024
"""Bytes in one datagram at most, for which the default send buffer of 208 KiB has room."""


class RequestWindow(Answers):
    """A window of requests that were pushed, and their answers."""

    def __init__(self, requests: Sequence[bytes], seq: int) -> None:
        super().__init__(seq, len(requests))
        self.sent = False
        """Whether the kernel has carried the requests out, or sending them failed."""
        self.error: BaseException | None = None
        """The error with which sending failed."""
        self.sent_after: RequestWindow | None = None
        """The window before it in the same datagram."""
        self._requests = requests
        self.size = sum(map(len, requests))
        """Bytes of the requests."""

    def data(self) -> bytes:
        """Return all requests."""
        return b"".join(self._requests)

    def datagrams(self) -> list[bytes]:
        """Return the datagrams to send, nearly always one.

        There is none for no requests: sending an empty datagram fails.
        """
        if not self._requests:
            return []
        if self.size <= _DATAGRAM_SIZE or len(self._requests) == 1:
            return [self.data()]
        datagrams = [b""]
        for request in self._requests:
            if len(datagrams[-1]) + len(request) > _DATAGRAM_SIZE:
                datagrams.append(b"")
            datagrams[-1] += request
        return [datagram for datagram in datagrams if datagram]

    def note_drained(self) -> None:
        before = self.sent_after
        if before is not None and before.refusal is not None and not self.lossy:
            self.fail_unanswered(before.refusal)
        super().note_drained()


class Pipeline:
    """Send windows of requests on a socket of their own; the answers arrive in the same order."""

    def __init__(
        self, socket: NetlinkSocket, threads: Threads, reply_timeout: float, answer_cost: int
    ) -> None:
        """Choose the window so that the receive buffer holds all answers.

        :param socket: the socket to send on.
        :param threads: the threads that send.
        :param reply_timeout: seconds that the kernel may take to answer a window.
        :param answer_cost: bytes of the receive buffer that the answers to one request take at
            most.
        """
        self.socket = socket
        most = socket.least_receive_buffer // (MAX_WINDOWS_IN_FLIGHT * answer_cost)
        self.requests_per_window = max(1, min(REQUESTS_PER_WINDOW, most))
        """The number of requests that a :meth:`push` may take."""
        self.requests = 0
        self.stray_replies = 0
        self._threads = threads
        self._reply_timeout = reply_timeout
        self._sequence = SequenceNumbers()
        self._pid = os.getpid()
        self._window_sent = Wakeup()
        # The garbage collector may close this pipeline on this very thread, inside the lock.
        self._lock = threading.RLock()
        self._unsent: deque[RequestWindow] = deque()
        self._sending = False
        self._unanswered: deque[RequestWindow] = deque()

    @property
    def overruns(self) -> int:
        """How often the receive buffer overflowed, which loses answers."""
        return self.socket.overruns

    def reserve(self, count: int) -> int:
        """Reserve ``count`` sequence numbers for the next push and return the first."""
        return self._sequence.reserve(count)

    def push(self, requests: Sequence[bytes], seq: int) -> RequestWindow:
        """Queue requests for sending after those pushed before, without waiting.

        At most :data:`MAX_WINDOWS_IN_FLIGHT` windows may be unfinished.

        :param requests: complete messages with consecutive sequence numbers.
        :param seq: the sequence number of the first request.
        """
        window = RequestWindow(requests, seq)
        self.requests += len(requests)
        if self._unanswered:
            self._unanswered[-1].following = window
        self._unanswered.append(window)
        with self._lock:
            if not self.socket.closed:
                self._unsent.append(window)
            start = bool(self._unsent) and not self._sending
            self._sending = self._sending or start
        if start:
            try:
                self._threads.start(self._send)
            except ResourceExhausted as error:  # nothing of the window was sent
                with self._lock:
                    self._sending = False
                    self._unsent.clear()
                window.error, window.sent = error, True
        return window

    def _send(self) -> None:
        """Send all queued windows on the thread."""
        while True:
            with self._lock:
                windows = self._take_unsent()
                if not windows:
                    self._sending = False
                    return
            try:
                with self.socket.keep_open():
                    for datagram in _datagrams_of(windows):
                        self.socket.send(datagram)
            except BaseException as error:  # finish() handles it in the event loop's thread
                for window in windows:
                    window.error = error
            for window in windows:
                window.sent = True
            self._window_sent.notify()

    def _take_unsent(self) -> list[RequestWindow]:
        """Remove the next windows that fit into one datagram, or the next one, and return them."""
        unsent, windows, size = self._unsent, list[RequestWindow](), 0
        before: RequestWindow | None = None
        while unsent and (not windows or size + unsent[0].size <= _DATAGRAM_SIZE):
            window = unsent.popleft()
            windows.append(window)
            if window.size:
                window.sent_after, before = before, window
                size += window.size
        return windows

    async def finish(self, window: RequestWindow) -> None:
        """Return when a window is answered. Windows may be finished in any order.

        Requests that are still unanswered when this returns were not answered in time, or their
        answers were lost. After a cancellation, this can be called again.

        :raises anyio.ClosedResourceError: when the pipeline is closed.
        """
        while not window.sent:
            self._check_open()
            await self._window_sent.wait()
        if isinstance(window.error, OSError):
            # The first of several datagrams may have been sent: its answers are kept.
            self._receive(window)
            window.fail_unanswered(Completion.of(window.error))
        elif window.error is not None:
            raise window.error
        else:
            self._receive(window)
            if window.open and not window.lossy:
                with suppress(ResourceExhausted):
                    await wait_for_answers(
                        self.socket, window, self._reply_timeout, lambda: self._receive(window)
                    )
        if window in self._unanswered:
            self._unanswered.remove(window)
        self.stray_replies += window.stray_replies
        window.stray_replies = 0

    def _receive(self, window: RequestWindow) -> None:
        """Receive what has come for ``window``, and before that for the windows sent before it."""
        self._check_open()
        while window.open:
            first = self._unanswered[0]
            try:
                if not receive_answers(self.socket, first):
                    window.note_drained()
                    return
            except DecodeError:
                first.note_lost()
            except OSError as error:
                # The answers cannot be read, though the kernel has carried the requests out.
                first.note_lost(error)
                return
            else:
                self._unanswered.popleft()

    def _check_open(self) -> None:
        if self.socket.closed:
            raise anyio.ClosedResourceError("the pipeline is closed")

    def close(self) -> None:
        """Send nothing more. Idempotent; call it in the event loop's thread.

        If the thread is sending a window, the kernel carries it out, and the thread closes the
        socket afterwards.
        """
        if self._pid == os.getpid():
            with self._lock:
                self._unsent.clear()
        self.socket.close()
        self._window_sent.close()


def _datagrams_of(windows: Sequence[RequestWindow]) -> list[bytes]:
    """Return the datagrams that send some windows: one for several, which fit into it."""
    if len(windows) == 1:
        return windows[0].datagrams()
    whole = b"".join([window.data() for window in windows])
    return [whole] if whole else []
