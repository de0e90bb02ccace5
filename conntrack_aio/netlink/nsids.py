"""Which network namespace a datagram came from, and what that one is called here.

A socket with NETLINK_LISTEN_ALL_NSID also hears the namespaces that have an id in its own, and is
told the id beside each datagram. Their names are the files that ``ip netns`` makes; which id
belongs to which the kernel tells of a descriptor (RTM_GETNSID). The rules that hold here:

- A name is never another's. A datagram waits in a queue, and meanwhile its namespace may end and
  its id be given away. The group RTNLGRP_NSID tells of that: where an id has changed hands, what
  may have waited then has no name (:mod:`.holders`).
- No namespace is kept alive. A file is opened to ask the kernel about it, and closed.
- Nothing is asked twice: a name holds as long as its file is the same namespace; that there is
  none, as long as nothing is made or mounted in their directory. Asking, some 20 µs for a name,
  is a worker thread's.
"""

from __future__ import annotations

import errno
import os
import select
import struct
import time
from collections.abc import Collection, Mapping, Sequence

import anyio
from anyio import CapacityLimiter

from ..errors import REFUSALS, SHORTAGES, DecodeError, failed
from ..uapi.net_namespace import NETNSA, NETNSA_NSID_NOT_ASSIGNED
from ..uapi.netlink import NETLINK_OPTION, SOL_NETLINK
from ..uapi.rtnetlink import RTM, RTNLGRP
from . import messages, namespaces
from .attributes import Buffer, pack, walk
from .exchange import Exchange, Request, Sequence32
from .holders import Holders, Identity, Name
from .raw import RawSocket
from .socket import NetlinkSocket
from .threads import run_in_thread

_CONTROL_SIZE = 64
_ASKED_AT_ONCE = 32
_JUST_NOW = 20_000_000
"""Nanoseconds within which a directory may change again without a new time."""
_NEEDS_BROADCAST = (
    "This needs CAP_NET_BROADCAST in the user namespace that owns the connection's network "
    "namespace: run as root, or give the program the capability"
)

_RTGENMSG = bytes(4)  # a family of zero, and padding
_U32 = struct.Struct("=I")
_S32 = struct.Struct("=i")


class Everywhere:
    """A raw socket that hears all namespaces, and says whose the last datagram was.

    It stands in for the raw socket of a :class:`NetlinkSocket`, which thereby stays what it is.
    It is readable when another one is too: the one of the notices.
    """

    def __init__(self, raw: RawSocket, notices: RawSocket) -> None:
        self.nsid: int | None = None
        """The id of the namespace that the last datagram came from; ``None`` for the own one."""
        self._raw = raw
        self._both: select.epoll | None = None
        try:
            self._both = select.epoll()
            for each in (raw, notices):
                self._both.register(each.fileno(), select.EPOLLIN)
        except OSError as error:
            if self._both is not None:
                self._both.close()
            if error.errno not in REFUSALS:
                raise
            # Notices then wait until an event comes. If there are too many, some are lost, and the
            # ids that were known before have no name any more for that one read.
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


