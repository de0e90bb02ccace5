"""Types and sizes that a fake socket and the kernel behind it share."""

from __future__ import annotations

from typing import Final, Protocol

Sender = tuple[int, int]
"""The address of a sender: its port id, and a mask of multicast groups."""

KERNEL_ADDRESS: Final[Sender] = (0, 0)
"""The address of the kernel, whose port id is 0."""

EVENT_SIZE: Final = 1280
"""Bytes of the receive buffer that an event takes (``skb->truesize``, observed on x86-64)."""

_OVERHEAD: Final = 320
_HEADER: Final = 256


class DumpSource(Protocol):
    """The source of a dump's messages."""

    @property
    def end_flags(self) -> int:
        """The flags of the NLMSG_DONE message."""
        ...

    def __call__(self, space: int, /) -> bytes:
        """Return the next messages, at most ``space`` bytes; at the end return nothing."""
        ...


def truesize(size: int) -> int:
    """Return how many bytes of the receive buffer a message of ``size`` bytes takes."""
    allocated = 576
    if size + _OVERHEAD > 640:
        allocated = 1024
        while allocated < size + _OVERHEAD:
            allocated *= 2
    return allocated + _HEADER
