"""Read a source, and hand its records to several sinks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup

from .outlets import Outlet, SinkStatistics
from .records import Record
from .sinks import Sink


class Exporter:
    """Hands the records of a source to sinks: ``async with Exporter(source, sinks) as exporter``.

    Inside the block the records flow. :meth:`wait` waits until the source ends. Leaving the block
    ends the reading, and gives the sinks some time to write what waits.

    A sink that is slow, or whose destination is absent, slows nothing else: what its queue has no
    room for is dropped, counted, and reported to it as a :class:`LostRecord`.
    """

    def __init__(
        self,
        source: AsyncIterator[Sequence[Record]],
        sinks: Sequence[Sink],
        *,
        queue: int = 100_000,
        drain_timeout: float = 5.0,
    ) -> None:
        """Set up an exporter. Nothing is read yet.

        :param source: yields batches of records.
        :param sinks: write them.
        :param queue: the most records that wait for one sink; each takes one or two kilobytes.
        :param drain_timeout: seconds that the sinks get at the end.
        :raises ValueError: when there is no sink, or when a number is not positive.
        """
        if not sinks:
            raise ValueError("an exporter needs at least one sink")
        if queue < 1:
            raise ValueError(f"the queue must have room for a record; got {queue}")
        if not drain_timeout >= 0:
            raise ValueError(f"drain_timeout must not be negative; got {drain_timeout!r}")
        self._source = source
        self._outlets = [Outlet(sink, queue) for sink in sinks]
        self._drain_timeout = drain_timeout
        self._finished = anyio.Event()
        self._reading = anyio.CancelScope()
        self._writing = [anyio.CancelScope() for _ in sinks]
        self._tasks: TaskGroup | None = None

    def statistics(self) -> dict[str, SinkStatistics]:
        """Return what each sink has done so far, by the sink's name."""
        return {outlet.sink.name: outlet.statistics() for outlet in self._outlets}

    async def wait(self) -> None:
        """Wait until the source has ended and every sink has written all of it."""
        await self._finished.wait()

    def reopen(self) -> None:
        """Have each sink open its files again before its next record, as on SIGHUP."""
        for outlet in self._outlets:
            outlet.reopen()

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._run)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Stop reading, and wait until the sinks have written what waits, or for some seconds.

        :raises ExceptionGroup: with the error of the source, if it has failed. What was read before
            has been written.
        """
        assert self._tasks is not None
        self._reading.cancel()
        self._limit_writing()
        if exc_type is not None:
            self._tasks.cancel_scope.cancel()
        return await self._tasks.__aexit__(exc_type, exc, traceback)

    def _limit_writing(self) -> None:
        for scope in self._writing:
            scope.deadline = anyio.current_time() + self._drain_timeout

    async def _run(self) -> None:
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            for outlet, scope in zip(self._outlets, self._writing, strict=True):
                tasks.start_soon(_write, outlet, scope)
            try:
                with self._reading:
                    async for records in self._source:
                        for outlet in self._outlets:
                            outlet.put(records)
            except Exception as error:
                failure = error
                self._limit_writing()
            finally:
                for outlet in self._outlets:
                    outlet.end()
        if failure is not None:
            raise failure
        self._finished.set()


async def _write(outlet: Outlet, scope: anyio.CancelScope) -> None:
    """Write what an outlet gets, until its end or until the scope is cancelled."""
    try:
        with scope:
            await outlet.run()
    finally:
        outlet.abandon()
        with anyio.CancelScope(shield=True):
            await outlet.sink.close()
