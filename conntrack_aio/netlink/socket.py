"""Netlink sockets: options, receiving, readiness, and closing while a thread uses them.

A socket belongs to one conversation. It never blocks; what walks a kernel table runs its system
calls on a worker thread instead, because there "non-blocking" does not help: the kernel does the
work inside ``sendmsg`` and ``recvmsg``.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import sys
import threading
from array import array
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio

from .. import eventloop
from ..errors import (
    REFUSALS,
    DecodeError,
    KernelError,
    UnsupportedPlatform,
    call_error,
    failed,
)
from ..eventloop import Wait
from ..uapi.netlink import AF_NETLINK, NETLINK_OPTION, SOL_NETLINK
from ..uapi.socket import (
    SK_MEMINFO_DROPS,
    SK_MEMINFO_RCVBUF,
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

_SMALLEST_BUFFER: Final = 2304
"""No receive buffer is smaller (``SOCK_MIN_RCVBUF`` on 64-bit machines)."""
_LARGEST_BUFFER: Final = 2**31 - 1

_NEEDS_ADMIN: Final = (
    "This needs CAP_NET_ADMIN in the user namespace that owns the network namespace: "
    "run as root, or give the program the capability"
)


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
        refusal = failed(
            f"open a netlink socket (protocol {protocol})", call_error(error, "socket(AF_NETLINK)")
        )
        if hint := _NO_SOCKET.get(refusal.errno or 0):
            refusal.hint = hint
        raise refusal from error
    try:
        _bind(raw)
        for option in (NETLINK_OPTION.CAP_ACK, NETLINK_OPTION.EXT_ACK):
            try:
                raw.setsockopt(SOL_NETLINK, option, 1)
            except OSError:
                pass  # older than 4.3 or 4.12, or forbidden: errors then come without words
        opened = NetlinkSocket(raw)
        if receive_buffer is not None:
            opened.grow(receive_buffer)
    except BaseException:
        raw.close()
        raise
    return opened


_NO_SOCKET: Final = {
    errno.EPROTONOSUPPORT: "This kernel was built without it",
    errno.EAFNOSUPPORT: "A seccomp profile forbids sockets of this family to this process, as "
    "systemd's RestrictAddressFamilies= does: allow AF_NETLINK there",
}


def _bind(raw: socket.socket) -> None:
    """Give the socket an address of its own: either call does, if the other one is forbidden.

    Without an address it would hear no event that a packet causes. Raises :exc:`KernelError`.
    """
    refusal: OSError | None = None
    try:
        # An address of 0 lets the kernel choose; a process may have any number of sockets.
        raw.bind(_KERNEL)
    except OSError as error:
        refusal = error
    try:
        # Other programs that send to this port get ECONNREFUSED, and can't fill the buffer. What
        # they send to the groups still comes; the sender's address tells.
        raw.connect(_KERNEL)
    except OSError:
        if refusal is not None:
            raise failed(
                "open a netlink socket", call_error(refusal, "bind() and connect()")
            ) from refusal


def set_receive_buffer(raw: RawSocket, size: int, *, forced_only: bool = False) -> bool | None:
    """Ask for room for ``size`` bytes: beyond the system's maximum where this process may.

    Return ``True`` if it may, ``False`` if the size was cut to ``net.core.rmem_max``, and ``None``
    if the buffer stays as it was, because either option was refused. SO_RCVBUFFORCE needs
    CAP_NET_ADMIN in the initial user namespace; ``forced_only`` leaves SO_RCVBUF alone, which is
    cut.
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


@cache
def _recvmmsg() -> ModuleType | None:
    """The module of that name; ``None`` where Python lacks ctypes, or can't load it.

    Where memory may not be both written and executed, loading it may raise :exc:`MemoryError`.
    Raises :exc:`OSError` for a shortage, which may be over the next time.
    """
    try:
        from . import recvmmsg
    except (ImportError, MemoryError):
        return None
    return recvmmsg


def _doubled(size: int) -> int:
    """What the kernel makes of a size that was asked for, for its own bookkeeping."""
    return max(2 * size, _SMALLEST_BUFFER)


