"""Sources of items: iterables and async iterables that wait, end, fail or are cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import anyio
import pytest

from conntrack_aio.bulk.sources import FromAsyncIterable, FromIterable, FromLists, ItemSource

pytestmark = pytest.mark.anyio


def refuse(items: list[int]) -> bool:
    """Do not accept the items that are offered."""
    return False


async def drain(source: ItemSource[int], limit: int) -> list[list[int]]:
    taken: list[list[int]] = []
    while (items := await source.take(limit, refuse)) is not None:
        taken.append(items)
    return taken


async def counting(stop: int) -> AsyncIterator[int]:
    for number in range(stop):
        yield number


async def slowly(stop: int) -> AsyncIterator[int]:
    for number in range(stop):
        await anyio.lowlevel.checkpoint()
        yield number


async def listed(*lists: list[int]) -> AsyncIterator[list[int]]:
    for each in lists:
        yield each


async def test_windows_of_an_iterable() -> None:
    assert await drain(FromIterable(range(5)), 2) == [[0, 1], [2, 3], [4]]
    assert await drain(FromIterable([]), 2) == []


async def test_windows_of_an_async_iterable() -> None:
    assert await drain(FromAsyncIterable(counting(5)), 2) == [[0, 1], [2, 3], [4]]
    assert await drain(FromAsyncIterable(slowly(5)), 2) == [[0, 1], [2, 3], [4]]
    assert await drain(FromAsyncIterable(counting(0)), 2) == []


async def test_windows_of_lists() -> None:
    assert await drain(FromLists(listed([0, 1, 2], [3])), 2) == [[0, 1], [2], [3]]


async def test_items_before_an_error_are_returned_first() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise LookupError

    async def failing_too() -> AsyncIterator[int]:
        yield 1
        raise LookupError

    for source in (FromIterable(failing()), FromAsyncIterable(failing_too())):
        assert await source.take(5, refuse) == [1]
        with pytest.raises(LookupError):
            await source.take(5, refuse)


async def test_items_are_offered_before_it_waits() -> None:
    offered: list[list[int]] = []

    def accept(items: list[int]) -> bool:
        offered.append(list(items))
        return True

    async def two_and_one() -> AsyncIterator[int]:
        yield 1
        yield 2
        await anyio.lowlevel.checkpoint()
        yield 3

    source = FromAsyncIterable(two_and_one())
    assert await source.take(9, accept) == []
    assert offered == [[1, 2]]
    assert await source.take(9, accept) == [3]
    assert await source.take(9, accept) is None
    assert offered == [[1, 2]]


async def test_the_end_after_accepted_items_is_reported_at_once() -> None:
    async def one() -> AsyncIterator[int]:
        yield 1
        await anyio.lowlevel.checkpoint()

    assert await FromAsyncIterable(one()).take(9, lambda items: True) is None


async def test_an_empty_list_is_not_the_end() -> None:
    source = FromLists(listed([], [1]))
    assert await source.take(9, refuse) == []
    assert await source.take(9, refuse) == [1]
    assert await source.take(9, refuse) is None


async def test_an_error_after_accepted_items_is_raised() -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        await anyio.lowlevel.checkpoint()
        raise LookupError

    source = FromAsyncIterable(failing())
    assert await source.take(9, lambda items: True) == []
    with pytest.raises(LookupError):
        await source.take(9, lambda items: True)


async def test_a_cancellation_loses_no_item() -> None:
    class Slow:
        """An async iterable that, unlike a generator, goes on after a cancellation."""

        def __init__(self) -> None:
            self.number = 0
            self.block = True

        def __aiter__(self) -> Slow:
            return self

        async def __anext__(self) -> int:
            if self.number == 2 and self.block:
                await anyio.sleep_forever()
            if self.number == 3:
                raise StopAsyncIteration
            self.number += 1
            return self.number

    slow = Slow()
    source = FromAsyncIterable(slow)
    with anyio.move_on_after(0.01) as scope:
        await source.take(9, refuse)
    assert scope.cancelled_caught
    slow.block = False
    assert await source.take(9, refuse) == [1, 2, 3]


async def test_a_cancellation_reaches_the_iterable() -> None:
    """A generator runs its ``finally`` blocks when it is cancelled."""
    cleaned: list[bool] = []

    async def generator() -> AsyncIterator[int]:
        try:
            await anyio.sleep_forever()
            yield 1
        finally:
            cleaned.append(True)

    with anyio.move_on_after(0.01):
        await FromAsyncIterable(generator()).take(1, refuse)
    assert cleaned == [True]
