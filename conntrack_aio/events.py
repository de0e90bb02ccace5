"""The event stream: what happens in a table of the kernel's, as it happens."""

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

from .codec.decoder import Datagram
from .errors import ConntrackError, DecodeError, EventsLost, failed
from .filters.program import EventFilter
from .model.events import Event
from .model.statistics import StreamStatistics
from .model.sysctls import BlindSpot, EventMode
from .netlink.owner import Owner
from .netlink.progress import Progress
from .netlink.receive_buffer import QueueState
from .received import Reader, Received
from .subscriptions import LEAST_COST, Subscription

E = TypeVar("E", bound="Event | EventsLost")

OnLoss = Literal["raise", "item"]

_READS: Final = 256
"""Datagrams, of one event each, read before other tasks have their turn."""

logger = logging.getLogger("conntrack_aio")


class EventStream(Received[E]):
    """Events, an async iterator that never ends by itself; see :meth:`Connection.events`.

    It is subscribed from the moment it exists. Hold it while you iterate, so that what is raised
    while iterating doesn't throw it away::

        async with conn.events() as stream:
            async for event in stream:
                ...

    Iterating raises :exc:`EventsLost` in the place where the kernel dropped events because they
    came faster than they were read, and :exc:`DecodeError` in place of an event that is none;
    after both it goes on. With ``on_loss="item"`` an :class:`EventsLost` is an item like the
    events, also within a batch. Each gap is told once: at the latest when all that can have waited
    in front of it has been handed out. It raises :exc:`anyio.ClosedResourceError` once the stream,
    or its connection, is closed, and :exc:`anyio.BusyResourceError` while another task iterates.
    """

    covers_older_flows: bool | None
    """Whether flows older than the first listener emit events: ``nf_conntrack_events`` is 1.

    ``False`` with the kernel's default of 2 (flows made while nobody listened, on the whole
    machine, stay silent for ever, even when they are destroyed) and with 0 (every flow is
    silent). ``None`` if the setting can't be read. As of the subscription; a flow made under
    another setting keeps to that one. With ``all_netns`` it is of the connection's own namespace;
    each of the others has a setting of its own.
    """

    blind_spots: tuple[BlindSpot, ...]
    """What this stream does not hear, and why, as of the subscription; each is logged as well.

    - ``nf_conntrack_events`` is 0: flows that are made from now on emit no events. A flow that was
      made under another setting, or to which a rule gives an event mask, emits its events all the
      same.
    - It is 2: flows that are older than the first listener emit none.
    - The namespace has no entries: the kernel tracks nothing until a rule asks for it. Whether one
      does is asked by :meth:`Sysctls.tracking`.
    - With ``all_netns``: a namespace that ``ip netns`` knows has no id in the connection's own. Its
      :attr:`BlindSpot.setting` is empty.

    The settings are those of the connection's own namespace.
    """

    def __init__(
        self,
        subscription: Subscription,
        reader: Reader[E],
        on_close: Callable[[EventStream[E]], None],
        on_loss: OnLoss = "raise",
        keep: Callable[[E], bool] | None = None,
        owner: Owner | None = None,
    ) -> None:
        """``owner`` is where it may be used; unless given, where it is made."""
        self._statistics = StreamStatistics()
        super().__init__(Owner() if owner is None else owner, reader, self._statistics)
        self._raises = ConntrackError if on_loss == "raise" else DecodeError
        self._subscription = subscription
        self._keep = keep
        self.socket = subscription.socket
        mode = subscription.event_mode
        self.covers_older_flows = None if mode is None else mode == EventMode.ALWAYS
        self.blind_spots = subscription.blind_spots
        self._nsid_resolver = subscription.nsid_resolver
        self._asked = subscription.buffer.size
        self._on_close = on_close
        self._unnamed: list[Event] = []
        """Those that are pending and whose namespaces are still to be named."""
        self._reading = False
        self._receive_time = subscription.receive_time
        self._received_at = 0
        """When what is in hand was read; all of it came by one look at the socket."""
        self._dry = False
        """Whether the last look at the socket found all that there was."""
        self._progress = Progress(LEAST_COST)
        self._settled = 0
        """The position before the last look at the socket, by which all had been handed out."""
        self._drops_told = 0
        for spot in self.blind_spots:
            hopeless = spot.setting == "events" and mode == EventMode.OFF
            logger.log(logging.WARNING if hopeless else logging.INFO, "%s", spot)

    @property
    def receive_buffer(self) -> int:
        """How many bytes may wait, as the kernel counts: twice what was granted.

        An event takes some 1,280. It is 0 once the stream is closed. Where the kernel may not be
        asked (a seccomp profile forbids ``getsockopt``), it is the most that can have been granted.
        """
        return 0 if self.socket.closed else self.socket.receive_buffer

    @property
    def kernel_filter(self) -> EventFilter | None:
        """The program that the kernel runs on each event before it is queued here; ``None`` if
        there is none. ``str(stream.kernel_filter.program)`` lists it."""
        return self._subscription.filter

    def statistics(self) -> StreamStatistics:
        """What this stream has done so far, and how full it is; also of one that is closed."""
        queue = None if self.socket.closed else self.socket.queue_state()
        lost = self._statistics.events_lost + self._untold_losses(queue)
        undecoded = [each.left for each in self._received if isinstance(each, Datagram)]
        errors = len(self._received) - len(undecoded)
        return attrs.evolve(
            self._statistics,
            datagrams_received=self.socket.datagrams_received,
            bytes_received=self.socket.bytes_received,
            forged=self.socket.forged,
            events_lost=lost,
            waiting_bytes=0 if queue is None else queue.waiting,
            queued=len(self._pending) + sum(undecoded) + errors,
            receive_buffer=self.receive_buffer,
        )

    # -- without waiting ----------------------------------------------------------------------

    def receive_batch_nowait(self) -> list[E]:
        """Events that were received, or can be without waiting; ``[]`` if nothing waited.

        These are some hundreds at most: what was received before and not handed out or, if there
        is none, what up to 256 further datagrams have. It does not let other tasks run: a loop
        around it has to.

        An error is raised in its place, as by :meth:`receive_batch`: :exc:`EventsLost` (unless it
        is an item of this stream), :exc:`DecodeError`; then it can be called again. Raises
        :exc:`anyio.ClosedResourceError` once the stream is closed,
        :exc:`anyio.BusyResourceError` while a task reads from it or waits for its next event, and
        :exc:`RuntimeError` if it is of all namespaces, because to name those takes waiting.
        """
        self._check_free()
        if self._nsid_resolver is not None:
            raise RuntimeError(
                "a stream of all namespaces has no receive_batch_nowait(): their names "
                "are asked for"
            )
        self._check_open()
        if not self._is_ready() and not self._look():
            return []
        while self._received:
            self._decode()
        return self._take()

    def _look(self) -> bool:
        """Take in some of what waits at this moment; whether any of it is to be handed out.

        A look may have nothing but forged datagrams, or the news of an overrun.
        """
        until = self.mark()
        self._read()
        while not self._is_ready() and (self._progress.has_gap or not self.passed(until)):
            self._read()
        return self._is_ready()

    def mark(self) -> int:
        """A mark of this moment, for :meth:`passed`.

        For programs that must know when they have been told all that had happened by now: the
        kernel queues an event before the call that caused it returns. Raises
        :exc:`anyio.ClosedResourceError`.
        """
        self._check_open()
        queue = self.socket.queue_state()
        if queue is None:
            # As much as can be, and perhaps a gap that nobody knows of yet; or else nothing.
            waits = self.socket.is_readable()
            return self._progress.position_after(self.receive_buffer if waits else 0, lost=waits)
        lost = queue.drops != self._drops_told and not self._subscription.lossless
        return self._progress.position_after(queue.waiting, lost=lost)

    def passed(self, mark: int) -> bool:
        """Whether all that had been queued when :meth:`mark` was called has been handed out.

        That is: every event that the kernel had put into the socket's buffer by then, or that was
        in our hands, and, where some had been dropped by then, the :exc:`EventsLost` that says so.
        It is known when the socket is found empty, or, if events come so fast that it never is,
        when as many were read as can have waited: a few times as many as there were. That may be by
        a read that has nothing to hand out. So a program that must not miss the moment reads by
        :meth:`receive_batch_nowait` until that returns ``[]``, and asks here before it waits for
        more.

        Raises :exc:`anyio.ClosedResourceError`: of a stream that is closed, nothing more is handed
        out.
        """
        self._check_open()
        # What is in our hands came by the last look at the socket, before which they were empty.
        held = self._pending or self._received
        return (self._settled if held else self._progress.reported_position) >= mark

    def _check_free(self) -> None:
        self._owner.check_call()
        if self._reading:
            raise anyio.BusyResourceError("reading from")

    def _check_open(self) -> None:
        self._owner.check_process()
        if self.socket.closed:
            raise anyio.ClosedResourceError("the event stream is closed")

    # -- reading ------------------------------------------------------------------------------

    async def _refill(self) -> bool:
        self._owner.check()
        self._check_free()
        self._reading = True
        try:
            # Before anything is read: a cancellation here loses nothing.
            await anyio.lowlevel.checkpoint()
            while True:
                self._check_open()
                if not self._pending and not self._received:
                    self._read()
                if self._unnamed:
                    await self._name()
                elif self._pending or self._received:
                    return True
                elif self._dry or not self._progress.has_gap:
                    # Not behind the news of an overrun: the queue may be empty already, and then
                    # the next look, which tells the gap, would only come with the next event.
                    await self.socket.wait_readable()
        finally:
            self._reading = False

    def _read(self) -> None:
        """Take in what waits, within bounds. Our hands are empty."""
        self._dry = False
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
                    self._held = True
            if self._dry:
                break
        if self._dry and not self._unnamed:
            self._nsid_resolver.note_drained()

    def _read_some(self, limit: int) -> None:
        """Take in so many datagrams at most."""
        datagrams: list[bytes | DecodeError] = []
        count = 0
        if (until_gap := self._progress.until_gap) is not None:
            limit = min(limit, until_gap)
        overrun = False
        try:
            while count < limit:
                count += self.socket.receive_some(datagrams, limit - count)
        except BlockingIOError:
            self._dry = True
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise failed("receive events", error) from error
            overrun = True
        finally:
            self._received += [
                each if isinstance(each, DecodeError) else Datagram(each) for each in datagrams
            ]
        if self._receive_time and count:
            self._received_at = time.time_ns()
        self._progress.note_read(count)
        if self._dry:
            self._progress.note_drained()
        if self._progress.has_gap and (self._dry or overrun or self._progress.until_gap == 0):
            # The queue is empty, so what comes from now on is younger than the gap. Or it ran over
            # again, which can only follow a read that emptied it: the first gap lies behind us. Or,
            # in a storm that never lets it run dry, what it could hold has been read.
            self._tell_gap()
        if overrun:
            # Said once, before the older messages that still wait in the buffer.
            self._statistics.overruns += 1
            if not self._subscription.lossless:
                self._progress.open_gap(self.receive_buffer)
            self._grow()

    def _grow(self) -> None:
        """Have twice as much room after an overrun, up to what was allowed."""
        largest = self._subscription.buffer.largest
        if largest is not None and self._asked < largest:
            self._asked = min(2 * self._asked, largest)
            self.socket.grow(self._asked)
            if self._nsid_resolver is not None:
                self._nsid_resolver.note_receive_buffer(self.receive_buffer)

    def _keeps(self, items: list[E | DecodeError]) -> list[E | DecodeError]:
        errors = sum(isinstance(item, DecodeError) for item in items) if self._flawed else 0
        self._statistics.events_decoded += len(items) - errors
        if self._receive_time:
            for item in items:
                if not isinstance(item, ConntrackError):
                    item.time_received = self._received_at
        keep = self._keep
        if keep is None:
            return items
        return [item for item in items if isinstance(item, DecodeError) or keep(item)]

    def _broken(self, error: DecodeError) -> None:
        self._received.appendleft(error)

    async def _name(self) -> None:
        assert self._nsid_resolver is not None
        names = await self._nsid_resolver.resolve(
            [event.nsid for event in self._unnamed], drained=self._dry
        )
        self._check_open()
        for event, name in zip(self._unnamed, names, strict=True):
            event.netns = name
        self._unnamed.clear()
        self._held = False

    def _tell_gap(self) -> None:
        self._progress.close_gap()
        # None were counted if those of this gap had been dropped when the last one was told.
        self._received.append(EventsLost(self._count_losses() or None))

    def _count_losses(self) -> int:
        """Add to the statistics what was dropped and not told yet; how many."""
        queue = self.socket.queue_state()
        lost = self._untold_losses(queue)
        if queue is not None:
            self._drops_told = queue.drops
        self._statistics.events_lost += lost
        return lost

    def _untold_losses(self, queue: QueueState | None) -> int:
        """How many events were dropped behind the last gap that was told, as far as is known."""
        # With retries, what is dropped is not lost, or is dropped again.
        if queue is None or self._subscription.reliable:
            return 0
        return (queue.drops - self._drops_told) & 0xFFFFFFFF

    async def aclose(self) -> None:
        """End it; what was not read is gone. Idempotent; a task that iterates is woken."""
        self.close()

    def close(self) -> None:
        """As :meth:`aclose`, without a checkpoint. To be called in the event loop's thread."""
        if not self.socket.closed:
            self._pending.clear()
            self._received.clear()
            self._unnamed.clear()
            self._held = False
            self._count_losses()  # what was seen in the statistics stays there
            self.socket.close()
            if self._nsid_resolver is not None:
                self._nsid_resolver.close()
            self._on_close(self)

    def __del__(self) -> None:
        with suppress(AttributeError):  # an interrupt may have cut its making short
            self.close()
