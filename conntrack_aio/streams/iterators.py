"""Async iterators of items that arrive some at a time: the base of dumps, event streams, bulk
operations and changes of a live table."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, Self, TypeVar, cast
from weakref import WeakSet

from ..closing import Closable
from ..codec.decoder import Datagram, DecodeCounters, Decoder
from ..errors import ConntrackError, DecodeError
from ..netlink.attributes import BytesLike
from ..netlink.messages import Message
from ..netlink.owner import Owner

if TYPE_CHECKING:
    from ..codec.arrow import Addresses
    from ..codec.column_collector import ColumnCollector

T = TypeVar("T")


_alive: Final[WeakSet[ItemIterator[Any]]] = WeakSet()


def _withhold_all() -> None:
    """Withhold, in a forked process, the items that the parent process received.

    Iterating there then asks for more items, which raises :exc:`UsedElsewhere`.
    """
    for iterator in list(_alive):
        iterator._withheld = True  # pyright: ignore[reportPrivateUsage]


os.register_at_fork(after_in_child=_withhold_all)


class ItemIterator(Closable, Generic[T]):
    """An async iterator of items, with errors in the place of items that could not be read.

    Iterating raises an error in its place. The next iteration continues after it. A subclass fills
    ``_pending`` in :meth:`_refill`.
    """

    def __init__(self, owner: Owner) -> None:
        """Initialize the iterator.

        :param owner: the process and the event loop that may use it.
        """
        self._owner = owner
        self._pending: deque[T | ConntrackError] = deque()
        self._has_errors = False
        """Whether some of the pending items may be errors."""
        self._withheld = False
        """Whether the pending items must not be handed out yet."""
        self._raises: type[ConntrackError] = ConntrackError
        """The class of the errors that are raised in their place. Other errors are items."""
        _alive.add(self)

    @abstractmethod
    async def _refill(self) -> bool:
        """Add items or errors to ``_pending``, after waiting for them if necessary.

        Called while nothing can be handed out, and again until something can. Set ``_has_errors``
        if some of the items may be errors. Several tasks may call this at the same time.

        :returns: ``False`` at the end; ``True`` even if nothing was added.
        """

    def _is_ready(self) -> bool:
        """Return whether an item can be handed out without fetching more."""
        return bool(self._pending) and not self._withheld

    def __aiter__(self) -> Self:
        self._owner.check_call()
        return self

    async def __anext__(self) -> T:
        if not self._pending or self._withheld:
            while not self._is_ready():
                if not await self._refill():
                    raise StopAsyncIteration
        item: Any = self._pending.popleft()
        if self._has_errors and isinstance(item, self._raises):
            raise item
        return item  # type: ignore[no-any-return]  # a call of cast() would take long

    def batches(self) -> Batches[T]:
        """Return an async iterator of lists with the same items in the same order.

        A list has the items that are available: never none, usually some dozens, at most some
        hundreds. A loop over lists costs less for each item than ``async for`` over the items. An
        error is raised between two lists.
        """
        return Batches(self)

    async def receive_batch(self) -> list[T]:
        """Return the next list of :meth:`batches`; an empty list at the end.

        Raises what iterating raises.
        """
        self._owner.check()
        while not self._is_ready():
            if not await self._refill():
                return []
        return self._take()

    def _take(self) -> list[T]:
        """Return the pending items up to an error; if an error comes first, raise it."""
        pending = self._pending
        batch: list[T] = []
        if not self._has_errors:
            batch += cast("deque[T]", pending)
            pending.clear()
            return batch
        while pending and not isinstance(item := pending[0], self._raises):
            batch.append(cast("T", item))
            pending.popleft()
        if not batch:
            error = pending.popleft()
            assert isinstance(error, ConntrackError)
            raise error
        return batch


class Batches(Generic[T]):
    """An async iterator of lists of items: what :meth:`ItemIterator.batches` returns."""

    def __init__(self, iterator: ItemIterator[T]) -> None:
        self._iterator = iterator

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[T]:
        batch = await self._iterator.receive_batch()
        if not batch:
            raise StopAsyncIteration
        return batch

    async def aclose(self) -> None:
        """Close the iterator that the lists come from."""
        await self._iterator.aclose()


class MessageDecoder(Protocol[T]):
    """Decodes messages into objects: a :class:`~conntrack_aio.codec.decoder.Decoder`."""

    def read(
        self,
        datagram: Datagram,
        accepts: Callable[[bytes, Message], bool],
        seq: bytes | None,
        items: list[T | DecodeError],
        counters: DecodeCounters,
        sample: T | None,
        /,
    ) -> None:
        """Decode the next few messages of a datagram, and advance its offset.

        Call it until :attr:`Datagram.done`.

        :param datagram: the datagram, with the position up to which it has been read.
        :param accepts: returns whether to decode a message that no compiled layout knows. Layouts
            decode messages like earlier ones without this call.
        :param seq: the sequence number, as in the header, of the messages that layouts may decode;
            ``None`` for any.
        :param items: the list to add the objects to, and an error for each message that cannot be
            decoded.
        :param counters: the statistics to count in.
        :param sample: an object of an earlier call. What was read of it is decoded at once.

        :raises DecodeError: when the start of the next message is unknown.
        """
        ...


class DecodingIterator(ItemIterator[T]):
    """An async iterator of objects that are decoded from datagrams, some messages at a time.

    A subclass adds datagrams to ``_received`` in :meth:`_refill`. Each is decoded when its objects
    are asked for.
    """

    def __init__(self, owner: Owner, decoder: MessageDecoder[T], counters: DecodeCounters) -> None:
        super().__init__(owner)
        self._decoder = decoder
        self._counters = counters
        self._received: deque[Datagram | ConntrackError] = deque()
        self._seq: bytes | None = None
        """The sequence number of the messages to decode, as in the header; ``None`` for any."""
        self._sample: T | None = None
        """The last object of the previous messages, which the program has read by now."""
        self._predicate: Callable[[T], bool] | None = None
        """Which objects to hand out; ``None`` for all."""

    def _make_collector(self, names: tuple[str, ...], addresses: Addresses) -> ColumnCollector[T]:
        """Return a collector of columns for :meth:`_collect`.

        :param names: the names of the columns; all columns if there are none.
        :param addresses: how columns hold addresses.
        :raises TypeError: when these are not flows or events of flows, or a name is not text.
        :raises ValueError: when a name is unknown or given twice, or when ``addresses`` is neither.
        """
        # Few programs use columns, and their modules take long to import.
        from ..codec.column_collector import ColumnCollector, MessageContext
        from ..codec.column_fields import has_columns

        self._owner.check_call()
        if not isinstance(self._decoder, Decoder) or not has_columns(self._decoder.cls):
            raise TypeError("there are only columns of flows and of their events")
        context = MessageContext(self._accepts_message, self._count_decoded, self._counters)
        return ColumnCollector(self._decoder, names, addresses, self._seq, context)

    async def _collect(self, collector: ColumnCollector[T]) -> bool:
        """Pass what was received to a collector, after receiving more if there is nothing.

        :returns: ``False`` at the end.
        """
        has_items = (self._pending or self._received) and not self._withheld
        if not has_items and not await self._refill():
            return False
        if not self._withheld:
            self._pass_on(collector)
        return True

    def _pass_on(self, collector: ColumnCollector[T]) -> None:
        """Pass everything that was received to a collector.

        Of the pending items it passes only those up to an error, or the error. So items that are
        not handed out stay pending.
        """
        while self._pending:
            item = self._pending[0]
            if isinstance(item, ConntrackError):
                if collector.rows:
                    collector.flush()
                else:
                    collector.add_error(item)
                    self._pending.popleft()
                return
            collector.add_object(item)
            self._pending.popleft()
        while self._received:
            datagram = self._received.popleft()
            if isinstance(datagram, ConntrackError):
                self._counters.decode_errors += isinstance(datagram, DecodeError)
                collector.add_error(datagram)
                continue
            try:
                collector.add_datagram(datagram, self._predicate)
            except DecodeError as error:
                self._on_malformed_datagram(error)

    @abstractmethod
    def close(self) -> None:
        """Close the iterator. Call it in the event loop's thread."""

    @abstractmethod
    def _count_decoded(self, objects: int, errors: int) -> None:
        """Count decoded messages.

        :param objects: how many were decoded.
        :param errors: how many could not be decoded.
        """

    def _accepts_message(self, buffer: BytesLike, message: Message) -> bool:
        """Return whether to decode a message that no compiled layout knows.

        Called once for each such message, in order. A subclass may also note what the message says.
        """
        return True

    def _select_items(self, items: list[T | DecodeError]) -> list[T | DecodeError]:
        """Return those of the items that are to be handed out.

        Called once after each few messages are decoded, with their objects and errors in order.
        """
        errors = sum(isinstance(item, DecodeError) for item in items) if self._has_errors else 0
        self._count_decoded(len(items) - errors, errors)
        predicate = self._predicate
        if predicate is None:
            return items
        return [item for item in items if isinstance(item, DecodeError) or predicate(item)]

    @abstractmethod
    def _on_malformed_datagram(self, error: DecodeError) -> None:
        """Handle a datagram whose remaining bytes are not netlink messages.

        Called after the datagram was removed from ``_received``. Ensure that the error is reported.
        """

    def _is_ready(self) -> bool:
        while not self._pending and self._received:
            self._has_errors = False
            self._decode()
        return super()._is_ready()

    def _decode(self) -> None:
        """Decode the next few messages that were received."""
        datagram = self._received[0]
        if isinstance(datagram, ConntrackError):
            self._received.popleft()
            self._has_errors = True
            self._counters.decode_errors += isinstance(datagram, DecodeError)
            self._pending.append(datagram)
            return
        items: list[T | DecodeError] = []
        errors, fallbacks = self._counters.decode_errors, self._counters.fallbacks
        try:
            self._decoder.read(
                datagram, self._accepts_message, self._seq, items, self._counters, self._sample
            )
        except DecodeError as error:
            self._received.popleft()
            self._on_malformed_datagram(error)
        else:
            if datagram.done:
                self._received.popleft()
        self._has_errors |= self._counters.decode_errors > errors
        selected = self._select_items(items)
        self._pending += selected
        # All fields of an object that the reference decoded are set, whatever the caller reads.
        if selected and not self._has_errors and self._counters.fallbacks == fallbacks:
            self._sample = cast("T", selected[-1])
