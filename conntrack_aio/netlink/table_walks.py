"""Count the threads of this process inside system calls that walk a kernel table.

The kernel makes a dump's first chunk inside ``sendmsg``. With a filter that matches nothing, that
is the whole walk; a flush is the same. It takes 300 to 400 ms at a million entries, even on a
non-blocking socket. All that time the kernel holds the subsystem's mutex, machine-wide, so the
``sendmsg`` of any other request blocks too. While the count is not zero, requests are sent on a
worker thread as well.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager


class TableWalks:
    """The number of threads of this process inside a call that holds the kernel's mutex."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start from zero, as a forked process must: it has no such threads."""
        self._count = 0
        self._lock = threading.Lock()

    @property
    def active(self) -> bool:
        """Whether any thread walks a table."""
        return self._count > 0

    @contextmanager
    def count(self) -> Generator[None]:
        """Count the calling thread while the ``with`` block runs."""
        with self._lock:
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1


table_walks = TableWalks()
os.register_at_fork(after_in_child=table_walks.reset)
