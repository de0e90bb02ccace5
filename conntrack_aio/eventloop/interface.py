"""The interface to an event loop."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import anyio

TaskFunction = Callable[[], Coroutine[object, object, None]]
"""An async function that a task runs."""

OnEnd = Callable[[BaseException | None], None]
"""A callback for the end of a task, called exactly once in the loop's thread.

Its argument is the exception that the task raised, or ``None`` if the task returned or was
cancelled. The callback must not raise.
"""


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


class TimeLimit(Protocol):
    """The scope of a limited time, such as :class:`anyio.CancelScope`."""

    @property
    def cancelled_caught(self) -> bool:
        """Whether the time was over before the block ended."""
        ...


class EventLoop(ABC):
    """An event loop.

    After a fork, the child process has a copy of this object. There :attr:`is_of_this_process` is
    ``False``, and :meth:`call_soon` does nothing.
    """

    blocks = False
    """Whether a wait blocks the thread, because no event loop runs."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def is_of_this_process(self) -> bool:
        """Whether the loop belongs to this process: ``False`` in a process forked from it."""
        return self._pid == os.getpid()

    @abstractmethod
    def is_running_here(self) -> bool:
        """Return whether the caller runs inside this loop."""

    def move_on_after(self, seconds: float) -> AbstractContextManager[TimeLimit]:
        """Return a context manager that ends its block when the time is over."""
        import anyio

        return anyio.move_on_after(seconds)

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


class _ThisThread(threading.local):
    """What runs in a thread."""

    blocking: EventLoop | None = None
    """Set while a coroutine runs without an event loop: see :mod:`.blocking`."""


this_thread: Final = _ThisThread()


def closed_error(text: str) -> anyio.ClosedResourceError:
    """Return the error for the use of a closed object."""
    import anyio

    return anyio.ClosedResourceError(text)


def busy_error(action: str) -> anyio.BusyResourceError:
    """Return the error for the use of an object that another task uses.

    :param action: what the task does, such as ``reading from``.
    """
    import anyio

    return anyio.BusyResourceError(action)
