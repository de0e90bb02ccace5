"""The event loops of asyncio, and those with its interface such as uvloop's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from .interface import EventLoop, OnEnd, TaskFunction, Wait, closed_error

_tasks: Final[set[asyncio.Task[None]]] = set()
"""The tasks that have not ended. An asyncio loop itself keeps only weak references to its tasks."""


class AsyncioLoop(EventLoop):
    """A loop of asyncio, or one with its interface such as uvloop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop

    def is_running_here(self) -> bool:
        import asyncio

        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def call_soon(self, callback: Callable[[], object]) -> None:
        # A forked process shares the descriptor that wakes the loop of its parent.
        if self.is_of_this_process:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(callback)

    def wait_readable(self, descriptor: int) -> Wait:
        return _AsyncioWait(self, self._loop, descriptor)

    def start(self, function: TaskFunction, name: str, on_end: OnEnd) -> Callable[[], None]:
        task = self._loop.create_task(function(), name=name)
        _tasks.add(task)

        # A done callback, because a task that is cancelled before its first step never enters its
        # coroutine and so runs no `finally` there.
        def ended(task: asyncio.Task[None]) -> None:
            _tasks.discard(task)
            on_end(None if task.cancelled() else task.exception())

        task.add_done_callback(ended)

        def cancel() -> None:
            with suppress(RuntimeError):  # the loop is closed
                task.cancel()

        return cancel


class _AsyncioWait:
    """A wait by a reader callback and a future."""

    def __init__(self, owner: EventLoop, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        self._owner = owner
        self._loop = loop
        self._descriptor = descriptor
        self._future: asyncio.Future[bool] = loop.create_future()
        """Its result is ``True`` if the descriptor is readable, ``False`` after ``give_up()``."""
        loop.add_reader(descriptor, self._set_result, True)
        self._has_reader = True

    async def finish(self) -> None:
        try:
            readable = await self._future
        finally:
            self._remove_reader()
        if not readable:
            # Raised here instead of set as the future's exception: that exception's traceback would
            # refer to this frame, and the frame to the future, a reference cycle.
            raise closed_error("the socket is closed")

    def give_up(self) -> None:
        if self._owner.is_of_this_process:
            with suppress(RuntimeError):  # the loop is closed
                self._set_result(False)

    def _set_result(self, readable: bool) -> None:
        self._remove_reader()
        if not self._future.done():
            self._future.set_result(readable)

    def _remove_reader(self) -> None:
        if self._has_reader:
            self._has_reader = False
            # A forked process shares the epoll instance of its parent and must not change it. This
            # code runs there when its copy of the loop runs, or when the garbage collector closes
            # the coroutine of a task that waits.
            if self._owner.is_of_this_process:
                self._loop.remove_reader(self._descriptor)
