"""Tasks that belong to an object rather than to whoever made it.

A task group would wrap what the body of an ``async with`` raises, and would have to be left by the
task that entered it. What runs here is held by neither: it ends with the object whose it is.
"""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    import asyncio


class _Lowlevel(Protocol):
    def in_trio_task(self) -> bool: ...

    def spawn_system_task(
        self,
        async_fn: Callable[[], Coroutine[object, object, None]],
        *,
        name: object,
        context: contextvars.Context,
    ) -> object: ...


_tasks: set[asyncio.Task[None]] = set()
"""asyncio itself keeps no reference to a task."""


def start(work: Callable[[], Coroutine[object, object, None]], name: str) -> None:
    """Run ``work`` beside whatever runs in this event loop, asyncio's or trio's.

    It must not raise, but for its cancellation when the loop ends; nothing else cancels it.
    """
    # Who runs trio has imported it; the package needs neither it nor its types.
    lowlevel = cast("_Lowlevel | None", sys.modules.get("trio.lowlevel"))
    if lowlevel is not None and lowlevel.in_trio_task():
        lowlevel.spawn_system_task(work, name=name, context=contextvars.copy_context())
        return
    import asyncio  # whoever gets here has imported it already

    task = asyncio.get_running_loop().create_task(work(), name=name)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
