"""Track how far a socket's queue has been read, and whether it was read past a given moment.

There is no I/O here. The kernel does not number the messages that it queues. But a queue that was
found empty has nothing left from before. And if each message takes at least so many bytes of the
receive buffer, the bytes that waited at a moment bound the number of messages. Once that many were
read, everything that waited has been read, even if the queue is never empty.
"""

from __future__ import annotations


class Progress:
    """The reader's position in a socket's queue, and the position up to which it is complete."""

    def __init__(self, least_cost: int) -> None:
        """Start at position 0.

        :param least_cost: bytes of the receive buffer that a message takes at least.
        """
        self.position = 0
        """Messages read plus gaps reported. When the queue is found empty, this also advances to
        the furthest position that :meth:`position_after` has returned."""
        self._least_cost = least_cost
        self._furthest = 0
        self._gap: int | None = None
        """The position by which all messages older than the gap have been read."""
        self._before_gap = 0

    def position_after(self, waiting: int, *, lost: bool = False) -> int:
        """Return the position by which all messages that wait now have been read.

        :param waiting: bytes of the receive buffer that are in use.
        :param lost: whether the kernel dropped messages of which no gap is known yet.
        """
        # A gap that was not reported yet also has to be waited for.
        unreported = lost or self._gap is not None
        position = self.position + max(waiting // self._least_cost, unreported)
        self._furthest = max(self._furthest, position)
        return position

    def note_read(self, count: int) -> None:
        """Note that ``count`` messages were read."""
        self.position += count

    def note_drained(self) -> None:
        """Note that the queue was found empty."""
        self.position = max(self.position, self._furthest)

    @property
    def reported_position(self) -> int:
        """The position up to which all messages were read and all gaps reported."""
        return self.position if self._gap is None else self._before_gap

    # -- after an overrun ---------------------------------------------------------------------

    @property
    def has_gap(self) -> bool:
        """Whether the kernel dropped messages and the gap was not reported yet.

        The gap follows the messages that waited when the receive buffer was full.
        """
        return self._gap is not None

    @property
    def until_gap(self) -> int | None:
        """How many further messages may be older than the gap; ``None`` without a gap."""
        return None if self._gap is None else max(0, self._gap - self.position)

    def open_gap(self, receive_buffer: int) -> None:
        """Note an overrun: the receive buffer, of this size, was full."""
        self._before_gap = self.position
        self._gap = self.position_after(receive_buffer)

    def close_gap(self) -> None:
        """Note that the gap was reported."""
        self._gap = None
        self.position += 1
