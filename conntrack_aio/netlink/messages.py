"""Messages: ``struct nlmsghdr``, and netlink's own two kinds of message, error and done.

Everything is in host byte order (linux/netlink.h).
"""

# Annotations are evaluated here: a NamedTuple compiles each one that is a text, which would take a
# quarter of this module's import.

import errno
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

from ..errors import SECCOMP_ERRNOS, DecodeError, KernelError
from ..uapi.netlink import NLM_F, NLMSG, NLMSGERR_ATTR
from . import attributes
from .attributes import BytesLike

HEADER = struct.Struct("=IHHII")
HEADER_SIZE = HEADER.size
_ERRNO = struct.Struct("=i")
_ACK = struct.Struct("=IHHIIi16x")
_WORD = struct.Struct("=I")
_ERROR_TYPE = struct.pack("=H", NLMSG.ERROR)
_CAPPED = int(NLM_F.CAPPED)
_ACK_TLVS = int(NLM_F.ACK_TLVS)


class Message(NamedTuple):
    """The header of a received message, and the position of its payload in the buffer."""

    type: int
    flags: int
    seq: int
    port_id: int
    start: int
    end: int


def parse_header(buffer: BytesLike, offset: int, length: int) -> Message:
    """Read the header of the message at ``offset`` in a datagram of ``length`` bytes.

    :raises DecodeError: when the message's length is impossible.
    """
    if length - offset < HEADER_SIZE:
        raise DecodeError(f"{length - offset} bytes are left over after the last message")
    size, kind, flags, seq, port_id = HEADER.unpack_from(buffer, offset)
    if size < HEADER_SIZE or offset + size > length:
        raise DecodeError(f"a message claims {size} bytes, {length - offset} are left")
    return Message(kind, flags, seq, port_id, offset + HEADER_SIZE, offset + size)


def walk(buffer: BytesLike, length: int) -> Iterator[Message]:
    """Yield the messages in the first ``length`` bytes of a datagram.

    :raises DecodeError: when the length of a message is impossible, after yielding those before it.
    """
    offset = 0
    while offset < length:
        message = parse_header(buffer, offset, length)
        yield message
        offset = (message.end + 3) & ~3


def pack(kind: int, flags: int, seq: int, payload: bytes, port_id: int = 0) -> bytes:
    """Return one message with its padding. The kernel ignores the port id of a request."""
    size = HEADER_SIZE + len(payload)
    return HEADER.pack(size, kind, flags, seq, port_id) + payload + bytes(-size & 3)


class Completion(NamedTuple):
    """How a request ended: the errno with which the kernel refused it, or 0 for success."""

    errno: int
    detail: str | None = None
    """The text of the kernel's extended acknowledgement."""
    offset: int | None = None
    """The position of the offending attribute in the request, counted from its header."""
    call: KernelError | None = None
    """The error of the system call that was refused, if the kernel never saw the request."""

    @classmethod
    def of(cls, error: OSError) -> Self:
        """Return the completion for an error that a socket raised when sending or receiving."""
        known = error if isinstance(error, KernelError) else None
        refused = known if error.errno in SECCOMP_ERRNOS else None
        return cls(error.errno or errno.EIO, None if known is None else known.detail, call=refused)


SUCCESS = Completion(0)


def parse_success(buffer: BytesLike, length: int) -> int | None:
    """Return the sequence number of a datagram that is one acknowledgement; else ``None``.

    :func:`walk` and :func:`parse_error` give the same result; this takes a third of their time.
    """
    if length != _ACK.size:
        return None
    size, kind, _, seq, _, code = _ACK.unpack_from(buffer)
    return seq if size == length and kind == ERROR and not code else None


def parse_successes(sizes: list[int], words: Callable[[int], list[int]]) -> range | None:
    """Return the sequence numbers of datagrams that acknowledge consecutive requests.

    :param sizes: the sizes of the datagrams.
    :param words: returns, for each datagram, the four bytes at an offset as a number.
    :returns: ``None`` if there is anything else among them.
    """
    count = len(sizes)
    if not sizes or sizes != [_ACK.size] * count or words(0) != sizes:
        return None
    kinds, seqs = words(4), words(8)
    is_error = _WORD.pack(kinds[0])[:2] == _ERROR_TYPE
    numbers = range(seqs[0], seqs[0] + count)
    if not is_error or kinds != kinds[:1] * count or seqs != list(numbers) or any(words(16)):
        return None
    return numbers


def parse_done(buffer: BytesLike, message: Message) -> Completion:
    """Read the end of a dump. Its code is 0 from most subsystems and kernels; some omit it."""
    if message.end - message.start < 4:
        return Completion(0)
    (code,) = _ERRNO.unpack_from(buffer, message.start)
    return Completion(-code, *_extended_ack(buffer, message, message.start + 4))


def parse_error(buffer: BytesLike, message: Message) -> Completion:
    """Read ``struct nlmsgerr`` and the extended acknowledgement after it.

    :raises DecodeError: when the message is too short to hold a code.
    """
    if message.end - message.start < 4:
        raise DecodeError("an error message without a code")
    (code,) = _ERRNO.unpack_from(buffer, message.start)
    return Completion(-code, *_extended_ack(buffer, message, extended_ack_start(buffer, message)))


def extended_ack_start(buffer: BytesLike, message: Message) -> int:
    """Return where the attributes of an error's extended acknowledgement start, if it has any."""
    start = message.start + 4 + HEADER_SIZE
    if start <= message.end and not message.flags & _CAPPED:
        # The kernel echoes the whole request, aligned, before these attributes. An acknowledgement
        # of success is always capped, even if its flags do not say so (netlink_ack).
        (code,) = _ERRNO.unpack_from(buffer, message.start)
        (echoed, *_) = HEADER.unpack_from(buffer, message.start + 4)
        if code:
            start += (max(echoed, HEADER_SIZE) - HEADER_SIZE + 3) & ~3
    return start


def _extended_ack(buffer: BytesLike, message: Message, start: int) -> tuple[str | None, int | None]:
    text: str | None = None
    offset: int | None = None
    if not message.flags & _ACK_TLVS:
        return text, offset
    try:
        for number, _, first, last in attributes.walk(buffer, start, message.end):
            if number == NLMSGERR_ATTR.MSG:
                text = bytes(buffer[first:last]).split(b"\0", 1)[0].decode(errors="replace")
            elif number == NLMSGERR_ATTR.OFFS and last - first >= 4:
                (offset,) = _WORD.unpack_from(buffer, first)
    except DecodeError:
        # The code is what counts: a malformed explanation must not hide it.
        pass
    return text, offset


ERROR = int(NLMSG.ERROR)
DONE = int(NLMSG.DONE)
