"""Invalid bytes and invalid values raise errors that name the attribute or the field."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import Any

import pytest
from support.attribute_encoding import with_values
from support.codec_cases import (
    A6,
    BOTH_TUPLES,
    IP4,
    TCP4,
    TCP4_PAYLOAD,
    TCP4_REPLY,
    attr,
    be8,
    be32,
    flow,
    nest,
)

from conntrack_aio import (
    DecodeError,
    EncodeError,
    Flow,
    FlowEvent,
    Helper,
    NATRange,
    SeqAdj,
    Status,
    TCPInfo,
    Tuple,
    UnknownAttribute,
)
from conntrack_aio.codec.event_messages import decode_event
from conntrack_aio.codec.messages import decode_flow
from conntrack_aio.codec.reference import decode, encode
from conntrack_aio.model.requests import RequestOnly
from conntrack_aio.netlink.messages import Message


def read(data: bytes) -> Flow:
    return decode(Flow, data, 0, len(data))


def raw(length: int, kind: int, payload: bytes = b"") -> bytes:
    """Return an attribute with any length in its header."""
    return struct.pack("=HH", length, kind) + payload


IP = ("CTA_TUPLE_ORIG", "CTA_TUPLE_IP")
REPLY = nest(2, TCP4_PAYLOAD)
IN6 = Tuple(src=A6, dst=A6, proto=6)


# Bytes


@pytest.mark.parametrize(
    ("data", "path"),
    [
        pytest.param(BOTH_TUPLES + raw(0, 8), "CTA_MARK", id="length 0"),
        pytest.param(BOTH_TUPLES + raw(3, 8), "CTA_MARK", id="length 3"),
        pytest.param(BOTH_TUPLES + raw(65535, 8, bytes(4)), "CTA_MARK", id="length 65535"),
        pytest.param(BOTH_TUPLES + raw(9, 8, bytes(4)), "CTA_MARK", id="a byte too long"),
        pytest.param(BOTH_TUPLES + raw(0, 99), "99", id="length 0, unknown"),
        pytest.param(BOTH_TUPLES + raw(0, 0x8008), "CTA_MARK", id="length 0, flagged as a nest"),
        pytest.param(BOTH_TUPLES + attr(8, b"\1"), "CTA_MARK", id="a mark of 1 byte"),
        pytest.param(BOTH_TUPLES + attr(8, bytes(3)), "CTA_MARK", id="a mark of 3 bytes"),
        pytest.param(BOTH_TUPLES + attr(18, b"\1"), "CTA_ZONE", id="a zone of 1 byte"),
        pytest.param(
            BOTH_TUPLES + attr(22, bytes(5)), "CTA_LABELS", id="labels that are not words"
        ),
        pytest.param(
            BOTH_TUPLES + nest(9, attr(1, bytes(4))),
            "CTA_COUNTERS_ORIG/CTA_COUNTERS_PACKETS",
            id="a counter of 4 bytes",
        ),
        pytest.param(
            BOTH_TUPLES + nest(4, nest(1, attr(4, b"\1"))),
            "CTA_PROTOINFO/CTA_PROTOINFO_TCP/CTA_PROTOINFO_TCP_FLAGS_ORIGINAL",
            id="flags without a mask",
        ),
        pytest.param(
            nest(1, nest(1, attr(1, bytes(3)))) + REPLY,
            "CTA_TUPLE_ORIG/CTA_TUPLE_IP/CTA_IP_V4_SRC",
            id="an address of 3 bytes",
        ),
        pytest.param(
            nest(1, nest(1, attr(3, bytes(15)))) + REPLY,
            "CTA_TUPLE_ORIG/CTA_TUPLE_IP/CTA_IP_V6_SRC",
            id="an address of 15 bytes",
        ),
        pytest.param(
            nest(1, nest(1, raw(9, 1, bytes(4)))) + REPLY,
            "CTA_TUPLE_ORIG/CTA_TUPLE_IP/CTA_IP_V4_SRC",
            id="longer than the nest around it",
        ),
        pytest.param(
            nest(1, nest(1, raw(0, 1))) + REPLY,
            "CTA_TUPLE_ORIG/CTA_TUPLE_IP/CTA_IP_V4_SRC",
            id="length 0, three deep",
        ),
        pytest.param(
            nest(1, raw(65535, 2)) + REPLY,
            "CTA_TUPLE_ORIG/CTA_TUPLE_PROTO",
            id="a nest of length 65535",
        ),
        pytest.param(
            nest(1, nest(1, raw(4, 1), b"\1\2\3")) + REPLY,
            "CTA_TUPLE_ORIG/CTA_TUPLE_IP",
            id="extra bytes inside a nest",
        ),
        pytest.param(REPLY + nest(1), "CTA_TUPLE_ORIG", id="an empty tuple"),
        pytest.param(REPLY + nest(1, IP4), "CTA_TUPLE_ORIG", id="a tuple without a protocol"),
        pytest.param(
            BOTH_TUPLES + nest(14, nest(2, be8(1, 6))),
            "CTA_TUPLE_MASTER",
            id="a master without addresses",
        ),
        pytest.param(
            nest(1, nest(1, attr(1, bytes(4)), attr(4, bytes(16))), nest(2, be8(1, 17))) + REPLY,
            "CTA_TUPLE_ORIG",
            id="an IPv4 and an IPv6 address",
        ),
        pytest.param(BOTH_TUPLES + b"\0", "", id="extra bytes"),
        pytest.param(b"", "", id="no attributes"),
        pytest.param(REPLY, "", id="one tuple"),
    ],
)
def test_decode_error_names_the_attribute(data: bytes, path: str) -> None:
    with pytest.raises(DecodeError) as caught:
        read(data)
    assert "/".join(caught.value.path) == path
    assert str(caught.value).startswith(path)


@pytest.mark.parametrize("offset", [1, 2, 3])
def test_misaligned_attributes_are_refused(offset: int) -> None:
    with pytest.raises(DecodeError):
        decode(Flow, BOTH_TUPLES, offset, len(BOTH_TUPLES))


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        pytest.param(be32(8, 1) + be32(8, 2), {"mark": 2}, id="repeated: the last counts"),
        pytest.param(be32(8, 1) + attr(8, b""), {"mark": 1}, id="empty: padding"),
        pytest.param(attr(3, b"") + be32(7, 5), {"status": None, "timeout": 5}, id="64-bit pad"),
        pytest.param(
            attr(4, attr(1, be8(1, 3))),
            {"protoinfo": TCPInfo(state=3)},
            id="nests without the flag",
        ),
        pytest.param(
            attr(5, attr(1, b"ftp")), {"helper": Helper(name="ftp")}, id="text without a NUL"
        ),
        pytest.param(attr(5, attr(1, b"")), {"helper": Helper(name="")}, id="an empty string"),
        pytest.param(
            attr(5, attr(1, b"ftp\0\0\0x")),
            {"helper": Helper(name="ftp")},
            id="bytes after the NUL",
        ),
        pytest.param(attr(8, be32(0, 1)[4:], 0xC000), {"mark": 1}, id="unexpected flags"),
        pytest.param(be32(8, 1)[:-4] + bytes(3) + b"\7", {"mark": 7}, id="the last unpadded"),
        pytest.param(attr(18, b"\0\7")[:-2], {"zone": 7}, id="without its padding"),
        pytest.param(nest(4), {"protoinfo": None}, id="an empty nest"),
        pytest.param(nest(4, nest(1)), {"protoinfo": TCPInfo()}, id="an empty object"),
        pytest.param(
            nest(4, nest(3), nest(1)), {"protoinfo": TCPInfo()}, id="two protocols: the last"
        ),
    ],
)
def test_values_are_read_as_the_kernel_reads_them(data: bytes, fields: dict[str, object]) -> None:
    assert read(BOTH_TUPLES + data) == flow(**fields)


@pytest.mark.parametrize(
    ("data", "unknown"),
    [
        pytest.param(attr(99, b"x"), UnknownAttribute((99,), b"x"), id="unknown"),
        pytest.param(
            nest(99, be8(1, 1)), UnknownAttribute((99,), be8(1, 1), True), id="unknown, a nest"
        ),
        pytest.param(attr(8, bytes(8)), UnknownAttribute((8,), bytes(8)), id="a mark of 8 bytes"),
        pytest.param(attr(18, bytes(3)), UnknownAttribute((18,), bytes(3)), id="a zone of 3"),
        pytest.param(attr(22, bytes(20)), UnknownAttribute((22,), bytes(20)), id="160 labels"),
        pytest.param(
            nest(5, attr(1, b"a" * 17)), UnknownAttribute((5, 1), b"a" * 17), id="a long name"
        ),
        pytest.param(nest(5, attr(2, b"a" * 33)), UnknownAttribute((5, 2), b"a" * 33), id="info"),
        pytest.param(be32(21, 5), UnknownAttribute((21,), b"\0\0\0\5"), id="of requests only"),
        pytest.param(be32(17, 5), UnknownAttribute((17,), b"\0\0\0\5"), id="obsolete"),
        pytest.param(nest(9, be32(3, 1)), UnknownAttribute((9, 3), b"\0\0\0\1"), id="32-bit count"),
        pytest.param(attr(99, b""), UnknownAttribute((99,), b""), id="empty: possibly a flag"),
        pytest.param(
            nest(9, attr(5, b"x")),
            UnknownAttribute((9, 5), b"x"),
            id="not empty, with the pad number",
        ),
        pytest.param(nest(4, be8(9, 1)), UnknownAttribute((4, 9), b"\1"), id="an unknown protocol"),
        pytest.param(attr(0, b"x"), UnknownAttribute((0,), b"x"), id="number 0"),
    ],
)
def test_unknown_attributes_are_kept_and_written_again(
    data: bytes, unknown: UnknownAttribute
) -> None:
    decoded = read(BOTH_TUPLES + data)
    assert decoded.unknown == (unknown,)
    assert encode(decoded) == BOTH_TUPLES + data


def test_a_value_survives_a_repeated_attribute_that_is_too_long() -> None:
    decoded = read(BOTH_TUPLES + be32(8, 1) + attr(8, bytes(8)))
    assert (decoded.mark, len(decoded.unknown)) == (1, 1)


def test_unknown_attributes_in_a_superseded_nest_are_kept() -> None:
    decoded = read(BOTH_TUPLES + nest(4, nest(3, be8(1, 1), attr(99, b"x")), nest(1, be8(1, 3))))
    assert decoded.protoinfo == TCPInfo(state=3)
    assert decoded.unknown == (UnknownAttribute((4, 3, 99), b"x"),)
    assert read(encode(decoded)) == decoded


def test_an_event_keeps_unknown_attributes_in_its_flow() -> None:
    data = BOTH_TUPLES + attr(99, b"x") + attr(27, bytes(9))
    event = decode(FlowEvent, data, 0, len(data), type=None, port_id=0)
    assert event.timestamp is None
    assert {unknown.path for unknown in event.flow.unknown} == {(99,), (27,)}
    assert encode(event) == data


def test_the_order_of_unknown_attributes_with_different_numbers_does_not_count() -> None:
    one, other = UnknownAttribute((1, 9), b""), UnknownAttribute((99,), b"")
    assert flow(unknown=(one, other)) == flow(unknown=(other, one))
    twice = UnknownAttribute((99,), b"2")
    assert flow(unknown=(other, twice)) != flow(unknown=(twice, other))


@pytest.mark.parametrize("decoder", [decode_flow, decode_event])
@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (0x100, b""),
        (0x100, b"\2\0\0"),
        (0x101, bytes(4) + BOTH_TUPLES),
        (0x200, bytes(4) + BOTH_TUPLES),
    ],
)
def test_messages_of_another_type_are_refused(decoder: Any, kind: int, payload: bytes) -> None:
    with pytest.raises(DecodeError):
        decoder(payload, Message(kind, 0, 0, 0, 0, len(payload)))


def test_a_destroy_event_is_not_read_as_an_entry() -> None:
    payload = bytes(4) + BOTH_TUPLES
    message = Message(0x102, 0, 0, 0, 0, len(payload))
    assert decode_event(payload, message).flow == flow()
    with pytest.raises(DecodeError, match="0x102"):
        decode_flow(payload, message)


# Values


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        (with_values(TCP4, sport=65536), "sport"),
        (with_values(TCP4, dport=-1), "dport"),
        (with_values(TCP4, proto=256), "proto"),
        (with_values(TCP4, sport="80"), "sport"),
        (with_values(TCP4, sport=80.0), "sport"),
        (with_values(TCP4, dst=A6), "dst"),
        (with_values(TCP4, src=A6), "dst"),
        (with_values(TCP4, src="10.0.0.1"), "dst"),
        (with_values(TCP4, src=None), "dst"),
        (with_values(TCP4, proto=None), "proto"),
        (with_values(TCP4, icmp_id=1), "icmp_id"),
        (with_values(TCP4, zone=65536), "zone"),
        (with_values(IN6, src=IPv6Address("fe80::1%eth0")), "src"),
        (flow(mark=1 << 32), "mark"),
        (flow(mark=-1), "mark"),
        (flow(mark=10**5000), "mark"),
        (flow(timeout=1 << 32), "timeout"),
        (flow(status=Status(1 << 32)), "status"),
        (flow(labels=1 << 128), "labels"),
        (flow(labels=-1), "labels"),
        (flow(labels=bytes(17)), "labels"),
        (flow(labels="1"), "labels"),
        (flow(helper=Helper(name="a" * 16)), "helper/name"),
        (flow(helper=Helper(name="a\0b")), "helper/name"),
        (flow(helper=Helper(name="\ud800")), "helper/name"),
        (flow(helper=Helper(info=bytes(33))), "helper/info"),
        (flow(helper="ftp"), "helper"),
        (flow(seqadj_orig=SeqAdj(offset_before=1 << 31)), "seqadj_orig/offset_before"),
        (flow(protoinfo=TCPInfo(state=256)), "protoinfo/state"),
        (flow(protoinfo=TCPInfo(flags_orig=256)), "protoinfo/flags_orig"),
        (flow(protoinfo=5), "protoinfo"),
        (flow(secctx="a" * 4096), "secctx"),
        (flow(master=with_values(TCP4, sport=65536)), "master/sport"),
        (Flow(orig=TCP4, reply=Tuple(src=A6, dst=A6, proto=6)), "reply"),
        (Flow(orig=TCP4, reply=with_values(TCP4_REPLY, proto=17)), "reply/proto"),
        (flow(unknown=(UnknownAttribute((), b""),)), "unknown"),
        (flow(unknown=(UnknownAttribute((0x4000,), b""),)), "unknown"),
        (flow(unknown=(UnknownAttribute((-1,), b""),)), "unknown"),
        (flow(unknown=(UnknownAttribute((99,), bytes(65532)),)), "unknown"),
        (flow(unknown=(UnknownAttribute((99, 1), b""),)), "unknown"),
        (flow(unknown=(UnknownAttribute((8, 1), b""),)), "unknown"),
        (flow(unknown=(UnknownAttribute((8,), bytes(4)),)), "unknown"),
        (flow(unknown=(UnknownAttribute((4,), bytes(4)),)), "unknown"),
        (flow(unknown=(UnknownAttribute((14, 9), b""),)), "unknown"),
        (flow(unknown=(UnknownAttribute((1, 9), bytes(65520)),)), "orig/unknown"),
        (NATRange(), ""),
        (RequestOnly(nat_src=NATRange.of(port=65536)), "nat_src/port_min"),
        (RequestOnly(nat_dst=NATRange(port_min=2, port_max=1)), "nat_dst/port_max"),
        (RequestOnly(mark_mask=1 << 32), "mark_mask"),
        (RequestOnly(labels_mask=1 << 128), "labels_mask"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_encode_error_names_the_field(obj: object, path: str) -> None:
    with pytest.raises(EncodeError) as caught:
        encode(obj)
    assert "/".join(caught.value.path) == path


@pytest.mark.parametrize("proto", [0, 6, 59])
def test_other_protocols_must_not_have_icmp_fields(proto: int) -> None:
    with pytest.raises(EncodeError, match=f"must be absent with proto {proto}"):
        encode(Tuple(src=TCP4.src, dst=TCP4.dst, proto=proto, icmp_id=1))
