"""Many requests of one kind, and what became of each: the iterator behind the bulk verbs."""

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
from ..items import Items
from ..netlink.owner import Owner
from ..netlink.pipeline import DEPTH, Pipeline
from .sources import Source

T = TypeVar("T")


@attrs.define
class Outcome(Generic[T]):
    """What became of one item of a bulk verb."""

    item: T
    """What was given."""
    error: ConntrackError | None = None
    """Why it was not done; ``None`` if it was.

    An :exc:`EncodeError` means that nothing was sent for it, :exc:`NoReply` that it may have been
    done or not, anything else that the kernel refused.
    """

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return self.error is None

    def result(self) -> T:
        """The item. Raises :attr:`error`, if there is one."""
        if self.error is not None:
            raise self.error
        return self.item


class Window(Protocol[T]):
    """Some items whose requests are under way."""

    async def finish(self) -> list[Outcome[T]]:
        """See it through. Cancelled, it may be called again."""
        ...


class Work(Protocol[T]):
    """What a bulk verb does with its items."""

    answer: int
    """What the answers for one item take of the receive buffer."""

    async def prepare(self) -> None:
        """Find out what has to be known before. Cancelled, it may be called again."""
        ...

    def start(self, pipeline: Pipeline, items: Sequence[T], until_error: bool, /) -> Window[T]:
        """Send the first requests for the items: for those before a bad one, if ``until_error``."""
        ...


class BulkOperation(Items[Outcome[T]], Generic[T]):
    """The outcomes of many requests, in the order of the items: what the bulk verbs return.

    An async iterator of :class:`Outcome`; :meth:`batches` gives them in lists, and ``await bulk``
    all of them in one. (It is awaitable, and no coroutine: :func:`asyncio.ensure_future` makes a
    task of it.) Nothing happens before; one that is dropped without either warns, with a
    :exc:`RuntimeWarning`. Items are taken, and requests sent, up to two
    windows ahead of the outcomes that were told (a window is 256 items, fewer where the system
    grants less receive buffer), on a socket of its own. So an async iterable must not wait for the
    outcome of an item that it gave. What it gave is sent before it is waited for.

    To leave it early (``break``, a cancellation, :meth:`aclose`) is to send nothing more. Of the
    items taken by then whose outcome was not told, those of the last two windows, each may have
    been done or not. A bulk that was cancelled can be iterated on, and then nothing is missing; but
    an async generator in which the cancellation struck has ended by that. ``await bulk`` closes it
    in any case: cancelled, or with a source that raises, it tells no outcomes.

    While an async iterable waits, no outcome is told: those of what was sent come when it goes on.
    Nor is the task that waits for it woken when the bulk is closed, nor is it closed itself.

    Iterating raises what the iterable of items raises, unwrapped, after the outcomes of the items
    before; :exc:`ResourceExhausted` where there is no descriptor for its socket, before anything is
    sent; :exc:`anyio.ClosedResourceError` once it, or its connection, is closed;
    :exc:`anyio.BusyResourceError` while another task iterates; and :exc:`UsedElsewhere` in another
    process or event loop. What becomes of an item is never
    raised: it is in its outcome.
    """

    def __init__(
        self,
        owner: Owner,
        open_pipeline: Callable[[int], Pipeline],
        source: Source[T],
        work: Work[T],
        on_close: Callable[[BulkOperation[T]], None],
        *,
        stop_on_error: bool = False,
    ) -> None:
        super().__init__(owner)
        self.pipeline: Pipeline | None = None
        self._open_pipeline = open_pipeline
        self._source: Source[T] | None = source
        self._work: Work[T] | None = work
        self._on_close = on_close
        self._stop_on_error = stop_on_error
        self._depth = 1 if stop_on_error else DEPTH
        self._started: deque[Window[T]] = deque()
        self._error: Exception | None = None
        self._exhausted = False
        self._used = False
        """Whether anybody has iterated over it, awaited it or closed it."""
        self._busy = False
        self._closed = False
        self._retired = False

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
        """Have more to tell; ``False`` at the end."""
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
        # Between windows the loop is let go, though there was nothing to wait for.
        await anyio.lowlevel.checkpoint()
        self._check_open()
        if self._retired:
            return False
        if self.pipeline is None:
            work = self._work
            assert work is not None
            await work.prepare()
            self._check_open()
            self.pipeline = self._open_pipeline(work.answer)
        await self._fill(self.pipeline)
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
        """Have as many windows under way as may be, of what items there are."""
        offered = False

        def offer(items: list[T]) -> bool:
            nonlocal offered
            if items:
                self._start(pipeline, items)
            offered = bool(self._started)
            return offered

        source = self._source
        assert source is not None
        while len(self._started) < self._depth and not self._exhausted and not offered:
            try:
                items = await source.take(pipeline.window_size, offer)
            except Exception as error:  # told in its place
                self._error, self._exhausted = error, True
                return
            if items:
                self._start(pipeline, items)
            elif not offered:
                self._exhausted = True

    def _start(self, pipeline: Pipeline, items: list[T]) -> None:
        self._check_open()  # by another task, while items were waited for
        assert self._work is not None
        self._started.append(self._work.start(pipeline, items, self._stop_on_error))

    def _check_open(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError("the bulk is closed")

    async def aclose(self) -> None:
        """End it: nothing more is sent. Idempotent; another task may call it."""
        self.close()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """As :meth:`aclose`, without a checkpoint. To be called in the event loop's thread."""
        self._used = True
        self.shut()

    def shut(self) -> None:
        """Close it with its connection, or when it is dropped: nobody may have used it."""
        self._closed = True
        self._started.clear()
        self._pending.clear()
        self._finish()

    def _finish(self) -> None:
        if self.pipeline is not None:
            self.pipeline.close()
        if not self._retired:
            self._retired = True
            self._source = self._work = None  # which may hold much
            self._on_close(self)

    def __del__(self) -> None:
        if self.__dict__.get("_used") is False:  # an interrupt may have cut its making short
            warnings.warn(
                "a bulk operation was never awaited or iterated over: nothing was sent; use "
                "`await` or `async for`",
                RuntimeWarning,
                stacklevel=2,
                source=self,
            )
        with suppress(AttributeError):
            self.shut()
