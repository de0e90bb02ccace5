"""Render messages as text: a line with the header, the attributes as a tree, and the bytes."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from errno import errorcode
from socket import AF_INET, AF_INET6, AF_UNSPEC
from typing import Final

from ..codec.catalog import message_info
from ..codec.schema import schema_of
from ..errors import DecodeError
from ..model.declare import attribute, message
from ..model.wire import HOST_U32, Bytes, Text
from ..netlink import messages, nfnetlink
from ..netlink.attributes import MAX_PAYLOAD
from ..netlink.messages import DONE, ERROR, HEADER, HEADER_SIZE, Message
from ..uapi.netlink import NETLINK, NLM_F, NLMSG, NLMSGERR_ATTR
from ..uapi.nfnetlink import NFNL_SUBSYS
from ..uapi.rtnetlink import RTM
from .tree import UNKNOWN, tree

_COMMON_FLAGS: Final = ("REQUEST", "MULTI", "ACK", "ECHO", "DUMP_INTR", "DUMP_FILTERED")
"""The flags that mean the same in every message."""

_ACK_FLAGS: Final = ("CAPPED", "ACK_TLVS")
"""The meaning of the upper flags in an acknowledgement."""

_FLAGS_BY_VERB: Final = {
    "GET": ("DUMP", "ROOT", "MATCH", "ATOMIC"),
    "NEW": ("REPLACE", "EXCL", "CREATE", "APPEND"),
    "SET": ("REPLACE", "EXCL", "CREATE", "APPEND"),
    "DEL": ("NONREC", "BULK"),
}
"""The meaning of the upper flags in other messages, by the verb in the name of the type."""

_VERB: Final = re.compile("_(GET|NEW|SET|DEL)")
_FAMILIES: Final = {int(family): family.name for family in (AF_UNSPEC, AF_INET, AF_INET6)}
_ROUTE_TYPES: Final = {int(number): f"RTM_{name}" for name, number in RTM.__members__.items()}
_CONTROL_TYPES: Final = {int(number): f"NLMSG_{number.name}" for number in NLMSG}
_ERRNO: Final = struct.Struct("=i")


def render(head: str, data: bytes, protocol: int, *, from_kernel: bool) -> Iterator[str]:
    """Yield the text of each message in a datagram.

    The function accepts any bytes: it terminates and raises nothing. Bytes that cannot be decoded
    are shown in hexadecimal.

    :param head: the text that each message's first line begins with.
    :param data: the datagram.
    :param protocol: the netlink protocol, such as ``NETLINK.NETFILTER``.
    :param from_kernel: whether the kernel sent the datagram. The same type can mean one message in
        a request and another in a reply.
    """
    next_start = 0
    try:
        for header in messages.walk(data, len(data)):
            start, end = header.start - HEADER_SIZE, header.end
            next_start = (end + 3) & ~3
            yield _message_text(head, data[start:end], header, protocol, from_kernel)
    except DecodeError as error:
        yield "\n".join([f"{head} {error}", *hexdump(data[next_start:])])
    if not data:
        yield f"{head} an empty datagram"


def _message_text(head: str, data: bytes, header: Message, protocol: int, from_kernel: bool) -> str:
    """Return the text of one message.

    :param head: the text that the first line begins with.
    :param data: the bytes of this message alone. The offsets in the hexadecimal dump then equal
        those in the kernel's error messages (``NLMSGERR_ATTR_OFFS``).
    :param header: the header of the message.
    :param protocol: the netlink protocol.
    :param from_kernel: whether the kernel sent the message.
    """
    header = header._replace(start=HEADER_SIZE, end=len(data))
    line = f"{head} {_header_text(len(data), header, protocol, from_kernel)}"
    if header.type in (ERROR, DONE):
        return "\n".join([*_acknowledgement_lines(line, data, header, protocol), *hexdump(data)])
    if protocol != NETLINK.NETFILTER or header.type < NLMSG.MIN_TYPE:
        return "\n".join([line, *hexdump(data)])
    try:
        family, version, resource = nfnetlink.parse(data, header)
    except DecodeError as error:
        return "\n".join([f"{line} ({error})", *hexdump(data)])
    line += f" family={_FAMILIES.get(family, family)} version={version} res_id={resource}"
    kind = message_info(header.type, from_kernel=from_kernel)
    schema = UNKNOWN if kind is None else kind.attributes
    attributes = tree(data, HEADER_SIZE + nfnetlink.SIZE, len(data), schema)
    return "\n".join([line, *attributes, *hexdump(data)])


def _header_text(size: int, header: Message, protocol: int, from_kernel: bool) -> str:
    """Return the fields of a message's ``struct nlmsghdr`` as text."""
    name = _type_name(header.type, protocol, from_kernel)
    return (
        f"len={size} type={name} flags={_flag_names(header.flags, header.type, name)} "
        f"seq={header.seq} pid={header.port}"
    )


