"""What dumps and event streams have in common: items that are fetched some at a time."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import deque
from typing import Any, Final, Generic, Self, TypeVar, cast
from weakref import WeakSet

from anyio.abc import AsyncResource

from ..errors import ConntrackError
from ..netlink.owner import Owner

T = TypeVar("T")


_alive: Final[WeakSet[Items[Any]]] = WeakSet()


def _hold_all() -> None:
    """In a forked process: what was received in the other one is not handed out here.

    Whoever asks for more is refused then, as for anything else of the connection.
    """
    for items in list(_alive):
        items._held = True  # pyright: ignore[reportPrivateUsage]


os.register_at_fork(after_in_child=_hold_all)


class Items(AsyncResource, Generic[T]):
    """An async iterator of items, with errors in the places of those that could not be had.

    An error is raised in its place; after it, iteration goes on.
    """

    def __init__(self, owner: Owner) -> None:
        """``owner`` is the process and the event loop that may use it."""
        self._owner = owner
        self._pending: deque[T | ConntrackError] = deque()
        self._flawed = False
        """Whether there may be errors among what is pending."""
        self._held = False
        """Whether what is pending may not be handed out yet."""
        self._raises: type[ConntrackError] = ConntrackError
        """Which errors are raised in their places. The others are items like the rest."""
        _alive.add(self)

    @abstractmethod
    async def _refill(self) -> bool:
        """Have something to be had; ``False`` at the end."""

    def _is_ready(self) -> bool:
        """Whether something is pending that may be handed out. What is at hand is made so."""
        return bool(self._pending) and not self._held

    def __aiter__(self) -> Self:
        self._owner.check_call()
        return self

    async def __anext__(self) -> T:
        if not self._pending or self._held:
            while not self._is_ready():
                if not await self._refill():
                    raise StopAsyncIteration
        item = self._pending.popleft()
        if isinstance(item, self._raises):
            raise item
        return cast("T", item)

    def batches(self) -> Batches[T]:
        """The same items in the same order, a list at a time: some dozens, or what there is.

        A loop over a list costs less for each item than an ``async for`` does. An error stands
        between two batches.
        """
        return Batches(self)

    async def receive_batch(self) -> list[T]:
        """The next list of :meth:`batches`; an empty one at the end."""
        self._owner.check()
        while not self._is_ready():
            if not await self._refill():
                return []
        return self._take()

    def _take(self) -> list[T]:
        """What is pending, up to an error; or raise the error that comes first."""
        pending = self._pending
        batch: list[T] = []
        if not self._flawed:
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
    """Items, a list at a time; see :meth:`Items.batches`."""

    def __init__(self, items: Items[T]) -> None:
        self._items = items

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[T]:
        batch = await self._items.receive_batch()
        if not batch:
            raise StopAsyncIteration
        return batch

    async def aclose(self) -> None:
        """End the dump or the stream."""
        await self._items.aclose()
