"""The process and the event loop that a connection belongs to."""

from __future__ import annotations

import os

from .. import eventloop
from ..errors import UsedElsewhere


class Owner:
    """The process and the event loop that run when this object is made.

    A forked process has copies of everything that its parent had except the threads, and it shares
    the sockets: one process may receive the reply to the other's request. A task in another event
    loop would wait for what only the first loop can wake.
    """

    def __init__(self) -> None:
        """Record the current process and event loop.

        :raises RuntimeError: when no event loop runs here.
        """
        self._pid = os.getpid()
        self._loop = eventloop.current()

    @property
    def blocks(self) -> bool:
        """Whether the connection is used without an event loop, so that each wait blocks."""
        return self._loop.blocks

    @property
    def is_this_process(self) -> bool:
        """Whether this is the process that opened the connection."""
        return os.getpid() == self._pid

    @property
    def is_running_here(self) -> bool:
        """Whether the caller runs inside the event loop of the connection."""
        return self.is_this_process and self._loop.is_running_here()

    def check(self) -> None:
        """Check where a coroutine runs.

        :raises UsedElsewhere: when called in another process or another event loop.
        """
        self.check_process()
        if not self._loop.is_running_here():
            raise UsedElsewhere(
                "this connection belongs to another event loop: open one in this loop"
            )

    def check_call(self) -> None:
        """Check where a plain function runs, which may be outside of every event loop.

        :raises UsedElsewhere: when called in another process or another event loop.
        """
        self.check_process()
        if self._loop.is_running_here():
            return
        try:
            eventloop.current()
        except RuntimeError:
            return
        self.check()

    def check_loop(self) -> None:
        """Check that an event loop runs, for work that waits.

        :raises RuntimeError: when the connection is used without an event loop.
        """
        if self.blocks:
            raise RuntimeError("events and bulk operations need an event loop")

    def check_process(self) -> None:
        """Check which process runs.

        :raises UsedElsewhere: when called in another process.
        """
        if not self.is_this_process:
            raise UsedElsewhere(
                f"this connection belongs to process {self._pid}, and this one was forked from it: "
                "open a connection here"
            )
