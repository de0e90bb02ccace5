"""What the bulk methods return: many requests of one kind, with an outcome for each item."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import Generic, Protocol, Self, TypeVar

import anyio
import anyio.lowlevel
import attrs

from ..errors import ConntrackError
from ..netlink.owner import Owner
from ..netlink.pipeline import MAX_WINDOWS_IN_FLIGHT, Pipeline
from ..streams.iterators import ItemIterator
from .sources import ItemSource

T = TypeVar("T")


@attrs.define
class Outcome(Generic[T]):
    """The outcome of one item of a bulk operation."""

    item: T
    """The item that was given."""
    error: ConntrackError | None = None
    """The error, or ``None`` if the request succeeded.

    An :exc:`EncodeError` means that nothing was changed for the item, and :exc:`NoReply` that the
    request may or may not have been carried out. Any other error has the meaning that it has when
    the method for a single item raises it.

    """

    @property
    def ok(self) -> bool:
        """Whether the request for the item succeeded."""
        return self.error is None

    def result(self) -> T:
        """Return the item, or raise its :attr:`error`."""
        if self.error is not None:
            raise self.error
        return self.item


class ItemWindow(Protocol[T]):
    """A window of items whose requests were sent."""

    async def finish(self) -> list[Outcome[T]]:
        """Wait for the replies, send further requests that they call for, and return the outcomes.

        Called for the oldest window that has not finished. After a cancellation it is called again.
        """
        ...


class BulkWork(Protocol[T]):
    """What a bulk operation does with its items."""

    answer_cost: int
    """Bytes of the receive buffer that the answers to one request take at most."""

    async def prepare(self) -> None:
        """Probe the kernel features that the requests depend on.

        Called before the first window is started. After a cancellation it is called again.
        """
        ...

    def start(self, pipeline: Pipeline, items: Sequence[T], until_error: bool, /) -> ItemWindow[T]:
        """Send the first requests for the items, without waiting for replies.

        Called once for each window of items, while earlier windows may not have finished.

        :param pipeline: sends the requests.
        :param items: at most :attr:`Pipeline.requests_per_window` of them.
        :param until_error: send nothing after the first item that cannot be encoded.
        """
        ...


class BulkOperation(ItemIterator[Outcome[T]], Generic[T]):
    """The outcomes of many requests, in the order of the items: what the bulk methods return.

    It is an async iterator of :class:`Outcome`. :meth:`batches` returns lists of them, and ``await
    bulk`` returns all of them in one list. It is awaitable, but not a coroutine:
    :func:`asyncio.ensure_future` makes a task of it. Nothing is sent before it is iterated over or
    awaited; an operation that is dropped unused warns with a :exc:`RuntimeWarning`.

    Items are taken and requests are sent on a socket of its own, up to four windows ahead of the
    outcomes that were handed out. A window is 256 items, fewer if the system grants less receive
    buffer. An async iterable must not wait for the outcome of an item that it has yielded: outcomes
    are returned only after it yields its next item or ends. Items that it has yielded are sent
    while it waits.

    If you stop before the end, no further items are taken. The items of the windows that were
    started and whose outcomes were not handed out, four at most, may or may not have been
    processed:

    - After ``break`` the operation stays open: you can go on iterating.
    - After a cancellation you can go on iterating, too, and no outcome is missing. But an async
      generator that the cancellation interrupted has ended.
    - A cancellation of ``await bulk``, and an iterable that raises there, closes the operation
      without returning outcomes.
    - :meth:`aclose` closes the operation. It neither wakes a task that waits for the iterable nor
      closes the iterable.

    An exception of the iterable is raised unchanged, after the outcomes of all earlier items. An
    error about one item is never raised: it is in its outcome. Iterating also raises:

    :raises ResourceExhausted: when there is no file descriptor for the socket; nothing was sent
        then.
    :raises KernelError: when the kernel refuses a request that finds out what it supports; nothing
        was sent for the items then.
    :raises NoReply: when the kernel does not reply to such a request; nothing was sent for the
        items then.

    :raises anyio.ClosedResourceError: when the operation or its connection is closed.
    :raises anyio.BusyResourceError: when another task is iterating.
    :raises UsedElsewhere: when called in another process or event loop.
    """

    def __init__(
        self,
        owner: Owner,
        open_pipeline: Callable[[int], Pipeline],
        source: ItemSource[T],
        work: BulkWork[T],
        on_close: Callable[[BulkOperation[T]], None],
        *,
        stop_on_error: bool = False,
    ) -> None:
        super().__init__(owner)
        self._pipeline: Pipeline | None = None
        self._open_pipeline = open_pipeline
        self._source: ItemSource[T] | None = source
        self._work: BulkWork[T] | None = work
        self._on_close = on_close
        self._stop_on_error = stop_on_error
        self._max_windows_in_flight = 1 if stop_on_error else MAX_WINDOWS_IN_FLIGHT
        self._started: deque[ItemWindow[T]] = deque()
        self._error: Exception | None = None
        self._exhausted = False
        self._used = False
        """Whether it was iterated over, awaited or closed."""
        self._busy = False
        self._closed = False
        self._finished = False

    def __await__(self) -> Generator[object, None, list[Outcome[T]]]:
        self._used = True
        return self._all().__await__()

    async def __aenter__(self) -> Self:
        self._used = True
        return self

    async def _all(self) -> list[Outcome[T]]:
        outcomes: list[Outcome[T]] = []
        async with self:
            async for batch in self.batches():
                outcomes += batch
        return outcomes

    async def _refill(self) -> bool:
        """Fetch more outcomes; return ``False`` at the end."""
        self._used = True
        self._owner.check()
        self._check_open()
        if self._busy:
            raise anyio.BusyResourceError("iterating over")
        self._busy = True
        try:
            return await self._advance()
        finally:
            self._busy = False

    async def _advance(self) -> bool:
        # Other tasks run between windows, even if there is nothing to wait for.
        await anyio.lowlevel.checkpoint()
        self._check_open()
        if self._finished:
            return False
        if self._pipeline is None:
            work = self._work
            assert work is not None
            await work.prepare()
            self._check_open()
            self._pipeline = self._open_pipeline(work.answer_cost)
        await self._fill(self._pipeline)
        self._check_open()
        if not self._started:
            self._finish()
            error, self._error = self._error, None
            if error is not None:
                raise error
            return False
        outcomes = await self._started[0].finish()
        self._check_open()
        self._started.popleft()
        self._pending += outcomes
        if self._stop_on_error and any(outcome.error is not None for outcome in outcomes):
            self._exhausted = True
        return True

    async def _fill(self, pipeline: Pipeline) -> None:
        """Start as many windows as may be under way, as long as there are items."""
        offered = False

        def offer(items: list[T]) -> bool:
            nonlocal offered
            if items:
                self._start(pipeline, items)
            offered = bool(self._started)
            return offered

        source = self._source
        assert source is not None
        while (
            len(self._started) < self._max_windows_in_flight and not self._exhausted and not offered
        ):
            try:
                items = await source.take(pipeline.requests_per_window, offer)
            except Exception as error:  # raised after the outcomes of the items before
                self._error, self._exhausted = error, True
                return
            if items is None:
                self._exhausted = True
            elif items:
                self._start(pipeline, items)

    def _start(self, pipeline: Pipeline, items: list[T]) -> None:
        self._check_open()  # another task may have closed it while this one waited
        assert self._work is not None
        self._started.append(self._work.start(pipeline, items, self._stop_on_error))

    def _check_open(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError("the bulk operation is closed")

    async def aclose(self) -> None:
        """Send nothing more, and close. Idempotent; another task may call it."""
        self.close()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close as :meth:`aclose` does, without a checkpoint.

        Call it in the event loop's thread.
        """
        self._used = True
        self._shut()

    def _shut(self) -> None:
        """Close without counting as use: with the connection, or when the object is dropped."""
        self._closed = True
        self._started.clear()
        self._pending.clear()
        self._finish()

    def _finish(self) -> None:
        if self._pipeline is not None:
            self._pipeline.close()
        if not self._finished:
            self._finished = True
            self._source = self._work = None  # they may hold much memory
            self._on_close(self)

    def __del__(self) -> None:
        if self.__dict__.get("_used") is False:  # an interrupt may have ended the constructor
            warnings.warn(
                "a bulk operation was never awaited or iterated over: nothing was sent; use "
                "`await` or `async for`",
                RuntimeWarning,
                stacklevel=2,
                source=self,
            )
        with suppress(AttributeError):
            self._shut()
