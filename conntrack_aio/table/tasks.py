"""Run the tasks of a live table, which belong to no task group."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import anyio

from .. import eventloop
from ..eventloop import OnEnd, TaskFunction


class TableTasks:
    """The tasks of one table. Each runs until it fails or is cancelled."""

    def __init__(self) -> None:
        self._cancels: list[Callable[[], None]] = []
        """Functions that cancel the tasks."""
        self._running = 0
        """How many tasks have not ended."""
        self._all_ended: anyio.Event | None = None
        """Set when the last task has ended."""

    @property
    def running(self) -> bool:
        """Whether a task has not ended."""
        return self._running > 0

    def start(
        self,
        functions: Iterable[TaskFunction],
        on_end: OnEnd,
        on_all_ended: Callable[[], None],
    ) -> None:
        """Start a task for each function.

        Neither callback is stored, because they refer to the table.

        :param functions: the functions, none of which returns.
        :param on_end: called when a task has ended; see :data:`~conntrack_aio.eventloop.OnEnd`.
        :param on_all_ended: called when the last task has ended, after its ``on_end``.
        """
        loop = eventloop.current()
        self._all_ended = all_ended = anyio.Event()

        def end(error: BaseException | None) -> None:
            on_end(error)
            # The count is too low if an interrupt came just before the task was counted.
            self._running = max(0, self._running - 1)
            if not self._running:
                on_all_ended()
                all_ended.set()

        for function in functions:
            self._cancels.append(loop.start(function, "conntrack_aio table", end))
            self._running += 1

    def cancel(self) -> None:
        """Cancel all tasks. Call it in the event loop's thread."""
        for cancel in self._cancels:
            cancel()
        self._cancels.clear()

    async def wait_ended(self) -> None:
        """Wait until all tasks have ended. Call it in the event loop that runs them."""
        if self._running:
            assert self._all_ended is not None
            await self._all_ended.wait()
