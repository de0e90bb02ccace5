"""Replace the netlink socket of a connection, the only part of the library that a test replaces.

- A fake socket has a real file descriptor, so that event loops wait for it as for any socket.
- It follows the kernel's rules for receiving (``af_netlink.c``): how many messages fit into the
  receive buffer, which of them the kernel drops, and when a read fails with ENOBUFS.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from threading import RLock
from typing import Final, NamedTuple, Protocol

from ..netlink import messages
from ..netlink.bpf import Instruction
from ..uapi.netlink import NETLINK, NETLINK_OPTION, NLM_F, SOL_NETLINK
from ..uapi.socket import SO_ATTACH_FILTER, SO_MEMINFO, SO_RCVBUFFORCE
from . import acknowledgements, bpf
from .received import ReceivedRequest
from .socket_types import EVENT_SIZE, KERNEL_ADDRESS, DumpSource, Sender, truesize

_SEND_LIMIT: Final = 212992 - 32
_RECEIVE_BUFFER: Final = 212992
_SMALLEST_BUFFER: Final = 2304
_FIRST_CHUNK: Final = 3776
_LARGEST_CHUNK: Final = 32448
_MSG_TRUNC: Final = 0x20
_U32 = 0xFFFFFFFF
_MULTI: Final = int(NLM_F.MULTI)
_FLAG_OPTIONS: Final = frozenset(NETLINK_OPTION) - {
    NETLINK_OPTION.ADD_MEMBERSHIP,
    NETLINK_OPTION.DROP_MEMBERSHIP,
}


class _Queued(NamedTuple):
    """A datagram in the receive queue."""

    data: bytes
    sender: Sender
    size: int
    """Bytes of the receive buffer that it takes."""
    nsid: int | None = None


class _Dump(NamedTuple):
    """A running dump."""

    seq: int
    source: DumpSource


class HeldMessages:
    """The messages that the kernel sent to a socket during :meth:`FakeSocket.hold_messages`."""

    def __init__(self, socket: FakeSocket) -> None:
        self._socket = socket
        self.queue: list[_Queued] = []

    def release(self) -> None:
        """Queue the messages."""
        self._socket.queue_held(self.queue)

    def drop(self) -> None:
        """Discard the messages, and end the dump that they began."""
        self._socket.stop_dump()


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


class FakeSocket:
    """A socket of the program under test, seen from the kernel's side.

    :attr:`FakeKernel.sockets` has the sockets in the order in which they were opened. A connection
    opens a socket for its requests first, and one for each dump and each event stream.

    A test sends messages to the program with :meth:`deliver`, :meth:`reply`, :meth:`ack` and
    :meth:`done`, and causes errors with :meth:`fail` and :meth:`overrun`. The library calls the
    socket methods, such as :meth:`sendto`.
    """

    def __init__(
        self, port_id: int, kernel: SocketKernel, protocol: int = NETLINK.NETFILTER
    ) -> None:
        self.protocol = protocol
        """The netlink protocol. The kernel refuses every request of any protocol other than
        NETLINK_NETFILTER."""
        self.port_id = port_id
        """The port id of the socket, by which events identify the program that caused them."""
        self.requests: list[ReceivedRequest] = []
        """The requests that the program sent through this socket."""
        self.sent: list[bytes] = []
        """The datagrams that the program sent through this socket."""
        self.groups: set[int] = set()
        """The multicast groups that the socket has joined."""
        self.options: set[int] = set()
        """The netlink options that are set."""
        self.receive_buffer = _RECEIVE_BUFFER
        """The size of the receive buffer in bytes, as the kernel accounts it (``sk_rcvbuf``)."""
        self.drops = 0
        """How many messages to this socket the kernel dropped (``SO_MEMINFO``)."""
        self.filter: tuple[Instruction, ...] = ()
        """The attached BPF program, which decides on each message that the kernel sends."""
        self.closed = False
        """Whether the program has closed the socket."""
        self._kernel = kernel
        self._lock = kernel.lock
        self._queue: deque[_Queued] = deque()
        self._queued_bytes = 0
        self._error = 0
        self._congested = False
        self._dump: _Dump | None = None
        self._held: HeldMessages | None = None
        self._largest_read_buffer = 0
        self._signal, self._signal_sender = socket.socketpair()
        self._signal.setblocking(False)
        self._is_signaled = False

    # -- for tests --------------------------------------------------------------------------

    def deliver(
        self, datagram: bytes, sender: Sender = KERNEL_ADDRESS, nsid: int | None = None
    ) -> None:
        """Queue a datagram for the program to read, even if the receive buffer is full.

        :param datagram: the bytes of the datagram.
        :param sender: the sender's port id, and a mask of multicast groups. The default is the
            kernel.
        :param nsid: the id of the network namespace that the datagram comes from.
        """
        with self._lock:
            self._enqueue(_Queued(datagram, sender, truesize(len(datagram)), nsid))

    def fail(self, code: int) -> None:
        """Let the next read fail, even if datagrams are queued.

        :param code: the errno.
        """
        with self._lock:
            self._error = code
            self._update_readiness()

    def overrun(self, lost: int = 1) -> None:
        """Drop messages as if the receive buffer had been full.

        The next read fails with ENOBUFS. After it, the program reads the messages that were queued
        before. The kernel drops all further messages until the program has read the last of them.

        :param lost: the number of messages to count as dropped.
        """
        with self._lock:
            for _ in range(lost):
                self._drop()

    def reply(
        self, request: ReceivedRequest, message_type: int, payload: bytes, flags: int = _MULTI
    ) -> None:
        """Queue a reply to a request.

        :param request: the request.
        :param message_type: the type of the reply: ``subsystem << 8 | message``.
        :param payload: the bytes after the netlink header, beginning with ``struct nfgenmsg``.
        :param flags: the flags of the netlink header.
        """
        self.deliver(messages.pack(message_type, flags, request.seq, payload, self.port_id))

    def ack(self, request: ReceivedRequest, code: int = 0) -> None:
        """Queue the acknowledgement of a request.

        :param request: the request.
        :param code: the errno with which the kernel refuses the request; 0 is success.
        """
        self.deliver(self.error_message(request, code))

    def done(self, request: ReceivedRequest) -> None:
        """Queue the NLMSG_DONE that ends a dump."""
        self.reply(request, messages.DONE, bytes(4))

    def error_message(
        self,
        request: ReceivedRequest,
        code: int = 0,
        detail: str | None = None,
        offset: int | None = None,
    ) -> bytes:
        """Return the NLMSG_ERROR that the kernel sends with this socket's options.

        :param request: the request that the message acknowledges.
        :param code: the errno; 0 is success.
        :param detail: the text of the extended acknowledgement.
        :param offset: bytes from the start of the request to the offending attribute.
        """
        return acknowledgements.error_message(
            request, self.options, self.port_id, code, detail, offset
        )

    # -- for the kernel ---------------------------------------------------------------------

    def send_unicast(self, datagram: bytes) -> bool:
        """Send a reply; return whether it fitted into the receive buffer."""
        return self._send(_Queued(datagram, KERNEL_ADDRESS, truesize(len(datagram))))

    def send_event(
        self, datagram: bytes, group: int, sender: int = 0, nsid: int | None = None
    ) -> bool:
        """Send an event; return whether it fitted into the receive buffer.

        :param datagram: the event.
        :param group: the number of the multicast group.
        :param sender: the port id of the sender.
        :param nsid: the id of the network namespace that the event comes from.
        """
        return self._send(_Queued(datagram, (sender, 1 << (group - 1)), EVENT_SIZE, nsid))

    @property
    def is_dumping(self) -> bool:
        """Whether a dump runs; a socket has at most one."""
        return self._dump is not None

    def start_dump(self, seq: int, source: DumpSource) -> None:
        """Start a dump and queue its first chunk.

        :param seq: the sequence number of the request.
        :param source: the source of the dump's messages.
        """
        self._dump = _Dump(seq, source)
        self._queue_next_chunk()

    def stop_dump(self) -> None:
        """End the running dump without NLMSG_DONE."""
        self._dump = None

    @contextmanager
    def hold_messages(self) -> Generator[HeldMessages]:
        """Hold the messages that the kernel sends to this socket inside the context."""
        with self._lock:
            self._held = held = HeldMessages(self)
            try:
                yield held
            finally:
                self._held = None

    def queue_held(self, queue: Iterable[_Queued]) -> None:
        """Queue messages that were held."""
        with self._lock:
            for item in queue:
                self._enqueue(item)

    def _send(self, item: _Queued) -> bool:
        if self.closed:
            return True
        if self.filter and not bpf.run(self.filter, item.data):
            return True
        after = self._queued_bytes + item.size
        if self._congested or (self._queue and after > self.receive_buffer):
            self._drop()
            return False
        self._enqueue(item)
        return True

    def _drop(self) -> None:
        self.drops = (self.drops + 1) & _U32
        if NETLINK_OPTION.NO_ENOBUFS not in self.options and not self._congested:
            self._congested = True
            self._error = errno.ENOBUFS
            self._update_readiness()

    def _enqueue(self, item: _Queued) -> None:
        if self._held is not None:
            self._held.queue.append(item)
            return
        self._queue.append(item)
        self._queued_bytes += item.size
        self._update_readiness()

    def _queue_next_chunk(self) -> None:
        """Queue the next chunk of the dump.

        The first chunk has the size of a page. The next ones are as large as the largest buffer
        that the program has read with, up to 32,448 bytes (``netlink_dump``).
        """
        assert self._dump is not None
        seq, source = self._dump
        space = max(_FIRST_CHUNK, min(self._largest_read_buffer, _LARGEST_CHUNK))
        data = source(space)
        if not data:
            self._dump = None
            data = messages.pack(messages.DONE, source.end_flags, seq, bytes(4), self.port_id)
        self._enqueue(_Queued(data, KERNEL_ADDRESS, truesize(space)))

    # -- for the library --------------------------------------------------------------------

    def fileno(self) -> int:
        """Return a descriptor that is readable while anything is queued; -1 after closing."""
        return -1 if self.closed else self._signal.fileno()

    def sendto(self, data: bytes, address: Sender, /) -> int:
        """Send a datagram of requests to the kernel, which executes them before this returns.

        :raises OSError: when the socket is closed (EBADF), the address is not the kernel's
            (ECONNREFUSED), or the datagram exceeds the send buffer (EMSGSIZE).
        """
        if self.closed:
            raise _error(errno.EBADF)
        if address != KERNEL_ADDRESS:
            raise _error(errno.ECONNREFUSED)
        if len(data) > _SEND_LIMIT:
            raise _error(errno.EMSGSIZE)
        self.sent.append(bytes(data))
        self._kernel.receive(self, bytes(data))
        return len(data)

    def recvfrom_into(self, buffer: memoryview, nbytes: int, flags: int, /) -> tuple[int, Sender]:
        """Read a datagram; return its size in the buffer, and the sender.

        :raises OSError: when :meth:`recvmsg_into` raises it.
        """
        size, _, _, sender = self.recvmsg_into([buffer[:nbytes]], 0, flags)
        return size, sender

    def recvmsg_into(
        self, buffers: list[memoryview], ancbufsize: int, flags: int, /
    ) -> tuple[int, list[tuple[int, int, bytes]], int, Sender]:
        """Read a datagram, with the id of its network namespace as control data.

        :raises OSError: when the socket is closed (EBADF), messages were dropped (ENOBUFS), nothing
            is queued (EAGAIN), or :meth:`fail` was called (its code).
        """
        (buffer,) = buffers
        with self._lock:
            if self.closed:
                raise _error(errno.EBADF)
            try:
                data, sender, _, nsid = self._dequeue(len(buffer))
            finally:
                if not self._queue:
                    self._congested = False
                self._update_readiness()
            self._kernel.after_read(self)
        size = min(len(data), len(buffer))
        buffer[:size] = data[:size]
        control: list[tuple[int, int, bytes]] = []
        if nsid is not None and ancbufsize:
            packed = struct.pack("=i", nsid)
            control.append((SOL_NETLINK, int(NETLINK_OPTION.LISTEN_ALL_NSID), packed))
        return (len(data) if flags & _MSG_TRUNC else size), control, 0, sender

    def _dequeue(self, nbytes: int) -> _Queued:
        if self._error:
            code, self._error = self._error, 0
            raise _error(code)
        if not self._queue:
            raise _error(errno.EAGAIN)
        item = self._queue.popleft()
        self._queued_bytes -= item.size
        self._largest_read_buffer = max(self._largest_read_buffer, nbytes)
        if self._dump is not None and self._queued_bytes <= self.receive_buffer // 2:
            self._queue_next_chunk()
        return item

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """Return SO_RCVBUF or SO_MEMINFO.

        :raises OSError: when it is any other option (ENOPROTOOPT).
        """
        with self._lock:
            if (level, option) == (socket.SOL_SOCKET, socket.SO_RCVBUF):
                return struct.pack("=i", self.receive_buffer)[:size]
            if (level, option) == (socket.SOL_SOCKET, SO_MEMINFO):
                info = (self._queued_bytes, self.receive_buffer, 0, _RECEIVE_BUFFER, 0, 0, 0, 0)
                return struct.pack("=9I", *info, self.drops)[:size]
        raise _error(errno.ENOPROTOOPT)

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        """Set the size of the receive buffer, attach a filter, or set an option of netlink.

        :raises PermissionError: when the program lacks the capability that the option needs.
        :raises OSError: when the option is unknown (ENOPROTOOPT), or the kernel refuses the filter
            (EINVAL, ENOMEM).
        """
        with self._lock:
            if isinstance(value, bytes):
                if (level, option) != (socket.SOL_SOCKET, SO_ATTACH_FILTER):
                    raise _error(errno.ENOPROTOOPT)
                self._attach(value)
            elif level == socket.SOL_SOCKET and option in (socket.SO_RCVBUF, SO_RCVBUFFORCE):
                self._set_receive_buffer(value, forced=option == SO_RCVBUFFORCE)
            elif level != SOL_NETLINK:
                raise _error(errno.ENOPROTOOPT)
            elif option == NETLINK_OPTION.ADD_MEMBERSHIP:
                self._kernel.check_join(value)
                self.groups.add(value)
            elif option == NETLINK_OPTION.DROP_MEMBERSHIP:
                self.groups.discard(value)
            elif option in _FLAG_OPTIONS:
                (self.options.add if value else self.options.discard)(option)
            else:
                raise _error(errno.ENOPROTOOPT)

    def _attach(self, value: bytes) -> None:
        """Attach a filter: a ``struct sock_fprog`` with the length and the address of a program."""
        count, address = struct.unpack("HP", value)
        # A Python built without libffi has no ctypes, and only this method needs it.
        import ctypes

        data = ctypes.string_at(address, 8 * count)
        if len(data) > self._kernel.option_memory:
            raise _error(errno.ENOMEM)
        try:
            self.filter = bpf.parse(data)
        except ValueError:
            raise _error(errno.EINVAL) from None

    def _set_receive_buffer(self, size: int, *, forced: bool) -> None:
        """Set the size of the receive buffer in bytes, which the kernel doubles."""
        if forced:
            self._kernel.check_force()
        granted = size if forced else min(size, self._kernel.largest_buffer)
        self.receive_buffer = max(2 * granted, _SMALLEST_BUFFER)

    def getsockname(self) -> Sender:
        """Return the port id of the socket, and a mask of its multicast groups."""
        return (self.port_id, sum(1 << (group - 1) for group in self.groups))

    def close(self) -> None:
        """Close the socket. Idempotent."""
        with self._lock:
            if not self.closed:
                self.closed = True
                self._queue.clear()
                self._dump = None
                self._signal.close()
                self._signal_sender.close()

    def _update_readiness(self) -> None:
        """Make the descriptor readable while anything is queued, and only then."""
        readable = bool(self._queue or self._error)
        if self.closed or readable == self._is_signaled:
            return
        self._is_signaled = readable
        if readable:
            self._signal_sender.send(b"!")
        else:
            self._signal.recv(1)

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{len(self._queue)} queued"
        return f"<FakeSocket port {self.port_id}, groups {sorted(self.groups)}, {state}>"


def _error(code: int) -> OSError:
    """Return the error of an errno.

    Python chooses the subclass of OSError by the errno: BlockingIOError for EAGAIN.
    """
    return OSError(code, os.strerror(code))
