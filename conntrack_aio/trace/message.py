"""A message as text: a line with its header, then its attributes as a tree, then its bytes."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from errno import errorcode
from socket import AF_INET, AF_INET6, AF_UNSPEC
from typing import Final

from ..codec.catalog import kind_of
from ..codec.schema import schema_of
from ..errors import DecodeError
from ..model.declare import HOST_U32, Bytes, Text, attribute, message
from ..netlink import messages, nfnetlink
from ..netlink.attributes import MAX_PAYLOAD
from ..netlink.messages import DONE, ERROR, HEADER, HEADER_SIZE, Message
from ..uapi.netlink import NETLINK, NLM_F, NLMSG, NLMSGERR_ATTR
from ..uapi.nfnetlink import NFNL_SUBSYS
from ..uapi.rtnetlink import RTM
from .tree import NOTHING, tree

_ALWAYS: Final = ("REQUEST", "MULTI", "ACK", "ECHO", "DUMP_INTR", "DUMP_FILTERED")
_OF_AN_ACK: Final = ("CAPPED", "ACK_TLVS")
_OF_A: Final = {
    "GET": ("DUMP", "ROOT", "MATCH", "ATOMIC"),
    "NEW": ("REPLACE", "EXCL", "CREATE", "APPEND"),
    "SET": ("REPLACE", "EXCL", "CREATE", "APPEND"),
    "DEL": ("NONREC", "BULK"),
}
"""What the upper flags mean, by what the message's name says that it does."""

_VERB: Final = re.compile("_(GET|NEW|SET|DEL)")
_FAMILIES: Final = {int(family): family.name for family in (AF_UNSPEC, AF_INET, AF_INET6)}
_ROUTE: Final = {int(number): f"RTM_{name}" for name, number in RTM.__members__.items()}
_CONTROLS: Final = {int(number): f"NLMSG_{number.name}" for number in NLMSG}
_ERRNO: Final = struct.Struct("=i")


def render(head: str, data: bytes, protocol: int, *, answer: bool) -> Iterator[str]:
    """The text of each message in a datagram, after the words of ``head``.

    ``answer`` says that the kernel sent it. It ends for any bytes, and raises nothing; what can't
    be read is shown as it is.
    """
    behind = 0
    try:
        for header in messages.walk(data, len(data)):
            start, end = header.start - HEADER_SIZE, header.end
            behind = (end + 3) & ~3
            yield _whole(head, data[start:end], header, protocol, answer)
    except DecodeError as error:
        yield "\n".join([f"{head} {error}", *hexdump(data[behind:])])
    if not data:
        yield f"{head} an empty datagram"


def _whole(head: str, data: bytes, header: Message, protocol: int, answer: bool) -> str:
    """``data`` is this message alone, so that its offsets are those the kernel speaks of."""
    header = header._replace(start=HEADER_SIZE, end=len(data))
    line = f"{head} {_header(len(data), header, protocol, answer)}"
    if header.type in (ERROR, DONE):
        return "\n".join([*_verdict(line, data, header, protocol), *hexdump(data)])
    if protocol != NETLINK.NETFILTER or header.type < NLMSG.MIN_TYPE:
        return "\n".join([line, *hexdump(data)])
    try:
        family, version, resource = nfnetlink.parse(data, header)
    except DecodeError as error:
        return "\n".join([f"{line} ({error})", *hexdump(data)])
    line += f" family={_FAMILIES.get(family, family)} version={version} res_id={resource}"
    kind = kind_of(header.type, answer=answer)
    known = NOTHING if kind is None else kind.attributes
    inside = tree(data, HEADER_SIZE + nfnetlink.SIZE, len(data), known)
    return "\n".join([line, *inside, *hexdump(data)])


def _header(size: int, header: Message, protocol: int, answer: bool) -> str:
    name = _name(header.type, protocol, answer)
    return (
        f"len={size} type={name} flags={_flags(header.flags, header.type, name)} "
        f"seq={header.seq} pid={header.port}"
    )


def _name(type: int, protocol: int, answer: bool) -> str:
    number = f"{type:#x}"
    if type < NLMSG.MIN_TYPE:
        return _CONTROLS.get(type, number)
    if protocol != NETLINK.NETFILTER:
        return _ROUTE.get(type, number) if protocol == NETLINK.ROUTE else number
    if (kind := kind_of(type, answer=answer)) is not None:
        return kind.name
    subsystem = type >> 8
    if subsystem >= NFNL_SUBSYS.COUNT:
        return number
    return f"NFNL_SUBSYS_{NFNL_SUBSYS(subsystem).name}<<8|{type & 0xFF}"


def _flags(flags: int, type: int, name: str) -> str:
    verb = _VERB.search(name)
    upper: tuple[str, ...] = ()
    if type in (ERROR, DONE):
        upper = _OF_AN_ACK
    elif verb is not None:
        upper = _OF_A[verb[1]]
    names: list[str] = []
    for flag in (*_ALWAYS, *upper):
        bits = int(NLM_F[flag])
        if flags & bits == bits:
            names.append(f"NLM_F_{flag}")
            flags &= ~bits
    if flags:
        names.append(f"{flags:#x}")
    return "|".join(names) or "0"


# What the kernel says of a request


@message
class _ExtendedAck:
    msg: str | None = attribute(NLMSGERR_ATTR.MSG, Text(MAX_PAYLOAD), default=None)
    offs: int | None = attribute(NLMSGERR_ATTR.OFFS, HOST_U32, default=None)
    """Counted from the request's header, as the dump of its bytes is."""
    cookie: bytes | None = attribute(NLMSGERR_ATTR.COOKIE, Bytes(20), default=None)
    miss_type: int | None = attribute(NLMSGERR_ATTR.MISS_TYPE, HOST_U32, default=None)
    miss_nest: int | None = attribute(NLMSGERR_ATTR.MISS_NEST, HOST_U32, default=None)


def _verdict(line: str, data: bytes, header: Message, protocol: int) -> Iterator[str]:
    """An error, an acknowledgement, or the end of a dump."""
    if len(data) < HEADER_SIZE + _ERRNO.size:
        yield line
        return
    (code,) = _ERRNO.unpack_from(data, HEADER_SIZE)
    yield f"{line} error={_errno(code)}"
    behind = HEADER_SIZE + _ERRNO.size
    if header.type == ERROR:
        if len(data) >= behind + HEADER_SIZE:
            size, kind, flags, seq, port = HEADER.unpack_from(data, behind)
            echoed = Message(kind, flags, seq, port, 0, 0)
            yield f"  of {_header(size, echoed, protocol, answer=False)}"
        behind = messages.extended_ack_start(data, header)
    if header.flags & NLM_F.ACK_TLVS:
        yield from tree(data, behind, len(data), schema_of(_ExtendedAck).root)


def _errno(code: int) -> str:
    name = errorcode.get(-code)
    return str(code) if name is None else f"-{name} ({os.strerror(-code)})"


# Bytes


def hexdump(data: bytes) -> Iterator[str]:
    """Sixteen bytes a line, with their offset and what of them is ASCII."""
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"  {start:04x}  {row[:8].hex(' '):23}  {row[8:].hex(' '):23}  |{text}|"
