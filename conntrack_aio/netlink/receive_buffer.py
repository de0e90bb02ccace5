"""A socket's receive buffer: its size, and what the kernel accounts to it."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final, NamedTuple

from ..uapi.socket import (
    SK_MEMINFO_DROPS,
    SK_MEMINFO_RCVBUF,
    SK_MEMINFO_RMEM_ALLOC,
    SO_MEMINFO,
    SO_RCVBUFFORCE,
)
from .raw import RawSocket

_MEMINFO = struct.Struct("=9I")

_SMALLEST: Final = 2304
"""No receive buffer is smaller (``SOCK_MIN_RCVBUF`` on 64-bit machines)."""
_LARGEST: Final = 2**31 - 1

ACKNOWLEDGEMENT_COST: Final = 1536
"""Bytes of the receive buffer that an acknowledgement takes at most: usually some 830, and 1,344
with a long message of the kernel's."""

ANSWER_COST: Final = 3072
"""Bytes of the receive buffer that the answers to one request take at most: a reply of up to 2 KiB,
and its acknowledgement. The kernel drops answers for which there is no room, though it has carried
out the request."""


class QueueState(NamedTuple):
    """What the kernel reports about a socket's receive queue (``SO_MEMINFO``)."""

    waiting: int
    """Bytes of the receive buffer that are in use."""
    drops: int
    """Messages dropped since the socket was made, modulo 2^32."""


def set_receive_buffer(raw: RawSocket, size: int, *, forced_only: bool = False) -> bool | None:
    """Ask for a receive buffer of ``size`` bytes, beyond ``net.core.rmem_max`` if possible.

    SO_RCVBUFFORCE exceeds that limit. It needs CAP_NET_ADMIN in the initial user namespace.

    :param raw: the socket.
    :param size: the size in bytes, which the kernel doubles.
    :param forced_only: do not use SO_RCVBUF, which cuts the size down to the limit.
    :returns: ``True`` if the size may exceed the limit, ``False`` if it was cut down to it, and
        ``None`` if both options were refused and the buffer stays as it was.
    """
    try:
        raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    except OSError:
        if forced_only:
            return None
    else:
        return True
    try:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    except OSError:
        return None
    return False


def _doubled(size: int) -> int:
    """Return what the kernel makes of a requested size: it doubles it for its own bookkeeping."""
    return max(2 * size, _SMALLEST)


class ReceiveBuffer:
    """The receive buffer of one socket."""

    def __init__(self, raw: RawSocket) -> None:
        self._raw = raw
        self._requested: int | None = None
        """The size that was last requested and not refused."""
        self._forced = False
        """Whether that size was granted even beyond the system's limit."""
        self._has_meminfo = True

    @property
    def size(self) -> int:
        """The size by the kernel's accounting, which is twice the size granted.

        Where the size cannot be read, return the upper limit for it.
        """
        size = self._read_size()
        if size is not None:
            return size
        return _LARGEST if self._requested is None else _doubled(self._requested)

    @property
    def least_size(self) -> int:
        """The same as :attr:`size`; where it cannot be read, the lower limit for it."""
        size = self._read_size()
        if size is not None:
            return size
        granted = self._forced and self._requested is not None
        return _doubled(self._requested or 0) if granted else _SMALLEST

    def _read_size(self) -> int | None:
        try:
            size = self._raw.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4)
        except OSError:
            info = self._read_meminfo()
            return None if info is None else info[SK_MEMINFO_RCVBUF]
        return int.from_bytes(size, sys.byteorder)

    def grow(self, size: int) -> None:
        """Ask for a buffer of ``size`` bytes, as far as the system grants it.

        A buffer that was granted beyond the system's limit never shrinks: the program may have
        dropped its privileges since, and SO_RCVBUF would cut the buffer down to that limit.
        """
        granted = set_receive_buffer(self._raw, size, forced_only=self._forced)
        if granted is not None:
            self._requested, self._forced = size, granted

    def queue_state(self) -> QueueState | None:
        """Return the state of the queue; ``None`` before Linux 4.12, and where it is forbidden."""
        info = self._read_meminfo()
        if info is None:
            return None
        return QueueState(info[SK_MEMINFO_RMEM_ALLOC], info[SK_MEMINFO_DROPS])

    def _read_meminfo(self) -> tuple[int, ...] | None:
        if not self._has_meminfo:
            return None
        try:
            info = self._raw.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size)
        except OSError:
            info = b""
        if len(info) < _MEMINFO.size:
            self._has_meminfo = False
            return None
        return _MEMINFO.unpack(info)
