"""Receive events, and determine where the kernel dropped some.

When the receive buffer is full, the kernel drops events, and the next read fails with ENOBUFS. The
events that were in the buffer at that time are older than the gap, and are read after the error. So
the gap is reported once all of them have been read.
"""

from __future__ import annotations

import errno
import time
from collections import deque

from ..codec.decoder import Datagram
from ..errors import ConntrackError, DecodeError, EventsLost, request_error
from ..model.client_statistics import StreamStatistics
from ..netlink.progress import Progress
from ..netlink.receive_buffer import QueueState
from .subscription import LEAST_COST, Subscription


class EventReceiver:
    """Receives the datagrams of a subscription, with an :exc:`EventsLost` in the place of a gap."""

    def __init__(
        self,
        subscription: Subscription,
        received: deque[Datagram | ConntrackError],
        statistics: StreamStatistics,
    ) -> None:
        """Initialize without receiving.

        :param subscription: the socket to receive from, and its options.
        :param received: the queue that datagrams and errors are added to.
        :param statistics: counts overruns and lost events.
        """
        self._subscription = subscription
        self._socket = subscription.socket
        self._received = received
        self._statistics = statistics
        self._buffer_size = subscription.buffer_sizes.initial
        self._receive_time = subscription.options.receive_time
        self._drops_reported = 0
        """The socket's counter of dropped events at the last report."""
        self.progress = Progress(LEAST_COST)
        """How far the socket's queue has been read, and whether a gap is still to be reported."""
        self.drained = False
        """Whether the last read left the socket empty."""
        self.timestamp = 0
        """The time of the last read, in nanoseconds; 0 without ``receive_time``."""

    def receive(self, limit: int) -> None:
        """Receive datagrams without waiting, and report a gap that was passed.

        It stops where the socket is empty, after an overrun, and at a gap.

        :param limit: the largest number of datagrams to receive.

        :raises KernelError: when the socket fails.
        """
        progress = self.progress
        datagrams: list[bytes | DecodeError] = []
        count = 0
        if (until_gap := progress.until_gap) is not None:
            limit = min(limit, until_gap)
        self.drained = overrun = False
        try:
            while count < limit:
                count += self._socket.receive_some(datagrams, limit - count)
        except BlockingIOError:
            self.drained = True
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise request_error("receive events", error) from error
            overrun = True
        finally:
            self._received += [
                each if isinstance(each, DecodeError) else Datagram(each) for each in datagrams
            ]
        if self._receive_time and count:
            self.timestamp = time.time_ns()
        progress.note_read(count)
        if self.drained:
            progress.note_drained()
        if progress.has_gap and (self.drained or overrun or progress.until_gap == 0):
            # The queue is empty, so what comes from now on is younger than the gap. Or there was
            # another overrun, which can only follow a read that emptied the queue, so the first gap
            # has been passed. Or everything that the buffer could hold has been read.
            self._report_gap()
        if overrun:
            # The kernel reports it once, before the older messages that still wait in the buffer.
            self._statistics.overruns += 1
            if not self._subscription.lossless:
                progress.open_gap(self._socket.receive_buffer)
            self._grow()

    def position(self) -> int:
        """Return the position after everything that is queued now, in :attr:`progress`."""
        queue_state = self._socket.queue_state()
        if queue_state is None:
            # If something waits, it may fill the buffer, and there may be an unreported gap.
            waits = self._socket.is_readable()
            waiting = self._socket.receive_buffer if waits else 0
            return self.progress.position_after(waiting, lost=waits)
        lost = queue_state.drops != self._drops_reported and not self._subscription.lossless
        return self.progress.position_after(queue_state.waiting, lost=lost)

    def unreported_losses(self, queue_state: QueueState | None) -> int:
        """Return how many events were dropped since the last report, as far as known.

        :param queue_state: the state of the socket's queue; ``None`` if it is not known.
        """
        # With ``reliable`` the number is unknown: the counter includes each failed try of an event.
        if queue_state is None or self._subscription.options.reliable:
            return 0
        return (queue_state.drops - self._drops_reported) & 0xFFFFFFFF

    def count_losses(self) -> int:
        """Count the dropped events that were not reported yet, and return their number."""
        queue_state = self._socket.queue_state()
        lost = self.unreported_losses(queue_state)
        if queue_state is not None:
            self._drops_reported = queue_state.drops
        self._statistics.events_lost += lost
        return lost

    def _report_gap(self) -> None:
        self.progress.close_gap()
        # The number is 0 if the last report already counted the drops of this gap.
        self._received.append(EventsLost(self.count_losses() or None))

    def _grow(self) -> None:
        """Double the receive buffer after an overrun, up to the maximum."""
        maximum = self._subscription.buffer_sizes.maximum
        if maximum is not None and self._buffer_size < maximum:
            self._buffer_size = min(2 * self._buffer_size, maximum)
            self._socket.grow(self._buffer_size)
            if self._subscription.nsid_resolver is not None:
                self._subscription.nsid_resolver.note_receive_buffer(self._socket.receive_buffer)
