"""Where a bulk operation takes its items from: iterables, async iterables, and lists of items."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Iterable
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")

Offer = Callable[[list[T]], bool]
"""Called with the items taken so far, before a wait for the next one.

``True`` means that it has accepted them, and that the source is to return after the wait."""


class ItemSource(Protocol[T]):
    """A source of items."""

    async def take(self, limit: int, offer: Offer[T], /) -> list[T] | None:
        """Take further items from the iterable.

        It raises what the iterable raises, after it has returned the items before. After a
        cancellation it may be called again.

        :param limit: the largest number of items to return.
        :param offer: called before each wait for the next item. Items that it accepts are not
            returned.
        :returns: the items, or ``None`` at the end. A list may be empty, as after ``offer`` has
            accepted the items.
        """
        ...


class FromIterable(Generic[T]):
    """The items of an iterable, which never waits."""

    def __init__(self, items: Iterable[T]) -> None:
        self._iterator = iter(items)
        self._error: Exception | None = None

    async def take(self, limit: int, offer: Offer[T]) -> list[T] | None:
        if self._error is not None:
            raise self._error
        taken: list[T] = []
        try:
            for item in self._iterator:
                taken.append(item)
                if len(taken) == limit:
                    break
        except Exception as error:
            if not taken:
                raise
            self._error = error
        return taken or None


class FromAsyncIterable(Generic[T]):
    """The items of an async iterable."""

    def __init__(self, items: AsyncIterable[T]) -> None:
        self._iterator = aiter(items)
        self._taken: list[T] = []
        self._error: Exception | None = None

    async def take(self, limit: int, offer: Offer[T]) -> list[T] | None:
        if self._error is not None:
            raise self._error
        accepted = False

        def wait() -> None:
            nonlocal accepted
            accepted = offer(self._taken)
            if accepted:
                self._taken = []

        try:
            while len(self._taken) < limit and not accepted:
                # Two statements, because the list may be replaced while this waits.
                item = await _NotifyingAwaitable(anext(self._iterator), wait)
                self._taken.append(item)
        except StopAsyncIteration:
            if not self._taken:
                return None
        except Exception as error:
            if not self._taken and not accepted:
                raise
            self._error = error
        else:
            if accepted:
                return []  # the next item is returned by the next call
        taken, self._taken = self._taken, []
        return taken


class FromLists(Generic[T]):
    """The items of an async iterable of lists."""

    def __init__(self, lists: AsyncIterable[list[T]]) -> None:
        self._lists = aiter(lists)
        self._taken: list[T] = []

    async def take(self, limit: int, offer: Offer[T]) -> list[T] | None:
        if not self._taken:
            try:
                self._taken = await anext(self._lists)
            except StopAsyncIteration:
                return None
        taken, self._taken = self._taken[:limit], self._taken[limit:]
        return taken


class _NotifyingAwaitable(Generic[T]):
    """Awaits an object, and calls ``waits`` first if the object is not ready at once."""

    def __init__(self, awaitable: Awaitable[T], waits: Callable[[], None]) -> None:
        self._awaitable = awaitable
        self._waits = waits

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._awaitable.__await__()
        try:
            step = next(steps)
            self._waits()
            while True:
                try:
                    answer = yield step
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
