"""Execute the requests of a datagram as the kernel does (``nfnetlink_rcv``, ``netlink_rcv_skb``).

- The kernel executes each request of a datagram by itself: an error does not stop the next one.
- Without CAP_NET_ADMIN the kernel refuses the first request and ignores the rest of the datagram.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple, NoReturn

import attrs

from ..netlink import messages, nfnetlink
from ..uapi.netlink import NETLINK, NLM_F, NLMSG
from .attributes import Policy, Refused, parse
from .received import ReceivedRequest
from .socket_types import DumpSource
from .sockets import FakeSocket
from .state import State

_HEAD: Final = messages.HEADER_SIZE + nfnetlink.SIZE
_ACK: Final = int(NLM_F.ACK)
_REQUEST: Final = int(NLM_F.REQUEST)
_ECHO: Final = int(NLM_F.ECHO)
_MULTI: Final = int(NLM_F.MULTI)


class NoAcknowledgement(Exception):
    """A dump has begun, which ends with NLMSG_DONE instead of an acknowledgement."""


@attrs.frozen
class Call:
    """A request that a handler executes."""

    state: State
    socket: FakeSocket
    request: ReceivedRequest
    attributes: Mapping[int, bytes]
    """The payloads of the request's attributes, by attribute number."""
    nested: frozenset[int]
    """The numbers of the attributes that have ``NLA_F_NESTED``."""

    @property
    def port_id(self) -> int:
        """The port id of the requester."""
        return self.socket.port_id

    @property
    def report(self) -> bool:
        """Whether the kernel sends the events of the request to the requester (``NLM_F_ECHO``)."""
        return bool(self.request.flags & _ECHO)

    def reply(self, message: int, family: int, *attributes: bytes) -> None:
        """Send a single reply, which has ``NLM_F_MULTI`` although no NLMSG_DONE follows.

        :param message: the message's number within the subsystem.
        :param family: the address family for ``struct nfgenmsg``.
        :param attributes: the encoded attributes.

        :raises Refused: when the receive buffer of the requester is full.
        """
        payload = nfnetlink.pack(family) + b"".join(attributes)
        type_ = nfnetlink.message_type(self.request.subsystem, message)
        sent = self.socket.send_unicast(
            messages.pack(type_, _MULTI, self.request.seq, payload, self.port_id)
        )
        if not sent:
            raise Refused(errno.ENOBUFS)

    def dump(self, begin: Callable[[], DumpSource]) -> NoReturn:
        """Start a dump, which ends without an acknowledgement.

        :param begin: returns the source of the dump's messages.

        :raises Refused: when another dump runs on this socket.
        :raises NoAcknowledgement: when the dump has started.

        It also raises what ``begin`` raises.
        """
        if self.socket.is_dumping:
            raise Refused(errno.EBUSY)
        self.socket.start_dump(self.request.seq, begin())
        raise NoAcknowledgement


class Handler(NamedTuple):
    """The handler of one message of a subsystem."""

    execute: Callable[[Call], None]
    """Execute a request: send the replies, or raise :exc:`Refused`.

    The acknowledgement is sent by :class:`Receiver`.
    """
    last_attribute: int = 0
    """The highest attribute number that the kernel knows in this message."""
    policy: Policy = {}  # noqa: RUF012 - never changed
    """The validation of the attributes."""


class Subsystem:
    """A subsystem of nfnetlink, to be registered in :data:`.subsystems.SUBSYSTEMS`."""

    classes: tuple[type[object], ...] = ()
    """The model's classes whose attributes the requests of this subsystem may have."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.handlers: Mapping[int, Handler] = {}
        """The handlers, by message number."""

    def verb(self, message: int, flags: int, payload: bytes) -> str:
        """Return the :attr:`.ReceivedRequest.verb` of a request."""
        raise NotImplementedError


class ListDump:
    """A dump whose messages are all built when it begins."""

    def __init__(self, call: Call, message_type: int, payloads: Iterable[bytes]) -> None:
        self.end_flags = _MULTI
        self._remaining = deque(
            messages.pack(message_type, _MULTI, call.request.seq, payload, call.port_id)
            for payload in payloads
        )

    def __call__(self, space: int) -> bytes:
        chunk = b""
        while self._remaining and len(chunk) + len(self._remaining[0]) <= space:
            chunk += self._remaining.popleft()
        return chunk


Intercept = Callable[[FakeSocket, ReceivedRequest], bool]
"""Return ``True`` to handle a request in place of the kernel's handler."""


