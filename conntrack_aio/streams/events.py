"""Event streams: async iterators of the events of a kernel table."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Final, Literal, TypeVar

import anyio
import anyio.lowlevel
import attrs

from ..codec.decoder import Datagram
from ..errors import ConntrackError, DecodeError, EventsLost, request_error
from ..filters.program import EventFilter
from ..model.events import Event
from ..model.settings import BlindSpot, EventMode
from ..model.statistics import StreamStatistics
from ..netlink.owner import Owner
from ..netlink.progress import Progress
from ..netlink.receive_buffer import QueueState
from .iterators import DecodingIterator, MessageDecoder
from .subscription import LEAST_COST, Subscription

E = TypeVar("E", bound="Event | EventsLost")

OnLoss = Literal["raise", "item"]

_READS: Final = 256
"""How many datagrams, of one event each, are read before other tasks run."""

logger = logging.getLogger("conntrack_aio")


class EventStream(DecodingIterator[E]):
    """The events of a subscription, as an async iterator that does not end.

    :meth:`Connection.events` returns one. It is subscribed from the moment it exists. Hold it in a
    variable while you iterate, so that an error that is raised while iterating does not drop it::

        async with conn.events() as stream:
            async for event in stream:
                ...

    Neither ``break`` nor a cancellation closes the stream: you can go on iterating, and no event is
    lost. Until you do, events wait in the receive buffer.

    Iterating raises:

    :raises EventsLost: in the place where the kernel dropped events because the receive buffer was
        full. Iteration continues after it. With ``on_loss="item"`` it is an item like the events,
        also within a batch. Each gap is reported once, at the latest after the last event that was
        queued before it.
    :raises DecodeError: in the place of an event that cannot be decoded. Iteration continues after
        it.
    :raises anyio.ClosedResourceError: when the stream or its connection is closed.
    :raises anyio.BusyResourceError: while another task iterates.
    :raises UsedElsewhere: in another process or event loop.
    """

    covers_older_flows: bool | None
    """Whether flows that are older than the first listener emit events.

    It is ``True`` if ``nf_conntrack_events`` is 1. It is ``False`` with the kernel's default of 2:
    flows that were created while no program listened, on the whole machine, never emit an event,
    not even a destroy event. It is ``False`` with 0, too: no flow emits events. It is ``None`` if
    the setting cannot be read.

    It is the setting at the time of the subscription. A flow that was created under another setting
    keeps that one. With ``all_netns`` it is the setting of the connection's own namespace; each
    other namespace has its own.
    """

    blind_spots: tuple[BlindSpot, ...]
    """What this stream will not receive, and why. Each is logged as well.

    - ``nf_conntrack_events`` is 0: flows that are created from now on emit no events. A flow that
      was created under another setting, or that a rule gives an event mask, does emit them.
    - ``nf_conntrack_events`` is 2: flows that are older than the first listener emit none.
    - The table is empty. If no firewall rule needs connection tracking, nothing is tracked:
      :meth:`Sysctls.tracking` finds out whether one does.
    - With ``all_netns``: a namespace that ``ip netns`` knows has no id in the connection's own. Its
      :attr:`BlindSpot.setting` is empty.

    These are the settings of the connection's own namespace at the time of the subscription.
    """

    def __init__(
        self,
        subscription: Subscription,
        reader: MessageDecoder[E],
        on_close: Callable[[EventStream[E]], None],
        on_loss: OnLoss = "raise",
        keep: Callable[[E], bool] | None = None,
        owner: Owner | None = None,
    ) -> None:
        """Initialize the stream.

        :param owner: the process and event loop that may use it; by default the current ones.
        """
        self._statistics = StreamStatistics()
        super().__init__(Owner() if owner is None else owner, reader, self._statistics)
        self._raises = ConntrackError if on_loss == "raise" else DecodeError
        self._subscription = subscription
        self._keep = keep
        self._socket = subscription.socket
        mode = subscription.event_mode
        self.covers_older_flows = None if mode is None else mode == EventMode.ALWAYS
        self.blind_spots = subscription.blind_spots
        self._nsid_resolver = subscription.nsid_resolver
        self._buffer_size = subscription.buffer.size
        self._on_close = on_close
        self._unnamed: list[Event] = []
        """Pending events whose namespaces are still to be named."""
        self._reading = False
        self._receive_time = subscription.receive_time
        self._receive_timestamp = 0
        """When the pending events were read: all of them came by the same read."""
        self._drained = False
        """Whether the last read left the socket empty."""
        self._progress = Progress(LEAST_COST)
        self._settled = 0
        """The position before the last read, when everything before had been handed out."""
        self._drops_reported = 0
        for spot in self.blind_spots:
            no_events = spot.setting == "events" and mode == EventMode.OFF
            logger.log(logging.WARNING if no_events else logging.INFO, "%s", spot)

    @property
    def receive_buffer(self) -> int:
        """How many bytes may wait, in the kernel's accounting: twice what was granted.

        An event takes about 1,280. It is 0 when the stream is closed. Where the kernel may not be
        asked, because a seccomp profile forbids ``getsockopt``, it is the most that can have been
        granted.
        """
        return 0 if self._socket.closed else self._socket.receive_buffer

    @property
    def kernel_filter(self) -> EventFilter | None:
        """The program that the kernel runs on each event before it is queued here, or ``None``.

        ``str(stream.kernel_filter.program)`` lists its instructions.
        """
        return self._subscription.filter

    def statistics(self) -> StreamStatistics:
        """Return what this stream has done so far and how full it is, also after it was closed."""
        queue_state = None if self._socket.closed else self._socket.queue_state()
        lost = self._statistics.events_lost + self._unreported_losses(queue_state)
        undecoded = [each.remaining for each in self._received if isinstance(each, Datagram)]
        errors = len(self._received) - len(undecoded)
        return attrs.evolve(
            self._statistics,
            datagrams_received=self._socket.datagrams_received,
            bytes_received=self._socket.bytes_received,
            forged=self._socket.forged,
            events_lost=lost,
            waiting_bytes=0 if queue_state is None else queue_state.waiting,
            queued=len(self._pending) + sum(undecoded) + errors,
            receive_buffer=self.receive_buffer,
        )

    # -- without waiting ----------------------------------------------------------------------

    def receive_batch_nowait(self) -> list[E]:
        """Return events that can be received without waiting, and ``[]`` if there are none.

        These are some hundreds at most: the events that were received before and not handed out or,
        if there are none, those of up to 256 further datagrams. No other task runs in between, so a
        loop around this method has to let them run.

        An error is raised in its place, as by :meth:`receive_batch`. Afterwards the method can be
        called again.

        :raises EventsLost: in the place where events were dropped, unless it is an item of this
            stream.
        :raises DecodeError: in the place of an event that cannot be decoded.
        :raises anyio.ClosedResourceError: when the stream is closed.
        :raises anyio.BusyResourceError: while a task reads from it or waits for its next event.
        :raises RuntimeError: for a stream of all namespaces, because looking up the names of
            namespaces must wait for replies.
        """
        self._check_free()
        if self._nsid_resolver is not None:
            raise RuntimeError(
                "a stream of all namespaces has no receive_batch_nowait(): looking up their "
                "names takes waiting"
            )
        self._check_open()
        if not self._is_ready() and not self._receive_nowait():
            return []
        while self._received:
            self._decode()
        return self._take()

    def _receive_nowait(self) -> bool:
        """Receive some of what waits now, and return whether any of it is to be handed out.

        What waits may be only datagrams from other programs, or the report of an overrun.
        """
        until = self.position()
        self._read()
        while not self._is_ready() and (self._progress.has_gap or not self.has_passed(until)):
            self._read()
        return self._is_ready()

    async def wait_readable(self) -> None:
        """Wait until :meth:`receive_batch_nowait` may have something to return.

        It returns at once if events were received already. It may return without reason.

        :raises anyio.ClosedResourceError: when the stream is closed, also while this waits.
        :raises anyio.BusyResourceError: while another task reads from the stream.
        :raises UsedElsewhere: in another process or event loop.
        """
        self._owner.check()
        self._check_free()
        self._check_open()
        gap_is_due = self._progress.has_gap and not self._drained
        if self._pending or self._received or gap_is_due:
            await anyio.lowlevel.checkpoint()
        else:
            await self._socket.wait_readable()

    def position(self) -> int:
        """Return the position behind everything that is queued now, for :meth:`has_passed`.

        It is for programs that must know when they have received everything that had happened by
        now. The kernel queues an event before the system call that caused it returns::

            position = stream.position()
            while not stream.has_passed(position):
                for event in stream.receive_batch_nowait():
                    apply(event)
                await anyio.lowlevel.checkpoint()

        :raises anyio.ClosedResourceError: when the stream is closed.
        """
        self._check_open()
        queue_state = self._socket.queue_state()
        if queue_state is None:
            # If something waits, it may fill the buffer, and there may be an unreported gap.
            waits = self._socket.is_readable()
            return self._progress.position_after(self.receive_buffer if waits else 0, lost=waits)
        lost = queue_state.drops != self._drops_reported and not self._subscription.lossless
        return self._progress.position_after(queue_state.waiting, lost=lost)

    def has_passed(self, position: int) -> bool:
        """Return whether everything that had been queued at a position has been handed out.

        That is every event that waited in the socket's buffer or in this object when
        :meth:`position` was called and, if events had been dropped by then, the :exc:`EventsLost`
        that reports them.

        The stream knows this when a read finds the socket empty. If events keep arriving, it knows
        after reading as many datagrams as the receive buffer could hold, which is more than were
        queued. The read that decides may return no event. So call :meth:`receive_batch_nowait`
        until it returns ``[]``, then this method, and only then wait.

        :raises anyio.ClosedResourceError: when the stream is closed: it hands out nothing more.
        """
        self._check_open()
        # The pending events came by the last read, before which there were none.
        pending = self._pending or self._received
        return (self._settled if pending else self._progress.reported_position) >= position

    def _check_free(self) -> None:
        self._owner.check_call()
        if self._reading:
            raise anyio.BusyResourceError("reading from")

    def _check_open(self) -> None:
        self._owner.check_process()
        if self._socket.closed:
            raise anyio.ClosedResourceError("the event stream is closed")

    # -- reading ------------------------------------------------------------------------------

    async def _refill(self) -> bool:
        self._owner.check()
        self._check_free()
        self._reading = True
        try:
            # A checkpoint before anything is read: a cancellation here loses nothing.
            await anyio.lowlevel.checkpoint()
            while True:
                self._check_open()
                if not self._pending and not self._received:
                    self._read()
                if self._unnamed:
                    await self._name()
                elif self._pending or self._received:
                    return True
                elif self._drained or not self._progress.has_gap:
                    # After an overrun the queue may be empty already. To wait then would delay the
                    # report of the gap until the next event.
                    await self._socket.wait_readable()
        finally:
            self._reading = False

    def _read(self) -> None:
        """Receive what waits, up to a limit. There must be no pending events."""
        self._drained = False
        self._settled = self._progress.reported_position
        if self._nsid_resolver is None:
            self._read_some(_READS)
            return
        self._nsid_resolver.read_notifications()
        for _ in range(_READS):
            already = len(self._pending)
            self._read_some(1)
            while self._received:
                self._decode()
            for item in islice(self._pending, already, None):
                if not isinstance(item, ConntrackError):
                    item.nsid = self._nsid_resolver.nsid
                    self._unnamed.append(item)
                    self._withheld = True
            if self._drained:
                break
        if self._drained and not self._unnamed:
            self._nsid_resolver.note_drained()

    def _read_some(self, limit: int) -> None:
        """Receive up to ``limit`` datagrams."""
        datagrams: list[bytes | DecodeError] = []
        count = 0
        if (until_gap := self._progress.until_gap) is not None:
            limit = min(limit, until_gap)
        overrun = False
        try:
            while count < limit:
                count += self._socket.receive_some(datagrams, limit - count)
        except BlockingIOError:
            self._drained = True
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise request_error("receive events", error) from error
            overrun = True
        finally:
            self._received += [
                each if isinstance(each, DecodeError) else Datagram(each) for each in datagrams
            ]
        if self._receive_time and count:
            self._receive_timestamp = time.time_ns()
        self._progress.note_read(count)
        if self._drained:
            self._progress.note_drained()
        if self._progress.has_gap and (self._drained or overrun or self._progress.until_gap == 0):
            # The queue is empty, so what comes from now on is younger than the gap. Or there was
            # another overrun, which can only follow a read that emptied the queue, so the first gap
            # has been passed. Or everything that the buffer could hold has been read.
            self._report_gap()
        if overrun:
            # The kernel reports it once, before the older messages that still wait in the buffer.
            self._statistics.overruns += 1
            if not self._subscription.lossless:
                self._progress.open_gap(self.receive_buffer)
            self._grow()

    def _grow(self) -> None:
        """Double the receive buffer after an overrun, up to the maximum."""
        largest = self._subscription.buffer.largest
        if largest is not None and self._buffer_size < largest:
            self._buffer_size = min(2 * self._buffer_size, largest)
            self._socket.grow(self._buffer_size)
            if self._nsid_resolver is not None:
                self._nsid_resolver.note_receive_buffer(self.receive_buffer)

    def _keeps(self, items: list[E | DecodeError]) -> list[E | DecodeError]:
        errors = sum(isinstance(item, DecodeError) for item in items) if self._has_errors else 0
        self._statistics.events_decoded += len(items) - errors
        if self._receive_time:
            for item in items:
                if not isinstance(item, ConntrackError):
                    item.receive_timestamp = self._receive_timestamp
        keep = self._keep
        if keep is None:
            return items
        return [item for item in items if isinstance(item, DecodeError) or keep(item)]

    def _broken(self, error: DecodeError) -> None:
        self._received.appendleft(error)

    async def _name(self) -> None:
        assert self._nsid_resolver is not None
        nsids = [event.nsid for event in self._unnamed]
        names = await self._nsid_resolver.resolve(nsids, drained=self._drained)
        self._check_open()
        for event, name in zip(self._unnamed, names, strict=True):
            event.netns = name
        self._unnamed.clear()
        self._withheld = False

    def _report_gap(self) -> None:
        self._progress.close_gap()
        # The number is 0 if the last report already counted the drops of this gap.
        self._received.append(EventsLost(self._count_losses() or None))

    def _count_losses(self) -> int:
        """Count the dropped events that were not reported yet, and return their number."""
        queue_state = self._socket.queue_state()
        lost = self._unreported_losses(queue_state)
        if queue_state is not None:
            self._drops_reported = queue_state.drops
        self._statistics.events_lost += lost
        return lost

    def _unreported_losses(self, queue_state: QueueState | None) -> int:
        """Return how many events were dropped behind the last reported gap, as far as known."""
        # With retries, a dropped event is not lost, or is counted again.
        if queue_state is None or self._subscription.reliable:
            return 0
        return (queue_state.drops - self._drops_reported) & 0xFFFFFFFF

    async def aclose(self) -> None:
        """Close the stream. Events that were not read are lost. Idempotent.

        A task that iterates is woken, and raises :exc:`anyio.ClosedResourceError`. There is no
        checkpoint.
        """
        self.close()

    def close(self) -> None:
        """Close as :meth:`aclose` does, without ``await``.

        Call it in the event loop's thread.
        """
        if not self._socket.closed:
            self._pending.clear()
            self._received.clear()
            self._unnamed.clear()
            self._withheld = False
            self._count_losses()  # the statistics keep what they had shown
            self._socket.close()
            if self._nsid_resolver is not None:
                self._nsid_resolver.close()
            self._on_close(self)

    def __del__(self) -> None:
        with suppress(AttributeError):  # an interrupt may have ended the constructor
            self.close()
