"""The session: what all the verbs of a connection share. Its sockets, its books and its life."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol, TypeVar

import anyio
import attrs
from anyio import CapacityLimiter

from .bulk.outcomes import BulkOperation, Work
from .bulk.sources import Source
from .codec.decoder import count_layouts
from .dumps import Dump, Planner, Stage
from .events import E, EventStream, OnLoss
from .model.statistics import ClientStatistics, StreamStatistics
from .model.values import describe_value
from .netlink.dump_receiver import DumpReceiver
from .netlink.exchange import OnResponses, Request, Response
from .netlink.owner import Owner
from .netlink.pipeline import RECEIVE_BUFFER, Pipeline
from .netlink.requester import Requester
from .netlink.socket import NetlinkSocket
from .netlink.socket_factory import SocketFactory
from .netlink.threads import Threads, run_in_thread
from .plain import as_int, as_str
from .received import Reader
from .registry import Registry
from .subscriptions import Buffer, Sieve, subscribe

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
        self,
        socket_factory: SocketFactory,
        requester: Requester,
        buffer: Buffer,
        reply_timeout: float,
    ) -> None:
        self.socket_factory = socket_factory
        self.requester = requester
        self._buffer = buffer
        self._reply_timeout = reply_timeout
        self._threads = Threads(_THREADS)
        self._limiter = CapacityLimiter(_THREADS)
        self._counters = ClientStatistics()
        self._dumps: Registry[Dump[Any]] = Registry()
        self._streams: Registry[EventStream[Any]] = Registry()
        self._bulks: Registry[BulkOperation[Any]] = Registry()
        self._tables: Registry[Table] = Registry()

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
        for registry in (self._tables, self._dumps, self._streams):
            for each in registry.members():
                each.close()
        for bulk in self._bulks.members():
            bulk.shut()
        self.requester.close()
        self._threads.close()

    # -- conversations ----------------------------------------------------------------------

    async def ask(self, request: Request) -> Response:
        """Send one request and return the response."""
        (outcome,) = await self.requester.run([request])
        return outcome

    async def run(
        self,
        requests: Sequence[Request],
        *,
        walk: bool = False,
        on_responses: OnResponses | None = None,
        on_unsent: Callable[[int], None] | None = None,
    ) -> list[Response]:
        """Send requests in order and return a response for each. See :meth:`Requester.run`."""
        return await self.requester.run(
            requests, walk=walk, on_responses=on_responses, on_unsent=on_unsent
        )

    def dump(
        self,
        request: Request,
        reader: Reader[T],
        keep: Callable[[T], bool] | None = None,
        stage: Stage[T] | None = None,
        planner: Planner[T] | None = None,
    ) -> Dump[T]:
        """Entries of a table, on a socket of their own; those that ``keep`` is true of.

        :param planner: makes another request, and another ``keep``, when the dump begins.
        """
        self.check_open()
        receiver = DumpReceiver(
            self._open_beside, request, self._threads, self._reply_timeout, self.owner
        )
        dump = Dump(receiver, reader, keep, self._counters, self._retire_dump, stage, planner)
        self._dumps.add(dump)
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
        sieve: Sieve[E] | None = None,
    ) -> EventStream[E]:
        """Events of multicast groups, on a socket of their own, joined when this returns."""
        self.check_open()
        on_loss = _check_on_loss(on_loss)
        buffer = self.buffer_of(receive_buffer, receive_buffer_max)
        subscription = self.beside(
            lambda: subscribe(
                self.socket_factory,
                groups,
                buffer,
                all_netns=all_netns,
                reliable=reliable,
                receive_time=receive_time,
                filters=() if sieve is None else sieve.filters(),
            )
        )
        keep = None if sieve is None or subscription.exact else sieve.keep
        stream = EventStream(subscription, reader, self._retire_stream, on_loss, keep, self.owner)
        self._streams.add(stream)
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
        self._tables.add(table)

    def forget(self, table: Table) -> None:
        """One that has ended."""
        if table in self._tables:
            self._tables.discard(table)
            self._counters.resyncs += table.resyncs

    def bulk(
        self, source: Source[T], work: Work[T], *, stop_on_error: bool = False
    ) -> BulkOperation[T]:
        """Requests for many items, on a socket of their own."""
        self.check_open()
        bulk = BulkOperation(
            self.owner,
            self._open_pipeline,
            source,
            work,
            self._retire_bulk,
            stop_on_error=stop_on_error,
        )
        self._bulks.add(bulk)
        return bulk

    def beside(self, function: Callable[[], T]) -> T:
        """Call ``function`` in the session's namespace: here, or on a thread made for it."""
        return self.socket_factory.run_in_namespace_of(self.requester.socket, function)

    async def aside(self, function: Callable[[], T]) -> T:
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
        return self.beside(self.socket_factory.open)

    def _open_pipeline(self, answer: int) -> Pipeline:
        self.check_open()
        socket = self.beside(lambda: self.socket_factory.open(RECEIVE_BUFFER))
        return Pipeline(socket, self._threads, self._reply_timeout, answer)

    # -- the books --------------------------------------------------------------------------

    def statistics(self) -> ClientStatistics:
        """What was done so far, by what is closed and what is open."""
        self.owner.check_process()
        # Held here, none of them can be dropped, and counted as closed, while this adds them up.
        dumps, streams = self._dumps.members(), self._streams.members()
        bulks, tables = self._bulks.members(), self._tables.members()
        books = attrs.evolve(
            self._counters,
            requests_offloaded=self.requester.offloaded,
            layouts=count_layouts(),
            open_dumps=len(dumps),
            open_streams=len(streams),
            open_bulks=len(bulks),
            open_tables=len(tables),
            resyncs=self._counters.resyncs + sum(table.resyncs for table in tables),
        )
        _add_requests(books, self.requester)
        for dump in dumps:
            dump.add_traffic(books)
        for stream in streams:
            _add_stream(books, stream)
        for bulk in bulks:
            _add_requests(books, bulk.pipeline)
        return books

    def _retire_dump(self, dump: Dump[Any]) -> None:
        self._dumps.discard(dump)
        dump.add_traffic(self._counters)

    def _retire_stream(self, stream: EventStream[Any]) -> None:
        self._streams.discard(stream)
        _add_stream(self._counters, stream)

    def _retire_bulk(self, bulk: BulkOperation[Any]) -> None:
        self._bulks.discard(bulk)
        _add_requests(self._counters, bulk.pipeline)


def _add_requests(books: ClientStatistics, requester: Requester | Pipeline | None) -> None:
    if requester is not None:
        books.requests += requester.requests
        books.stray_replies += requester.stray_replies
        books.overruns += requester.overruns
        _add_traffic(books, requester.socket)


def _add_stream(books: ClientStatistics, stream: EventStream[Any]) -> None:
    told = stream.statistics()
    books.events_decoded += told.events_decoded
    books.events_lost += told.events_lost
    books.overruns += told.overruns
    books.fallbacks += told.fallbacks
    books.decode_errors += told.decode_errors
    books.waiting_bytes += told.waiting_bytes  # nothing, of one that is closed
    _add_traffic(books, told)


def _add_traffic(books: ClientStatistics, traffic: NetlinkSocket | StreamStatistics) -> None:
    books.datagrams_received += traffic.datagrams_received
    books.bytes_received += traffic.bytes_received
    books.forged += traffic.forged


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
