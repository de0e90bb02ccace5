"""Netlink sockets: send, receive, wait until readable, and close while a thread uses the socket.

A socket serves one purpose: requests, one dump or one event stream. It never blocks. That does not
help where the kernel walks a table, because it does so inside ``sendmsg`` and ``recvmsg``. Those
system calls run on a worker thread instead.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import threading
from array import array
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Final

from .. import eventloop
from ..errors import SECCOMP_ERRNOS, DecodeError, KernelError, call_error, request_error
from ..eventloop import Wait
from ..uapi.netlink import NETLINK_OPTION, SOL_NETLINK
from ..uapi.socket import SO_ATTACH_FILTER
from .messages import HEADER_SIZE, parse_successes
from .raw import RawSocket, observed
from .receive_buffer import QueueState, ReceiveBuffer

if TYPE_CHECKING:
    from .bpf import Program
    from .recvmmsg import MessageVector

RECEIVE_SIZE = 64 * 1024
"""The fixed size of every read. The kernel fills at most 32 KiB of a dump. It makes its chunks as
large as the largest read that it ever saw on the socket, so a smaller one later would lose data."""

KERNEL: Final = (0, 0)
"""The kernel's address: port id 0, no groups."""

_MSG_TRUNC = 0x20
_SOCK_FPROG = struct.Struct("HP")

_NEEDS_ADMIN: Final = (
    "This needs CAP_NET_ADMIN in the user namespace that owns the network namespace: "
    "run as root, or give the program the capability"
)


@cache
def _recvmmsg() -> ModuleType | None:
    """Return the module :mod:`.recvmmsg`; ``None`` where Python lacks ctypes, or cannot load it.

    Where memory may not be both writable and executable, loading ctypes may raise
    :exc:`MemoryError`.

    :raises OSError: when a resource is used up; a later attempt may succeed.
    """
    try:
        from . import recvmmsg
    except (ImportError, MemoryError):
        return None
    return recvmmsg


def _is_readable(descriptor: int) -> bool:
    """Return whether data or an error waits to be read; ``True`` if that cannot be found out."""
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))
    except OSError:
        pass  # poll(2) is forbidden; epoll(7), which event loops use, is not
    try:
        with select.epoll() as epoll:
            epoll.register(descriptor, select.EPOLLIN)
            return bool(epoll.poll(0))
    except OSError:
        return True


def _is_invalid_size(size: int) -> bool:
    """Return whether the kernel makes no single message of this size."""
    return bool(size & 3) or not HEADER_SIZE <= size <= RECEIVE_SIZE


def _too_large(size: int) -> DecodeError:
    return DecodeError(f"a datagram of {size} bytes; expected at most {RECEIVE_SIZE}")


