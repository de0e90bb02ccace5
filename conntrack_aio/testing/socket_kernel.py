"""Declare what a fake socket and the kernel behind it need of each other."""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from .sockets import FakeSocket

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


class SocketKernel(Protocol):
    """What a socket needs of the kernel that it belongs to."""

    lock: RLock
    """The lock to hold while reading or changing any state of the kernel."""

    @property
    def largest_buffer(self) -> int:
        """``net.core.rmem_max``, in bytes."""
        ...

    @property
    def option_memory(self) -> int:
        """``net.core.optmem_max``, in bytes."""
        ...

    def receive(self, socket: FakeSocket, data: bytes) -> None:
        """Execute a datagram of requests."""
        ...

    def after_read(self, socket: FakeSocket) -> None:
        """Note that the program has read from the socket."""
        ...

    def check_join(self, group: int) -> None:
        """Check that the program may join a multicast group.

        :raises PermissionError: when it may not.
        """
        ...

    def check_force(self) -> None:
        """Check that the program may exceed the largest receive buffer.

        :raises PermissionError: when it may not.
        """
        ...


def truesize(size: int) -> int:
    """Return how many bytes of the receive buffer a message of ``size`` bytes takes."""
    allocated = 576
    if size + _OVERHEAD > 640:
        allocated = 1024
        while allocated < size + _OVERHEAD:
            allocated *= 2
    return allocated + _HEADER
