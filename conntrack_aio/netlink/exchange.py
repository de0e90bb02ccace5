"""Requests and their replies, without any I/O: bytes to send, datagrams to feed, responses.

These rules hold for every exchange with the kernel:

- Every request asks for an acknowledgement, and ends with it or with an error. ctnetlink marks
  single replies as multipart although no DONE follows, and it answers some requests with nothing
  but the acknowledgement. Neither may leave a caller waiting.
- A dump ends with DONE, with an error, or with an acknowledgement. The acknowledgement means that
  the kernel had nothing to start.
- An answer (a reply, an acknowledgement or an error) belongs to the request whose sequence number
  it carries. An answer with any other number is dropped and counted as a stray reply: its caller
  was cancelled.
- A request that the kernel refuses for lack of privilege ends its datagram: the kernel does not
  answer the requests after it (``nfnetlink_rcv_skb``).
"""

# Annotations are evaluated here: a NamedTuple compiles each one that is a text, which would take a
# quarter of this module's import.

import errno
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from ..errors import DecodeError, KernelError, NoReply, kernel_error, request_error
from ..uapi.netlink import NLM_F
from . import messages
from .attributes import BytesLike
from .messages import Completion, Message

_REQUEST = int(NLM_F.REQUEST | NLM_F.ACK)
_DUMP = int(NLM_F.DUMP)
_DUMP_INTR = int(NLM_F.DUMP_INTR)


class Request(NamedTuple):
    """One request: its type, flags beyond REQUEST and ACK, payload, and wording for errors."""

    verb: str
    subject: object
    type: int
    flags: int
    payload: bytes
    hints: Mapping[int, str] = MappingProxyType({})
    """What to do about an errno, where the request knows better than the errno's class."""
    meanings: Mapping[int, int] = MappingProxyType({})
    """The accurate errno for each errno with which the kernel answers misleadingly."""

    def pack(self, seq: int) -> bytes:
        """Return the complete message with this sequence number."""
        return messages.pack(self.type, self.flags | _REQUEST, seq, self.payload)

    def __str__(self) -> str:
        return f"{self.verb} {self.subject}" if self.subject is not None else self.verb

    def error(self, completion: Completion) -> KernelError:
        """Return the exception that says how the kernel refused this request."""
        if completion.call is not None:
            return request_error(str(self), completion.call)
        code = self.meanings.get(completion.errno, completion.errno)
        return kernel_error(code, str(self), completion.detail, self.hints.get(code, ""))


class Reply(NamedTuple):
    """A message that the kernel sent for a request: type, flags and payload (nfgenmsg first)."""

    type: int
    flags: int
    payload: bytes


class Response:
    """One request with its replies and its completion."""

    __slots__ = ("completion", "replies", "request", "unreadable")

    def __init__(
        self,
        request: Request,
        replies: Sequence[Reply] = (),
        completion: Completion | None = None,
        unreadable: OSError | None = None,
    ) -> None:
        self.request = request
        self.replies = replies
        self.completion = completion
        """How the request ended: errno 0 is success; ``None`` until the kernel has answered."""
        self.unreadable = unreadable
        """The error with which reading the answers failed, if it did."""

    @property
    def error(self) -> KernelError | NoReply | None:
        """The exception for this response, or ``None`` for success."""
        if self.completion is None:
            what = "the kernel did not answer"
            if self.unreadable is not None:
                what = f"the kernel's answer cannot be read ({self.unreadable})"
            return NoReply(f"{self.request}: {what}; the request may have been carried out")
        return self.request.error(self.completion) if self.completion.errno else None

    def result(self) -> Sequence[Reply]:
        """Return the replies.

        :raises KernelError: when the kernel refused the request.
        :raises NoReply: when no answer came, or it cannot be read.
        """
        if (error := self.error) is not None:
            raise error
        return self.replies


class SequenceNumbers:
    """Hand out sequence numbers of 32 bits; never 0, the sequence number that events carry."""

    def __init__(self) -> None:
        self._last = 0

    def reserve(self, count: int) -> int:
        """Reserve ``count`` consecutive numbers and return the first."""
        first = self._last + 1
        if first + count > 0xFFFFFFFF:
            first = 1
        self._last = first + count - 1
        return first


OnResponses = Callable[[list[Response]], None]
"""A callback for the responses of a completed exchange, even if its caller was cancelled."""


