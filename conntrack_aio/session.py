"""The session: what all the verbs of a connection share. Its sockets, its total and its life."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, TypeVar

import anyio
import attrs
from anyio import CapacityLimiter

from .bulk.outcomes import BulkOperation, BulkWork
from .bulk.sources import ItemSource
from .codec.decoder import count_layouts
from .model.statistics import ClientStatistics, StreamStatistics
from .model.values import describe_value
from .netlink.endpoint import Endpoint
from .netlink.exchange import Outcome, Request, Taker
from .netlink.owner import Owner
from .netlink.pipeline import RECEIVE_BUFFER, Pipeline
from .netlink.requester import Requester
from .netlink.socket import NetlinkSocket
from .netlink.threads import Threads, run_in_thread
from .netlink.walks import Walk
from .plain import as_int, as_str
from .registry import Registry
from .streams.dump import Dump, DumpPlanner, DumpStage
from .streams.events import E, EventStream, OnLoss
from .streams.iterators import Reader
from .streams.subscription import Buffer, EventSelection, subscribe

T = TypeVar("T")

_THREADS = 16
"""Threads that one connection may occupy at a time to receive ahead; and as many for what is asked
aside."""


class Table(Protocol):
    """A live table."""

    @property
    def resyncs(self) -> int: ...
    def close(self) -> None: ...


class Session:
    """One network namespace, spoken to: requests, dumps and streams of whatever subsystem."""

    def __init__(
        self, endpoint: Endpoint, requester: Requester, buffer: Buffer, reply_timeout: float
    ) -> None:
        self.endpoint = endpoint
        self.requester = requester
        self._buffer = buffer
        self._reply_timeout = reply_timeout
        self._threads = Threads(_THREADS)
        self._limiter = CapacityLimiter(_THREADS)
        self._counters = ClientStatistics()
        self._dumps: Registry[Dump[Any], Walk] = Registry()
        self._streams: Registry[EventStream[Any], None] = Registry()
        self._bulks: Registry[BulkOperation[Any], Sequence[Pipeline]] = Registry()
        self._tables: Registry[Table, None] = Registry()

    # -- life -------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        return self.requester.socket.closed

    @property
    def owner(self) -> Owner:
        """The process and the event loop that opened it."""
        return self.requester.owner

    def check_open(self) -> None:
        """Raises :exc:`anyio.ClosedResourceError` and :exc:`UsedElsewhere`."""
        self.owner.check_call()
        if self.closed:
            raise anyio.ClosedResourceError("the connection is closed")

    def close(self) -> None:
        """Close the tables, and the sockets of requests, dumps, bulks and streams. Idempotent."""
        for table, _ in self._tables.members():
            table.close()
        for dump, _ in self._dumps.members():
            dump.close()
        for stream, _ in self._streams.members():
            stream.close()
        for bulk, _ in self._bulks.members():
            bulk.shut()
        self.requester.close()
        self._threads.close()

    # -- conversations ----------------------------------------------------------------------

    async def ask(self, request: Request) -> Outcome:
        """Send one request; what became of it."""
        (outcome,) = await self.requester.run([request])
        return outcome

    async def run(
        self,
        requests: Sequence[Request],
        *,
        walk: bool = False,
        taker: Taker | None = None,
        on_unsent: Callable[[int], None] | None = None,
    ) -> list[Outcome]:
        """Send requests in order; an outcome for each. See :meth:`Requester.run`."""
        return await self.requester.run(requests, walk=walk, taker=taker, on_unsent=on_unsent)

    def dump(
        self,
        request: Request,
        reader: Reader[T],
        keep: Callable[[T], bool] | None = None,
        stage: DumpStage[T] | None = None,
        planner: DumpPlanner[T] | None = None,
    ) -> Dump[T]:
        """Entries of a table, on a socket of their own; those that ``keep`` is true of.

        :param planner: makes another request, and another ``keep``, when the dump begins.
        """
        self.check_open()
        walk = Walk(self._open_beside, request, self._threads, self._reply_timeout, self.owner)

        def retire(dump: Dump[Any]) -> None:
            self._dumps.discard(dump)
            _add_dump(self._counters, walk)

        dump = Dump(walk, reader, keep, self._counters, retire, stage, planner)
        self._dumps.add(dump, walk)
        return dump

    def subscribe(
        self,
        groups: Collection[int],
        reader: Reader[E],
        *,
        receive_buffer: int | None = None,
        receive_buffer_max: int | None = None,
        all_netns: bool = False,
        on_loss: OnLoss = "raise",
        reliable: bool = False,
        receive_time: bool = False,
        event_selection: EventSelection[E] | None = None,
    ) -> EventStream[E]:
        """Events of multicast groups, on a socket of their own, joined when this returns."""
        self.check_open()
        on_loss = _check_on_loss(on_loss)
        buffer = self.buffer_of(receive_buffer, receive_buffer_max)
        subscription = self.beside(
            lambda: subscribe(
                self.endpoint,
                groups,
                buffer,
                all_netns=all_netns,
                reliable=reliable,
                receive_time=receive_time,
                filters=() if event_selection is None else event_selection.filters(),
            )
        )
        keep = None if event_selection is None or subscription.exact else event_selection.keep
        stream = EventStream(subscription, reader, self._retire_stream, on_loss, keep, self.owner)
        self._streams.add(stream, None)
        return stream

    def buffer_of(self, size: int | None, largest: int | None) -> Buffer:
        """The buffer of a stream, of which what is not given is the connection's.

        Raises :exc:`TypeError` and :exc:`ValueError`.
        """
        buffer = check_buffers(self._buffer.size if size is None else size, largest)
        return buffer._replace(largest=self._buffer.largest) if largest is None else buffer

    def keep(self, table: Table) -> None:
        """A table that ends with this session."""
        self.check_open()
        self._tables.add(table, None)

    def forget(self, table: Table) -> None:
        """One that has ended."""
        if table in self._tables:
            self._tables.discard(table)
            self._counters.resyncs += table.resyncs

    def bulk(
        self, source: ItemSource[T], work: BulkWork[T], *, stop_on_error: bool = False
    ) -> BulkOperation[T]:
        """Requests for many items, on a socket of their own."""
        self.check_open()
        pipelines: list[Pipeline] = []

        def open_pipeline(reply_size: int) -> Pipeline:
            pipelines.append(self._open_pipeline(reply_size))
            return pipelines[0]

        def retire(bulk: BulkOperation[Any]) -> None:
            self._bulks.discard(bulk)
            _add_requests(self._counters, *pipelines)

        bulk = BulkOperation(
            self.owner, open_pipeline, source, work, retire, stop_on_error=stop_on_error
        )
        self._bulks.add(bulk, pipelines)
        return bulk

    def beside(self, function: Callable[[], T]) -> T:
        """Call ``function`` in the session's namespace: here, or on a thread made for it."""
        return self.endpoint.beside(self.requester.socket, function)

    async def run_on_thread(self, function: Callable[[], T]) -> T:
        """As :meth:`beside`, on a worker thread: for what may block.

        It runs to its end even if the caller is cancelled meanwhile. Raises
        :exc:`ResourceExhausted` if no thread can be started.
        """
        self.owner.check()

        def work() -> T:
            # The socket says which namespace it is, so nobody may close it now.
            with self.requester.socket.using():
                return self.beside(function)

        return await run_in_thread(work, self._limiter)

    def _open_beside(self) -> NetlinkSocket:
        self.check_open()
        return self.beside(self.endpoint.open)

    def _open_pipeline(self, answer: int) -> Pipeline:
        self.check_open()
        socket = self.beside(lambda: self.endpoint.open(RECEIVE_BUFFER))
        return Pipeline(socket, self._threads, self._reply_timeout, answer)

    # -- statistics --------------------------------------------------------------------------

    def statistics(self) -> ClientStatistics:
        """What was done so far, by what is closed and what is open."""
        self.owner.check_process()
        # Held here, none of them can be dropped, and counted as closed, while this adds them up.
        dumps, streams = self._dumps.members(), self._streams.members()
        bulks, tables = self._bulks.members(), self._tables.members()
        total = attrs.evolve(
            self._counters,
            requests_offloaded=self.requester.offloaded,
            layouts=count_layouts(),
            open_dumps=len(dumps),
            open_streams=len(streams),
            open_bulks=len(bulks),
            open_tables=len(tables),
            resyncs=self._counters.resyncs + sum(table.resyncs for table, _ in tables),
        )
        _add_requests(total, self.requester)
        for _, walk in dumps:
            _add_dump(total, walk)
        for stream, _ in streams:
            _add_stream(total, stream)
        for _, pipelines in bulks:
            _add_requests(total, *pipelines)
        return total

    def _retire_stream(self, stream: EventStream[Any]) -> None:
        self._streams.discard(stream)
        _add_stream(self._counters, stream)


