"""Event streams: async iterators of the events of a kernel table."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import anyio.lowlevel
import attrs

from ..codec.decoder import Datagram
from ..errors import ConntrackError, DecodeError, EventsLost
from ..model.client_statistics import StreamStatistics
from ..model.events import Event
from ..model.settings import BlindSpot, EventMode
from ..netlink.owner import Owner
from .event_receiver import EventReceiver
from .iterators import DecodingIterator, MessageDecoder
from .subscription import Subscription

if TYPE_CHECKING:
    from ..codec.arrow import Addresses
    from ..codec.column_collector import ColumnCollector
    from ..filters.program import EventFilter
    from .column_batches import ColumnBatches

E = TypeVar("E", bound="Event | EventsLost")

_DATAGRAMS_PER_READ: Final = 256
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

    :raises EventsLost: when the kernel dropped events because the receive buffer was full. It is
        raised in the place of the gap, and iteration continues after it. With ``on_loss="item"`` it
        is an item like the events, also within a batch. Each gap is reported once, at the latest
        after the last event that was queued before it.
    :raises DecodeError: when an event cannot be decoded. It is raised in the place of the event,
        and iteration continues after it.
    :raises KernelError: when the kernel refuses to hand out events.
    :raises ResourceExhausted: when the system cannot watch the socket.
    :raises anyio.ClosedResourceError: when the stream or its connection is closed.
    :raises anyio.BusyResourceError: when another task is iterating.
    :raises UsedElsewhere: when called in another process or event loop.
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
        decoder: MessageDecoder[E],
        on_close: Callable[[EventStream[E]], None],
        predicate: Callable[[E], bool] | None = None,
        owner: Owner | None = None,
    ) -> None:
        """Initialize the stream.

        :param subscription: the sockets and the options.
        :param decoder: decodes the messages into events.
        :param on_close: called once, when the stream is closed.
        :param predicate: which events to hand out; ``None`` for all.
        :param owner: the process and event loop that may use it; by default the current ones.
        """
        options = subscription.options
        self._statistics = StreamStatistics()
        super().__init__(Owner() if owner is None else owner, decoder, self._statistics)
        self._raises = ConntrackError if options.on_loss == "raise" else DecodeError
        self._subscription = subscription
        self._predicate = predicate
        self._socket = subscription.socket
        mode = subscription.event_mode
        self.covers_older_flows = None if mode is None else mode == EventMode.ALWAYS
        self.blind_spots = subscription.blind_spots
        self._nsid_resolver = subscription.nsid_resolver
        self._on_close = on_close
        self._unnamed: list[Event] = []
        """Pending events that still lack the name of their namespace."""
        self._reading = False
        self._receive_time = options.receive_time
        self._receiver = EventReceiver(subscription, self._received, self._statistics)
        self._progress = self._receiver.progress
        self._handed_out_position = 0
        """The position before the last read: everything before it has been handed out."""
        for spot in self.blind_spots:
            no_events = spot.setting == "events" and mode == EventMode.OFF
            logger.log(logging.WARNING if no_events else logging.INFO, "%s", spot)

    @property
    def receive_buffer(self) -> int:
        """How many bytes may wait, in the kernel's accounting: twice what was granted.

        An event takes about 1,280 bytes. The value is 0 when the stream is closed. Where the kernel
        cannot be asked, because a seccomp profile forbids ``getsockopt``, it is the most that can
        have been granted.
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
        lost = self._statistics.events_lost + self._receiver.unreported_losses(queue_state)
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

    def columns(self, *names: str, addresses: Addresses = "bytes") -> ColumnBatches:
        """Return an async iterator of batches of columns, each of the events that have arrived.

        A batch never waits for more events. Where events are missing, it raises
        :exc:`EventsLost`, also with ``on_loss="item"``.

        :param names: the names of the columns; by default all columns. They are those of a dump,
            and ``type``, ``port_id``, ``nsid``, ``netns``, ``timestamp`` and
            ``receive_timestamp``.
        :param addresses: ``"bytes"`` for 16 bytes each, IPv4 addresses as IPv4-mapped ones, or
            ``"text"``.
        :raises ValueError: when there is no column of a name, when one is named twice, or when
            ``addresses`` is another value.
        :raises TypeError: when a name is not text, or when the events are not those of flows.
        """
        from .column_batches import ColumnBatches

        collector = self._make_collector(names, addresses)
        collect = partial(self._collect, collector)
        return ColumnBatches(self._owner, collector, collect, self.close, fills_batches=False)

    def _pass_on(self, collector: ColumnCollector[E]) -> None:
        if self._receive_time:
            collector.set_for_all("receive_timestamp", self._receiver.timestamp)
        super()._pass_on(collector)

    # -- without waiting ----------------------------------------------------------------------

    def receive_batch_nowait(self) -> list[E]:
        """Return events that can be received without waiting, and ``[]`` if there are none.

        These are some hundreds at most: the events that were received before and not handed out or,
        if there are none, those of up to 256 further datagrams. No other task runs during the call,
        so a loop around this method has to let them run.

        An error is raised in its place, as by :meth:`receive_batch`. After it the method can be
        called again.

        :raises EventsLost: when events were dropped, unless it is an item of this stream.
        :raises DecodeError: when an event cannot be decoded.
        :raises anyio.ClosedResourceError: when the stream is closed.
        :raises anyio.BusyResourceError: when a task is reading from it or waits for its next event.
        :raises KernelError: when the kernel refuses to hand out events.
        :raises UsedElsewhere: when called in another process or event loop.
        :raises RuntimeError: when this is a stream of all namespaces, because looking up their
            names must wait for replies.
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

        It returns at once if events were received already. It may also return when there are none.

        :raises anyio.ClosedResourceError: when the stream is closed, also while this waits.
        :raises anyio.BusyResourceError: when another task is reading from the stream.
        :raises ResourceExhausted: when the system cannot watch the socket.
        :raises UsedElsewhere: when called in another process or event loop.
        """
        self._owner.check()
        self._check_free()
        self._check_open()
        gap_is_due = self._progress.has_gap and not self._receiver.drained
        if self._pending or self._received or gap_is_due:
            await anyio.lowlevel.checkpoint()
        else:
            await self._socket.wait_readable()

    def position(self) -> int:
        """Return the position after everything that is queued now, for :meth:`has_passed`.

        Use it to find out when everything that has happened until now has been received. The kernel
        queues an event before the system call that caused it returns::

            position = stream.position()
            while not stream.has_passed(position):
                for event in stream.receive_batch_nowait():
                    apply(event)
                await anyio.lowlevel.checkpoint()

        :raises anyio.ClosedResourceError: when the stream is closed.
        """
        self._check_open()
        return self._receiver.position()

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
        # The pending events are from the last read. Before it, none were pending.
        pending = self._pending or self._received
        return (
            self._handed_out_position if pending else self._progress.reported_position
        ) >= position

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
                    await self._set_namespace_names()
                elif self._pending or self._received:
                    return True
                elif self._receiver.drained or not self._progress.has_gap:
                    # After an overrun the queue may be empty already. To wait then would delay the
                    # report of the gap until the next event.
                    await self._socket.wait_readable()
        finally:
            self._reading = False

    def _read(self) -> None:
        """Receive what waits, up to a limit. Precondition: no events are pending."""
        receiver = self._receiver
        self._handed_out_position = self._progress.reported_position
        if self._nsid_resolver is None:
            receiver.receive(_DATAGRAMS_PER_READ)
            return
        self._nsid_resolver.read_notifications()
        for _ in range(_DATAGRAMS_PER_READ):
            already = len(self._pending)
            receiver.receive(1)  # so that the namespace of the event is known
            while self._received:
                self._decode()
            for item in islice(self._pending, already, None):
                if not isinstance(item, ConntrackError):
                    item.nsid = self._nsid_resolver.nsid
                    self._unnamed.append(item)
                    self._withheld = True
            if receiver.drained:
                break
        if receiver.drained and not self._unnamed:
            self._nsid_resolver.note_drained()

    def _count_decoded(self, objects: int, errors: int) -> None:
        self._statistics.events_decoded += objects

    def _select_items(self, items: list[E | DecodeError]) -> list[E | DecodeError]:
        if self._receive_time:
            timestamp = self._receiver.timestamp
            for item in items:
                if not isinstance(item, ConntrackError):
                    item.receive_timestamp = timestamp
        return super()._select_items(items)

    def _on_malformed_datagram(self, error: DecodeError) -> None:
        self._received.appendleft(error)

    async def _set_namespace_names(self) -> None:
        """Set the names of the namespaces of the unnamed events."""
        assert self._nsid_resolver is not None
        nsids = [event.nsid for event in self._unnamed]
        names = await self._nsid_resolver.resolve(nsids, drained=self._receiver.drained)
        self._check_open()
        for event, name in zip(self._unnamed, names, strict=True):
            event.netns = name
        self._unnamed.clear()
        self._withheld = False

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
            self._sample = None
            self._pending.clear()
            self._received.clear()
            self._unnamed.clear()
            self._withheld = False
            self._receiver.count_losses()  # the statistics keep what they had shown
            self._socket.close()
            if self._nsid_resolver is not None:
                self._nsid_resolver.close()
            self._on_close(self)

    def __del__(self) -> None:
        with suppress(AttributeError):  # an interrupt may have ended the constructor
            self.close()
