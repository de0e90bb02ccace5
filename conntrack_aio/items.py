"""What dumps and event streams have in common: items that are fetched some at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, Self, TypeVar, cast

from anyio.abc import AsyncResource

from .errors import ConntrackError, DecodeError
from .model.statistics import ConnectionStatistics
from .netlink.messages import Message

T = TypeVar("T")


class Reader(Protocol[T]):
    """Makes objects of messages: a :class:`~conntrack_aio.codec.decoder.Decoder`."""

    def read_all(
        self,
        buffer: bytes,
        takes: Callable[[bytes, Message], bool],
        seq: bytes | None,
        items: list[T | DecodeError],
        counters: ConnectionStatistics,
        /,
    ) -> None: ...


class Items(AsyncResource, Generic[T]):
    """An async iterator of items, with errors in the places of those that could not be had.

    An error is raised in its place; after it, iteration goes on.
    """

    def __init__(self) -> None:
        self._pending: deque[T | ConntrackError] = deque()
        self._flawed = False
        """Whether there may be errors among what is pending."""

    @abstractmethod
    async def _refill(self) -> bool:
        """Have something pending; ``False`` at the end."""

    def _is_ready(self) -> bool:
        """Whether what is pending may be handed out."""
        return bool(self._pending)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if not self._is_ready() and not await self._refill():
            raise StopAsyncIteration
        item = self._pending.popleft()
        if isinstance(item, ConntrackError):
            raise item
        return item

    def batches(self) -> Batches[T]:
        """The same items in the same order, a list at a time: as many as came together.

        A loop over a list costs less for each item than an ``async for`` does. An error stands
        between two batches.
        """
        return Batches(self)

    async def next_batch(self) -> list[T]:
        """What came together, or what is left of it; an empty list at the end."""
        if not self._is_ready() and not await self._refill():
            return []
        pending = self._pending
        batch: list[T] = []
        if not self._flawed:
            batch += cast("deque[T]", pending)
            pending.clear()
            return batch
        while pending and not isinstance(item := pending[0], ConntrackError):
            batch.append(item)
            pending.popleft()
        if not batch:
            error = pending.popleft()
            assert isinstance(error, ConntrackError)
            raise error
        return batch


class Batches(Generic[T]):
    """Items, a list at a time; see :meth:`Items.batches`."""

    def __init__(self, items: Items[T]) -> None:
        self._items = items

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[T]:
        batch = await self._items.next_batch()
        if not batch:
            raise StopAsyncIteration
        return batch

    async def aclose(self) -> None:
        """End the dump or the stream."""
        await self._items.aclose()
