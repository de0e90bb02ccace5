"""Messages: ``struct nlmsghdr`` and the kernel's two of its own, error and done.

All of it is in host byte order (linux/netlink.h).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import REFUSALS, DecodeError, KernelError
from ..uapi.netlink import NLM_F, NLMSG, NLMSGERR_ATTR
from . import attributes
from .attributes import Buffer

HEADER = struct.Struct("=IHHII")
HEADER_SIZE = HEADER.size
_ERRNO = struct.Struct("=i")
_ACK = struct.Struct("=IHHIIi16x")
_OFFSET = struct.Struct("=I")
_CAPPED = int(NLM_F.CAPPED)
_ACK_TLVS = int(NLM_F.ACK_TLVS)


class Message(NamedTuple):
    """The header of a received message, and where in the buffer its payload lies."""

    type: int
    flags: int
    seq: int
    port: int
    start: int
    end: int


def at(buffer: Buffer, offset: int, length: int) -> Message:
    """The message at ``offset`` in a datagram of ``length`` bytes.

    Raises :exc:`DecodeError` if its length cannot be.
    """
    if length - offset < HEADER_SIZE:
        raise DecodeError(f"{length - offset} bytes are left over after the last message")
    size, kind, flags, seq, port = HEADER.unpack_from(buffer, offset)
    if size < HEADER_SIZE or offset + size > length:
        raise DecodeError(f"a message claims {size} bytes, {length - offset} are left")
    return Message(kind, flags, seq, port, offset + HEADER_SIZE, offset + size)


def walk(buffer: Buffer, length: int) -> Iterator[Message]:
    """Yield the messages in the first ``length`` bytes of a datagram.

    Raises :exc:`DecodeError` at the first whose length cannot be.
    """
    offset = 0
    while offset < length:
        message = at(buffer, offset, length)
        yield message
        offset = (message.end + 3) & ~3


def pack(kind: int, flags: int, seq: int, payload: bytes, port: int = 0) -> bytes:
    """One message, with its padding. The kernel ignores the port of a request."""
    size = HEADER_SIZE + len(payload)
    return HEADER.pack(size, kind, flags, seq, port) + payload + bytes(-size & 3)


class Failure(NamedTuple):
    """What the kernel says of a request that it refused (``errno`` 0: that it carried out)."""

    errno: int
    detail: str | None = None
    offset: int | None = None
    """Where in the request the offending attribute stands, counted from its header."""
    call: KernelError | None = None
    """The system call that was refused, if the kernel never saw the request."""

    @classmethod
    def of(cls, error: OSError) -> Failure:
        """What a socket raised instead of sending a request, or of receiving the answer."""
        known = error if isinstance(error, KernelError) else None
        refused = known if error.errno in REFUSALS else None
        return cls(error.errno or errno.EIO, None if known is None else known.detail, call=refused)


SUCCESS = Failure(0)


def acknowledged(buffer: Buffer, length: int) -> int | None:
    """The request that a datagram says was carried out, if that is all it says; else ``None``.

    What :func:`walk` and :func:`parse_error` would find out too, at a third of the cost.
    """
    if length != _ACK.size:
        return None
    size, kind, _, seq, _, code = _ACK.unpack_from(buffer)
    return seq if size == length and kind == ERROR and not code else None


def parse_done(buffer: Buffer, message: Message) -> Failure:
    """The code at the end of a dump: 0 from most kernels and subsystems, absent from some."""
    if message.end - message.start < 4:
        return Failure(0)
    (code,) = _ERRNO.unpack_from(buffer, message.start)
    return Failure(-code, *_extended(buffer, message, message.start + 4))


def parse_error(buffer: Buffer, message: Message) -> Failure:
    """Read ``struct nlmsgerr`` and the extended acknowledgement behind it.

    Raises :exc:`DecodeError` if it is too short to hold a code.
    """
    if message.end - message.start < 4:
        raise DecodeError("an error message without a code")
    (code,) = _ERRNO.unpack_from(buffer, message.start)
    return Failure(-code, *_extended(buffer, message, explanation_of(buffer, message)))


def explanation_of(buffer: Buffer, message: Message) -> int:
    """Where the attributes of an error's extended acknowledgement start, if it has any."""
    behind = message.start + 4 + HEADER_SIZE
    if behind <= message.end and not message.flags & _CAPPED:
        # The kernel echoes the whole request, aligned, before what it has to say. A success
        # is always capped, whether its flags say so or not.
        (code,) = _ERRNO.unpack_from(buffer, message.start)
        (echoed, *_) = HEADER.unpack_from(buffer, message.start + 4)
        if code:
            behind += (max(echoed, HEADER_SIZE) - HEADER_SIZE + 3) & ~3
    return behind


def _extended(buffer: Buffer, message: Message, start: int) -> tuple[str | None, int | None]:
    text: str | None = None
    offset: int | None = None
    if not message.flags & _ACK_TLVS:
        return text, offset
    try:
        for number, _, first, last in attributes.walk(buffer, start, message.end):
            if number == NLMSGERR_ATTR.MSG:
                text = bytes(buffer[first:last]).split(b"\0", 1)[0].decode(errors="replace")
            elif number == NLMSGERR_ATTR.OFFS and last - first >= 4:
                (offset,) = _OFFSET.unpack_from(buffer, first)
    except DecodeError:
        # The code is what counts; a garbled explanation must not hide it.
        pass
    return text, offset


ERROR = int(NLMSG.ERROR)
DONE = int(NLMSG.DONE)
