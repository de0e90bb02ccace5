"""Find file descriptors that this process has opened and not closed."""

from __future__ import annotations

import contextlib
import os

from .polling import wait_until


class OpenFiles:
    """A snapshot of the open descriptors, which is compared with those that are open later.

    Descriptors are compared by number and target, such as the inode of a socket. Comparing their
    count would fail: descriptors of an earlier test may be closed at any time, by a thread or by
    the garbage collector.
    """

    def __init__(self) -> None:
        self._before = _list_open()

    def new(self) -> list[str]:
        """Return the descriptors that were opened since the snapshot and are still open."""
        return sorted(_list_open() - self._before)

    async def closed(self) -> None:
        """Wait until no new descriptor is open. A thread closes its own when it has finished."""
        await wait_until(lambda: not self.new())


def _list_open() -> set[str]:
    found = set()
    for number in os.listdir("/proc/self/fd"):
        # os.listdir() has closed the descriptor of the directory itself.
        with contextlib.suppress(FileNotFoundError):
            found.add(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
    return found