class Answers:
    """Collect the answers to requests with consecutive sequence numbers, in the order of sending.

    Most answers are an acknowledgement and nothing else: those cost no object.
    """

    def __init__(self, seq: int, count: int) -> None:
        self.completions: list[Completion | None] = [None] * count
        """How each request ended: errno 0 is success; ``None`` until the kernel answers."""
        self.replies: dict[int, list[Reply]] = {}
        """The replies, by the index of their request; requests without replies are absent."""
        self.stray_replies = 0
        """Messages that answer none of these requests."""
        self.lossy = False
        """Whether the kernel dropped answers: an unanswered request may have been carried out."""
        self.unreadable: OSError | None = None
        """The error with which reading the answers failed, if it did."""
        self.following: Answers | None = None
        """The answers to the next requests on the same socket, which may arrive before these."""
        self.open = count
        """The number of unanswered requests."""
        self._seq = seq

    @property
    def done(self) -> bool:
        """Whether every request is answered."""
        return self.open == 0

    @property
    def refusal(self) -> Completion | None:
        """How the first request ended, if it was refused for lack of privilege."""
        first = self.completions[0] if self.completions else None
        refused = first is not None and first.errno == errno.EPERM and not self.lossy
        return first if refused else None

    def feed(self, buffer: BytesLike, length: int) -> None:
        """Take in the first ``length`` bytes of ``buffer`` as one datagram.

        :raises DecodeError: when the datagram is not netlink.
        """
        seq = messages.parse_success(buffer, length)
        if seq is not None:
            self._add(seq, messages.SUCCESS)
            return
        for message in messages.walk(buffer, length):
            if message.type == messages.ERROR:
                self._add(message.seq, messages.parse_error(buffer, message))
            elif message.type == messages.DONE:
                self._add(message.seq, messages.parse_done(buffer, message))
            else:
                payload = bytes(buffer[message.start : message.end])
                self._add(message.seq, Reply(message.type, message.flags, payload))

    def _add(self, seq: int, answer: Completion | Reply) -> None:
        index = seq - self._seq
        if not 0 <= index < len(self.completions):
            if self.following is None:
                self.stray_replies += 1
            else:
                self.following._add(seq, answer)
        elif isinstance(answer, Reply):
            self.replies.setdefault(index, []).append(answer)
        elif self.completions[index] is None:
            self.completions[index] = answer
            self.open -= 1
            if not self.open:
                self.complete()

    def add_successes(self, numbers: range) -> None:
        """Take in acknowledgements, by their sequence numbers."""
        at = slice(numbers.start - self._seq, numbers.stop - self._seq)
        unanswered = [None] * len(numbers)
        if at.start < 0 or self.completions[at] != unanswered:
            for seq in numbers:
                self._add(seq, messages.SUCCESS)
            return
        self.completions[at] = [messages.SUCCESS] * len(numbers)
        self.open -= len(numbers)
        if not self.open:
            self.complete()

    def note_drained(self) -> None:
        """Note that the socket has nothing more to read.

        If the first request was refused for lack of privilege, the kernel will not answer the
        requests after it: they get the same completion.
        """
        if self.refusal is not None:
            self.fail_unanswered(self.refusal)

    def note_lost(self, unreadable: OSError | None = None) -> None:
        """Note that answers are missing, to these requests or to the following ones.

        :param unreadable: the error with which the system refuses to hand out the answers.
        """
        answers: Answers | None = self
        while answers is not None:
            answers.lossy = True
            answers.unreadable = unreadable
            answers = answers.following

    def fail_unanswered(self, completion: Completion) -> None:
        """Complete all unanswered requests with ``completion``."""
        for index, known in enumerate(self.completions):
            if known is None:
                self._add(self._seq + index, completion)

    def complete(self) -> None:
        """React to the last answer. Subclasses override this method."""


class Exchange(Answers):
    """Requests that are sent as one datagram, and a response for each.

    The caller and the thread that sends share an exchange. Whichever releases it last completes it.
    """

    def __init__(
        self, requests: Sequence[Request], seq: int, on_responses: OnResponses | None = None
    ) -> None:
        super().__init__(seq, len(requests))
        self.requests = requests
        self.data = b"".join([request.pack(seq + i) for i, request in enumerate(requests)])
        self.started = False
        """Whether the datagram was sent, or a thread is about to send it."""
        self.sent = False
        self.timed_out = False
        """Whether a thread took too long; it may still be working on this exchange."""
        self.error: Exception | None = None
        """The exception on the thread, such as for an answer that is not netlink."""
        self._on_responses = on_responses
        # The garbage collector may release the caller's share on this very thread, inside the lock.
        self._lock = threading.RLock()
        self._users = 1

    @property
    def responses(self) -> list[Response]:
        """A response for each request, as far as the kernel has answered."""
        return [
            Response(request, self.replies.get(index, []), self.completions[index], self.unreadable)
            for index, request in enumerate(self.requests)
        ]

    def acquire(self) -> bool:
        """Share this exchange in order to send it; return ``False`` if the caller released it."""
        with self._lock:
            if self._users:
                self._users += 1
                self.started = True
            return self._users > 0

    def release(self) -> None:
        """Give up one share. The caller and the thread that acquired it each call this once."""
        with self._lock:
            self._users -= 1
            last = not self._users
        if last and self.sent:
            self.complete()

    def complete(self) -> None:
        """Pass the responses to the callback, once."""
        on_responses, self._on_responses = self._on_responses, None
        if on_responses is not None:
            on_responses(self.responses)


class DumpExchange:
    """One dump: a request, and datagrams full of entries until the kernel ends the dump."""

    def __init__(self, request: Request, seq: int) -> None:
        self.request = request
        self.data = request._replace(flags=request.flags | _DUMP).pack(seq)
        self.interrupted = False
        """Whether the kernel flagged the dump as inconsistent (``NLM_F_DUMP_INTR``)."""
        self.stray_replies = 0
        """Messages that do not belong to this dump."""
        self.completion: Completion | None = None
        """The end of the dump: errno 0 is the regular one; ``None`` until it has ended."""
        self.seq = seq

    def accepts(self, buffer: BytesLike, message: Message) -> bool:
        """Return whether a message is an entry of this dump; record what other messages report."""
        if message.seq != self.seq:
            self.stray_replies += 1
            return False
        if message.flags & _DUMP_INTR:
            self.interrupted = True
        if message.type == messages.ERROR:
            self.completion = messages.parse_error(buffer, message)
        elif message.type == messages.DONE:
            self.completion = messages.parse_done(buffer, message)
        else:
            return True
        return False

    def break_off(self, error: DecodeError) -> None:
        """End the dump because a datagram is not netlink: the next message cannot be located."""
        self.completion = Completion(errno.EBADMSG, str(error))