def _type_name(type: int, protocol: int, from_kernel: bool) -> str:
    """Return the kernel's name of a message type, or its number if the name is not known."""
    number = f"{type:#x}"
    if type < NLMSG.MIN_TYPE:
        return _CONTROL_TYPES.get(type, number)
    if protocol != NETLINK.NETFILTER:
        return _ROUTE_TYPES.get(type, number) if protocol == NETLINK.ROUTE else number
    if (kind := message_info(type, from_kernel=from_kernel)) is not None:
        return kind.name
    subsystem = type >> 8
    if subsystem >= NFNL_SUBSYS.COUNT:
        return number
    return f"NFNL_SUBSYS_{NFNL_SUBSYS(subsystem).name}<<8|{type & 0xFF}"


def _flag_names(flags: int, type: int, name: str) -> str:
    """Return the names of a message's flags, joined by ``|``. Unknown flags are one number.

    :param flags: the flags in the header.
    :param type: the type in the header.
    :param name: the name of the type. Its verb decides what the upper flags mean.
    """
    verb = _VERB.search(name)
    upper: tuple[str, ...] = ()
    if type in (ERROR, DONE):
        upper = _ACK_FLAGS
    elif verb is not None:
        upper = _FLAGS_BY_VERB[verb[1]]
    names: list[str] = []
    for flag in (*_COMMON_FLAGS, *upper):
        bits = int(NLM_F[flag])
        if flags & bits == bits:
            names.append(f"NLM_F_{flag}")
            flags &= ~bits
    if flags:
        names.append(f"{flags:#x}")
    return "|".join(names) or "0"


# Acknowledgements, errors and ends of dumps


@message
class _ExtendedAck:
    """The attributes of an extended acknowledgement (``enum nlmsgerr_attrs``)."""

    msg: str | None = attribute(NLMSGERR_ATTR.MSG, Text(MAX_PAYLOAD), default=None)
    offs: int | None = attribute(NLMSGERR_ATTR.OFFS, HOST_U32, default=None)
    """The offset of the invalid attribute, in bytes from the start of the request's header."""
    cookie: bytes | None = attribute(NLMSGERR_ATTR.COOKIE, Bytes(20), default=None)
    miss_type: int | None = attribute(NLMSGERR_ATTR.MISS_TYPE, HOST_U32, default=None)
    miss_nest: int | None = attribute(NLMSGERR_ATTR.MISS_NEST, HOST_U32, default=None)


def _acknowledgement_lines(line: str, data: bytes, header: Message, protocol: int) -> Iterator[str]:
    """Yield the lines of an error, an acknowledgement, or the end of a dump.

    :param line: the first line up to the error code.
    :param data: the bytes of the message.
    :param header: its header.
    :param protocol: the netlink protocol.
    """
    if len(data) < HEADER_SIZE + _ERRNO.size:
        yield line
        return
    (code,) = _ERRNO.unpack_from(data, HEADER_SIZE)
    yield f"{line} error={_error_text(code)}"
    start = HEADER_SIZE + _ERRNO.size
    if header.type == ERROR:
        if len(data) >= start + HEADER_SIZE:
            size, kind, flags, seq, port = HEADER.unpack_from(data, start)
            request = Message(kind, flags, seq, port, 0, 0)
            yield f"  of {_header_text(size, request, protocol, from_kernel=False)}"
        start = messages.extended_ack_start(data, header)
    if header.flags & NLM_F.ACK_TLVS:
        yield from tree(data, start, len(data), schema_of(_ExtendedAck).root)


def _error_text(code: int) -> str:
    name = errorcode.get(-code)
    return str(code) if name is None else f"-{name} ({os.strerror(-code)})"


# Bytes


def hexdump(data: bytes) -> Iterator[str]:
    """Yield lines of sixteen bytes each: the offset, the bytes, and their printable ASCII."""
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"  {start:04x}  {row[:8].hex(' '):23}  {row[8:].hex(' '):23}  |{text}|"
