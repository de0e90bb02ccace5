"""Messages of flows and of their events, to test what is read and written without the fields."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Any

from conntrack_aio import Flow
from conntrack_aio.codec.decoder import Decoder
from conntrack_aio.codec.messages import CT_DELETE, CT_NEW, decode_flow
from conntrack_aio.netlink import messages

from .attribute_encoding import attr, be8, be16, be32, be64, nest
from .captured import CAPTURED
from .codec_cases import BOTH_TUPLES, CASES, IP6
from .decoders import without_layouts

MULTI, CREATE = 0x2, 0x400


def message(attributes: bytes, message_type: int = CT_NEW, flags: int = MULTI) -> bytes:
    return messages.pack(message_type, flags, 1, b"\2\0\0\0" + attributes, 7)


def icmp(proto: int, *attributes: bytes) -> bytes:
    return nest(2, be8(1, proto), *attributes)


def both(ip: bytes, orig: bytes, reply: bytes) -> bytes:
    return nest(1, ip, orig) + nest(2, ip, reply)


def ipv6(src: str, dst: str) -> bytes:
    return nest(1, attr(3, IPv6Address(src).packed), attr(4, IPv6Address(dst).packed))


def has_layout(decoder: Decoder[Any], data: bytes) -> bool:
    """Return whether there is a layout for a message. Unusual unknown attributes prevent it."""
    decoder = without_layouts(decoder)
    decoder.one(data)
    return bool(decoder._layouts)


PING = icmp(1, be16(4, 5), be8(5, 8), be8(6, 0))
PONG = icmp(1, be16(4, 5), be8(5, 0), be8(6, 0))
PORTS = nest(2, be8(1, 17), be16(2, 53), be16(3, 53))
PAYLOADS = [
    BOTH_TUPLES + attr(99, b"\xff%s") + be32(3, 0),
    BOTH_TUPLES + nest(9, attr(1, b"\0\0\0\0\0\0\0\x07")),
    BOTH_TUPLES + be32(8, 0xFFFFFFFF) + attr(22, bytes(16)) + attr(22, b"\x81" + bytes(15)),
    BOTH_TUPLES + nest(5, attr(1, b'f\xfct%p"\\\n\0')) + nest(19, attr(1, "ä\u2028".encode())),
    BOTH_TUPLES + nest(5) + nest(4, nest(1, be8(1, 200))) + nest(10, be64(2, 9)),
    BOTH_TUPLES + nest(4, nest(3, be8(1, 3), be32(2, 1))) + be16(18, 0) + nest(14, PORTS, IP6),
    both(ipv6("::ffff:10.0.0.1", "::ffff:10.0.0.2"), PORTS, PORTS),
    both(ipv6("::ffff:10.0.0.1", "::1"), PORTS, PORTS) + be32(7, 5),
    both(nest(1, attr(1, b"\1\2\3\4"), attr(2, b"\1\2\3\4")), PING, PONG),
    both(nest(1, attr(1, b"\1\2\3\4"), attr(2, b"\1\2\3\4")), PING, PING),
    both(nest(1, attr(1, b"\1\2\3\4"), attr(2, b"\1\2\3\4")), icmp(1), icmp(1)),
    both(ipv6("fe80::1", "fe80::1"), icmp(58, be8(8, 128)), icmp(58, be8(8, 129))),
    both(ipv6("fe80::1", "fe80::1"), icmp(58, be16(7, 1)), icmp(58, be16(7, 1)) + be16(3, 4)),
    both(IP6, icmp(47, be16(2, 1), be16(3, 2)), icmp(47, be16(2, 2), be16(3, 1))),
    both(IP6, icmp(200), icmp(200)) + nest(14, IP6, icmp(58, be16(7, 1), be8(8, 128), be8(9, 0))),
]
FLOWS = [
    data
    for data in (
        *[capture.data for capture in CAPTURED if capture.event is None],
        *[message(case.data) for case in CASES if isinstance(case.object, Flow)],
        *[message(payload) for payload in PAYLOADS],
    )
    if has_layout(decode_flow, data)
]
EVENTS = [
    *[capture.data for capture in CAPTURED if capture.event is not None],
    *[message(payload, CT_NEW, flags) for payload in PAYLOADS for flags in (0, CREATE)],
    message(BOTH_TUPLES + be64(27, 1_700_000_000_123_456_789), CT_DELETE, 0),
    message(BOTH_TUPLES + be64(27, (1 << 64) - 1), CT_DELETE, 0),
]
