"""What stands in for a netlink socket: everything above it runs as it does with the kernel.

It is a real descriptor that becomes readable, so that the event loop's own readiness is used, and
it keeps the kernel's rules of receiving (``af_netlink.c``): what fits, what is dropped, and when
that is told.
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
from ..netlink.attributes import pack, pack_text
from ..netlink.bpf import Instruction
from ..uapi.netlink import NETLINK, NETLINK_OPTION, NLM_F, NLMSGERR_ATTR, SOL_NETLINK
from ..uapi.socket import SO_ATTACH_FILTER, SO_MEMINFO, SO_RCVBUFFORCE
from . import bpf
from .asked import Asked

KERNEL: Final = (0, 0)
"""The address of the kernel: its port is 0."""

EVENT_SIZE: Final = 1280
"""What an event takes of the receive buffer (``skb->truesize``, seen on x86-64)."""

_SEND_LIMIT: Final = 212992 - 32
_RECEIVE_BUFFER: Final = 212992
_SMALLEST_BUFFER: Final = 2304
_FIRST_CHUNK: Final = 3776
_LARGEST_CHUNK: Final = 32448
_OVERHEAD: Final = 320
_HEADER: Final = 256
_MSG_TRUNC: Final = 0x20
_U32 = 0xFFFFFFFF
_MULTI: Final = int(NLM_F.MULTI)
_FLAGGED: Final = frozenset(NETLINK_OPTION) - {
    NETLINK_OPTION.ADD_MEMBERSHIP,
    NETLINK_OPTION.DROP_MEMBERSHIP,
}

Sender = tuple[int, int]


class Chunk(Protocol):
    """What makes a dump."""

    @property
    def end_flags(self) -> int:
        """The flags of the message that ends it."""
        ...

    def __call__(self, room: int, /) -> bytes:
        """Return the next messages, at most so many bytes of them; nothing at the end."""
        ...


class _Queued(NamedTuple):
    data: bytes
    sender: Sender
    size: int
    nsid: int | None = None


class _Dump(NamedTuple):
    seq: int
    chunk: Chunk


class Held:
    """What was sent to a socket while it was held back."""

    def __init__(self, socket: FakeSocket) -> None:
        self._socket = socket
        self.queue: list[_Queued] = []

    def release(self) -> None:
        """Queue it."""
        self._socket.put_back(self.queue)

    def drop(self) -> None:
        """Let it be lost, and end what dump it began."""
        self._socket.stop_dump()


class Home(Protocol):
    """What a socket needs of the kernel that it belongs to."""

    lock: RLock
    """Held while anything of the kernel is looked at or changed."""

    @property
    def largest_buffer(self) -> int:
        """``net.core.rmem_max``."""
        ...

    @property
    def option_memory(self) -> int:
        """``net.core.optmem_max``."""
        ...

    def receive(self, socket: FakeSocket, data: bytes) -> None:
        """Carry out a datagram of requests."""
        ...

    def was_read(self, socket: FakeSocket) -> None:
        """Something was taken out of it."""
        ...

    def check_join(self, group: int) -> None:
        """Raises :exc:`OSError` where it may not be joined."""
        ...

    def check_force(self) -> None:
        """Raises :exc:`OSError` without the right to go beyond the largest buffer."""
        ...


def truesize(size: int) -> int:
    """What a message of ``size`` bytes takes of the receive buffer."""
    room = 576
    if size + _OVERHEAD > 640:
        room = 1024
        while room < size + _OVERHEAD:
            room *= 2
    return room + _HEADER


class FakeSocket:
    """One socket of a program under test, seen from the kernel.

    ``kernel.sockets`` has them in the order in which they were opened: a connection's first is
    that of its requests, and each dump and event stream has its own. The methods that are
    documented here put things into it by hand; the rest is what the library calls.
    """

    def __init__(self, port_id: int, home: Home, protocol: int = NETLINK.NETFILTER) -> None:
        self.protocol = protocol
        """The netlink protocol. But netfilter's, the kernel speaks none: it refuses all of it."""
        self.port_id = port_id
        """Its netlink port, by which events name who caused them."""
        self.asked: list[Asked] = []
        """The requests that came by it."""
        self.sent: list[bytes] = []
        """The datagrams, as they came."""
        self.groups: set[int] = set()
        """The multicast groups that it has joined."""
        self.options: set[int] = set()
        """The netlink options that are set."""
        self.receive_buffer = _RECEIVE_BUFFER
        """What may wait, in the kernel's accounting."""
        self.drops = 0
        """How many messages the kernel dropped here (``SO_MEMINFO``)."""
        self.filter: tuple[Instruction, ...] = ()
        """The program that is attached, which each message must pass."""
        self.closed = False
        self._home = home
        self._lock = home.lock
        self._queue: deque[_Queued] = deque()
        self._waiting = 0
        self._error = 0
        self._congested = False
        self._dump: _Dump | None = None
        self._held: Held | None = None
        self._largest_read = 0
        self._signal, self._signaller = socket.socketpair()
        self._signal.setblocking(False)
        self._signalled = False

    # -- by hand ----------------------------------------------------------------------------

    def deliver(self, datagram: bytes, sender: Sender = KERNEL, nsid: int | None = None) -> None:
        """Queue a datagram, whatever already waits.

        A ``sender`` is ``(port, groups)``. With ``nsid`` it comes from the namespace of this id.
        """
        with self._lock:
            self._put(_Queued(datagram, sender, truesize(len(datagram)), nsid))

    def fail(self, code: int) -> None:
        """Have the next read fail with this errno, before what waits already."""
        with self._lock:
            self._error = code
            self._tell()

    def overrun(self, lost: int = 1) -> None:
        """Drop so many messages, as if the buffer had been full.

        The next read says ENOBUFS, then come the older messages, and until the last of them is
        read, whatever else is sent is dropped too.
        """
        with self._lock:
            for _ in range(lost):
                self._drop()

    def answer(self, asked: Asked, kind: int, payload: bytes, flags: int = _MULTI) -> None:
        """Queue a message that answers a request."""
        self.deliver(messages.pack(kind, flags, asked.seq, payload, self.port_id))

    def ack(self, asked: Asked, code: int = 0) -> None:
        """Queue an acknowledgement, or with an errno a refusal."""
        self.deliver(self.error_message(asked, code))

    def done(self, asked: Asked) -> None:
        """Queue the end of a dump."""
        self.answer(asked, messages.DONE, bytes(4))

    def error_message(
        self, asked: Asked, code: int = 0, detail: str | None = None, offset: int | None = None
    ) -> bytes:
        """An NLMSG_ERROR as the kernel makes it (``netlink_ack``), by the socket's options."""
        flags = 0
        size = messages.HEADER_SIZE + len(asked.payload)
        echoed = messages.HEADER.pack(size, asked.type, asked.flags, asked.seq, 0)
        if code and NETLINK_OPTION.CAP_ACK not in self.options:
            echoed += asked.payload + bytes(-len(asked.payload) & 3)
        else:
            flags |= NLM_F.CAPPED
        words = _extended(detail, offset if code else None)
        if words and NETLINK_OPTION.EXT_ACK in self.options:
            flags |= NLM_F.ACK_TLVS
        else:
            words = b""
        payload = struct.pack("=i", -code) + echoed + words
        return messages.pack(messages.ERROR, flags, asked.seq, payload, self.port_id)

    # -- from the kernel --------------------------------------------------------------------

    def send_unicast(self, datagram: bytes) -> bool:
        """An answer. Whether it found room."""
        return self._send(_Queued(datagram, KERNEL, truesize(len(datagram))))

    def send_event(
        self, datagram: bytes, group: int, sender: int = 0, nsid: int | None = None
    ) -> bool:
        """An event, to a member of the group or to who asked for an echo. Whether it found room."""
        return self._send(_Queued(datagram, (sender, 1 << (group - 1)), EVENT_SIZE, nsid))

    @property
    def is_dumping(self) -> bool:
        """Whether a dump runs, of which a socket has one at a time."""
        return self._dump is not None

    def start_dump(self, seq: int, chunk: Chunk) -> None:
        """Begin a dump, with its first chunk."""
        self._dump = _Dump(seq, chunk)
        self._advance()

    def stop_dump(self) -> None:
        """Forget the dump that runs."""
        self._dump = None

    @contextmanager
    def holding(self) -> Generator[Held]:
        """Keep back what the kernel sends meanwhile."""
        with self._lock:
            self._held = held = Held(self)
            try:
                yield held
            finally:
                self._held = None

    def put_back(self, queue: Iterable[_Queued]) -> None:
        """Queue what was held back."""
        with self._lock:
            for item in queue:
                self._put(item)

    def _send(self, item: _Queued) -> bool:
        if self.closed:
            return True
        if self.filter and not bpf.run(self.filter, item.data):
            return True
        after = self._waiting + item.size
        if self._congested or (self._queue and after > self.receive_buffer):
            self._drop()
            return False
        self._put(item)
        return True

    def _drop(self) -> None:
        self.drops = (self.drops + 1) & _U32
        if NETLINK_OPTION.NO_ENOBUFS not in self.options and not self._congested:
            self._congested = True
            self._error = errno.ENOBUFS
            self._tell()

    def _put(self, item: _Queued) -> None:
        if self._held is not None:
            self._held.queue.append(item)
            return
        self._queue.append(item)
        self._waiting += item.size
        self._tell()

    def _advance(self) -> None:
        """Make the dump's next chunk: it is as large as the largest buffer that was ever read
        with, and at first as one page."""
        assert self._dump is not None
        seq, chunk = self._dump
        room = max(_FIRST_CHUNK, min(self._largest_read, _LARGEST_CHUNK))
        data = chunk(room)
        if not data:
            self._dump = None
            data = messages.pack(messages.DONE, chunk.end_flags, seq, bytes(4), self.port_id)
        self._put(_Queued(data, KERNEL, truesize(room)))

    # -- what the library calls -------------------------------------------------------------

    def fileno(self) -> int:
        """A descriptor that is readable as long as something waits; -1 once it is closed."""
        return -1 if self.closed else self._signal.fileno()

    def sendto(self, data: bytes, address: Sender, /) -> int:
        """To the kernel, which has carried it out when this returns. Raises :exc:`OSError`."""
        if self.closed:
            raise _error(errno.EBADF)
        if address != KERNEL:
            raise _error(errno.ECONNREFUSED)
        if len(data) > _SEND_LIMIT:
            raise _error(errno.EMSGSIZE)
        self.sent.append(bytes(data))
        self._home.receive(self, bytes(data))
        return len(data)

    def recvfrom_into(self, buffer: memoryview, nbytes: int, flags: int, /) -> tuple[int, Sender]:
        """One datagram, and who sent it. Raises :exc:`OSError`."""
        size, _, _, sender = self.recvmsg_into([buffer[:nbytes]], 0, flags)
        return size, sender

    def recvmsg_into(
        self, buffers: list[memoryview], ancbufsize: int, flags: int, /
    ) -> tuple[int, list[tuple[int, int, bytes]], int, Sender]:
        """As :meth:`recvfrom_into`, with the id of the namespace that it came from."""
        (buffer,) = buffers
        with self._lock:
            if self.closed:
                raise _error(errno.EBADF)
            try:
                data, sender, _, nsid = self._take(len(buffer))
            finally:
                if not self._queue:
                    self._congested = False
                self._tell()
            self._home.was_read(self)
        size = min(len(data), len(buffer))
        buffer[:size] = data[:size]
        control: list[tuple[int, int, bytes]] = []
        if nsid is not None and ancbufsize:
            told = struct.pack("=i", nsid)
            control.append((SOL_NETLINK, int(NETLINK_OPTION.LISTEN_ALL_NSID), told))
        return (len(data) if flags & _MSG_TRUNC else size), control, 0, sender

    def _take(self, nbytes: int) -> _Queued:
        if self._error:
            code, self._error = self._error, 0
            raise _error(code)
        if not self._queue:
            raise _error(errno.EAGAIN)
        item = self._queue.popleft()
        self._waiting -= item.size
        self._largest_read = max(self._largest_read, nbytes)
        if self._dump is not None and self._waiting <= self.receive_buffer // 2:
            self._advance()
        return item

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """SO_RCVBUF and SO_MEMINFO. Raises :exc:`OSError`."""
        with self._lock:
            if (level, option) == (socket.SOL_SOCKET, socket.SO_RCVBUF):
                return struct.pack("=i", self.receive_buffer)[:size]
            if (level, option) == (socket.SOL_SOCKET, SO_MEMINFO):
                info = (self._waiting, self.receive_buffer, 0, _RECEIVE_BUFFER, 0, 0, 0, 0)
                return struct.pack("=9I", *info, self.drops)[:size]
        raise _error(errno.ENOPROTOOPT)

    def setsockopt(self, level: int, option: int, value: int | bytes, /) -> None:
        """The size of the buffer, a filter, and netlink's own options. Raises :exc:`OSError`."""
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
                self._home.check_join(value)
                self.groups.add(value)
            elif option == NETLINK_OPTION.DROP_MEMBERSHIP:
                self.groups.discard(value)
            elif option in _FLAGGED:
                (self.options.add if value else self.options.discard)(option)
            else:
                raise _error(errno.ENOPROTOOPT)

    def _attach(self, value: bytes) -> None:
        """``struct sock_fprog``: how many instructions, and where they lie."""
        count, address = struct.unpack("HP", value)
        import ctypes  # which a Python without libffi lacks, and nothing else here needs

        data = ctypes.string_at(address, 8 * count)
        if len(data) > self._home.option_memory:
            raise _error(errno.ENOMEM)
        try:
            self.filter = bpf.parse(data)
        except ValueError:
            raise _error(errno.EINVAL) from None

    def _set_receive_buffer(self, size: int, *, forced: bool) -> None:
        """The kernel doubles it, for its own bookkeeping."""
        if forced:
            self._home.check_force()
        granted = size if forced else min(size, self._home.largest_buffer)
        self.receive_buffer = max(2 * granted, _SMALLEST_BUFFER)

    def getsockname(self) -> Sender:
        """Its port, and its groups as a mask."""
        return (self.port_id, sum(1 << (group - 1) for group in self.groups))

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            if not self.closed:
                self.closed = True
                self._queue.clear()
                self._dump = None
                self._signal.close()
                self._signaller.close()

    def _tell(self) -> None:
        """Be readable as long as there is something to read."""
        wanted = bool(self._queue or self._error)
        if self.closed or wanted == self._signalled:
            return
        self._signalled = wanted
        if wanted:
            self._signaller.send(b"!")
        else:
            self._signal.recv(1)

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{len(self._queue)} waiting"
        return f"<FakeSocket port {self.port_id}, groups {sorted(self.groups)}, {state}>"


def _extended(detail: str | None, offset: int | None) -> bytes:
    """The attributes of an extended ack. (Its POLICY, which nobody here reads, is left out.)"""
    words = b"" if detail is None else pack_text(NLMSGERR_ATTR.MSG, detail)
    if offset is not None:
        words += pack(NLMSGERR_ATTR.OFFS, struct.pack("=I", offset))
    return words


def _error(code: int) -> OSError:
    """Python makes the subclass of its errno: BlockingIOError of EAGAIN."""
    return OSError(code, os.strerror(code))
