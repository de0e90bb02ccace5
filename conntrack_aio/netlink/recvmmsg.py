"""Many datagrams in one system call: ``recvmmsg(2)``, which Python's sockets lack.

An event is a datagram of its own, and to ask for each is most of what it takes to receive them; and
a thread that returns from a call waits for its turn to run before it can make the next.
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

_ADDRESS: Final = 12
"""``struct sockaddr_nl``: family, padding, port, groups."""

_APART: Final = 64
"""Bytes between one datagram's room and the next: rooms of 2^n bytes would share cache lines."""


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
"""What the call fails with where it is forbidden, or lacking: a netlink socket fails with none of
these. A socket that may not be read at all fails alike, and so does ``recvfrom`` then."""


_refused = False
"""Whether it was: by a seccomp profile, say, which may come at any time and never goes again."""


@cache
def _system_call() -> Callable[..., int] | None:
    """``None`` where the C library does not have it."""
    try:
        function = ctypes.CDLL(None, use_errno=True).recvmmsg
    except (AttributeError, OSError):
        return None
    function.argtypes = (
        *(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p),
    )
    return cast("Callable[..., int]", function)


def is_there() -> bool:
    """Whether this system has the call, and has not refused it yet."""
    return not _refused and _system_call() is not None


class Rooms:
    """Room for some datagrams at a time; memory is used only where datagrams came to lie."""

    def __init__(self, count: int, size: int) -> None:
        self.count = count
        self.size = size
        step = size + _APART
        self.starts: Final = range(0, count * step, step)
        buffer = mmap.mmap(-1, count * step)
        names = bytearray(count * _ADDRESS)
        self._headers = (_MMsgHdr * count)()
        self._iovecs = (_IOVec * count)()
        at = ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))
        names_at = ctypes.addressof((ctypes.c_char * len(names)).from_buffer(names))
        for i, (header, iovec) in enumerate(zip(self._headers, self._iovecs, strict=True)):
            iovec.base, iovec.len = at + self.starts[i], size
            header.hdr.name, header.hdr.namelen = names_at + i * _ADDRESS, _ADDRESS
            header.hdr.iov, header.hdr.iovlen = ctypes.addressof(iovec), 1
        self.view: Final = memoryview(buffer)
        width = ctypes.sizeof(_MMsgHdr) // 4
        lengths = memoryview(self._headers).cast("B").cast("I")
        self.lengths: Final = lengths[_MMsgHdr.len.offset // 4 :: width]
        """The sizes of the datagrams that came last; of one that was larger than its room, all."""
        self.ports: Final = memoryview(names).cast("I")[1::3]
        """Who sent them."""
        self.words: Final = self.view.cast("I")[:: step // 4]
        """The first four bytes of each."""

    def receive(self, fd: int, limit: int) -> int | None:
        """Fill some of the rooms, from the first on; how many. ``None`` where this process may not
        make the call: nothing was read then, and :func:`is_there` is false from now on.

        Raises :exc:`OSError`: :exc:`BlockingIOError` where nothing waits.
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
