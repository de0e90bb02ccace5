"""What this process has open."""

from __future__ import annotations

import contextlib
import os

from .polling import wait_until


class OpenFiles:
    """The descriptors of a moment, to which what is open later is compared.

    By their numbers and by what they are (a socket's inode, say), not by how many there are: what
    an earlier test left to a thread, or to the collector, may close at any time.
    """

    def __init__(self) -> None:
        self._before = _list_open()

    def new(self) -> list[str]:
        """What has been opened since then, and is open."""
        return sorted(_list_open() - self._before)

    async def closed(self) -> None:
        """Return once nothing new is open: a thread closes what it uses when it is done."""
        await wait_until(lambda: not self.new())


def _list_open() -> set[str]:
    found = set()
    for number in os.listdir("/proc/self/fd"):
        # That of the list itself is gone by now.
        with contextlib.suppress(FileNotFoundError):
            found.add(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
    return found
