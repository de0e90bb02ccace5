"""The event loop that runs: asyncio's (uvloop's too) or trio's, behind one interface.

anyio covers what a task does for itself. What is here it has no function for: starting a task that
belongs to an object rather than to a task group, being called by another thread without waiting for
it and without a descriptor, and giving up a wait for a descriptor while the loop does not run.
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

Work = Callable[[], Coroutine[object, object, None]]

OnEnd = Callable[[BaseException | None], None]
"""Called once when a task has ended, however that came about, with what it raised; a task that was
cancelled raised nothing. It runs in the loop's thread and must not raise."""


def current() -> EventLoop:
    """Return the event loop that runs in this thread.

    :raises RuntimeError: when no event loop runs here.
    """
    # A program that runs trio has imported it; the package needs neither it nor its types.
    lowlevel = cast("_Lowlevel | None", sys.modules.get("trio.lowlevel"))
    if lowlevel is not None and lowlevel.in_trio_task():
        return _Trio(lowlevel)
    import asyncio

    return _Asyncio(asyncio.get_running_loop())


def wake(event: anyio.Event) -> None:
    """Set an event, so that the tasks that wait for it are woken.

    To be called in the thread of their loop. The loop need not run; once it has ended, and in a
    process that was forked, no task waits.
    """
    with suppress(RuntimeError):
        event.set()


class Wait(Protocol):
    """One wait for a descriptor to become readable."""

    async def finish(self) -> None:
        """Return once the descriptor is readable.

        :raises anyio.ClosedResourceError: when the wait was given up.
        """
        ...

    def give_up(self) -> None:
        """Wake the task that waits, with an error, before the descriptor is closed.

        To be called in the loop's thread. The loop need not run, and may be closed.
        """
        ...


class EventLoop(ABC):
    """An event loop, of this process unless stated otherwise."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def is_of_this_process(self) -> bool:
        """Whether this is not the copy of a loop in a process that was forked from the loop's."""
        return self._pid == os.getpid()

    @abstractmethod
    def is_running_here(self) -> bool:
        """Return whether the caller runs inside this very loop."""

    @abstractmethod
    def call_soon(self, callback: Callable[[], object]) -> None:
        """Have the loop's thread call ``callback``. May be called in any thread.

        Once the loop is closed, nothing happens.
        """

    @abstractmethod
    def wait_readable(self, descriptor: int) -> Wait:
        """Begin to wait for a descriptor.

        :raises OSError: when the system can't watch one more descriptor.
        """

    @abstractmethod
    def start(self, work: Work, name: str, on_end: OnEnd) -> Callable[[], None]:
        """Start a task beside those that run in this loop, and return what cancels it.

        It belongs to no task group. It ends when it is cancelled, or with the loop.
        The function returned may be called in the loop's thread at any time.
        """


# -- asyncio ------------------------------------------------------------------------------------

_tasks: Final[set[asyncio.Task[None]]] = set()
"""asyncio itself keeps no reference to a task."""


class _Asyncio(EventLoop):
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
        # A forked process shares the descriptor by which the loop of its parent is woken.
        if self.is_of_this_process:
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(callback)

    def wait_readable(self, descriptor: int) -> Wait:
        return _AsyncioWait(self, self._loop, descriptor)

    def start(self, work: Work, name: str, on_end: OnEnd) -> Callable[[], None]:
        task = self._loop.create_task(work(), name=name)
        _tasks.add(task)

        # A task that is cancelled before its first step never runs its `finally`.
        def ended(task: asyncio.Task[None]) -> None:
            _tasks.discard(task)
            on_end(None if task.cancelled() else task.exception())

        task.add_done_callback(ended)

        def cancel() -> None:
            with suppress(RuntimeError):  # the loop is closed
                task.cancel()

        return cancel


class _AsyncioWait:
    def __init__(self, owner: EventLoop, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        self._owner = owner
        self._loop = loop
        self._descriptor = descriptor
        self._future: asyncio.Future[bool] = loop.create_future()
        """Whether the descriptor is readable; ``False``, if the wait was given up."""
        loop.add_reader(descriptor, self._answer, True)
        self._watched = True

    async def finish(self) -> None:
        try:
            readable = await self._future
        finally:
            self._unwatch()
        if not readable:
            # Not kept in the future: its traceback holds this frame, which holds the future.
            raise anyio.ClosedResourceError("the socket is closed")

    def give_up(self) -> None:
        if self._owner.is_of_this_process:
            with suppress(RuntimeError):  # the loop is closed
                self._answer(False)

    def _answer(self, readable: bool) -> None:
        self._unwatch()
        if not self._future.done():
            self._future.set_result(readable)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            # A forked process shares the epoll instance of its parent, and must not change it,
            # whether it runs its copy of the loop or the collector closes a task that waits.
            if self._owner.is_of_this_process:
                self._loop.remove_reader(self._descriptor)


# -- trio ---------------------------------------------------------------------------------------


class _TrioToken(Protocol):
    def run_sync_soon(self, sync_fn: Callable[[], object]) -> None: ...


class _Lowlevel(Protocol):
    def in_trio_task(self) -> bool: ...

    def current_trio_token(self) -> _TrioToken: ...

    def spawn_system_task(
        self,
        async_fn: Callable[[], Coroutine[object, object, None]],
        *,
        name: object,
        context: contextvars.Context,
    ) -> object: ...


class _Trio(EventLoop):
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

    def start(self, work: Work, name: str, on_end: OnEnd) -> Callable[[], None]:
        scope = anyio.CancelScope()
        cancelled = anyio.get_cancelled_exc_class()

        # A system task runs with KeyboardInterrupt held back, which then strikes the main task.
        # Whatever else left it, trio would make a TrioInternalError of that.
        async def run() -> None:
            nonlocal work, on_end
            error: BaseException | None = None
            try:
                with scope:
                    await work()
            except cancelled:
                raise
            except BaseException as raised:
                # Without this frame, which would hold the work and, by its own variable, the error.
                frames = raised.__traceback__
                error = raised.with_traceback(frames.tb_next if frames is not None else None)
                del frames
            finally:
                try:
                    on_end(error)
                finally:
                    # A frame of the work, kept by the error, may keep this one as its caller's.
                    del work, on_end, error

        context = contextvars.copy_context()
        self._lowlevel.spawn_system_task(run, name=name, context=context)

        def cancel() -> None:
            with suppress(RuntimeError):  # the run has finished
                scope.cancel()

        return cancel


class _TrioWait:
    def __init__(self, owner: EventLoop, descriptor: int) -> None:
        self._owner = owner
        self._descriptor = descriptor

    async def finish(self) -> None:
        await anyio.wait_readable(self._descriptor)

    def give_up(self) -> None:
        if self._owner.is_of_this_process:
            with suppress(RuntimeError):  # no task waits once the run has finished
                anyio.notify_closing(self._descriptor)
