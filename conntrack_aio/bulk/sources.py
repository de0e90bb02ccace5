"""Where the items of a bulk come from: iterables of either kind, and what comes in lists."""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    Awaitable,
    Callable,
    Generator,
    Iterable,
)
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")

Offer = Callable[[list[T]], bool]
"""Takes items that would have to wait else, and says whether there is something to see to."""


class ItemSource(Protocol[T]):
    """Where items come from."""

    async def take(self, limit: int, offer: Offer[T], /) -> list[T]:
        """Up to so many further items; none at the end.

        Before it waits for an item it offers those that it has. Where they are accepted, it
        returns none as soon as there is the next. Raises what the iterable does, after having
        returned what came before. Cancelled, it may be called again.
        """
        ...


class FromIterable(Generic[T]):
    """The items of an iterable, which is never waited for."""

    def __init__(self, items: Iterable[T]) -> None:
        self._iterator = iter(items)
        self._error: Exception | None = None

    async def take(self, limit: int, offer: Offer[T]) -> list[T]:
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
        return taken


class FromAsyncIterable(Generic[T]):
    """The items of an async iterable."""

    def __init__(self, items: AsyncIterable[T]) -> None:
        self._iterator = aiter(items)
        self._taken: list[T] = []
        self._error: Exception | None = None

    async def take(self, limit: int, offer: Offer[T]) -> list[T]:
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
                # In two statements: while it waits, the list may become another.
                item = await _NotifyingAwaitable(anext(self._iterator), wait)
                self._taken.append(item)
        except StopAsyncIteration:
            accepted = False
        except Exception as error:
            if not self._taken and not accepted:
                raise
            self._error = error
            accepted = False
        if accepted:
            return []
        taken, self._taken = self._taken, []
        return taken


class FromLists(Generic[T]):
    """Items that come in lists."""

    def __init__(self, lists: AsyncIterable[list[T]]) -> None:
        self._lists = aiter(lists)
        self._taken: list[T] = []

    async def take(self, limit: int, offer: Offer[T]) -> list[T]:
        if not self._taken:
            with suppress(StopAsyncIteration):
                self._taken = await anext(self._lists)
        taken, self._taken = self._taken[:limit], self._taken[limit:]
        return taken


class _NotifyingAwaitable(Generic[T]):
    """Awaits something, and calls ``waits`` before it does, unless that is there at once."""

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
