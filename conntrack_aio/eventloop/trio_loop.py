"""The event loop of trio."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Protocol

import anyio

from .interface import EventLoop, OnEnd, TaskFunction, Wait


class _TrioToken(Protocol):
    """The part of ``trio.lowlevel.TrioToken`` that is used here."""

    def run_sync_soon(self, sync_fn: Callable[[], object]) -> None: ...


class Lowlevel(Protocol):
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


class TrioLoop(EventLoop):
    """A run of trio."""

    def __init__(self, lowlevel: Lowlevel) -> None:
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
