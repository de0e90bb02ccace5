"""Netlink sockets: options, receiving, readiness, and closing while a thread uses them.

A socket belongs to one conversation. It never blocks; what walks a kernel table runs its system
calls on a worker thread instead, because there "non-blocking" does not help: the kernel does the
work inside ``sendmsg`` and ``recvmsg``.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import anyio

from .. import eventloop
from ..errors import DecodeError, UnsupportedPlatform, kernel_error
from ..eventloop import Wait
from ..uapi.netlink import AF_NETLINK, NETLINK_OPTION, SOL_NETLINK
from ..uapi.socket import (
    SK_MEMINFO_DROPS,
    SK_MEMINFO_RMEM_ALLOC,
    SO_ATTACH_FILTER,
    SO_MEMINFO,
    SO_RCVBUFFORCE,
)
from .bpf import Program
from .messages import HEADER_SIZE
from .raw import RawSocket, observed

if TYPE_CHECKING:
    from .recvmmsg import Rooms

RECEIVE_SIZE = 64 * 1024
"""One fixed size for every read. The kernel fills at most 32 KiB of a dump, and makes its chunks
as large as the largest buffer it ever saw on the socket: a smaller one later would lose data."""

_KERNEL = (0, 0)
_MSG_TRUNC = 0x20
_SOCK_FPROG = struct.Struct("HP")
_MEMINFO = struct.Struct("=9I")


def require_linux() -> None:
    """Raises :exc:`UnsupportedPlatform` where there is no netlink."""
    if not hasattr(socket, "AF_NETLINK"):
        raise UnsupportedPlatform(
            "conntrack_aio talks to the Linux kernel; on this system only its types and its "
            "codec work"
        )


def open_socket(protocol: int, *, receive_buffer: int | None = None) -> NetlinkSocket:
    """A socket of the calling thread's network namespace.

    Raises :exc:`UnsupportedPlatform` where there is no netlink, and a :exc:`KernelError` where
    this kernel lacks the protocol.
    """
    require_linux()
    try:
        raw = socket.socket(
            AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol
        )
    except OSError as error:
        hint = "This kernel was built without it" if error.errno == errno.EPROTONOSUPPORT else ""
        raise kernel_error(
            error.errno or errno.EIO, f"open a netlink socket (protocol {protocol})", hint=hint
        ) from error
    try:
        # An address of 0 lets the kernel choose; a process may have any number of sockets.
        raw.bind(_KERNEL)
        # Other programs that send to this port get ECONNREFUSED, and can't fill the buffer. What
        # they send to the groups still comes; the sender's address tells.
        raw.connect(_KERNEL)
        for option in (NETLINK_OPTION.CAP_ACK, NETLINK_OPTION.EXT_ACK):
            try:
                raw.setsockopt(SOL_NETLINK, option, 1)
            except OSError:
                pass  # older than 4.3 or 4.12: errors then come without words
        forced = receive_buffer is not None and set_receive_buffer(raw, receive_buffer)
    except BaseException:
        raw.close()
        raise
    return NetlinkSocket(raw, forced=forced)


def set_receive_buffer(raw: RawSocket, size: int) -> bool:
    """Ask for room for ``size`` bytes: beyond the system's maximum where this process may.

    Whether it may. SO_RCVBUFFORCE needs CAP_NET_ADMIN in the initial user namespace; SO_RCVBUF is
    cut to ``net.core.rmem_max``.
    """
    try:
        raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    except OSError:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        return False
    return True


def _is_odd(size: int) -> bool:
    """Whether a datagram of this size is no message such as the kernel makes."""
    return bool(size & 3) or not HEADER_SIZE <= size <= RECEIVE_SIZE


def _too_large(size: int) -> DecodeError:
    return DecodeError(f"a datagram of {size} bytes; {RECEIVE_SIZE} were expected at most")


class Backlog(NamedTuple):
    """What the kernel tells of a socket (``SO_MEMINFO``)."""

    waiting: int
    """Bytes of the receive buffer that are taken."""
    drops: int
    """Messages dropped since it was made, modulo 2^32."""


class NetlinkSocket:
    """One conversation's socket, usable from the loop and from one worker thread at a time."""

    def __init__(self, raw: RawSocket, *, forced: bool = False) -> None:
        """``forced``: its receive buffer may be beyond the system's maximum."""
        self.raw = observed(raw)
        self.buffer = bytearray(RECEIVE_SIZE)
        self.bytes_received = 0
        self.datagrams_received = 0
        self.forged = 0
        self._forced = forced
        self._view = memoryview(self.buffer)
        self._lock = threading.Lock()
        self._closing = False
        self._wait: Wait | None = None
        self._rooms: Rooms | None = None

    @property
    def closed(self) -> bool:
        return self._closing

    @property
    def in_use(self) -> bool:
        """Whether a thread is inside :meth:`using`, perhaps one whose caller was cancelled."""
        return self._lock.locked()

    @contextmanager
    def using(self) -> Generator[None]:
        """Hold the socket: it stays open inside, whoever closes it meanwhile.

        Raises :exc:`anyio.ClosedResourceError`.
        """
        try:
            with self._lock:
                if self._closing:
                    raise anyio.ClosedResourceError("the socket is closed")
                yield
        finally:
            # Whoever closed it meanwhile could not, and left it to us.
            if self._closing:
                self.close()

    def send(self, data: bytes) -> None:
        """To the kernel, which has carried it out when this returns. Raises :exc:`OSError`."""
        # The address is named although the socket may be connected: the kernel then asks for
        # the capabilities of the sender alone, not also for those of whoever opened it.
        self.raw.sendto(data, _KERNEL)

    def receive(self) -> int:
        """Read one datagram into :attr:`buffer`; its length, 0 for one to pass over.

        That is one which the kernel did not send: :attr:`forged` counts them.

        Raises :exc:`BlockingIOError` when there is none, :exc:`OSError` (ENOBUFS) after an
        overrun, :exc:`DecodeError` for one that is larger than any the kernel makes.
        """
        size, sender = self.raw.recvfrom_into(self._view, RECEIVE_SIZE, _MSG_TRUNC)
        if sender[0] != 0:
            self.forged += 1
            return 0
        self.datagrams_received += 1
        self.bytes_received += size
        if size > RECEIVE_SIZE:
            raise _too_large(size)
        return size

    def receive_some(self, datagrams: list[bytes | DecodeError], limit: int) -> int:
        """Read datagrams, so many at most; how many it were, forged ones counted too.

        Those of one message each, as events are, are joined. In the place of one that is larger
        than any the kernel makes stands the error. Raises :exc:`BlockingIOError` when there is
        none, and :exc:`OSError` (ENOBUFS) after an overrun.
        """
        rooms = self._rooms or self._make_rooms(limit)
        if rooms is None:
            try:
                if size := self.receive():
                    datagrams.append(bytes(self._view[:size]))
            except DecodeError as error:
                datagrams.append(error)
            return 1
        count = rooms.receive(self.raw.fileno(), limit)
        datagrams += self._received(rooms, count)
        return count

    def _make_rooms(self, limit: int) -> Rooms | None:
        """``None`` where somebody stands in for the system call, looks on, or memory is short."""
        if type(self.raw) is not socket.socket:
            return None
        # At first use: to load ctypes takes some milliseconds.
        from .recvmmsg import Rooms, is_there

        try:
            self._rooms = Rooms(limit, RECEIVE_SIZE) if is_there() else None
        except (OSError, MemoryError):
            return None  # then they come one by one
        return self._rooms

    def _received(self, rooms: Rooms, count: int) -> list[bytes | DecodeError]:
        starts, sizes = list(rooms.starts[:count]), rooms.lengths[:count].tolist()
        words = rooms.words[:count].tolist()
        ports = rooms.ports[:count].tolist()
        if any(ports):
            starts, sizes, words = (
                [each for each, port in zip(column, ports, strict=True) if port == 0]
                for column in (starts, sizes, words)
            )
            self.forged += count - len(sizes)
        self.datagrams_received += len(sizes)
        self.bytes_received += sum(sizes)
        view = rooms.view
        parts = [view[start : start + size] for start, size in zip(starts, sizes, strict=True)]
        # A message starts with its length. If that is the datagram's, there is no other in it.
        if words == sizes and not any(map(_is_odd, sizes)):
            return [b"".join(parts)] if parts else []
        return [
            bytes(part) if size <= RECEIVE_SIZE else _too_large(size)
            for part, size in zip(parts, sizes, strict=True)
        ]

    def join(self, group: int) -> None:
        """Subscribe to a multicast group. Raises :exc:`OSError`."""
        self.raw.setsockopt(SOL_NETLINK, NETLINK_OPTION.ADD_MEMBERSHIP, group)

    @property
    def receive_buffer(self) -> int:
        """The size of the receive buffer in the kernel's accounting (twice what was asked for)."""
        size = self.raw.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4)
        return int.from_bytes(size, sys.byteorder)

    def grow(self, size: int) -> None:
        """Ask for more room than there is, as far as the system grants it; it never gets less."""
        try:
            self.raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
        except OSError:
            # A program may have dropped its privileges since. SO_RCVBUF would then cut down to the
            # system's maximum what was forced beyond it.
            if not self._forced:
                self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def attach(self, program: Program) -> None:
        """Have the kernel run a program on each message before it is queued here.

        Raises :exc:`OSError`: ENOMEM for one that is larger than ``net.core.optmem_max`` allows.
        """
        # The option's value is a pointer to the program. To load ctypes takes some milliseconds.
        import ctypes

        data = program.pack()
        room = ctypes.create_string_buffer(data, len(data))
        value = _SOCK_FPROG.pack(len(program), ctypes.addressof(room))
        self.raw.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, value)

    def insist(self) -> None:
        """Have the kernel try again to deliver what it can retry (``NETLINK_BROADCAST_ERROR``)."""
        self.raw.setsockopt(SOL_NETLINK, NETLINK_OPTION.BROADCAST_ERROR, 1)

    def backlog(self) -> Backlog | None:
        """What waits here, and what was dropped; ``None`` where the kernel does not tell
        (before 4.12), and once the socket is closed."""
        try:
            info = self.raw.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size)
        except OSError:
            return None
        if len(info) < _MEMINFO.size:
            return None
        told: tuple[int, ...] = _MEMINFO.unpack(info)
        return Backlog(told[SK_MEMINFO_RMEM_ALLOC], told[SK_MEMINFO_DROPS])

    async def wait_readable(self) -> None:
        """Wait until there is something to read.

        Raises :exc:`anyio.ClosedResourceError` when the socket is closed meanwhile,
        :exc:`anyio.BusyResourceError` when another task waits already, and
        :exc:`ResourceExhausted` when the system can't watch one more descriptor.
        """
        if self._closing:
            raise anyio.ClosedResourceError("the socket is closed")
        if self._wait is not None:
            raise anyio.BusyResourceError("reading from")
        try:
            self._wait = eventloop.current().wait_readable(self.raw.fileno())
            await self._wait.finish()
        except OSError as error:
            raise kernel_error(error.errno or errno.EIO, "wait for a netlink socket") from error
        finally:
            self._wait = None

    def close(self) -> None:
        """Close it now, or when the thread that uses it has finished. Wakes a waiting task.

        To be called in the event loop's thread while a task waits; the loop need not run.
        """
        self._closing = True
        if self._wait is not None:
            self._wait.give_up()
        if self._lock.acquire(blocking=False):
            self.raw.close()
            self._lock.release()