def _is_readable(descriptor: int) -> bool:
    """Whether something waits to be read, an error among it; ``True`` if that can't be known."""
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))
    except OSError:
        pass  # forbidden; what event loops call is not
    try:
        with select.epoll() as epoll:
            epoll.register(descriptor, select.EPOLLIN)
            return bool(epoll.poll(0))
    except OSError:
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

    def __init__(self, raw: RawSocket) -> None:
        self.raw = observed(raw)
        self.buffer = bytearray(RECEIVE_SIZE)
        self.bytes_received = 0
        self.datagrams_received = 0
        self.forged = 0
        self.namespace: tuple[int, int] | None = None
        """What identifies the network namespace that it was made in, where that is known."""
        self._asked_size: int | None = None
        """What was asked for last of the receive buffer, and not refused."""
        self._forced = False
        """Whether that was granted, though it may be beyond the system's maximum."""
        self._has_meminfo = True
        self._has_recvfrom = True
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

        For worker threads: an interrupt of the main thread could leave it held. Raises
        :exc:`anyio.ClosedResourceError`.
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

    def use(self, work: Callable[[], object]) -> None:
        """Call ``work`` while the socket is held, in any thread, as :meth:`using` does.

        Raises :exc:`anyio.ClosedResourceError`, and what ``work`` raises.
        """
        try:
            # No interrupt can come between the taking of a lock and its `with` block.
            with self._lock:
                if self._closing:
                    raise anyio.ClosedResourceError("the socket is closed")
                work()
        finally:
            if self._closing:
                self.close()

    def send(self, data: bytes) -> None:
        """To the kernel, which has carried it out when this returns. Raises :exc:`OSError`."""
        # The address is named although the socket may be connected: the kernel then asks for
        # the capabilities of the sender alone, not also for those of whoever opened it.
        try:
            self.raw.sendto(data, _KERNEL)
        except OSError as error:
            if error.errno in REFUSALS:
                raise call_error(error, "sendto()") from error
            raise

    def receive(self) -> int:
        """Read one datagram into :attr:`buffer`; its length, 0 for one to pass over.

        That is one which the kernel did not send: :attr:`forged` counts them.

        Raises :exc:`BlockingIOError` when there is none, :exc:`OSError` (ENOBUFS) after an
        overrun, :exc:`DecodeError` for one that is larger than any the kernel makes.
        """
        try:
            size, sender = (
                self.raw.recvfrom_into(self._view, RECEIVE_SIZE, _MSG_TRUNC)
                if self._has_recvfrom
                else self._receive_message()
            )
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno not in REFUSALS or isinstance(error, KernelError):
                raise
            self._has_recvfrom = False
            size, sender = self._receive_message()
        if sender[0] != 0:
            self.forged += 1
            return 0
        self.datagrams_received += 1
        self.bytes_received += size
        if size > RECEIVE_SIZE:
            raise _too_large(size)
        return size

    def _receive_message(self) -> tuple[int, tuple[int, int]]:
        """As ``recvfrom_into``, where that is forbidden."""
        try:
            size, _, _, sender = self.raw.recvmsg_into([self._view], 0, _MSG_TRUNC)
        except OSError as error:
            if error.errno in REFUSALS:
                raise call_error(error, "recvfrom() and recvmsg()") from error
            raise
        return size, sender

    def receive_some(self, datagrams: list[bytes | DecodeError], limit: int) -> int:
        """Read datagrams, so many at most; how many it were, forged ones counted too.

        Those of one message each, as events are, are joined. In the place of one that is larger
        than any the kernel makes stands the error. Raises :exc:`BlockingIOError` when there is
        none, and :exc:`OSError` (ENOBUFS) after an overrun.
        """
        rooms = self._rooms or self._make_rooms(limit)
        if rooms is not None:
            count = rooms.receive(self.raw.fileno(), limit)
            if count is not None:
                datagrams += self._received(rooms, count)
                return count
            self._rooms = None  # from now on they come one by one
        try:
            if size := self.receive():
                datagrams.append(bytes(self._view[:size]))
        except DecodeError as error:
            datagrams.append(error)
        return 1

    def _make_rooms(self, limit: int) -> Rooms | None:
        """``None`` where the system call is forbidden or somebody stands in for it or looks on, and
        where memory is short."""
        if type(self.raw) is not socket.socket:
            return None
        # At first use: to load ctypes takes some milliseconds.
        try:
            recvmmsg = _recvmmsg()
            if recvmmsg is None or not recvmmsg.is_there():
                return None
            self._rooms = recvmmsg.Rooms(limit, RECEIVE_SIZE)
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
        """Subscribe to a multicast group. Raises :exc:`KernelError`."""
        self.set_option(NETLINK_OPTION.ADD_MEMBERSHIP, group, needs=_NEEDS_ADMIN)

    def set_option(self, option: NETLINK_OPTION, value: int, *, needs: str = "") -> None:
        """Set an option of netlink's that must be had.

        Raises :exc:`KernelError`, which names the option; ``needs`` is what it says of the
        capability that the option takes.
        """
        try:
            self.raw.setsockopt(SOL_NETLINK, option, value)
        except OSError as error:
            call = f"setsockopt(NETLINK_{option.name})"
            raise call_error(error, call, needs=needs) from error

    # -- the receive buffer -------------------------------------------------------------------

    @property
    def receive_buffer(self) -> int:
        """The size of the receive buffer in the kernel's accounting (twice what was granted).

        Where the kernel may not be asked, it is what the buffer may have at most.
        """
        size = self._read_receive_buffer()
        if size is not None:
            return size
        return _LARGEST_BUFFER if self._asked_size is None else _doubled(self._asked_size)

    @property
    def least_receive_buffer(self) -> int:
        """As :attr:`receive_buffer`; where the kernel may not be asked, what it has at least."""
        size = self._read_receive_buffer()
        if size is not None:
            return size
        granted = self._forced and self._asked_size is not None
        return _doubled(self._asked_size or 0) if granted else _SMALLEST_BUFFER

    def _read_receive_buffer(self) -> int | None:
        try:
            size = self.raw.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4)
        except OSError:
            info = self._read_meminfo()
            return None if info is None else info[SK_MEMINFO_RCVBUF]
        return int.from_bytes(size, sys.byteorder)

    def grow(self, size: int) -> None:
        """Ask for room for so many bytes, as far as the system grants it.

        What was granted beyond the system's maximum never gets less: a program may have dropped
        its privileges since, and would be cut down to that.
        """
        granted = set_receive_buffer(self.raw, size, forced_only=self._forced)
        if granted is not None:
            self._asked_size, self._forced = size, granted

    def attach(self, program: Program) -> None:
        """Have the kernel run a program on each message before it is queued here.

        Raises :exc:`OSError`: ENOMEM for one that is larger than ``net.core.optmem_max`` allows.
        """
        # The option's value is a pointer to the program.
        room = array("B", program.pack())
        address, _ = room.buffer_info()
        value = _SOCK_FPROG.pack(len(program), address)
        self.raw.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, value)

    def insist(self) -> None:
        """Have the kernel try again to deliver what it can retry (``NETLINK_BROADCAST_ERROR``).

        Raises :exc:`KernelError`.
        """
        self.set_option(NETLINK_OPTION.BROADCAST_ERROR, 1)

    def backlog(self) -> Backlog | None:
        """What waits here, and what was dropped; ``None`` where the kernel does not tell
        (before 4.12) or may not be asked, and once the socket is closed."""
        info = self._read_meminfo()
        return (
            None if info is None else Backlog(info[SK_MEMINFO_RMEM_ALLOC], info[SK_MEMINFO_DROPS])
        )

    def _read_meminfo(self) -> tuple[int, ...] | None:
        if not self._has_meminfo or self._closing:
            return None
        try:
            info = self.raw.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size)
        except OSError:
            info = b""
        if len(info) < _MEMINFO.size:
            self._has_meminfo = False
            return None
        return _MEMINFO.unpack(info)

    def is_readable(self) -> bool:
        """Whether something waits to be read at this moment, an error among it."""
        return _is_readable(self.raw.fileno())

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
            raise failed("wait for a netlink socket", error) from error
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
