"""Build requests of ctnetlink and read the replies without the library's encoder and decoder.

Tests use it for requests that the library never sends.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import ip_address
from typing import NamedTuple

from conntrack_aio.netlink import messages, nfnetlink
from conntrack_aio.netlink.attributes import pack, pack_be32, pack_nest, walk
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.uapi.nfnetlink_conntrack import CTA, CTA_IP, CTA_PROTO, CTA_TUPLE

NEW, GET, DELETE, GET_CTRZERO, GET_STATS_CPU, GET_STATS = range(0x100, 0x106)
REQUEST, ACK, ECHO, DUMP, EXCL, CREATE = 1, 4, 8, 0x300, 0x200, 0x400


class RawReply(NamedTuple):
    """A message that the kernel sent, or the error of a read."""

    type: int
    flags: int
    seq: int
    port_id: int
    groups: int
    code: int | None
    """The errno of an NLMSG_ERROR, 0 of an acknowledgement, ``None`` of other messages."""
    detail: str | None
    """The text of the extended acknowledgement."""
    offset: int | None
    """The offset of the invalid attribute, from the extended acknowledgement."""
    payload: bytes
    """The payload; of an NLMSG_ERROR, the header of the request that it repeats."""


def be16(number: int, value: int) -> bytes:
    return pack(number, struct.pack("!H", value))


def be8(number: int, value: int) -> bytes:
    return pack(number, bytes([value]))


def addresses(source: str, destination: str) -> bytes:
    """Return the attribute ``CTA_TUPLE_IP``."""
    src, dst = ip_address(source), ip_address(destination)
    numbers = (CTA_IP.V4_SRC, CTA_IP.V4_DST) if src.version == 4 else (CTA_IP.V6_SRC, CTA_IP.V6_DST)
    return pack_nest(CTA_TUPLE.IP, pack(numbers[0], src.packed), pack(numbers[1], dst.packed))


def ports(proto: int, sport: int | None = None, dport: int | None = None) -> bytes:
    """Return the attribute ``CTA_TUPLE_PROTO``."""
    parts = [be8(CTA_PROTO.NUM, proto)]
    if sport is not None:
        parts.append(be16(CTA_PROTO.SRC_PORT, sport))
    if dport is not None:
        parts.append(be16(CTA_PROTO.DST_PORT, dport))
    return pack_nest(CTA_TUPLE.PROTO, *parts)


def request(
    kind: int,
    *attributes: bytes,
    flags: int = REQUEST | ACK,
    seq: int = 1,
    family: int = 2,
    version: int = 0,
) -> bytes:
    """Return the message of one request."""
    payload = nfnetlink.pack(family, version) + b"".join(attributes)
    return messages.pack(kind, flags, seq, payload)


def read_replies(socket: NetlinkSocket) -> list[RawReply]:
    """Read all waiting messages. A failed read gives a reply with its errno as the code."""
    replies: list[RawReply] = []
    while True:
        try:
            size, sender = socket.raw.recvfrom_into(memoryview(socket.buffer), 65536, 0x20)
        except BlockingIOError:
            return replies
        except OSError as error:
            replies.append(RawReply(0, 0, 0, 0, 0, error.errno, None, None, b""))
            continue
        for message in messages.walk(socket.buffer, size):
            replies.append(_to_reply(socket, message, sender[1]))


def _to_reply(socket: NetlinkSocket, message: messages.Message, groups: int) -> RawReply:
    kind, flags, seq, port_id, start, end = message
    payload = bytes(socket.buffer[start:end])
    if kind != messages.ERROR:
        return RawReply(kind, flags, seq, port_id, groups, None, None, None, payload)
    failure = messages.parse_error(socket.buffer, message)
    return RawReply(kind, flags, seq, port_id, groups, *failure[:3], payload[4:20])


def exchange(socket: NetlinkSocket, *requests: bytes) -> list[RawReply]:
    """Send requests as one datagram, and return all messages that the kernel sends back."""
    socket.send(b"".join(requests))
    return read_replies(socket)


def attributes_by_number(payload: bytes) -> dict[int, bytes]:
    """Return the payloads of the top-level attributes by their numbers."""
    return {number: payload[start:end] for number, _, start, end in walk(payload, 4, len(payload))}


def error_codes(replies: Iterable[RawReply]) -> list[int | None]:
    """Return the codes of the acknowledgements and errors among the replies."""
    return [reply.code for reply in replies if reply.code is not None]


__all__ = [
    "ACK",
    "CREATE",
    "CTA",
    "DELETE",
    "DUMP",
    "ECHO",
    "EXCL",
    "GET",
    "GET_CTRZERO",
    "GET_STATS",
    "GET_STATS_CPU",
    "NEW",
    "REQUEST",
    "RawReply",
    "addresses",
    "exchange",
    "be16",
    "be8",
    "error_codes",
    "attributes_by_number",
    "pack",
    "pack_be32",
    "pack_nest",
    "ports",
    "read_replies",
    "request",
]