class NetlinkSocket:
    """A netlink socket, usable from the event loop and from one worker thread at a time."""

    def __init__(self, raw: RawSocket) -> None:
        self.raw = observed(raw)
        self.buffer = bytearray(RECEIVE_SIZE)
        self.bytes_received = 0
        self.datagrams_received = 0
        self.forged = 0
        """Datagrams dropped because another program sent them."""
        self.overruns = 0
        """How often :meth:`receive` found that the receive buffer had overflowed."""
        self.namespace: tuple[int, int] | None = None
        """The identity of the network namespace in which it was made, where that is known."""
        self._receive_buffer = ReceiveBuffer(self.raw)
        self._has_recvfrom = True
        self._view = memoryview(self.buffer)
        self._lock = threading.Lock()
        self._closing = False
        self._wait: Wait | None = None
        self._vector: MessageVector | None = None

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closing

    @property
    def in_use(self) -> bool:
        """Whether a thread keeps the socket open, perhaps for a cancelled caller."""
        return self._lock.locked()

    @contextmanager
    def keep_open(self) -> Generator[None]:
        """Keep the socket open inside the ``with`` block; :meth:`close` then closes it at its end.

        This is for worker threads: an interrupt in the main thread could leave the lock locked.

        :raises anyio.ClosedResourceError: when the socket is closed already.
        """
        try:
            with self._lock:
                if self._closing:
                    raise eventloop.closed_error("the socket is closed")
                yield
        finally:
            # A close() during the block found the lock locked, and left the closing to this thread.
            if self._closing:
                self.close()

    def call_kept_open(self, work: Callable[[], object]) -> None:
        """Call ``work`` and keep the socket open as :meth:`keep_open` does, in any thread.

        Raises whatever ``work`` raises, too.

        :raises anyio.ClosedResourceError: when the socket is closed already.
        """
        try:
            # No interrupt can come between the acquisition of a lock and its `with` block.
            with self._lock:
                if self._closing:
                    raise eventloop.closed_error("the socket is closed")
                work()
        finally:
            if self._closing:
                self.close()

    # -- sending and receiving ----------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send a datagram to the kernel, which has carried it out when this returns.

        :raises OSError: when the system refuses to send it.
        """
        # The call names the address although the socket may be connected. The kernel then checks
        # the capabilities of the sender alone, and not also of the process that opened the socket.
        try:
            self.raw.sendto(data, KERNEL)
        except OSError as error:
            if error.errno in SECCOMP_ERRNOS:
                raise call_error(error, "sendto()") from error
            raise

    def receive(self) -> int:
        """Read one datagram into :attr:`buffer` and return its length.

        The length is 0 for a datagram to be ignored, which another program sent.

        :raises BlockingIOError: when there is none.
        :raises OSError: with ENOBUFS when the receive buffer overflowed, so that messages were
            dropped; with another errno when the system refuses to receive.
        :raises DecodeError: when the datagram is larger than any that the kernel makes.
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
            if error.errno == errno.ENOBUFS:
                self.overruns += 1
            if error.errno not in SECCOMP_ERRNOS or isinstance(error, KernelError):
                raise
            self._has_recvfrom = False
            return self.receive()
        if sender[0] != 0:
            self.forged += 1
            return 0
        self.datagrams_received += 1
        self.bytes_received += size
        if size > RECEIVE_SIZE:
            raise _too_large(size)
        return size

    def _receive_message(self) -> tuple[int, tuple[int, int]]:
        """Do as ``recvfrom_into`` does, where that is forbidden."""
        try:
            size, _, _, sender = self.raw.recvmsg_into([self._view], 0, _MSG_TRUNC)
        except OSError as error:
            if error.errno in SECCOMP_ERRNOS:
                raise call_error(error, "recvfrom() and recvmsg()") from error
            raise
        return size, sender

    def receive_some(self, datagrams: list[bytes | DecodeError], limit: int) -> int:
        """Append up to ``limit`` received datagrams to the list, and return their number.

        The number includes datagrams that another program sent, which are dropped. Datagrams of one
        message each, as events are, are joined. A :exc:`DecodeError` takes the place of a datagram
        that is larger than any that the kernel makes.

        :raises BlockingIOError: when there is none.
        :raises OSError: with ENOBUFS when the receive buffer overflowed, so that messages were
            dropped; with another errno when the system refuses to receive.
        """
        received = self.fill_own(limit)
        if received is None:
            datagrams += self.receive_datagram()
            return 1
        datagrams += self.take(*received)
        return received[1]

    def fill_own(self, limit: int) -> tuple[MessageVector, int] | None:
        """Receive up to ``limit`` datagrams into a vector of this socket's own.

        Do not mix limits on one socket: the first one decides how many buffers there are.

        :returns: the vector and the number of datagrams, for :meth:`take`; ``None`` where they can
            only be received one by one. Nothing was received then.
        :raises BlockingIOError: when there is none.
        :raises OSError: as :meth:`receive_some` does.
        """
        vector = self._vector or self.make_vector(limit)
        count = None if vector is None else self.fill(vector, limit)
        if vector is None or count is None:
            self._vector = None
            return None
        self._vector = vector
        return vector, count

    def receive_datagram(self) -> list[bytes | DecodeError]:
        """Receive one datagram, as :meth:`receive_some` does, and return it in a list.

        The list is empty if another program sent the datagram.

        :raises BlockingIOError: when there is none.
        :raises OSError: as :meth:`receive_some` does.
        """
        try:
            size = self.receive()
        except DecodeError as error:
            return [error]
        return [bytes(self._view[:size])] if size else []

    def make_vector(self, count: int) -> MessageVector | None:
        """Make buffers for ``count`` datagrams, which :meth:`fill` fills.

        Return ``None`` where recvmmsg(2) is forbidden, where memory is short, and where the raw
        socket is observed or scripted.
        """
        if type(self.raw) is not socket.socket:
            return None
        # This happens at first use, because loading ctypes takes some milliseconds.
        try:
            recvmmsg = _recvmmsg()
            if recvmmsg is None or not recvmmsg.is_available():
                return None
            vector: MessageVector = recvmmsg.MessageVector(count, RECEIVE_SIZE)
        except (OSError, MemoryError):
            return None  # then read them one by one
        return vector

    def fill(self, vector: MessageVector, limit: int) -> int | None:
        """Receive up to ``limit`` datagrams into a vector, and return their number.

        Call :meth:`take` before the vector is filled again. Return ``None`` where recvmmsg(2) is
        forbidden: nothing was received then.

        :raises BlockingIOError: when there is none.
        :raises OSError: as :meth:`receive_some` does.
        """
        return vector.receive(self.raw.fileno(), limit)

    def take(
        self, vector: MessageVector, count: int, *, join: bool = True
    ) -> Iterator[bytes | DecodeError]:
        """Return the first ``count`` datagrams of a vector, as :meth:`receive_some` does.

        Each is copied when the iterator gets to it, so that large ones are not all in memory.

        :param vector: the vector.
        :param count: how many of its buffers are filled.
        :param join: whether to join datagrams of one message each.
        """
        offsets, sizes = list(vector.offsets[:count]), vector.lengths[:count].tolist()
        first_words = vector.words(0)[:count].tolist()
        port_ids = vector.port_ids[:count].tolist()
        if any(port_ids):
            offsets, sizes, first_words = (
                [each for each, port_id in zip(column, port_ids, strict=True) if port_id == 0]
                for column in (offsets, sizes, first_words)
            )
            self.forged += count - len(sizes)
        self.datagrams_received += len(sizes)
        self.bytes_received += sum(sizes)
        view = vector.view
        # A message starts with its length. If that is the datagram's, it is the only message in it.
        if join and first_words == sizes and not any(map(_is_invalid_size, sizes)):
            parts = [view[at : at + size] for at, size in zip(offsets, sizes, strict=True)]
            return iter([b"".join(parts)] if parts else [])
        return (
            bytes(view[at : at + size]) if size <= RECEIVE_SIZE else _too_large(size)
            for at, size in zip(offsets, sizes, strict=True)
        )

    def take_successes(self, vector: MessageVector, count: int) -> range | None:
        """Return the sequence numbers of the first ``count`` datagrams of a vector.

        :returns: ``None`` unless all of them are acknowledgements of consecutive requests. Then
            call :meth:`take`.
        """
        if any(vector.port_ids[:count].tolist()):
            return None
        sizes = vector.lengths[:count].tolist()
        numbers = parse_successes(sizes, lambda offset: vector.words(offset)[:count].tolist())
        if numbers is not None:
            self.datagrams_received += count
            self.bytes_received += sum(sizes)
        return numbers

    # -- options ------------------------------------------------------------------------------

    def join(self, group: int) -> None:
        """Subscribe to a multicast group.

        :raises KernelError: when the kernel refuses it.
        """
        self.set_option(NETLINK_OPTION.ADD_MEMBERSHIP, group, needs=_NEEDS_ADMIN)

    def set_option(self, option: NETLINK_OPTION, value: int, *, needs: str = "") -> None:
        """Set a required netlink option.

        :param option: the option, which an error names.
        :param value: the new value.
        :param needs: a sentence for the error, about the capability that the option needs.
        :raises KernelError: when the kernel refuses the option.
        """
        try:
            self.raw.setsockopt(SOL_NETLINK, option, value)
        except OSError as error:
            call = f"setsockopt(NETLINK_{option.name})"
            raise call_error(error, call, needs=needs) from error

    def attach(self, program: Program) -> None:
        """Make the kernel run a BPF program on each message before queueing it here.

        :raises OSError: when the program exceeds ``net.core.optmem_max`` (ENOMEM).
        """
        # The option's value is a pointer to the program.
        packed = array("B", program.pack())
        address, _ = packed.buffer_info()
        value = _SOCK_FPROG.pack(len(program), address)
        self.raw.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, value)

    def enable_broadcast_errors(self) -> None:
        """Make the kernel retry events that do not fit (``NETLINK_BROADCAST_ERROR``).

        It retries those that it can: the destruction of entries.

        :raises KernelError: when the kernel refuses the option.
        """
        self.set_option(NETLINK_OPTION.BROADCAST_ERROR, 1)

    # -- the receive buffer -------------------------------------------------------------------

    @property
    def receive_buffer(self) -> int:
        """The size of the receive buffer; see :attr:`ReceiveBuffer.size`."""
        return self._receive_buffer.size

    @property
    def least_receive_buffer(self) -> int:
        """The least size of the receive buffer; see :attr:`ReceiveBuffer.least_size`."""
        return self._receive_buffer.least_size

    def grow(self, size: int) -> None:
        """Ask for a larger receive buffer; see :meth:`ReceiveBuffer.grow`."""
        self._receive_buffer.grow(size)

    def queue_state(self) -> QueueState | None:
        """Return how much waits and how much was dropped; ``None`` where that cannot be read.

        It cannot be read once the socket is closed; see :meth:`ReceiveBuffer.queue_state`.
        """
        return None if self._closing else self._receive_buffer.queue_state()

    # -- waiting and closing ------------------------------------------------------------------

    def is_readable(self) -> bool:
        """Return whether data or an error waits to be read at this moment."""
        return _is_readable(self.raw.fileno())

    async def wait_readable(self) -> None:
        """Wait until there is something to read.

        :raises anyio.ClosedResourceError: when the socket is closed, also while this waits.
        :raises anyio.BusyResourceError: when another task waits already.
        :raises ResourceExhausted: when the system cannot watch one more descriptor.
        """
        if self._closing:
            raise eventloop.closed_error("the socket is closed")
        if self._wait is not None:
            raise eventloop.busy_error("reading from")
        try:
            self._wait = eventloop.current().wait_readable(self.raw.fileno())
            await self._wait.finish()
        except OSError as error:
            raise request_error("wait for a netlink socket", error) from error
        finally:
            self._wait = None

    def close(self) -> None:
        """Close the socket, or leave that to the thread that uses it. Wake a waiting task.

        Call this in the event loop's thread while a task waits; the loop need not run.
        """
        self._closing = True
        if self._wait is not None:
            self._wait.give_up()
        if self._lock.acquire(blocking=False):
            self.raw.close()
            self._lock.release()