class Origins:
    """Where the datagrams of a socket come from: ids, and names for them.

    Its user reads the socket in batches: :meth:`look` before, :meth:`name` after what it got, or
    :meth:`idle` if that was nothing.
    """

    def __init__(
        self,
        socket: NetlinkSocket,
        notices: NetlinkSocket,
        asker: NetlinkSocket,
        *,
        least_cost: int,
        directory: str | None = None,
    ) -> None:
        """Have ``socket`` listen to all namespaces; ``notices`` and ``asker`` speak rtnetlink.

        ``least_cost`` is what a datagram takes of the receive buffer at least. Raises
        :exc:`PermissionDenied` without CAP_NET_BROADCAST. The three sockets stay the caller's
        then, and are this object's to close else.
        """
        self._directory = namespaces.NAMED if directory is None else directory
        self._notices = notices
        self._asker = asker
        self._sequence = Sequence32()
        self._least_cost = least_cost
        self._holders = Holders(socket.receive_buffer // least_cost)
        self._limiter: CapacityLimiter | None = None
        try:
            notices.join(RTNLGRP.NSID)
            socket.set_option(NETLINK_OPTION.LISTEN_ALL_NSID, 1, needs=_NEEDS_BROADCAST)
            self._mounts = _Mounts()
            try:
                self._raw = socket.raw = Everywhere(socket.raw, notices.raw)
            except BaseException:
                self._mounts.close()
                raise
        except OSError as error:
            raise failed("listen to all network namespaces", error) from error

    @property
    def nsid(self) -> int | None:
        """Of the last datagram; ``None`` for the socket's own namespace."""
        return self._raw.nsid

    def grown(self, receive_buffer: int) -> None:
        """The socket's buffer is so large now."""
        self._holders.grow(receive_buffer // self._least_cost)

    def look(self) -> None:
        """Hear which ids have changed hands. Raises :exc:`anyio.ClosedResourceError`."""
        if self._notices.closed:
            raise anyio.ClosedResourceError("the event stream is closed")
        while True:
            try:
                self._hear(self._notices.receive())
            except BlockingIOError:
                return
            except DecodeError:
                self._holders.doubt_all()
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise failed("hear about network namespaces", error) from error
                self._holders.doubt_all()

    def _hear(self, size: int) -> None:
        buffer = self._notices.buffer
        for message in messages.walk(buffer, size):
            if message.type == RTM.NEWNSID:
                self._holders.assigned(_id_in(buffer, message.start, message.end))
            elif message.type == RTM.DELNSID:
                self._holders.freed(_id_in(buffer, message.start, message.end))

    def idle(self) -> None:
        """Nothing is left that was queued before the last :meth:`look`."""
        self._holders.idle()

    async def name(self, ids: Sequence[int | None], *, dry: bool) -> list[str | None]:
        """Names for the ids of a batch of datagrams, as far as they have any.

        ``dry`` says that none was left when the batch had been read. May be called again with the
        same batch if it was cancelled. Raises :exc:`anyio.ClosedResourceError`.
        """
        self._holders.begin(len(ids))
        self.look()
        asked = {id for id in ids if id is not None}
        state = self._state()
        if unknown := [id for id in asked if not self._is_known(id, state)]:
            found = await self._find()
            # What could not be found out now is to be asked again.
            self._holders.learn(found or {}, unknown, object() if found is None else state)
            self.look()
        names = [None if id is None else self._holders.name_of(id) for id in ids]
        self._holders.end(len(ids), dry=dry)
        return names

    def _is_known(self, id: int, state: object) -> bool:
        if self._holders.is_settled(id):
            return True
        name = self._holders.known.get(id)
        if name is None:
            return False
        if name.name is None:
            return name.state == state
        return _identity(f"{self._directory}/{name.name}") == name.identity

    def _state(self) -> object:
        """Equals a former one only if no name can have come since."""
        changes = self._mounts.changes()
        try:
            info = os.stat(self._directory)
        except OSError:
            return changes
        if abs(time.time_ns() - info.st_mtime_ns) < _JUST_NOW:
            return object()
        return changes, info.st_dev, info.st_ino, info.st_mtime_ns

    # -- asking, on a worker thread ---------------------------------------------------------

    async def _find(self) -> dict[int, Name] | None:
        """What :meth:`_scan` does; ``None`` if the kernel did not answer, or there is no
        descriptor or thread left."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(1)
        known = self._holders.by_name()
        try:
            return await run_in_thread(lambda: self._scan(known), self._limiter)
        except (OSError, DecodeError):
            return None

    def _scan(self, known: Mapping[str, tuple[int, Name]]) -> dict[int, Name]:
        """The name of each id that has one: of several, the first of the alphabet."""
        found: dict[int, Name] = {}
        fresh: list[str] = []
        for name in _files(self._directory):
            told = known.get(name)
            if told is not None and told[1].identity == _identity(f"{self._directory}/{name}"):
                found[told[0]] = told[1]
            else:
                fresh.append(name)
        with self._asker.using():
            for start in range(0, len(fresh), _ASKED_AT_ONCE):
                for id, told_now in self._ask(fresh[start : start + _ASKED_AT_ONCE]):
                    if id == NETNSA_NSID_NOT_ASSIGNED:
                        continue
                    if id not in found or str(told_now.name) < str(found[id].name):
                        found[id] = told_now
        return found

    def without_id(self) -> list[str]:
        """Return the names of the namespaces that have no id here: their events do not arrive.

        The calling thread's own namespace needs none. Those that can't be opened are left out.
        To ask takes some 20 µs for a name.
        """
        own = _identity("/proc/thread-self/ns/net")
        names = _files(self._directory)
        try:
            return [
                str(asked.name)
                for start in range(0, len(names), _ASKED_AT_ONCE)
                for id, asked in self._ask(names[start : start + _ASKED_AT_ONCE])
                if id == NETNSA_NSID_NOT_ASSIGNED and asked.identity != own
            ]
        except (OSError, DecodeError):
            return []

    def _ask(self, names: Collection[str]) -> list[tuple[int, Name]]:
        """The ids of those of the names that are namespaces; one that has none is -1."""
        opened: list[tuple[int, Name]] = []
        try:
            for name in names:
                if (fd := _open(f"{self._directory}/{name}")) is not None:
                    info = os.fstat(fd)
                    opened.append((fd, Name(name, (info.st_dev, info.st_ino), None)))
            if not opened:
                return []
            questions = [_question(fd, str(name.name)) for fd, name in opened]
            exchange = Exchange(questions, self._sequence.take(len(questions)))
            self._converse(exchange)
        finally:
            for fd, _ in opened:
                os.close(fd)
        answers: list[tuple[int, Name]] = []
        for outcome, (_, asked) in zip(exchange.outcomes, opened, strict=True):
            for reply in outcome.replies:
                answers.append((_id_in(reply.payload, 0, len(reply.payload)), asked))
        return answers

    def _converse(self, exchange: Exchange) -> None:
        """Nothing waits: the kernel has answered when ``send`` returns."""
        self._asker.send(exchange.data)
        while not exchange.done:
            size = self._asker.receive()
            exchange.feed(self._asker.buffer, size)

    def close(self) -> None:
        """Close all but the socket that was given."""
        self._notices.close()
        self._asker.close()
        self._mounts.close()


class _Mounts:
    """Whether anything was mounted since: a name is made by one, after its file."""

    def __init__(self) -> None:
        self._changes = 0
        self._poll = select.poll()
        self._fd: int | None = None
        try:
            self._fd = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in SHORTAGES:
                raise
            return  # no /proc here
        self._poll.register(self._fd, select.POLLPRI)

    def changes(self) -> int:
        """Another number than before if there were any, or if that can't be known."""
        try:
            changed = self._fd is not None and bool(self._poll.poll(0))
        except OSError:
            changed = True  # poll(2) is forbidden
        self._changes += changed
        return self._changes

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _files(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _identity(path: str) -> Identity | None:
    """What tells a living namespace from all others; ``None`` if there is no such file."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def _open(path: str) -> int | None:
    """A descriptor of what may be a namespace; ``None`` if it can't be opened."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in SHORTAGES:
            raise
        return None


def _question(fd: int, name: str) -> Request:
    payload = _RTGENMSG + pack(NETNSA.FD, _U32.pack(fd))
    return Request("look up the id of", f"namespace {name!r}", RTM.GETNSID, 0, payload)


def _id_in(buffer: Buffer, start: int, end: int) -> int:
    """The id that a message tells of."""
    for number, _, first, last in walk(buffer, start + len(_RTGENMSG), end):
        if number == NETNSA.NSID and last - first == _S32.size:
            (id,) = _S32.unpack_from(buffer, first)
            return int(id)
    return NETNSA_NSID_NOT_ASSIGNED
