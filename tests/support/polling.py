"""Waiting for what a thread will have done."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.lowlevel

from .effort import TIMEOUT_FACTOR


async def wait_until(condition: Callable[[], bool]) -> None:
    """Return once it holds. A socket, above all, closes when the thread that uses it is done."""
    with anyio.fail_after(30 * TIMEOUT_FACTOR):
        while not condition():
            await anyio.lowlevel.checkpoint()
