"""The conversation with the kernel, without any I/O: bytes out, datagrams in, outcomes.

The rules that hold here:

- Every request asks for an acknowledgement and ends with it, or with an error. ctnetlink marks
  single answers as multipart although no DONE follows, and answers some requests with nothing
  but the acknowledgement; neither must leave a caller waiting.
- A dump ends with DONE, with an error, or with an acknowledgement (how the kernel says that there
  was nothing to start).
- An answer belongs to the request whose sequence number it carries. What carries another is
  dropped and counted: it answers a request whose caller went away.
- A request refused for want of privilege ends its datagram: the kernel does not answer the
  requests behind it (``nfnetlink_rcv_skb``).
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import attrs

from ..errors import DecodeError, KernelError, NoReply, failed, kernel_error
from ..uapi.netlink import NLM_F
from . import messages
from .attributes import Buffer
from .messages import Failure, Message

_REQUEST = int(NLM_F.REQUEST | NLM_F.ACK)
_DUMP = int(NLM_F.DUMP)
_DUMP_INTR = int(NLM_F.DUMP_INTR)


class Request(NamedTuple):
    """One request: its type, flags beyond REQUEST and ACK, payload, and words for errors."""

    verb: str
    subject: object
    type: int
    flags: int
    payload: bytes
    hints: Mapping[int, str] = MappingProxyType({})
    """What to do about an errno, where the request knows better than the errno's class."""
    meanings: Mapping[int, int] = MappingProxyType({})
    """The errno that the kernel ought to have answered, for one that says something else."""

    def pack(self, seq: int) -> bytes:
        return messages.pack(self.type, self.flags | _REQUEST, seq, self.payload)

    def __str__(self) -> str:
        return f"{self.verb} {self.subject}" if self.subject is not None else self.verb

    def error(self, failure: Failure) -> KernelError:
        """The exception that says how this request was refused."""
        if failure.call is not None:
            return failed(str(self), failure.call)
        code = self.meanings.get(failure.errno, failure.errno)
        return kernel_error(code, str(self), failure.detail, self.hints.get(code, ""))


class Reply(NamedTuple):
    """A message that answers a request: its type, flags and payload (nfgenmsg first)."""

    type: int
    flags: int
    payload: bytes


@attrs.define
class Outcome:
    """What became of one request."""

    request: Request
    replies: list[Reply] = attrs.field(factory=list[Reply])
    failure: Failure | None = None
    """``None`` until the kernel has answered; errno 0 is success."""
    unreadable: OSError | None = None
    """Why the answer can't be read, if that is so."""

    @property
    def error(self) -> KernelError | NoReply | None:
        """The exception that this outcome amounts to, or ``None`` for success."""
        if self.failure is None:
            why = "" if self.unreadable is None else f", for it can't be read: {self.unreadable}"
            return NoReply(f"{self.request}: no answer came; it may have been carried out{why}")
        return self.request.error(self.failure) if self.failure.errno else None

    def result(self) -> list[Reply]:
        """The replies. Raises what :attr:`error` is."""
        if (error := self.error) is not None:
            raise error
        return self.replies


class Sequence32:
    """Sequence numbers: 32 bits, never 0, which is that of events."""

    def __init__(self) -> None:
        self._last = 0

    def take(self, count: int) -> int:
        """The first of ``count`` consecutive numbers."""
        first = self._last + 1
        if first + count > 0xFFFFFFFF:
            first = 1
        self._last = first + count - 1
        return first


Taker = Callable[[list[Outcome]], None]
"""Takes the outcomes of an exchange that has ended, though its caller may have been cancelled."""


