"""Async iterators of batches of columns, over a dump or an event stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio

from ..codec.column_collector import ColumnCollector
from ..codec.columns import ColumnBatch
from ..netlink.owner import Owner
from .iterators import ItemIterator

_LARGE_BATCH: Final = 2048
"""The number of rows from which on a batch of a dump is handed out. The larger a batch is, the less
a row takes: some work is done for each kind of message in a batch."""


class ColumnBatches(ItemIterator[ColumnBatch]):
    """An async iterator of batches of columns: what :meth:`Dump.columns` and
    :meth:`EventStream.columns` return.

    It takes its rows from the dump or stream, so iterate over only one of the two. It raises what
    iterating over the dump or stream raises. An error is raised in its place: after the rows before
    it and before those after it.

    You may leave the loop at any time, as that over a dump or stream. :meth:`aclose` closes the
    dump or stream.
    """

    def __init__(
        self,
        owner: Owner,
        collector: ColumnCollector[Any],
        collect: Callable[[], Awaitable[bool]],
        close: Callable[[], None],
        *,
        fills_batches: bool,
    ) -> None:
        """Initialize the iterator.

        :param owner: the process and the event loop that may use it.
        :param collector: makes batches of columns.
        :param collect: receives more, and passes it to the collector; returns ``False`` at the end.
        :param close: closes what it receives from.
        :param fills_batches: whether to wait for more rows if there are few.
        """
        super().__init__(owner)
        self._has_errors = True
        self._pending = collector.results
        self._collector = collector
        self._collect = collect
        self._close = close
        self._least_rows = _LARGE_BATCH if fills_batches else 1
        self._busy = False
        self._failure: Exception | None = None
        """What is to be raised after the rows that were received before it."""

    async def _refill(self) -> bool:
        """Make batches available; return ``False`` at the end."""
        self._owner.check()
        if self._busy:
            raise anyio.BusyResourceError("iterating over")
        self._busy = True
        try:
            return await self._collect_batch()
        finally:
            self._busy = False

    async def _collect_batch(self) -> bool:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        collector, more = self._collector, True
        try:
            while more and not self._pending and collector.rows < self._least_rows:
                more = await self._collect()
        except Exception as failure:
            if not collector.rows:
                raise
            self._failure = failure
        collector.flush()
        return more or bool(self._pending)

    async def aclose(self) -> None:
        """Close the dump or the stream that the rows come from. Idempotent."""
        self.close()

    def close(self) -> None:
        """Close as :meth:`aclose` does, without ``await``.

        Call it in the event loop's thread.
        """
        self._close()
        self._collector.clear()
        self._failure = None
