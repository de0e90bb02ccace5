"""Dumps: async iterators over the entries of a kernel table, in constant memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from .. import eventloop
from ..codec.decoder import Datagram, pack_seq
from ..errors import ConntrackError, DecodeError
from ..netlink.attributes import BytesLike
from ..netlink.dump_receiver import DumpReceiver
from ..netlink.exchange import Request
from ..netlink.messages import Message
from .iterators import DecodingIterator, MessageDecoder
from .totals import Totals

if TYPE_CHECKING:
    from ..codec.arrow import Addresses
    from .column_batches import ColumnBatches

T = TypeVar("T")


class DumpPlan(NamedTuple, Generic[T]):
    """The requests of a dump, sent one after the other, and the predicate for its entries."""

    requests: Sequence[Request]
    predicate: Callable[[T], bool] | None = None


DumpPlanner = Callable[[], Awaitable[DumpPlan[T]]]
"""Returns the plan of a dump. It is called when the dump begins, and may send requests."""


class EntryProcessor(Protocol[T]):
    """Processes the entries of each chunk of a dump before they are handed out.

    Its results must not be lost. If a dump ends before it has handed out all of them, they wait for
    a later dump.
    """

    @property
    def has_unprocessed(self) -> bool:
        """Whether :meth:`process` was cancelled before it had processed all of its entries."""
        ...

    def take_waiting(self) -> list[T | ConntrackError]:
        """Return the results that earlier dumps did not hand out, and no longer keep them."""
        ...

    async def process(self, entries: Sequence[T], /) -> list[T | ConntrackError]:
        """Process the entries of a chunk, and those that a cancelled call left unprocessed.

        If it is cancelled, it keeps its results for :meth:`take_waiting`, and the other entries for
        the next call.

        :param entries: the entries of the chunk; none if only unprocessed ones are left.
        :returns: results and errors, in any order.
        """
        ...

    async def wait_until_idle(self) -> None:
        """Wait until no thread works for a cancelled call of :meth:`process`.

        Called at the end of the dump, before the last :meth:`take_waiting`.
        """
        ...

    def put_back(self, results: Iterable[T | ConntrackError], /) -> None:
        """Keep results that were not handed out, for :meth:`take_waiting`."""
        ...


class Dump(DecodingIterator[T]):
    """The entries of a kernel table, as an async iterator: what :meth:`Connection.dump` returns.

    The dump starts at the first iteration, on a socket of its own. The kernel walks its table
    bucket by bucket and takes no snapshot. An entry that is created, changes or ends during the
    dump may be missed or reported twice.

    You may leave the loop at any time. Neither ``break`` nor a cancellation closes the dump: you
    can go on iterating, and no entry is lost. The socket is closed at the end of the dump, by
    :meth:`aclose`, by the end of an ``async with`` block, and when the object is dropped.

    Iterating raises:

    :raises KernelError: when the kernel refuses the request.
    :raises DecodeError: when an entry cannot be decoded. It is raised in the place of the entry,
        and iteration continues after it.
    :raises NoReply: when the kernel does not continue the dump in time.
    :raises DumpInterrupted: when the kernel reports that the dump is not consistent.
    :raises ResourceExhausted: when there are no file descriptors or threads left. The dump can be
        iterated again later.
    :raises anyio.ClosedResourceError: when the dump or its connection is closed.
    :raises anyio.BusyResourceError: when another task is iterating.
    :raises UsedElsewhere: when called in another process or event loop.
    """

    def __init__(
        self,
        receiver: DumpReceiver,
        decoder: MessageDecoder[T],
        predicate: Callable[[T], bool] | None,
        counters: Totals,
        on_close: Callable[[Dump[T]], None],
        processor: EntryProcessor[T] | None = None,
        planner: DumpPlanner[T] | None = None,
    ) -> None:
        super().__init__(receiver.owner, decoder, counters)
        self._receiver = receiver
        self._seq = pack_seq(receiver.exchange.seq)
        self._predicate = predicate
        self._statistics = counters
        self._on_close = on_close
        self._processor = processor
        self._planner = planner
        self._busy = False
        self._walked = False
        """Whether the kernel's table has been read to its end."""
        self._ended = False
        """Whether there is nothing more to receive or to process."""
        self._finished = False
        """Whether ``on_close`` was called."""

    async def _refill(self) -> bool:
        """Make more entries available; return ``False`` at the end."""
        self._owner.check()
        if self._busy:
            raise eventloop.busy_error("iterating over")
        self._busy = True
        try:
            if self._processor is not None and not self._receiver.closed:
                self._has_errors = True
                self._pending += self._processor.take_waiting()
            return bool(self._pending) or await self._advance()
        finally:
            self._busy = False

    async def _advance(self) -> bool:
        """Make the entries of the next chunk available; return ``False`` at the end."""
        if self._processor is not None and self._processor.has_unprocessed:
            await self._process(self._processor)
            return True
        if self._ended:
            return False
        if self._walked or not await self._receive():
            self._walked = True
            if self._processor is not None:
                await self._processor.wait_until_idle()
                self._has_errors = True
                self._pending += self._processor.take_waiting()
            self._ended = True
            return bool(self._pending)
        if self._processor is not None:
            await self._process(self._processor)
        return True

    async def _receive(self) -> bool:
        """Receive the next chunk; return ``False`` at the end."""
        if self._planner is not None:
            plan = await self._planner()
            self._planner = None
            if not plan.requests:
                self._ended = True
                self._finish()
                await eventloop.checkpoint()
                return False
            self._receiver.set_requests(plan.requests)
            self._predicate = plan.predicate
        try:
            chunk = await self._receiver.receive()
        finally:
            if self._receiver.closed:  # at the end, or after a failure
                self._finish()
        if chunk is not None:
            self._received.append(Datagram(chunk))
        return chunk is not None

    async def _process(self, processor: EntryProcessor[T]) -> None:
        """Decode what was received, and make the results of the processor available."""
        while self._received:
            self._decode()
        received = list(self._pending)
        self._pending.clear()
        errors = [item for item in received if isinstance(item, ConntrackError)]
        entries = [item for item in received if not isinstance(item, ConntrackError)]
        self._has_errors = True
        try:
            results = await processor.process(entries)
        finally:
            if not self._finished:
                self._pending += errors
        if self._finished:  # another task closed it in the meantime
            processor.put_back(results)
            raise eventloop.closed_error("the dump is closed")
        self._pending += results

    def columns(self, *names: str, addresses: Addresses = "bytes") -> ColumnBatches:
        """Return an async iterator of batches of columns, each of some thousands of flows.

        No object is created for a flow or a value: the columns are cut out of the kernel's
        messages. That takes a fraction of the time of iterating over flows::

            async for batch in conn.dump().columns("orig_src", "bytes"):
                print(sum(batch["bytes"].data))

        :param names: the names of the columns; by default all columns.
        :param addresses: ``"bytes"`` for 16 bytes each, IPv4 addresses as IPv4-mapped ones, or
            ``"text"``.
        :raises ValueError: when there is no column of a name, when one is named twice, or when
            ``addresses`` is another value.
        :raises TypeError: when a name is not text, or when the entries are not flows.
        """
        from .column_batches import ColumnBatches

        collector = self._make_collector(names, addresses)
        return ColumnBatches(
            self._owner,
            collector,
            partial(self._collect, collector),
            self.close,
            fills_batches=self._processor is None,  # the results of a processor must not be lost
        )

    def _accepts_message(self, buffer: BytesLike, message: Message) -> bool:
        return self._receiver.exchange.accepts(buffer, message)

    def _count_decoded(self, objects: int, errors: int) -> None:
        self._statistics.entries_decoded += objects + errors

    def _on_malformed_datagram(self, error: DecodeError) -> None:
        self._receiver.exchange.break_off(error)

    @property
    def closed(self) -> bool:
        """Whether the dump has ended: it was read to its end, failed, or was closed."""
        return self._receiver.closed

    async def aclose(self) -> None:
        """End the dump. Idempotent; another task may call it while one iterates.

        It has no checkpoint. So leaving an ``async with`` block cannot be cancelled after the last
        entry was read, and no entry whose counters were reset is lost.
        """
        self.close()

    def close(self) -> None:
        """Close as :meth:`aclose` does, without ``await``.

        Call it in the event loop's thread.
        """
        if self._processor is not None:
            self._processor.put_back(self._pending)
        self._pending.clear()
        self._received.clear()
        self._finish()

    def _finish(self) -> None:
        self._sample = None
        self._receiver.close()
        if not self._finished:
            self._finished = True
            self._on_close(self)

    def __del__(self) -> None:
        with suppress(AttributeError):  # an interrupt may have ended the constructor
            self.close()
