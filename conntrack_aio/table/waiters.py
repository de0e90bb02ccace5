"""Let tasks wait until the live table meets a condition."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import anyio
import anyio.lowlevel

from ..eventloop import wake


class Waiters:
    """The tasks that wait for conditions of a live table."""

    def __init__(self, check: Callable[[], None]) -> None:
        """Initialize without waiting tasks.

        :param check: raises an error if the table has ended. It must be a method. Its object is not
            kept alive.
        """
        self._check_owner = weakref.WeakMethod(check)
        self._changed: anyio.Event | None = None
        """Set when the conditions must be evaluated again."""

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition is true.

        It is evaluated at once, and after each :meth:`wake`. Raises what ``check`` raises.
        """
        await anyio.lowlevel.checkpoint()
        self._check()
        while not condition():
            if self._changed is None:
                self._changed = anyio.Event()
            await self._changed.wait()
            self._check()

    def wake(self) -> None:
        """Wake all waiting tasks, so that they evaluate their conditions again."""
        changed, self._changed = self._changed, None
        if changed is not None:
            wake(changed)

    def _check(self) -> None:
        check = self._check_owner()
        if check is not None:
            check()
