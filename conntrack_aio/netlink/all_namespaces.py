"""A raw socket that receives from all network namespaces (``NETLINK_LISTEN_ALL_NSID``)."""

from __future__ import annotations

import select
import struct

from ..errors import SECCOMP_ERRNOS
from ..uapi.netlink import NETLINK_OPTION, SOL_NETLINK
from .raw import RawSocket

_CONTROL_SIZE = 64
_S32 = struct.Struct("=i")


class AllNamespacesSocket:
    """A raw socket that records from which network namespace the last datagram came.

    It replaces the raw socket of a :class:`NetlinkSocket`, which needs no change for it. It is
    readable when either it or the socket for notifications is.
    """

    def __init__(self, raw: RawSocket, notifications: RawSocket) -> None:
        self.nsid: int | None = None
        """The id of the namespace that the last datagram came from; ``None`` for the own one."""
        self._raw = raw
        self._both: select.epoll | None = None
        try:
            self._both = select.epoll()
            for each in (raw, notifications):
                self._both.register(each.fileno(), select.EPOLLIN)
        except OSError as error:
            if self._both is not None:
                self._both.close()
            if error.errno not in SECCOMP_ERRNOS:
                raise
            # Without epoll, notifications wait until an event comes. If there are too many, the
            # kernel drops some, and the known ids then have no name for one read.
            self._both = None

    def fileno(self) -> int:
        if self._both is None:
            return self._raw.fileno()
        return -1 if self._both.closed else self._both.fileno()

    def sendto(self, data: bytes, address: tuple[int, int], /) -> int:
        return self._raw.sendto(data, address)

    def recvfrom_into(
        self, buffer: memoryview, nbytes: int, flags: int, /
    ) -> tuple[int, tuple[int, int]]:
        size, control, _, sender = self._raw.recvmsg_into([buffer], _CONTROL_SIZE, flags)
        self.nsid = None
        for level, kind, data in control:
            if (level, kind) == (SOL_NETLINK, NETLINK_OPTION.LISTEN_ALL_NSID):
                (self.nsid,) = _S32.unpack(data)
        return size, sender

    def recvmsg_into(
        self, buffers: list[memoryview], ancbufsize: int, flags: int, /
    ) -> tuple[int, list[tuple[int, int, bytes]], int, tuple[int, int]]:
        return self._raw.recvmsg_into(buffers, ancbufsize, flags)

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        return self._raw.getsockopt(level, option, size)

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        self._raw.setsockopt(level, option, value)

    def close(self) -> None:
        if self._both is not None:
            self._both.close()
        self._raw.close()