class Receiver:
    """Parses the datagrams that programs send, and executes their requests."""

    def __init__(
        self, state: State, subsystems: Mapping[int, Subsystem], intercept: Intercept
    ) -> None:
        self._state = state
        self._subsystems = subsystems
        self._intercept = intercept

    def receive(self, socket: FakeSocket, data: bytes) -> None:
        """Execute the requests of a datagram.

        Stops at a message that cannot be parsed, and at the first request without CAP_NET_ADMIN.
        """
        for request, complete in self._requests(socket, data):
            if complete:
                socket.requests.append(request)
            if "CAP_NET_ADMIN" in self._state.unavailable and socket.protocol == NETLINK.NETFILTER:
                with self._state.lock:
                    self._acknowledge(socket, request, Refused(errno.EPERM))
                return
            if complete and self._intercept(socket, request):
                continue
            self.execute(socket, request, complete)

    def _requests(self, socket: FakeSocket, data: bytes) -> Iterator[tuple[ReceivedRequest, bool]]:
        """Yield the messages of a datagram, each with whether it is a complete request.

        The kernel silently ignores a message with an impossible length, and all that follow it.
        """
        start = 0
        while len(data) - start >= messages.HEADER_SIZE:
            size, message_type, flags, seq, _ = messages.HEADER.unpack_from(data, start)
            if size < messages.HEADER_SIZE or size > len(data) - start:
                return
            payload = data[start + messages.HEADER_SIZE : start + size]
            complete = bool(flags & _REQUEST) and message_type >= NLMSG.MIN_TYPE and size >= _HEAD
            yield self._describe(socket, message_type, flags, seq, payload), complete
            start += (size + 3) & ~3

    def _subsystem(self, socket: FakeSocket, message_type: int) -> Subsystem | None:
        return (
            self._subsystems.get(message_type >> 8)
            if socket.protocol == NETLINK.NETFILTER
            else None
        )

    def _describe(
        self, socket: FakeSocket, message_type: int, flags: int, seq: int, payload: bytes
    ) -> ReceivedRequest:
        subsystem = self._subsystem(socket, message_type)
        if subsystem is None or message_type & 0xFF not in subsystem.handlers:
            return ReceivedRequest(
                message_type, flags, seq, payload, socket.port_id, f"{message_type:#x}"
            )
        verb = subsystem.verb(message_type & 0xFF, flags, payload)
        return ReceivedRequest(
            message_type, flags, seq, payload, socket.port_id, verb, subsystem.classes
        )

    def execute(self, socket: FakeSocket, request: ReceivedRequest, complete: bool = True) -> None:
        """Execute a request and send the replies.

        A message that is not a complete request is only acknowledged.
        """
        with self._state.lock:
            self._execute(socket, request, complete)

    def _execute(self, socket: FakeSocket, request: ReceivedRequest, complete: bool) -> None:
        result = Refused(0)
        if complete:
            try:
                result = Refused(0, self._handle(socket, request))
            except NoAcknowledgement:
                return
            except Refused as refused:
                result = refused
        if result.errno or request.flags & _ACK:
            self._acknowledge(socket, request, result)

    def _handle(self, socket: FakeSocket, request: ReceivedRequest) -> str | None:
        """Call the handler of a request.

        :returns: the warning of the extended acknowledgement.

        :raises Refused: when the kernel refuses the request.
        """
        subsystem = self._subsystem(socket, request.type)
        handler = None if subsystem is None else subsystem.handlers.get(request.message)
        if handler is None:
            raise Refused(errno.EINVAL)
        try:
            parsed = parse(
                request.payload[nfnetlink.SIZE :], handler.last_attribute, handler.policy
            )
        except Refused as refused:
            if refused.offset is not None:
                refused.offset += _HEAD
            raise
        try:
            handler.execute(Call(self._state, socket, request, parsed.attributes, parsed.nested))
        except Refused as refused:
            refused.detail = refused.detail or parsed.warning
            raise
        return parsed.warning

    def _acknowledge(self, socket: FakeSocket, request: ReceivedRequest, result: Refused) -> None:
        socket.send_unicast(
            socket.error_message(request, result.errno, result.detail, result.offset)
        )
