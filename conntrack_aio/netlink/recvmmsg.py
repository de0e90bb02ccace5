"""Receive many datagrams in one system call: ``recvmmsg(2)``, which Python's sockets lack.

The kernel sends each event as a datagram of its own, and one system call for each is most of the
cost of receiving them. Also, a thread that returns from a system call waits for its turn to run
before it can make the next.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable
from functools import cache
from socket import MSG_DONTWAIT, MSG_TRUNC
from typing import Final, cast

_ADDRESS_SIZE: Final = 12
"""The size of ``struct sockaddr_nl``: family, padding, port id, groups."""

_GAP: Final = 64
"""Bytes between one datagram's buffer and the next: buffers at multiples of 2^n bytes would share
cache lines."""


class _IOVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _MsgHdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _MMsgHdr(ctypes.Structure):
    _fields_ = (("hdr", _MsgHdr), ("len", ctypes.c_uint32))


_REFUSALS: Final = frozenset(
    (errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOPROTOOPT)
)
"""The errnos of the call where it is forbidden or missing; a netlink socket itself has none of
them. A socket that may not be read at all has them too, and then ``recvfrom`` fails alike."""


_refused = False
"""Whether the call was refused, by a seccomp profile for example. A profile may come at any time
and never goes away."""


@cache
def _system_call() -> Callable[..., int] | None:
    """Return the C function; ``None`` where the C library does not have it."""
    try:
        function = ctypes.CDLL(None, use_errno=True).recvmmsg
    except (AttributeError, OSError):
        return None
    function.argtypes = (
        *(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p),
    )
    return cast("Callable[..., int]", function)


def is_available() -> bool:
    """Return whether this system has the call and has not refused it yet."""
    return not _refused and _system_call() is not None


class MessageVector:
    """Buffers for several datagrams. Memory is used only for buffers that were filled."""

    def __init__(self, count: int, size: int) -> None:
        """Make ``count`` buffers of ``size`` bytes each."""
        self.count = count
        self.size = size
        step = size + _GAP
        self.offsets: Final = range(0, count * step, step)
        """The positions of the buffers in :attr:`view`."""
        buffer = mmap.mmap(-1, count * step)
        addresses = bytearray(count * _ADDRESS_SIZE)
        self._headers = (_MMsgHdr * count)()
        self._iovecs = (_IOVec * count)()
        buffer_at = ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))
        addresses_at = ctypes.addressof((ctypes.c_char * len(addresses)).from_buffer(addresses))
        for i, (header, iovec) in enumerate(zip(self._headers, self._iovecs, strict=True)):
            iovec.base, iovec.len = buffer_at + self.offsets[i], size
            header.hdr.name = addresses_at + i * _ADDRESS_SIZE
            header.hdr.namelen = _ADDRESS_SIZE
            header.hdr.iov, header.hdr.iovlen = ctypes.addressof(iovec), 1
        self.view: Final = memoryview(buffer)
        width = ctypes.sizeof(_MMsgHdr) // 4
        lengths = memoryview(self._headers).cast("B").cast("I")
        self.lengths: Final = lengths[_MMsgHdr.len.offset // 4 :: width]
        """The sizes of the datagrams of the last call, also of those larger than their buffer."""
        self.port_ids: Final = memoryview(addresses).cast("I")[1::3]
        """The port ids of their senders."""
        self._words = self.view.cast("I")
        self._step = step // 4

    def words(self, offset: int) -> memoryview:
        """Return the four bytes at an offset of each datagram, as numbers in host byte order."""
        return self._words[offset // 4 :: self._step]

    def receive(self, fd: int, limit: int) -> int | None:
        """Fill the first buffers, at most ``limit``, and return their number.

        Return ``None`` where this process may not make the call: nothing was read then, and
        :func:`is_available` is false from now on.

        :raises BlockingIOError: when nothing waits.
        :raises OSError: when the socket cannot be read.
        """
        global _refused
        call = _system_call()
        assert call is not None
        wanted = min(limit, self.count)
        while True:
            count = call(fd, self._headers, wanted, MSG_DONTWAIT | MSG_TRUNC, None)
            if count >= 0:
                return count
            code = ctypes.get_errno()
            if code in _REFUSALS:
                _refused = True
                return None
            if code != errno.EINTR:
                raise OSError(code, os.strerror(code))
