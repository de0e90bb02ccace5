"""A kernel that does what a test tells it to, for what the real one won't do on demand.

It stands in for the socket alone: everything above runs as it does with the real kernel.
"""

from __future__ import annotations

import os
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from conntrack_aio.connection import Connecting
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.sysctls import Files, SysctlTree

T = TypeVar("T")

KERNEL = (0, 0)
FORGER = (4711, 0)
SOL_NETLINK, LISTEN_ALL_NSID = 270, 8


class Asked(NamedTuple):
    """A request that was sent."""

    type: int
    flags: int
    seq: int
    payload: bytes


Script = Callable[["ScriptedSocket", Asked], None]
"""What the kernel does about a request: mostly, :meth:`ScriptedSocket.deliver` something."""


class ScriptedSocket:
    """One socket's end: datagrams, errors and senders as they are put in."""

    def __init__(self, script: Script) -> None:
        self.asked: list[Asked] = []
        self.sent: list[bytes] = []
        self.drops = 0
        self.groups: list[int] = []
        self.closed = False
        self._script = script
        self._lock = threading.Lock()  # a walk reads in a worker thread
        self._queue: deque[tuple[bytes, tuple[int, int], int | None] | OSError] = deque()
        self._ready = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    # what a test says

    def deliver(
        self, datagram: bytes, sender: tuple[int, int] = KERNEL, nsid: int | None = None
    ) -> None:
        """Queue a datagram, of another namespace if it has an id."""
        self._put((datagram, sender, nsid))

    def fail(self, code: int) -> None:
        """Queue an error for the next read."""
        self._put(OSError(code, os.strerror(code)))

    def ack(self, asked: Asked, code: int = 0) -> None:
        """Queue an acknowledgement, or an error."""
        self.deliver(error_message(asked.seq, code))

    def answer(self, asked: Asked, kind: int, payload: bytes, flags: int = 2) -> None:
        """Queue a message that answers a request."""
        self.deliver(messages.pack(kind, flags, asked.seq, payload))

    def done(self, asked: Asked) -> None:
        """Queue the end of a dump."""
        self.answer(asked, messages.DONE, bytes(4))

    # what the library calls

    def fileno(self) -> int:
        return -1 if self.closed else self._ready

    def sendto(self, data: bytes, address: tuple[int, int], /) -> int:
        assert address == KERNEL
        self.sent.append(data)
        for message in messages.walk(data, len(data)):
            asked = Asked(
                message.type, message.flags, message.seq, data[message.start : message.end]
            )
            self.asked.append(asked)
            self._script(self, asked)
        return len(data)

    def recvfrom_into(
        self, buffer: memoryview, nbytes: int, flags: int, /
    ) -> tuple[int, tuple[int, int]]:
        size, _, _, sender = self.recvmsg_into([buffer[:nbytes]], 0, flags)
        return size, sender

    def recvmsg_into(
        self, buffers: list[memoryview], ancbufsize: int, flags: int, /
    ) -> tuple[int, list[tuple[int, int, bytes]], int, tuple[int, int]]:
        if self.closed:
            raise OSError("closed")
        with self._lock:
            if not self._queue:
                raise BlockingIOError
            item = self._queue.popleft()
            if not self._queue:
                os.eventfd_read(self._ready)
        if isinstance(item, OSError):
            raise item
        data, sender, nsid = item
        (buffer,) = buffers
        size = min(len(data), len(buffer))
        buffer[:size] = data[:size]
        control = [] if nsid is None else [(SOL_NETLINK, LISTEN_ALL_NSID, struct.pack("=i", nsid))]
        return len(data), control, 0, sender

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        if size == 4:
            return struct.pack("=i", 212992)
        return struct.pack("=9I", *[0] * 8, self.drops)

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        self.groups.append(value)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            os.close(self._ready)

    def _put(self, item: tuple[bytes, tuple[int, int], int | None] | OSError) -> None:
        with self._lock:
            if not self._queue:
                os.eventfd_write(self._ready, 1)
            self._queue.append(item)


class ScriptedKernel:
    """Where the sockets come from: the first is the one for requests."""

    def __init__(self, script: Script | None = None) -> None:
        self.sockets: list[ScriptedSocket] = []
        self.sysctls: SysctlTree = Files()
        self.script = script or (lambda socket, asked: socket.ack(asked))

    def open_first(self) -> NetlinkSocket:
        return self.open()

    def open(self, receive_buffer: int | None = None, protocol: int = 12) -> NetlinkSocket:
        self.sockets.append(ScriptedSocket(self._respond))
        return NetlinkSocket(self.sockets[-1])

    def beside(self, first: NetlinkSocket, function: Callable[[], T]) -> T:
        return function()

    def connect(self, *, offload: bool = False, reply_timeout: float = 0.05) -> Connecting:
        """A connection to it."""
        return Connecting(self, 1 << 20, offload, reply_timeout)

    def _respond(self, socket: ScriptedSocket, asked: Asked) -> None:
        if asked.type == 0x105:  # GET_STATS: asked at each connect, and by count()
            socket.answer(asked, 0x105, entries_payload(3))
            socket.ack(asked)
        else:
            self.script(socket, asked)


def error_message(seq: int, code: int = 0) -> bytes:
    """An NLMSG_ERROR as the kernel makes it, capped."""
    echoed = struct.pack("=IHHII", 20, 0x101, 5, seq, 0)
    return messages.pack(messages.ERROR, 0x100, seq, struct.pack("=i", -code) + echoed)


def entries_payload(count: int) -> bytes:
    """The answer to GET_STATS."""
    return struct.pack("!BBH", 0, 0, 0) + struct.pack("=HH", 8, 1) + struct.pack("!I", count)


def joined(parts: Iterable[bytes]) -> bytes:
    """Several messages as one datagram."""
    return b"".join(parts)
