"""Resolve the ids of network namespaces, which come with datagrams, to names.

A socket with NETLINK_LISTEN_ALL_NSID also receives from the namespaces that have an id in its own
namespace. The kernel passes that id along with each datagram. Names are the files that ``ip netns``
makes, and the kernel gives the id for a file's descriptor (RTM_GETNSID). These rules hold:

- No datagram gets the name of another namespace. While a datagram waits in the queue, its namespace
  may end and the id be reassigned. The group RTNLGRP_NSID reports that. Datagrams that may have
  waited when an id was reassigned get no name (:mod:`.nsid_cache`).
- No namespace is kept alive: each file is closed once the kernel has given its id.
- Nothing is looked up twice. A name is valid as long as its file is the same namespace. The absence
  of a name is valid as long as nothing is made or mounted in the directory. A look-up takes some
  20 µs per name, and runs on a worker thread.
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

from ..errors import EXHAUSTION_ERRNOS, DecodeError, NoReply, request_error
from ..uapi.net_namespace import NETNSA, NETNSA_NSID_NOT_ASSIGNED
from ..uapi.netlink import NETLINK_OPTION
from ..uapi.rtnetlink import RTM, RTNLGRP
from . import messages, namespaces
from .all_namespaces import AllNamespacesSocket
from .attributes import BytesLike, pack, walk
from .exchange import Exchange, Request, SequenceNumbers
from .namespaces import identify, identity_of
from .nsid_cache import NamespaceName, NsidCache
from .receiving import send_and_receive
from .socket import NetlinkSocket
from .threads import run_in_thread

_LOOKUPS_AT_ONCE = 32
_TIME_RESOLUTION = 20_000_000
"""Nanoseconds within which a directory may change again without a new modification time."""
_NEEDS_BROADCAST = (
    "This needs CAP_NET_BROADCAST in the user namespace that owns the connection's network "
    "namespace: run as root, or give the program the capability"
)

_RTGENMSG = bytes(4)  # a family of zero, and padding
_U32 = struct.Struct("=I")
_S32 = struct.Struct("=i")


class NsidResolver:
    """Resolve the namespaces of a socket's datagrams.

    Use it around each batch of datagrams that is read from the socket: :meth:`read_notifications`
    before, and afterwards :meth:`resolve`, or :meth:`note_drained` if there were no datagrams.
    """

    def __init__(
        self,
        socket: NetlinkSocket,
        notifications: NetlinkSocket,
        lookups: NetlinkSocket,
        *,
        least_cost: int,
        directory: str | None = None,
    ) -> None:
        """Make ``socket`` receive from all namespaces.

        If this raises, the caller keeps all three sockets. Otherwise :meth:`close` closes the two
        others.

        :param socket: the socket whose datagrams are resolved.
        :param notifications: an rtnetlink socket that will receive notifications about ids.
        :param lookups: an rtnetlink socket for requests.
        :param least_cost: bytes of the receive buffer that a datagram takes at least.
        :param directory: where the names are; that of ``ip netns`` by default.

        :raises PermissionDenied: when the program lacks CAP_NET_BROADCAST.
        :raises KernelError: when the kernel refuses for another reason.
        """
        self._directory = namespaces.NAMES_DIRECTORY if directory is None else directory
        self._notifications = notifications
        self._lookups = lookups
        self._sequence = SequenceNumbers()
        self._least_cost = least_cost
        self._cache = NsidCache(socket.receive_buffer // least_cost)
        self._limiter: CapacityLimiter | None = None
        try:
            notifications.join(RTNLGRP.NSID)
            socket.set_option(NETLINK_OPTION.LISTEN_ALL_NSID, 1, needs=_NEEDS_BROADCAST)
            self._mounts = _Mounts()
            try:
                self._raw = socket.raw = AllNamespacesSocket(socket.raw, notifications.raw)
            except BaseException:
                self._mounts.close()
                raise
        except OSError as error:
            raise request_error("listen to all network namespaces", error) from error

    @property
    def nsid(self) -> int | None:
        """The id with the last datagram; ``None`` for the socket's own namespace."""
        return self._raw.nsid

    def note_receive_buffer(self, size: int) -> None:
        """Note that the socket's receive buffer now has ``size`` bytes."""
        self._cache.set_capacity(size // self._least_cost)

    def read_notifications(self) -> None:
        """Read which ids were freed or assigned.

        :raises KernelError: when the notifications cannot be received.
        :raises anyio.ClosedResourceError: when the resolver is closed.
        """
        if self._notifications.closed:
            raise anyio.ClosedResourceError("the event stream is closed")
        while True:
            try:
                self._read_notification(self._notifications.receive())
            except BlockingIOError:
                return
            except DecodeError:
                self._cache.invalidate_all()
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise request_error(
                        "receive notifications about network namespaces", error
                    ) from error
                self._cache.invalidate_all()

    def _read_notification(self, size: int) -> None:
        buffer = self._notifications.buffer
        for message in messages.walk(buffer, size):
            if message.type == RTM.NEWNSID:
                self._cache.id_assigned(_nsid_in(buffer, message.start, message.end))
            elif message.type == RTM.DELNSID:
                self._cache.id_freed(_nsid_in(buffer, message.start, message.end))

    def note_drained(self) -> None:
        """Note that no datagram is left from before the last :meth:`read_notifications`."""
        self._cache.note_drained()

    async def resolve(self, ids: Sequence[int | None], *, drained: bool) -> list[str | None]:
        """Return the names for the ids of a batch of datagrams, ``None`` where there is none.

        After a cancellation, this can be called again with the same batch.

        :param ids: the id of each datagram; ``None`` for the socket's own namespace.
        :param drained: whether the queue was empty after the batch had been read.

        :raises KernelError: when the notifications cannot be received.
        :raises anyio.ClosedResourceError: when the resolver is closed.
        """
        self._cache.begin_batch(len(ids))
        self.read_notifications()
        distinct = {id for id in ids if id is not None}
        state = self._directory_state()
        if unknown := [id for id in distinct if not self._is_known(id, state)]:
            found = await self._find_names()
            # After a failure, the unique state makes the next batch look the ids up again.
            self._cache.store(found or {}, unknown, object() if found is None else state)
            self.read_notifications()
        names = [None if id is None else self._cache.name_of(id) for id in ids]
        self._cache.end_batch(len(ids), drained=drained)
        return names

    def _is_known(self, id: int, state: object) -> bool:
        """Return whether a look-up of this id would find nothing new."""
        if self._cache.is_final(id):
            return True
        name = self._cache.known.get(id)
        if name is None:
            return False
        if name.name is None:
            return name.directory_state == state
        return identify(f"{self._directory}/{name.name}") == name.identity

    def _directory_state(self) -> object:
        """Return a value that equals an earlier one only if no name can have been added since."""
        changes = self._mounts.changes()
        try:
            info = os.stat(self._directory)
        except OSError:
            return changes
        if abs(time.time_ns() - info.st_mtime_ns) < _TIME_RESOLUTION:
            return object()
        return changes, identity_of(info), info.st_mtime_ns

    # -- look-ups ---------------------------------------------------------------------------

    async def _find_names(self) -> dict[int, NamespaceName] | None:
        """Run :meth:`_scan` on a worker thread.

        Return ``None`` if the kernel did not answer, or there is no descriptor or thread left.
        """
        if self._limiter is None:
            self._limiter = CapacityLimiter(1)
        known = self._cache.by_name()
        try:
            return await run_in_thread(lambda: self._scan(known), self._limiter)
        except (OSError, DecodeError, NoReply):
            return None

    def _scan(self, known: Mapping[str, tuple[int, NamespaceName]]) -> dict[int, NamespaceName]:
        """Return the name of each id that has one; of several names, the alphabetically first."""
        found: dict[int, NamespaceName] = {}
        unknown: list[str] = []
        for file in _files(self._directory):
            entry = known.get(file)
            if entry is not None and entry[1].identity == identify(f"{self._directory}/{file}"):
                found[entry[0]] = entry[1]
            else:
                unknown.append(file)
        with self._lookups.keep_open():
            for start in range(0, len(unknown), _LOOKUPS_AT_ONCE):
                for id, name in self._look_up(unknown[start : start + _LOOKUPS_AT_ONCE]):
                    if id == NETNSA_NSID_NOT_ASSIGNED:
                        continue
                    if id not in found or str(name.name) < str(found[id].name):
                        found[id] = name
        return found

    def names_without_id(self) -> list[str]:
        """Return the names of the namespaces that have no id here: their events do not arrive.

        The calling thread's own namespace needs none. Namespaces that cannot be opened are left
        out. A look-up takes some 20 µs per name.
        """
        own = namespaces.current()
        names = _files(self._directory)
        try:
            return [
                str(name.name)
                for start in range(0, len(names), _LOOKUPS_AT_ONCE)
                for id, name in self._look_up(names[start : start + _LOOKUPS_AT_ONCE])
                if id == NETNSA_NSID_NOT_ASSIGNED and name.identity != own
            ]
        except (OSError, DecodeError, NoReply):
            return []

    def _look_up(self, files: Collection[str]) -> list[tuple[int, NamespaceName]]:
        """Return the ids of those files that are namespaces; the id is -1 if there is none.

        :raises NoReply: when the kernel did not answer a request.
        """
        opened: list[tuple[int, NamespaceName]] = []
        try:
            for file in files:
                if (fd := _open(f"{self._directory}/{file}")) is not None:
                    identity = identity_of(os.fstat(fd))
                    opened.append((fd, NamespaceName(file, identity, None)))
            if not opened:
                return []
            requests = [_nsid_request(fd, str(name.name)) for fd, name in opened]
            exchange = Exchange(requests, self._sequence.reserve(len(requests)))
            responses = send_and_receive(self._lookups, exchange)
        finally:
            for fd, _ in opened:
                os.close(fd)
        ids: list[tuple[int, NamespaceName]] = []
        for response, (_, name) in zip(responses, opened, strict=True):
            # The kernel refuses a file that is no namespace.
            if isinstance(response.error, NoReply):
                raise response.error
            for reply in response.replies:
                ids.append((_nsid_in(reply.payload, 0, len(reply.payload)), name))
        return ids

    def close(self) -> None:
        """Close everything except the socket whose datagrams are resolved."""
        self._notifications.close()
        self._lookups.close()
        self._mounts.close()


class _Mounts:
    """Detect new mounts: making a name mounts the namespace on the name's file."""

    def __init__(self) -> None:
        self._changes = 0
        self._poll = select.poll()
        self._fd: int | None = None
        try:
            self._fd = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in EXHAUSTION_ERRNOS:
                raise
            return  # there is no /proc here
        self._poll.register(self._fd, select.POLLPRI)

    def changes(self) -> int:
        """Return a number that grows with each change, and whenever changes cannot be detected."""
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


def _open(path: str) -> int | None:
    """Return a descriptor of what may be a namespace; ``None`` if it cannot be opened."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in EXHAUSTION_ERRNOS:
            raise
        return None


def _nsid_request(fd: int, name: str) -> Request:
    payload = _RTGENMSG + pack(NETNSA.FD, _U32.pack(fd))
    return Request("look up the id of", f"namespace {name!r}", RTM.GETNSID, 0, payload)


def _nsid_in(buffer: BytesLike, start: int, end: int) -> int:
    """Return the namespace id in a message."""
    for number, _, first, last in walk(buffer, start + len(_RTGENMSG), end):
        if number == NETNSA.NSID and last - first == _S32.size:
            (id,) = _S32.unpack_from(buffer, first)
            return int(id)
    return NETNSA_NSID_NOT_ASSIGNED
