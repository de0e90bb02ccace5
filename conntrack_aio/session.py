"""The session: the sockets, the objects that are open, and the statistics of a connection."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .eventloop import closed_error
from .netlink.exchange import OnResponses, Request, Response
from .netlink.owner import Owner
from .netlink.requester import Requester
from .netlink.socket import NetlinkSocket
from .netlink.threads import Threads, run_in_thread
from .registry import Registry
from .socket_factory import SocketFactory
from .streams.totals import Totals

if TYPE_CHECKING:
    from anyio import CapacityLimiter

    from .bulk.outcomes import BulkOperation, BulkWork
    from .bulk.sources import ItemSource
    from .model.client_statistics import ClientStatistics, StreamStatistics
    from .netlink.dump_receiver import DumpReceiver
    from .netlink.pipeline import Pipeline
    from .streams.buffer_sizes import BufferSizes
    from .streams.dump import Dump, DumpPlanner, EntryProcessor
    from .streams.events import E, EventStream
    from .streams.iterators import MessageDecoder
    from .streams.options import EventSelection, StreamOptions

T = TypeVar("T")

_THREADS = 16
"""The most threads of one connection that receive ahead, and the most that call functions."""


class Table(Protocol):
    """A live table, as far as a session needs it."""

    @property
    def resyncs(self) -> int: ...
    def close(self) -> None: ...


class Session:
    """What all operations of a connection share: its sockets, open objects and statistics.

    It sends requests and opens dumps, streams and bulk operations in one network namespace.
    """

    def __init__(
        self,
        socket_factory: SocketFactory,
        requester: Requester,
        buffer_sizes: BufferSizes,
        reply_timeout: float,
    ) -> None:
        self.socket_factory = socket_factory
        self.requester = requester
        self._buffer_sizes = buffer_sizes
        self._reply_timeout = reply_timeout
        self._threads = Threads(_THREADS)
        self._dumps: Registry[Dump[Any], DumpReceiver] = Registry()
        self._streams: Registry[EventStream[Any], None] = Registry()
        self._bulks: Registry[BulkOperation[Any], Sequence[Pipeline]] = Registry()
        self._tables: Registry[Table, None] = Registry()
        self._counters = Totals()
        """What the closed dumps, streams, tables and bulk operations did."""

    # What a few requests do not need is imported when it is used: importing it takes longer than
    # they do.

    @cached_property
    def _limiter(self) -> CapacityLimiter:
        from anyio import CapacityLimiter

        return CapacityLimiter(_THREADS)

    # -- opening and closing ---------------------------------------------------------------

    @property
    def closed(self) -> bool:
        return self.requester.socket.closed

    @property
    def owner(self) -> Owner:
        """The process and the event loop that may use the session."""
        return self.requester.owner

    def check_open(self) -> None:
        """Check that the session can be used here.

        :raises anyio.ClosedResourceError: when the session is closed.
        :raises UsedElsewhere: when called in another process or event loop.
        """
        self.owner.check_call()
        if self.closed:
            raise closed_error("the connection is closed")

    def close(self) -> None:
        """Close tables, dumps, streams, bulk operations and the request socket. Idempotent."""
        for table, _ in self._tables.members():
            table.close()
        for dump, _ in self._dumps.members():
            dump.close()
        for stream, _ in self._streams.members():
            stream.close()
        for bulk, _ in self._bulks.members():
            bulk._shut()  # pyright: ignore[reportPrivateUsage]
        self.requester.close()
        self._threads.close()

    # -- requests, dumps, streams ----------------------------------------------------------

    async def ask(self, request: Request) -> Response:
        """Send one request, and return the response."""
        (response,) = await self.requester.run([request])
        return response

    async def run(
        self,
        requests: Sequence[Request],
        *,
        walks_table: bool = False,
        on_responses: OnResponses | None = None,
        on_unsent: Callable[[int], None] | None = None,
    ) -> list[Response]:
        """Send requests in order, and return a response to each. See :meth:`Requester.run`."""
        return await self.requester.run(
            requests, walks_table=walks_table, on_responses=on_responses, on_unsent=on_unsent
        )

    def dump(
        self,
        request: Request,
        decoder: MessageDecoder[T],
        predicate: Callable[[T], bool] | None = None,
        processor: EntryProcessor[T] | None = None,
        planner: DumpPlanner[T] | None = None,
    ) -> Dump[T]:
        """Return a dump of a table, which opens a socket of its own when it is iterated.

        :param request: the request to dump.
        :param decoder: decodes the entries.
        :param predicate: which entries to hand out; ``None`` for all.
        :param processor: processes the entries before they are handed out.
        :param planner: called when the dump begins. The requests and the predicate that it returns
            replace the given ones.

        :raises anyio.ClosedResourceError: when the session is closed.
        :raises UsedElsewhere: when called in another process or event loop.
        """
        from .netlink.dump_receiver import DumpReceiver
        from .streams.dump import Dump

        self.check_open()
        receiver = DumpReceiver(
            self._open_socket, request, self._threads, self._reply_timeout, self.owner
        )

        def on_close(dump: Dump[Any]) -> None:
            self._dumps.discard(dump)
            _add_dump(self._counters, receiver)

        dump = Dump(receiver, decoder, predicate, self._counters, on_close, processor, planner)
        self._dumps.add(dump, receiver)
        return dump

    def subscribe(
        self,
        groups: Collection[int],
        decoder: MessageDecoder[E],
        options: StreamOptions,
        selection: EventSelection[E] | None = None,
    ) -> EventStream[E]:
        """Subscribe to multicast groups on a new socket. The subscription is complete on return.

        :param groups: the multicast groups.
        :param decoder: decodes the events.
        :param options: the options of the stream.
        :param selection: the events to hand out; ``None`` for all.

        :raises TypeError: when a buffer size is not a number of bytes.
        :raises ValueError: when a buffer size is out of range.
        :raises KernelError: when the kernel refuses to subscribe.
        :raises anyio.ClosedResourceError: when the session is closed.
        :raises UsedElsewhere: when called in another process or event loop.
        """
        from .streams.events import EventStream
        from .streams.subscription import subscribe

        self.check_open()
        self.owner.check_loop()
        buffer_sizes = self.buffer_sizes_of(options)
        filters = () if selection is None else selection.filters()
        subscription = self.run_in_namespace(
            lambda: subscribe(self.socket_factory, groups, options, buffer_sizes, filters)
        )
        predicate = None if selection is None or subscription.exact else selection.predicate
        stream = EventStream(subscription, decoder, self._on_stream_close, predicate, self.owner)
        self._streams.add(stream, None)
        return stream

    def buffer_sizes_of(self, options: StreamOptions) -> BufferSizes:
        """Return the sizes of a stream's receive buffer, with the connection's sizes as defaults.

        :raises TypeError: when a size is not a number of bytes.
        :raises ValueError: when a size is out of range.
        """
        return options.buffer_sizes(self._buffer_sizes)

    def register_table(self, table: Table) -> None:
        """Add a live table, which is closed with this session.

        :raises anyio.ClosedResourceError: when the session is closed.
        :raises UsedElsewhere: when called in another process or event loop.
        """
        self.check_open()
        self._tables.add(table, None)

    def unregister_table(self, table: Table) -> None:
        """Remove a live table that has been closed."""
        if table in self._tables:
            self._tables.discard(table)
            self._counters.resyncs += table.resyncs

    def bulk(
        self, source: ItemSource[T], work: BulkWork[T], *, stop_on_error: bool = False
    ) -> BulkOperation[T]:
        """Return an operation that sends requests for many items, on a socket of its own.

        :param source: the items.
        :param work: makes the requests of the items.
        :param stop_on_error: whether to stop at the first error.

        :raises anyio.ClosedResourceError: when the session is closed.
        :raises UsedElsewhere: when called in another process or event loop.
        """
        from .bulk.outcomes import BulkOperation

        self.check_open()
        self.owner.check_loop()
        pipelines: list[Pipeline] = []

        def open_pipeline(answer_cost: int) -> Pipeline:
            pipelines.append(self._open_pipeline(answer_cost))
            return pipelines[0]

        def on_close(bulk: BulkOperation[Any]) -> None:
            self._bulks.discard(bulk)
            _add_requests(self._counters, *pipelines)

        bulk = BulkOperation(
            self.owner, open_pipeline, source, work, on_close, stop_on_error=stop_on_error
        )
        self._bulks.add(bulk, pipelines)
        return bulk

    def run_in_namespace(self, function: Callable[[], T]) -> T:
        """Call a function in the session's network namespace: here, or on a thread in it."""
        return self.socket_factory.run_in_namespace_of(self.requester.socket, function)

    async def run_on_thread(self, function: Callable[[], T]) -> T:
        """Call a function that may block in the session's network namespace, on a worker thread.

        It runs to its end even if the caller is cancelled. Raises what the function raises, too.

        :raises anyio.ClosedResourceError: when the session is closed.
        :raises NamespaceError: when the namespace cannot be entered.
        :raises UsedElsewhere: when called in another process or event loop.
        :raises ResourceExhausted: when no thread can be started.
        """
        self.owner.check()

        def work() -> T:
            # The socket identifies the namespace, so it must not be closed now.
            with self.requester.socket.keep_open():
                return self.run_in_namespace(function)

        limiter = None if self.owner.blocks else self._limiter
        return await run_in_thread(work, limiter)

    def _open_socket(self) -> NetlinkSocket:
        self.check_open()
        return self.run_in_namespace(self.socket_factory.open)

    def _open_pipeline(self, answer_cost: int) -> Pipeline:
        from .netlink.pipeline import RECEIVE_BUFFER, Pipeline

        self.check_open()
        socket = self.run_in_namespace(lambda: self.socket_factory.open(RECEIVE_BUFFER))
        return Pipeline(socket, self._threads, self._reply_timeout, answer_cost)

    # -- statistics ------------------------------------------------------------------------

    def statistics(self) -> ClientStatistics:
        """Return what was done so far, by what is closed and by what is open."""
        from .codec.decoder import count_layouts
        from .model.client_statistics import ClientStatistics

        self.owner.check_process()
        # These references keep an object from being dropped, and counted twice, during the sum.
        dumps, streams = self._dumps.members(), self._streams.members()
        bulks, tables = self._bulks.members(), self._tables.members()
        total = copy(self._counters)
        total.resyncs += sum(table.resyncs for table, _ in tables)
        _add_requests(total, self.requester)
        for _, receiver in dumps:
            _add_dump(total, receiver)
        for stream, _ in streams:
            _add_stream(total, stream)
        for _, pipelines in bulks:
            _add_requests(total, *pipelines)
        return ClientStatistics(
            requests_offloaded=self.requester.offloaded,
            layouts=count_layouts(),
            open_dumps=len(dumps),
            open_streams=len(streams),
            open_bulk_operations=len(bulks),
            open_tables=len(tables),
            **vars(total),
        )

    def _on_stream_close(self, stream: EventStream[Any]) -> None:
        self._streams.discard(stream)
        _add_stream(self._counters, stream)


def _add_requests(total: Totals, *clients: Requester | Pipeline) -> None:
    for client in clients:
        total.requests += client.requests
        total.stray_replies += client.stray_replies
        total.overruns += client.overruns
        _add_traffic(total, client.socket)


def _add_dump(total: Totals, receiver: DumpReceiver) -> None:
    """Add what a dump received. Decoded entries are counted as they are decoded."""
    total.stray_replies += receiver.stray_replies
    for socket in receiver.sockets:
        _add_traffic(total, socket)


def _add_stream(total: Totals, stream: EventStream[Any]) -> None:
    its = stream.statistics()
    total.events_decoded += its.events_decoded
    total.events_lost += its.events_lost
    total.overruns += its.overruns
    total.fallbacks += its.fallbacks
    total.decode_errors += its.decode_errors
    total.waiting_bytes += its.waiting_bytes  # 0 for a closed stream
    _add_traffic(total, its)


def _add_traffic(total: Totals, traffic: NetlinkSocket | StreamStatistics) -> None:
    total.datagrams_received += traffic.datagrams_received
    total.bytes_received += traffic.bytes_received
    total.forged += traffic.forged