def _add_requests(total: ClientStatistics, *clients: Requester | Pipeline) -> None:
    for client in clients:
        total.requests += client.requests
        total.stray_replies += client.strays
        total.overruns += client.overruns
        _add_traffic(total, client.socket)


def _add_dump(total: ClientStatistics, walk: Walk) -> None:
    """Add what a dump received. Decoded entries are counted as they are decoded."""
    total.stray_replies += walk.strays
    for socket in walk.sockets:
        _add_traffic(total, socket)


def _add_stream(total: ClientStatistics, stream: EventStream[Any]) -> None:
    its = stream.statistics()
    total.events_decoded += its.events_decoded
    total.events_lost += its.events_lost
    total.overruns += its.overruns
    total.fallbacks += its.fallbacks
    total.decode_errors += its.decode_errors
    total.waiting_bytes += its.waiting_bytes  # nothing, of one that is closed
    _add_traffic(total, its)


def _add_traffic(total: ClientStatistics, traffic: NetlinkSocket | StreamStatistics) -> None:
    total.datagrams_received += traffic.datagrams_received
    total.bytes_received += traffic.bytes_received
    total.forged += traffic.forged


def _check_on_loss(on_loss: object) -> OnLoss:
    """Return the plain text. Raises :exc:`ValueError`."""
    plain = as_str(on_loss) if issubclass(type(on_loss), str) else None
    if plain == "raise":
        return "raise"
    if plain == "item":
        return "item"
    raise ValueError(f'on_loss is "raise" or "item", not {describe_value(on_loss)}')


def check_buffers(size: int, largest: int | None) -> Buffer:
    """The sizes of a receive buffer, checked.

    Raises :exc:`TypeError`, and :exc:`ValueError` for one that the kernel could not double in 32
    bits, or a largest one that is smaller.
    """
    size = _check_buffer("receive_buffer", size)
    if largest is not None:
        largest = _check_buffer("receive_buffer_max", largest)
    if largest is not None and largest < size:
        raise ValueError(f"receive_buffer_max is {largest}, below the receive_buffer of {size}")
    return Buffer(size, largest)


def _check_buffer(name: str, size: int) -> int:
    try:
        size = as_int(size)
    except TypeError:
        raise TypeError(f"{name} is a number of bytes, not {describe_value(size)}") from None
    if not 0 < size < 1 << 30:
        shown = describe_value(size)
        raise ValueError(f"{name} is a number of bytes, at least 1 and below 2^30, not {shown}")
    return size
