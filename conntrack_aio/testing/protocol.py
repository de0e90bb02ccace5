"""How the kernel goes about a datagram of requests (``nfnetlink_rcv``, ``netlink_rcv_skb``).

Each request is looked at by itself: an error does not stop the next one, but for the lack of
CAP_NET_ADMIN, after which the rest of the datagram is not answered.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple, NoReturn

import attrs

from ..netlink import messages, nfnetlink
from ..uapi.netlink import NETLINK, NLM_F, NLMSG
from .asked import Asked
from .attributes import Policy, Refused, parse
from .sockets import Chunk, FakeSocket
from .state import State

_HEAD: Final = messages.HEADER_SIZE + nfnetlink.SIZE
_ACK: Final = int(NLM_F.ACK)
_REQUEST: Final = int(NLM_F.REQUEST)
_ECHO: Final = int(NLM_F.ECHO)
_MULTI: Final = int(NLM_F.MULTI)


class NoAcknowledgement(Exception):
    """A dump has begun: it ends with DONE, whether an acknowledgement was asked for or not."""


@attrs.frozen
class Call:
    """A request on its way through a handler."""

    state: State
    socket: FakeSocket
    asked: Asked
    attributes: Mapping[int, bytes]
    nested: frozenset[int]

    @property
    def port(self) -> int:
        """The port of who asked."""
        return self.socket.port_id

    @property
    def report(self) -> bool:
        """Whether the events of it are to come back as answers (``NLM_F_ECHO``)."""
        return bool(self.asked.flags & _ECHO)

    def answer(self, message: int, family: int, *attributes: bytes) -> None:
        """A single answer. It is marked as multipart, and no DONE follows."""
        payload = nfnetlink.pack(family) + b"".join(attributes)
        kind = nfnetlink.message_type(self.asked.subsystem, message)
        sent = self.socket.send_unicast(
            messages.pack(kind, _MULTI, self.asked.seq, payload, self.port)
        )
        if not sent:
            raise Refused(errno.ENOBUFS)

    def dump(self, begin: Callable[[], Chunk]) -> NoReturn:
        """Answer with a dump, which ends without an acknowledgement.

        Raises :exc:`Refused` while another one runs on this socket, and what ``begin`` raises.
        """
        if self.socket.is_dumping:
            raise Refused(errno.EBUSY)
        self.socket.start_dump(self.asked.seq, begin())
        raise NoAcknowledgement


class Handler(NamedTuple):
    """What a subsystem does about one of its messages."""

    carry_out: Callable[[Call], None]
    """Answers, or raises :exc:`Refused`. The acknowledgement is not its business."""
    last: int = 0
    """The highest attribute that it reads."""
    policy: Policy = {}  # noqa: RUF012 - never changed


class Subsystem:
    """A subsystem of nfnetlink. One is registered in :data:`.subsystems.SUBSYSTEMS`."""

    classes: tuple[type[object], ...] = ()
    """The model's classes whose attributes its requests have."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.handlers: Mapping[int, Handler] = {}
        """By the number of the message."""

    def verb(self, message: int, flags: int, payload: bytes) -> str:
        """What a request is called, as :attr:`.Asked.verb`."""
        raise NotImplementedError


class ListDump:
    """A dump of messages that are all there when it begins."""

    def __init__(self, call: Call, kind: int, payloads: Iterable[bytes]) -> None:
        self.end_flags = _MULTI
        self._waiting = deque(
            messages.pack(kind, _MULTI, call.asked.seq, payload, call.port) for payload in payloads
        )

    def __call__(self, room: int) -> bytes:
        taken = b""
        while self._waiting and len(taken) + len(self._waiting[0]) <= room:
            taken += self._waiting.popleft()
        return taken


Intercept = Callable[[FakeSocket, Asked], bool]
"""Whether something else has seen to a request, so that no handler is asked."""


class Receiver:
    """Takes datagrams apart, and has each request carried out."""

    def __init__(
        self, state: State, subsystems: Mapping[int, Subsystem], intercept: Intercept
    ) -> None:
        self._state = state
        self._subsystems = subsystems
        self._intercept = intercept

    def receive(self, socket: FakeSocket, data: bytes) -> None:
        """All the requests of a datagram, until one can't be read or the right is missing."""
        for asked, complete in self._requests(socket, data):
            if complete:
                socket.asked.append(asked)
            if "CAP_NET_ADMIN" in self._state.lacks and socket.protocol == NETLINK.NETFILTER:
                with self._state.lock:
                    self._acknowledge(socket, asked, Refused(errno.EPERM))
                return
            if complete and self._intercept(socket, asked):
                continue
            self.carry_out(socket, asked, complete)

    def _requests(self, socket: FakeSocket, data: bytes) -> Iterator[tuple[Asked, bool]]:
        """The messages that the kernel gets to see, and whether each is a request at all.

        What follows one whose length can't be is passed over in silence.
        """
        start = 0
        while len(data) - start >= messages.HEADER_SIZE:
            size, kind, flags, seq, _ = messages.HEADER.unpack_from(data, start)
            if size < messages.HEADER_SIZE or size > len(data) - start:
                return
            payload = data[start + messages.HEADER_SIZE : start + size]
            complete = bool(flags & _REQUEST) and kind >= NLMSG.MIN_TYPE and size >= _HEAD
            yield self._describe(socket, kind, flags, seq, payload), complete
            start += (size + 3) & ~3

    def _subsystem(self, socket: FakeSocket, kind: int) -> Subsystem | None:
        return self._subsystems.get(kind >> 8) if socket.protocol == NETLINK.NETFILTER else None

    def _describe(
        self, socket: FakeSocket, kind: int, flags: int, seq: int, payload: bytes
    ) -> Asked:
        subsystem = self._subsystem(socket, kind)
        if subsystem is None or kind & 0xFF not in subsystem.handlers:
            return Asked(kind, flags, seq, payload, socket.port_id, f"{kind:#x}")
        verb = subsystem.verb(kind & 0xFF, flags, payload)
        return Asked(kind, flags, seq, payload, socket.port_id, verb, subsystem.classes)

    def carry_out(self, socket: FakeSocket, asked: Asked, complete: bool = True) -> None:
        """Do what a request asks for, and answer. What is no complete request does nothing."""
        with self._state.lock:
            self._carry_out(socket, asked, complete)

    def _carry_out(self, socket: FakeSocket, asked: Asked, complete: bool) -> None:
        result = Refused(0)
        if complete:
            try:
                result = Refused(0, self._handle(socket, asked))
            except NoAcknowledgement:
                return
            except Refused as refused:
                result = refused
        if result.errno or asked.flags & _ACK:
            self._acknowledge(socket, asked, result)

    def _handle(self, socket: FakeSocket, asked: Asked) -> str | None:
        """What the kernel warns of. Raises :exc:`Refused`."""
        subsystem = self._subsystem(socket, asked.type)
        handler = None if subsystem is None else subsystem.handlers.get(asked.message)
        if handler is None:
            raise Refused(errno.EINVAL)
        try:
            parsed = parse(asked.payload[nfnetlink.SIZE :], handler.last, handler.policy)
        except Refused as refused:
            if refused.offset is not None:
                refused.offset += _HEAD
            raise
        try:
            handler.carry_out(Call(self._state, socket, asked, parsed.attributes, parsed.nested))
        except Refused as refused:
            refused.detail = refused.detail or parsed.warning
            raise
        return parsed.warning

    def _acknowledge(self, socket: FakeSocket, asked: Asked, result: Refused) -> None:
        socket.send_unicast(socket.error_message(asked, result.errno, result.detail, result.offset))
