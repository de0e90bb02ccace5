"""Provide one interface to the running event loop: asyncio's, uvloop's or trio's.

The library uses anyio for everything that anyio offers. This module adds what anyio lacks:

- start a task that belongs to an object instead of a task group;
- call a function in the loop's thread from another thread, without waiting for the result;
- end a wait for a file descriptor while the loop does not run.
"""

from __future__ import annotations

import contextvars
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol, cast

import anyio

if TYPE_CHECKING:
    import asyncio

TaskFunction = Callable[[], Coroutine[object, object, None]]
"""An async function that a task runs."""

OnEnd = Callable[[BaseException | None], None]
"""A callback for the end of a task, called exactly once in the loop's thread.

Its argument is the exception that the task raised, or ``None`` if the task returned or was
cancelled. The callback must not raise.
"""


def current() -> EventLoop:
    """Return the event loop that runs in this thread.

    :raises RuntimeError: when no event loop runs here.
    """
    # A program that runs trio has imported it. The library does not depend on trio.
    lowlevel = cast("_Lowlevel | None", sys.modules.get("trio.lowlevel"))
    if lowlevel is not None and _is_in_task(lowlevel):
        return _Trio(lowlevel)
    import asyncio

    return _Asyncio(asyncio.get_running_loop())


def _is_in_task(lowlevel: _Lowlevel) -> bool:
    """Return whether the caller runs in a trio task. ``in_trio_task`` exists since trio 0.28."""
    try:
        lowlevel.current_task()
    except RuntimeError:
        return False
    return True


def wake(event: anyio.Event) -> None:
    """Set an event and so wake the tasks that wait for it.

    Call this function in the thread of the tasks' loop. The loop need not be running. If the loop
    has ended, and in a forked process, there is no task to wake.
    """
    with suppress(RuntimeError):  # the loop has ended
        event.set()


class Wait(Protocol):
    """A wait for a file descriptor to become readable."""

    async def finish(self) -> None:
        """Wait until the descriptor is readable.

        :raises anyio.ClosedResourceError: when :meth:`give_up` is called.
        :raises OSError: when the system cannot watch one more descriptor.
        """
        ...

    def give_up(self) -> None:
        """End the wait: :meth:`finish` raises in the task that waits.

        Call this method in the loop's thread, before the descriptor is closed. The loop need not be
        running, and may be closed.
        """
        ...


class EventLoop(ABC):
    """An event loop.

    After a fork, the child process has a copy of this object. There :attr:`is_of_this_process` is
    ``False``, and :meth:`call_soon` does nothing.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def is_of_this_process(self) -> bool:
        """Whether the loop belongs to this process: ``False`` in a process forked from it."""
        return self._pid == os.getpid()

    @abstractmethod
    def is_running_here(self) -> bool:
        """Return whether the caller runs inside this loop."""

    @abstractmethod
    def call_soon(self, callback: Callable[[], object]) -> None:
        """Schedule a call of ``callback`` in the loop's thread.

        This method may be called in any thread. If the loop is closed, it does nothing.
        """

    @abstractmethod
    def wait_readable(self, descriptor: int) -> Wait:
        """Begin to wait until a file descriptor is readable.

        :param descriptor: the descriptor. It must stay open until the wait has ended.
        :returns: the wait; await its :meth:`Wait.finish`.
        :raises OSError: when the system cannot watch one more descriptor. Some loops find out only
            in :meth:`Wait.finish`.
        """

    @abstractmethod
    def start(self, function: TaskFunction, name: str, on_end: OnEnd) -> Callable[[], None]:
        """Start a task that belongs to no task group.

        The task ends when its function returns, when it is cancelled, or when the loop ends.

        :param function: the async function that the task runs.
        :param name: the name of the task, as debuggers show it.
        :param on_end: called once when the task has ended.
        :returns: a function that cancels the task. It may be called in the loop's thread at any
            time, also after the task or the loop has ended.
        """


# -- asyncio ------------------------------------------------------------------------------------

_tasks: Final[set[asyncio.Task[None]]] = set()
"""The tasks that have not ended. An asyncio loop itself keeps only weak references to its tasks."""


class _Asyncio(EventLoop):
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
            raise anyio.ClosedResourceError("the socket is closed")

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


# -- trio ---------------------------------------------------------------------------------------


class _TrioToken(Protocol):
    """The part of ``trio.lowlevel.TrioToken`` that is used here."""

    def run_sync_soon(self, sync_fn: Callable[[], object]) -> None: ...


class _Lowlevel(Protocol):
    """The part of the module ``trio.lowlevel`` that is used here."""

    def current_task(self) -> object: ...

    def current_trio_token(self) -> _TrioToken: ...

    def spawn_system_task(
        self,
        async_fn: Callable[[], Coroutine[object, object, None]],
        *,
        name: object,
        context: contextvars.Context,
    ) -> object: ...


class _Trio(EventLoop):
    """A run of trio."""

    def __init__(self, lowlevel: _Lowlevel) -> None:
        super().__init__()
        self._lowlevel = lowlevel
        self._token = lowlevel.current_trio_token()

    def is_running_here(self) -> bool:
        try:
            return self._lowlevel.current_trio_token() is self._token
        except RuntimeError:
            return False

    def call_soon(self, callback: Callable[[], object]) -> None:
        if self.is_of_this_process:
            with suppress(RuntimeError):  # trio.RunFinishedError
                self._token.run_sync_soon(callback)

    def wait_readable(self, descriptor: int) -> Wait:
        return _TrioWait(self, descriptor)

    def start(self, function: TaskFunction, name: str, on_end: OnEnd) -> Callable[[], None]:
        scope = anyio.CancelScope()
        cancelled = anyio.get_cancelled_exc_class()

        # trio defers a KeyboardInterrupt in a system task and raises it in the main task. Any other
        # exception that leaves a system task becomes a TrioInternalError, so none may leave it.
        async def run() -> None:
            nonlocal function, on_end
            error: BaseException | None = None
            try:
                with scope:
                    await function()
            except cancelled:
                raise
            except BaseException as raised:
                # Remove this frame from the traceback. It refers to the function, and by its
                # variable `error` to the exception itself, a reference cycle.
                frames = raised.__traceback__
                error = raised.with_traceback(frames.tb_next if frames is not None else None)
                del frames
            finally:
                try:
                    on_end(error)
                finally:
                    # The error may keep a frame of the function alive, and that frame this one as
                    # its caller.
                    del function, on_end, error

        context = contextvars.copy_context()
        self._lowlevel.spawn_system_task(run, name=name, context=context)

        def cancel() -> None:
            with suppress(RuntimeError):  # trio.run() has finished
                scope.cancel()

        return cancel


class _TrioWait:
    """A wait by anyio."""

    def __init__(self, owner: EventLoop, descriptor: int) -> None:
        self._owner = owner
        self._descriptor = descriptor

    async def finish(self) -> None:
        await anyio.wait_readable(self._descriptor)

    def give_up(self) -> None:
        if self._owner.is_of_this_process:
            with suppress(RuntimeError):  # trio.run() has finished, and no task waits
                anyio.notify_closing(self._descriptor)
