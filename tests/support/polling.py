"""Wait for the effect of a thread that does not report its end."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.lowlevel

from .effort import TIMEOUT_FACTOR


async def wait_until(condition: Callable[[], bool]) -> None:
    """Run the event loop until a condition is true.

    For example, a socket is closed when the thread that uses it has finished.

    :raises TimeoutError: when that takes longer than 30 seconds, or 300 in a guest.
    """
    with anyio.fail_after(30 * TIMEOUT_FACTOR):
        while not condition():
            await anyio.lowlevel.checkpoint()