class Answers:
    """What requests of consecutive sequence numbers are answered, in the order in which they went.

    Most answers say that it was done, and nothing else: those cost no object.
    """

    def __init__(self, seq: int, count: int) -> None:
        self.failures: list[Failure | None] = [None] * count
        """``None`` until the kernel has answered; errno 0 is success."""
        self.replies: dict[int, list[Reply]] = {}
        """Of the requests, by their index, that were answered with something."""
        self.strays = 0
        """Messages that answered nothing of this."""
        self.lossy = False
        """Whether answers were dropped on the way: what is unanswered may have been carried out."""
        self.unreadable: OSError | None = None
        """Why the answers can't be read, if the system refuses to hand them out."""
        self.following: Answers | None = None
        """What was asked next on the same socket: its answers may come while some here are due."""
        self.open = count
        """How many are unanswered."""
        self._seq = seq

    @property
    def done(self) -> bool:
        return self.open == 0

    def feed(self, buffer: Buffer, length: int) -> None:
        """Take in a datagram. Raises :exc:`DecodeError` if it is not netlink."""
        seq = messages.acknowledged(buffer, length)
        if seq is not None:
            self._take(seq, messages.SUCCESS)
            return
        for message in messages.walk(buffer, length):
            if message.type == messages.ERROR:
                self._take(message.seq, messages.parse_error(buffer, message))
            elif message.type == messages.DONE:
                self._take(message.seq, messages.parse_done(buffer, message))
            else:
                payload = bytes(buffer[message.start : message.end])
                self._take(message.seq, Reply(message.type, message.flags, payload))

    def _take(self, seq: int, answer: Failure | Reply) -> None:
        index = seq - self._seq
        if not 0 <= index < len(self.failures):
            if self.following is None:
                self.strays += 1
            else:
                self.following._take(seq, answer)
        elif isinstance(answer, Reply):
            self.replies.setdefault(index, []).append(answer)
        elif self.failures[index] is None:
            self.failures[index] = answer
            self.open -= 1
            if not self.open:
                self.end()

    def dry(self) -> None:
        """Nothing more is waiting: settle what the kernel then never will."""
        first = self.failures[0]
        if first is not None and first.errno == errno.EPERM and not self.lossy:
            self.settle(first)

    def settle(self, failure: Failure) -> None:
        """Have all that is unanswered answered with this."""
        for index, known in enumerate(self.failures):
            if known is None:
                self._take(self._seq + index, failure)

    def end(self) -> None:
        """Nothing more is waited for."""


class Exchange(Answers):
    """Requests sent as one datagram, each with its outcome."""

    def __init__(self, requests: Sequence[Request], seq: int, taker: Taker | None = None) -> None:
        super().__init__(seq, len(requests))
        self.requests = requests
        self.data = b"".join([request.pack(seq + i) for i, request in enumerate(requests)])
        self.begun = False
        """Whether it was sent, or a thread is about to."""
        self.sent = False
        self.late = False
        """Whether it took longer than it may; a thread may still be at it."""
        self.error: Exception | None = None
        """What ended it on a thread, if the kernel's answer is not netlink."""
        self._taker = taker
        # The collector may have its caller leave while this very thread is in here.
        self._held = threading.RLock()
        self._holders = 1

    @property
    def outcomes(self) -> list[Outcome]:
        """What became of each so far."""
        return [
            Outcome(request, self.replies.get(index, []), self.failures[index], self.unreadable)
            for index, request in enumerate(self.requests)
        ]

    def begin(self) -> bool:
        """Whether it is to be sent, perhaps by a thread: not, if its caller has left it."""
        with self._held:
            if self._holders:
                self._holders += 1
                self.begun = True
            return self._holders > 0

    def leave(self) -> None:
        """To be called by its caller and by who sent it: the last ends it."""
        with self._held:
            self._holders -= 1
            last = not self._holders
        if last and self.sent:
            self.end()

    def end(self) -> None:
        """Nothing more is waited for: hand the outcomes to the taker, once."""
        taker, self._taker = self._taker, None
        if taker is not None:
            taker(self.outcomes)


class DumpExchange:
    """One dump: a request, and datagrams full of entries until the kernel says that it is done."""

    def __init__(self, request: Request, seq: int) -> None:
        self.request = request
        self.data = request._replace(flags=request.flags | _DUMP).pack(seq)
        self.interrupted = False
        self.strays = 0
        self.failure: Failure | None = None
        """``None`` until the dump has ended; errno 0 is its regular end."""
        self.seq = seq

    def takes(self, buffer: Buffer, message: Message) -> bool:
        """Whether a message is one of the entries; what else it says is noted."""
        if message.seq != self.seq:
            self.strays += 1
            return False
        if message.flags & _DUMP_INTR:
            self.interrupted = True
        if message.type == messages.ERROR:
            self.failure = messages.parse_error(buffer, message)
        elif message.type == messages.DONE:
            self.failure = messages.parse_done(buffer, message)
        else:
            return True
        return False

    def broken(self, error: DecodeError) -> None:
        """What came is not netlink: that ends it, for where the next message starts is unknown."""
        self.failure = Failure(errno.EBADMSG, str(error))
