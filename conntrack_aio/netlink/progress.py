"""How far a socket's queue has been read, and whether what waited at a moment lies behind.

Nothing here is I/O. The kernel does not number what it queues. But a queue that was found empty has
nothing left of before; and what takes so much of the buffer at least can't be more messages than
that: once as many were read, all that waited is behind, though the queue may never run dry.
"""

from __future__ import annotations


class Progress:
    """A position in what a socket is sent, and the one up to which its reader has had it all."""

    def __init__(self, least_cost: int) -> None:
        """``least_cost`` is what a message takes of the receive buffer at least."""
        self.position = 0
        """Messages that were read, and gaps that were told; when the queue was found empty, this
        moved on to the furthest mark, too."""
        self._least_cost = least_cost
        self._furthest = 0
        self._gap: int | None = None
        """The mark of what may still be older than the gap."""
        self._before_gap = 0

    def mark(self, waiting: int, *, lost: bool = False) -> int:
        """The position by which what waits now, in so many bytes, has been read.

        ``lost`` says that messages were dropped of which no gap is known yet.
        """
        # A gap that was not told yet is something that waits.
        untold = lost or self._gap is not None
        mark = self.position + max(waiting // self._least_cost, untold)
        self._furthest = max(self._furthest, mark)
        return mark

    def read(self, count: int) -> None:
        """So many messages were read."""
        self.position += count

    def dry(self) -> None:
        """The queue was found empty."""
        self.position = max(self.position, self._furthest)

    @property
    def told(self) -> int:
        """The position up to which nothing is missing that would have to be told."""
        return self.position if self._gap is None else self._before_gap

    # -- after an overrun ---------------------------------------------------------------------

    @property
    def has_gap(self) -> bool:
        """Whether messages were dropped behind those that wait, and it was not told yet."""
        return self._gap is not None

    @property
    def until_gap(self) -> int | None:
        """How many further messages may be older than the gap, if there is one."""
        return None if self._gap is None else max(0, self._gap - self.position)

    def open_gap(self, receive_buffer: int) -> None:
        """The buffer, of this size, was full."""
        self._before_gap = self.position
        self._gap = self.mark(receive_buffer)

    def close_gap(self) -> None:
        """It is told now."""
        self._gap = None
        self.position += 1
