"""Objects of the model and their encoded attributes, to test encoding and decoding.

The attributes are encoded without the library.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from conntrack_aio import (
    Counters,
    DCCPInfo,
    DCCPRole,
    DCCPState,
    EventType,
    Flow,
    FlowEvent,
    Helper,
    NATRange,
    SCTPInfo,
    SCTPState,
    SeqAdj,
    Status,
    SynProxy,
    TCPFlags,
    TCPInfo,
    TCPState,
    Timestamp,
    Tuple,
    UnknownAttribute,
)
from conntrack_aio.model.enums import Direction, ExpectFlags
from conntrack_aio.model.expectations import Expectation, ExpectEvent, ExpectNAT
from conntrack_aio.model.requests import ExpectRequestOnly, FilterFlags, RequestOnly
from conntrack_aio.model.statistics import CPUStatistics, ExpectCPUStatistics, TableStatistics
from conntrack_aio.netlink.exchange import Request

from .attribute_encoding import Case, attr, be8, be16, be32, be64, host32, nest
from .policy_cases import HELPERS, POLICIES


def pack_unsigned_longs(value: int) -> bytes:
    """Return a 128-bit bitmap as the kernel stores it.

    It is an array of ``unsigned long``, whose first element has the lowest bits.
    """
    size = struct.calcsize("l")
    words = [value >> 8 * size * i & (1 << 8 * size) - 1 for i in range(16 // size)]
    return struct.pack(f"={len(words)}{'Q' if size == 8 else 'I'}", *words)


A, B, C = (IPv4Address(f"10.0.0.{n}") for n in (1, 2, 3))
A6, B6 = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")
IP4 = nest(1, attr(1, bytes([10, 0, 0, 1])), attr(2, bytes([10, 0, 0, 2])))
IP4_REPLY = nest(1, attr(1, bytes([10, 0, 0, 2])), attr(2, bytes([10, 0, 0, 1])))
IP6 = nest(1, attr(3, A6.packed), attr(4, B6.packed))

TCP4 = Tuple(src=A, dst=B, proto=6, sport=1024, dport=80)
TCP4_REPLY = Tuple(src=B, dst=A, proto=6, sport=80, dport=1024)
TCP4_PAYLOAD = IP4 + nest(2, be8(1, 6), be16(2, 1024), be16(3, 80))
TCP4_REPLY_PAYLOAD = IP4_REPLY + nest(2, be8(1, 6), be16(2, 80), be16(3, 1024))
BOTH_TUPLES = nest(1, TCP4_PAYLOAD) + nest(2, TCP4_REPLY_PAYLOAD)
"""The two tuples that every flow has."""


def flow(**fields: object) -> Flow:
    return Flow(orig=TCP4, reply=TCP4_REPLY, **fields)  # type: ignore[arg-type]


EXPECTED4 = Tuple(src=A, dst=B, proto=6, sport=0, dport=2050)
EXPECTED4_PAYLOAD = IP4 + nest(2, be8(1, 6), be16(2, 0), be16(3, 2050))
MASK4 = Tuple(
    src=IPv4Address("255.255.255.255"),
    dst=IPv4Address("255.255.255.255"),
    proto=6,
    sport=0,
    dport=0xFFFF,
)
MASK4_PAYLOAD = nest(1, attr(1, b"\xff" * 4), attr(2, b"\xff" * 4)) + nest(
    2, be8(1, 6), be16(2, 0), be16(3, 0xFFFF)
)
EXPECTATION_TUPLES = nest(1, TCP4_PAYLOAD) + nest(2, EXPECTED4_PAYLOAD) + nest(3, MASK4_PAYLOAD)
"""The master, the tuple and the mask of an expectation, which accepts any source port."""


def expectation(**fields: object) -> Expectation:
    return Expectation(master=TCP4, tuple=EXPECTED4, mask=MASK4, **fields)  # type: ignore[arg-type]


def check_request(request: Request, kind: int, flags: int, family: int, attributes: bytes) -> None:
    """Check the type, the flags and the payload of a request."""
    assert (request.type, request.flags) == (kind, flags)
    assert request.payload == struct.pack(">BBH", family, 0, 0) + attributes


TUPLES = [
    Case("tcp over ipv4", TCP4, TCP4_PAYLOAD),
    Case(
        "udp over ipv6",
        Tuple(src=A6, dst=B6, proto=17, sport=0, dport=65535),
        IP6 + nest(2, be8(1, 17), be16(2, 0), be16(3, 65535)),
    ),
    Case(
        "icmp",
        Tuple(src=A, dst=B, proto=1, icmp_id=0x1234, icmp_type=8, icmp_code=3),
        IP4 + nest(2, be8(1, 1), be16(4, 0x1234), be8(5, 8), be8(6, 3)),
    ),
    Case(
        "icmp, all zero",
        Tuple(src=A, dst=B, proto=1, icmp_id=0, icmp_type=0, icmp_code=0),
        IP4 + nest(2, be8(1, 1), be16(4, 0), be8(5, 0), be8(6, 0)),
    ),
    Case(
        "icmpv6",
        Tuple(src=A6, dst=B6, proto=58, icmp_id=0xFFFF, icmp_type=128, icmp_code=255),
        IP6 + nest(2, be8(1, 58), be16(7, 0xFFFF), be8(8, 128), be8(9, 255)),
    ),
    Case(
        "gre, with keys as ports",
        Tuple(src=A, dst=B, proto=47, sport=0x10, dport=0x20),
        IP4 + nest(2, be8(1, 47), be16(2, 0x10), be16(3, 0x20)),
    ),
    Case("a protocol without ports", Tuple(src=A, dst=B, proto=50), IP4 + nest(2, be8(1, 50))),
    Case("protocol 0", Tuple(src=A, dst=B, proto=0), IP4 + nest(2, be8(1, 0))),
    Case(
        "a zone of one direction",
        Tuple(src=A, dst=B, proto=50, zone=7),
        IP4 + nest(2, be8(1, 50)) + be16(3, 7),
    ),
    Case(
        "zone 0 of one direction",
        Tuple(src=A, dst=B, proto=50, zone=0),
        IP4 + nest(2, be8(1, 50)) + be16(3, 0),
    ),
]

PROTOINFOS = [
    Case("tcp: absent", TCPInfo(), b""),
    Case(
        "tcp: all",
        TCPInfo(
            state=TCPState.ESTABLISHED,
            wscale_orig=14,
            wscale_reply=7,
            flags_orig=TCPFlags.WINDOW_SCALE | TCPFlags.BE_LIBERAL,
            flags_reply=TCPFlags(0xFF),
        ),
        be8(1, 3) + be8(2, 14) + be8(3, 7) + attr(4, b"\x09\xff") + attr(5, b"\xff\xff"),
    ),
    Case(
        "tcp: zeros",
        TCPInfo(
            state=TCPState.NONE,
            wscale_orig=0,
            wscale_reply=0,
            flags_orig=TCPFlags(0),
            flags_reply=TCPFlags(0),
        ),
        be8(1, 0) + be8(2, 0) + be8(3, 0) + attr(4, b"\x00\xff") + attr(5, b"\x00\xff"),
    ),
    Case("tcp: an unknown state", TCPInfo(state=200), be8(1, 200)),
    Case(
        "sctp",
        SCTPInfo(state=SCTPState.ESTABLISHED, vtag_orig=1, vtag_reply=0xFFFFFFFF),
        be8(1, 4) + be32(2, 1) + be32(3, 0xFFFFFFFF),
    ),
    Case(
        "dccp",
        DCCPInfo(state=DCCPState.OPEN, role=DCCPRole.SERVER, handshake_seq=(1 << 48) - 1),
        be8(1, 4) + be8(2, 1) + be64(3, (1 << 48) - 1),
    ),
]

FLOWS = [
    Case("only the tuples", flow(), BOTH_TUPLES),
    Case(
        "numbers",
        flow(
            status=Status.SEEN_REPLY | Status.CONFIRMED,
            timeout=431999,
            mark=0xDEADBEEF,
            zone=65535,
            id=0x01020304,
            use=2,
        ),
        BOTH_TUPLES
        + be32(3, 0x0A)
        + be32(7, 431999)
        + be32(8, 0xDEADBEEF)
        + be16(18, 65535)
        + be32(12, 0x01020304)
        + be32(11, 2),
    ),
    Case(
        "zero values",
        flow(status=Status(0), timeout=0, mark=0, zone=0, id=0, use=0, labels=0, secctx=""),
        BOTH_TUPLES
        + be32(3, 0)
        + be32(7, 0)
        + be32(8, 0)
        + be16(18, 0)
        + be32(12, 0)
        + be32(11, 0)
        + attr(22, bytes(16))
        + nest(19, attr(1, b"\0")),
    ),
    Case(
        "unknown status bits",
        flow(status=Status(0x80010008)),
        BOTH_TUPLES + be32(3, 0x80010008),
    ),
    Case("a master", flow(master=TCP4), BOTH_TUPLES + nest(14, TCP4_PAYLOAD)),
    *(
        Case(
            f"protoinfo {number}",
            flow(protoinfo=known),
            BOTH_TUPLES + nest(4, nest(number, be8(1, 1))),
        )
        for number, known in (
            (1, TCPInfo(state=TCPState.SYN_SENT)),
            (2, DCCPInfo(state=DCCPState.REQUEST)),
            (3, SCTPInfo(state=SCTPState.CLOSED)),
        )
    ),
    Case(
        "counters",
        flow(
            counters_orig=Counters(packets=0, bytes=(1 << 64) - 1),
            counters_reply=Counters(packets=1 << 32),
        ),
        BOTH_TUPLES + nest(9, be64(1, 0), be64(2, (1 << 64) - 1)) + nest(10, be64(1, 1 << 32)),
    ),
    Case("empty counters", flow(counters_orig=Counters()), BOTH_TUPLES + nest(9)),
    Case(
        "timestamps",
        flow(timestamp=Timestamp(start=1, stop=(1 << 64) - 1)),
        BOTH_TUPLES + nest(20, be64(1, 1), be64(2, (1 << 64) - 1)),
    ),
    Case(
        "a helper with data",
        flow(helper=Helper(name="ftp", info=bytes(range(32)))),
        BOTH_TUPLES + nest(5, attr(1, b"ftp\0"), attr(2, bytes(range(32)))),
    ),
    Case("an empty helper", flow(helper=Helper(name="")), BOTH_TUPLES + nest(5, attr(1, b"\0"))),
    Case(
        "a helper that is not UTF-8",
        flow(helper=Helper(name="\udcff")),
        BOTH_TUPLES + nest(5, attr(1, b"\xff\0")),
    ),
    Case(
        "labels 0, 63, 64 and 127",
        flow(labels=1 | 1 << 63 | 1 << 64 | 1 << 127),
        BOTH_TUPLES + attr(22, pack_unsigned_longs(1 | 1 << 63 | 1 << 64 | 1 << 127)),
    ),
    Case(
        "sequence adjustment",
        flow(
            seqadj_orig=SeqAdj(correction_pos=0xFFFFFFFF, offset_before=-1, offset_after=0),
            seqadj_reply=SeqAdj(offset_before=-(1 << 31), offset_after=(1 << 31) - 1),
        ),
        BOTH_TUPLES
        + nest(15, be32(1, 0xFFFFFFFF), be32(2, 0xFFFFFFFF), be32(3, 0))
        + nest(16, be32(2, 0x80000000), be32(3, 0x7FFFFFFF)),
    ),
    Case(
        "syn proxy",
        flow(synproxy=SynProxy(isn=1, its=0, tsoff=0xFFFFFFFF)),
        BOTH_TUPLES + nest(24, be32(1, 1), be32(2, 0), be32(3, 0xFFFFFFFF)),
    ),
    Case("security context", flow(secctx="u:r:t"), BOTH_TUPLES + nest(19, attr(1, b"u:r:t\0"))),
    Case(
        "unknown attributes at every depth",
        flow(
            status=Status(0),
            counters_orig=Counters(packets=1),
            protoinfo=TCPInfo(),
            unknown=(
                UnknownAttribute((1, 1, 77), b"\x01"),
                UnknownAttribute((1, 2, 78), b"", nested=True),
                UnknownAttribute((1, 79), b"two"),
                UnknownAttribute((4, 1, 80), b"\x03"),
                UnknownAttribute((9, 6), b""),
                UnknownAttribute((3,), bytes(8)),
                UnknownAttribute((16383,), b"end"),
            ),
        ),
        nest(
            1,
            nest(1, attr(1, A.packed), attr(2, B.packed), attr(77, b"\x01")),
            nest(2, be8(1, 6), be16(2, 1024), be16(3, 80), nest(78)),
            attr(79, b"two"),
        )
        + nest(2, TCP4_REPLY_PAYLOAD)
        + be32(3, 0)
        + nest(4, nest(1, attr(80, b"\x03")))
        + nest(9, be64(1, 1), attr(6, b""))
        + attr(3, bytes(8))
        + attr(16383, b"end"),
    ),
]

REQUESTS = [
    Case(
        "nat to one ipv4 address",
        RequestOnly(nat_src=NATRange.of("10.0.0.3")),
        nest(6, attr(1, C.packed)),
    ),
    Case(
        "nat to a range of addresses and ports",
        RequestOnly(
            nat_dst=NATRange(address_min=A, address_max=C, port_min=0, port_max=65535),
        ),
        nest(13, attr(1, A.packed), attr(2, C.packed), nest(3, be16(1, 0), be16(2, 65535))),
    ),
    Case(
        "nat to ipv6 addresses",
        RequestOnly(nat_src=NATRange(address_min=A6, address_max=B6)),
        nest(6, attr(4, A6.packed), attr(5, B6.packed)),
    ),
    Case("nat of the port", NATRange.of(port=99), nest(3, be16(1, 99))),
    Case(
        "masks",
        RequestOnly(mark_mask=0xFF, labels_mask=1 << 127 | 2, status_mask=0x80000000),
        be32(21, 0xFF) + attr(23, pack_unsigned_longs(1 << 127 | 2)) + be32(26, 0x80000000),
    ),
    Case("masks of zero", RequestOnly(mark_mask=0), be32(21, 0)),
    Case(
        "a filter, in host byte order",
        RequestOnly(filter=FilterFlags(orig_flags=0x3B, reply_flags=0x09)),
        nest(25, host32(1, 0x3B), host32(2, 0x09)),
    ),
]

EXPECTATIONS = [
    Case("only an expectation's tuples", expectation(), EXPECTATION_TUPLES),
    Case(
        "an expectation",
        expectation(
            timeout=300,
            id=0x01020304,
            helper="ftp",
            flags=ExpectFlags.PERMANENT | ExpectFlags.USERSPACE,
            expect_class=1,
            function="nat-follow-master",
        ),
        EXPECTATION_TUPLES
        + be32(4, 300)
        + be32(5, 0x01020304)
        + attr(6, b"ftp\0")
        + be32(8, 5)
        + be32(9, 1)
        + attr(11, b"nat-follow-master\0"),
    ),
    Case(
        "an expectation's zeros",
        expectation(timeout=0, id=0, helper="", flags=ExpectFlags(0), expect_class=0, function=""),
        EXPECTATION_TUPLES
        + be32(4, 0)
        + be32(5, 0)
        + attr(6, b"\0")
        + be32(8, 0)
        + be32(9, 0)
        + attr(11, b"\0"),
    ),
    Case(
        "unknown flags of an expectation",
        expectation(flags=ExpectFlags(0x80000008)),
        EXPECTATION_TUPLES + be32(8, 0x80000008),
    ),
    Case(
        "an expectation's translation",
        expectation(nat=ExpectNAT(direction=Direction.REPLY, tuple=TCP4)),
        EXPECTATION_TUPLES + nest(10, be32(1, 1), nest(2, TCP4_PAYLOAD)),
    ),
    Case(
        "a translation in an unknown direction",
        ExpectNAT(direction=2, tuple=TCP4),
        be32(1, 2) + nest(2, TCP4_PAYLOAD),
    ),
    Case(
        "an expectation's unknown attributes",
        expectation(unknown=(UnknownAttribute((2, 9), b"1"), UnknownAttribute((12,), b"two"))),
        nest(1, TCP4_PAYLOAD)
        + nest(2, EXPECTED4_PAYLOAD, attr(9, b"1"))
        + nest(3, MASK4_PAYLOAD)
        + attr(12, b"two"),
    ),
    Case("an expectation's zone", ExpectRequestOnly(zone=65535), be16(7, 65535)),
    Case("an expectation's zone 0", ExpectRequestOnly(zone=0), be16(7, 0)),
]

MESSAGES = [
    Case(
        "an event with a timestamp",
        FlowEvent(type=EventType.NEW, flow=flow(mark=1), port_id=5, timestamp=1 << 60),
        BOTH_TUPLES + be32(8, 1) + be64(27, 1 << 60),
        {"type": EventType.NEW, "port_id": 5},
    ),
    Case(
        "an event of an expectation",
        ExpectEvent(type=EventType.DESTROY, expectation=expectation(id=7), port_id=5),
        EXPECTATION_TUPLES + be32(5, 7),
        {"type": EventType.DESTROY, "port_id": 5},
    ),
    Case(
        "a processor's statistics of expectations",
        ExpectCPUStatistics(cpu=3, new=0, create=1, delete=0xFFFFFFFF),
        be32(1, 0) + be32(2, 1) + be32(3, 0xFFFFFFFF),
        {"cpu": 3},
    ),
    Case("statistics", TableStatistics(entries=0, max_entries=9), be32(1, 0) + be32(2, 9)),
    Case(
        "a processor's statistics in Linux 6.18",
        CPUStatistics(
            cpu=3,
            found=1,
            invalid=2,
            insert=3,
            insert_failed=4,
            drop=5,
            early_drop=6,
            error=7,
            search_restart=8,
            clash_resolve=9,
            chain_toolong=10,
        ),
        b"".join(map(be32, (2, 4, 8, 9, 10, 11, 12, 13, 14, 15), range(1, 11))),
        {"cpu": 3},
    ),
    Case(
        "a processor's statistics that kernels no longer send",
        CPUStatistics(cpu=0, ignore=1, searched=2, new=3, delete=4, delete_list=5),
        b"".join(map(be32, (5, 1, 3, 6, 7), range(1, 6))),
        {"cpu": 0},
    ),
]

CASES = [*TUPLES, *PROTOINFOS, *FLOWS, *REQUESTS, *EXPECTATIONS, *MESSAGES, *POLICIES, *HELPERS]
