"""Test the text of messages, of each kind, and of bytes that are not a message."""

from __future__ import annotations

import re
import struct

import pytest
from support.attribute_encoding import Captured
from support.captured import CAPTURED, EXPECTATIONS, STATISTICS
from support.codec_cases import (
    BOTH_TUPLES,
    CASES,
    Case,
    attr,
    be8,
    be16,
    be32,
    host32,
    nest,
    pack_unsigned_longs,
)
from support.hexdumps import HEXDUMP_LINE, parse_hexdump

from conntrack_aio import Flow, FlowEvent
from conntrack_aio.codec.catalog import message_info
from conntrack_aio.codec.requests import flows as requests
from conntrack_aio.codec.requests import helpers
from conntrack_aio.codec.requests.statistics import table_statistics
from conntrack_aio.codec.schema import Branch, Leaf, schema_of
from conntrack_aio.model.expectations import Expectation, ExpectEvent
from conntrack_aio.model.requests import ExpectRequestOnly, Masked, RequestOnly, Selection
from conntrack_aio.netlink import attributes, messages
from conntrack_aio.netlink.exchange import DumpExchange, Request
from conntrack_aio.trace.message import hexdump, render
from conntrack_aio.uapi.netlink import NETLINK
from conntrack_aio.uapi.nfnetlink import NFNL_SUBSYS
from conntrack_aio.uapi.nfnetlink_conntrack import IPCTNL_MSG_CT

FLOW = Flow.udp("10.0.0.1", 1024, "10.0.0.2", 53, timeout=30)
UDP4 = """
  CTA_TUPLE_ORIG
    CTA_TUPLE_IP
      CTA_IP_V4_SRC 10.0.0.1
      CTA_IP_V4_DST 10.0.0.2
    CTA_TUPLE_PROTO
      CTA_PROTO_NUM 17
      CTA_PROTO_SRC_PORT 1024
      CTA_PROTO_DST_PORT 53
"""
UDP4_REPLY = """
  CTA_TUPLE_REPLY
    CTA_TUPLE_IP
      CTA_IP_V4_SRC 10.0.0.2
      CTA_IP_V4_DST 10.0.0.1
    CTA_TUPLE_PROTO
      CTA_PROTO_NUM 17
      CTA_PROTO_SRC_PORT 53
      CTA_PROTO_DST_PORT 1024
"""


def shown(
    data: bytes, *, from_kernel: bool = False, protocol: int = NETLINK.NETFILTER
) -> list[list[str]]:
    """Return the lines of each message without the dump of its bytes.

    This function checks that the dumps have all bytes of the datagram.
    """
    texts: list[list[str]] = []
    rest = data
    for text in render(">", data, protocol, from_kernel=from_kernel):
        lines = text.splitlines()
        texts.append([line for line in lines if not HEXDUMP_LINE.fullmatch(line)])
        dumped = parse_hexdump(lines)
        assert rest.startswith(dumped)
        rest = rest[(len(dumped) + 3) & ~3 :]
    assert rest == b""
    return texts


def single(
    data: bytes, *, from_kernel: bool = False, protocol: int = NETLINK.NETFILTER
) -> list[str]:
    """Return the lines of a datagram that is one message."""
    (lines,) = shown(data, from_kernel=from_kernel, protocol=protocol)
    return lines


def lines_of(*texts: str) -> list[str]:
    return [line for text in texts for line in text.strip("\n").splitlines()]


def packed(kind: int, inside: bytes = b"", flags: int = 0, seq: int = 7, port_id: int = 0) -> bytes:
    return messages.pack(kind, flags, seq, inside, port_id)


def entry(inside: bytes, kind: int = 0x100, flags: int = 0) -> bytes:
    """Return a message with an nfgenmsg of IPv4."""
    return packed(kind, b"\x02\0\0\0" + inside, flags)


# Requests


def test_the_protocol_of_a_timeout_policy_determines_the_names_of_its_timeouts() -> None:
    """The protocol may follow the timeouts. For an unknown protocol they have no names."""
    timeouts = nest(4, be32(1, 30))
    for protocol, inside in (
        (b"\x11", ["  CTA_TIMEOUT_DATA", "    CTA_TIMEOUT_UDP_UNREPLIED 30 (0x1e)"]),
        (b"\x06", ["  CTA_TIMEOUT_DATA", "    CTA_TIMEOUT_TCP_SYN_SENT 30 (0x1e)"]),
        (b"\xc8", ["  CTA_TIMEOUT_DATA", "    1 0x0000001e"]),
        (b"\x11\x11", ["  CTA_TIMEOUT_DATA", "    1 0x0000001e"]),
    ):
        for data in (attr(3, protocol) + timeouts, timeouts + attr(3, protocol)):
            (line, *lines) = single(packed(0x800, bytes(4) + data), from_kernel=True)
            assert " type=IPCTNL_MSG_TIMEOUT_NEW " in line
            assert [line for line in lines if "L4PROTO" not in line] == inside
    cut = attr(3, b"\x11") + timeouts + b"\1"
    assert "CTA_TIMEOUT_UDP_UNREPLIED" in "".join(single(packed(0x800, bytes(4) + cut)))


def test_requests_about_helpers_have_names() -> None:
    (_, *lines) = single(helpers.delete(helpers.HelperKey("ftp", 2, 6)).pack(5))
    assert lines == [
        "  NFCTH_NAME 'ftp'",
        "  NFCTH_TUPLE",
        "    NFCTH_TUPLE_L3PROTONUM 2",
        "    NFCTH_TUPLE_L4PROTONUM 6",
    ]


@pytest.mark.parametrize(
    ("request_", "line", "inside"),
    [
        (
            requests.get(FLOW.orig),
            "> len=72 type=IPCTNL_MSG_CT_GET flags=NLM_F_REQUEST|NLM_F_ACK seq=5 pid=0 "
            "family=AF_INET version=0 res_id=0",
            [UDP4],
        ),
        (
            requests.delete(FLOW.orig, zone=7),
            "> len=80 type=IPCTNL_MSG_CT_DELETE flags=NLM_F_REQUEST|NLM_F_ACK seq=5 pid=0 "
            "family=AF_INET version=0 res_id=0",
            [UDP4, "  CTA_ZONE 7"],
        ),
        (
            requests.create(FLOW, nat_src="10.0.0.9"),
            "> len=144 type=IPCTNL_MSG_CT_NEW "
            "flags=NLM_F_REQUEST|NLM_F_ACK|NLM_F_EXCL|NLM_F_CREATE seq=5 pid=0 "
            "family=AF_INET version=0 res_id=0",
            [
                UDP4,
                UDP4_REPLY,
                "  CTA_TIMEOUT 30 (0x1e)",
                "  CTA_NAT_SRC\n    CTA_NAT_V4_MINIP 10.0.0.9",
            ],
        ),
        (
            requests.update(FLOW.orig, {"mark": 1, "mark_mask": 255, "labels": 5}),
            "> len=108 type=IPCTNL_MSG_CT_NEW flags=NLM_F_REQUEST|NLM_F_ACK seq=5 pid=0 "
            "family=AF_INET version=0 res_id=0",
            [
                UDP4,
                "  CTA_MARK 1",
                "  CTA_LABELS bits [0, 2]",
                "  CTA_MARK_MASK 255 (0xff)",
            ],
        ),
        (
            requests.flush(),
            "> len=20 type=IPCTNL_MSG_CT_DELETE flags=NLM_F_REQUEST|NLM_F_ACK seq=5 pid=0 "
            "family=AF_UNSPEC version=0 res_id=0",
            [],
        ),
        (
            table_statistics(),
            "> len=20 type=IPCTNL_MSG_CT_GET_STATS flags=NLM_F_REQUEST|NLM_F_ACK seq=5 pid=0 "
            "family=AF_UNSPEC version=0 res_id=0",
            [],
        ),
    ],
    ids=str,
)
def test_a_request_is_shown_with_its_attributes(
    request_: Request, line: str, inside: list[str]
) -> None:
    assert single(request_.pack(5)) == [line, *lines_of(*inside)]


def test_a_dump_request_is_shown_with_its_filter() -> None:
    dump = DumpExchange(requests.dump(Selection(family=10, mark=Masked(2, 3))), seq=1)
    assert single(dump.data) == [
        "> len=36 type=IPCTNL_MSG_CT_GET flags=NLM_F_REQUEST|NLM_F_ACK|NLM_F_DUMP seq=1 pid=0 "
        "family=AF_INET6 version=0 res_id=0",
        "  CTA_MARK 2",
        "  CTA_MARK_MASK 3",
    ]


def test_several_requests_of_a_datagram_are_shown_apart() -> None:
    data = b"".join(requests.get(FLOW.orig).pack(seq) for seq in (1, 2, 3))
    assert [lines[0].split()[4] for lines in shown(data)] == ["seq=1", "seq=2", "seq=3"]


# Messages of the kernel


def test_values_of_every_type_are_readable() -> None:
    data = entry(
        be32(3, 0x8000000E)
        + nest(4, nest(1, be8(1, 3), attr(4, b"\x09\x00"), attr(5, b"\x80\xff"), be8(2, 200)))
        + nest(5, attr(1, b"f'tp\xff\0"), attr(2, b"\x00\x01"))
        + nest(9, struct.pack("=HH", 12, 1) + struct.pack(">Q", 1 << 63))
        + be32(12, 0xDEADBEEF)
        + nest(15, be32(2, 0xFFFFFFFF))
        + attr(22, pack_unsigned_longs(1 << 127)),
        flags=0x22,
    )
    assert single(data, from_kernel=True)[1:] == [
        "  CTA_STATUS SEEN_REPLY|ASSURED|CONFIRMED|0x80000000",
        "  CTA_PROTOINFO",
        "    CTA_PROTOINFO_TCP",
        "      CTA_PROTOINFO_TCP_STATE ESTABLISHED (3)",
        "      CTA_PROTOINFO_TCP_FLAGS_ORIGINAL WINDOW_SCALE|BE_LIBERAL mask 0x00",
        "      CTA_PROTOINFO_TCP_FLAGS_REPLY SIMULTANEOUS_OPEN mask 0xff",
        "      CTA_PROTOINFO_TCP_WSCALE_ORIGINAL 200",
        "  CTA_HELP",
        '    CTA_HELP_NAME "f\'tp\\udcff"',
        "    CTA_HELP_INFO 0x0001",
        "  CTA_COUNTERS_ORIG",
        "    CTA_COUNTERS_PACKETS 9223372036854775808 (0x8000000000000000)",
        "  CTA_ID 3735928559 (0xdeadbeef)",
        "  CTA_SEQ_ADJ_ORIG",
        "    CTA_SEQADJ_OFFSET_BEFORE -1",
        "  CTA_LABELS bits [127]",
    ]


@pytest.mark.parametrize("capture", [*CAPTURED, *EXPECTATIONS], ids=lambda capture: capture.name)
def test_captured_messages_are_decoded_completely(capture: Captured) -> None:
    lines = single(capture.data, from_kernel=True)
    assert "family=AF_INET" in lines[0]
    text = "\n".join(lines[1:])
    assert "!" not in text
    assert "expected" not in text
    for line in lines[1:]:
        assert re.match(r" +[A-Z]", line), line


def test_the_statistics_of_the_table_have_names() -> None:
    data = packed(0x105, bytes(4) + be32(1, 3) + be32(2, 262144), 2)
    assert single(data, from_kernel=True) == [
        "> len=36 type=IPCTNL_MSG_CT_GET_STATS flags=NLM_F_MULTI seq=7 pid=0 "
        "family=AF_UNSPEC version=0 res_id=0",
        "  CTA_STATS_GLOBAL_ENTRIES 3",
        "  CTA_STATS_GLOBAL_MAX_ENTRIES 262144 (0x40000)",
    ]


def test_the_statistics_of_a_processor_have_its_number() -> None:
    data = packed(0x104, b"\0\0\0\x03" + be32(2, 5), 2)
    head, inside = single(data, from_kernel=True)
    assert head.endswith(" family=AF_UNSPEC version=0 res_id=3")
    assert inside == "  CTA_STATS_FOUND 5"


def test_the_type_of_expectation_statistics_differs_between_request_and_reply() -> None:
    data = entry(be32(1, 3), kind=0x103)
    assert single(data, from_kernel=True)[0].split()[2] == "type=IPCTNL_MSG_EXP_GET_STATS_CPU"
    assert single(data)[0].split()[2] == "type=IPCTNL_MSG_CT_GET_CTRZERO"


def test_the_statistics_of_expectations_have_names() -> None:
    head, *inside = single(STATISTICS, from_kernel=True)
    assert head.endswith(" family=AF_UNSPEC version=0 res_id=1")
    assert inside == [
        "  CTA_STATS_EXP_NEW 1",
        "  CTA_STATS_EXP_CREATE 2",
        "  CTA_STATS_EXP_DELETE 2",
    ]


# Errors, acknowledgements and ends of dumps

REQUEST_HEADER = struct.pack("=IHHII", 24, 0x102, 0x105, 7, 0)
REQUEST_LINE = (
    "  of len=24 type=IPCTNL_MSG_CT_DELETE flags=NLM_F_REQUEST|NLM_F_ACK|NLM_F_NONREC seq=7 pid=0"
)


def code(number: int) -> bytes:
    """Return the error code of a message."""
    return struct.pack("=i", number)


def test_an_acknowledgement_is_shown_with_the_request_header() -> None:
    data = packed(2, code(0) + REQUEST_HEADER, 0x100, port_id=99)
    assert single(data, from_kernel=True) == [
        "> len=36 type=NLMSG_ERROR flags=NLM_F_CAPPED seq=7 pid=99 error=0",
        REQUEST_LINE,
    ]


def test_an_error_is_shown_with_its_errno_and_the_request_header() -> None:
    data = packed(2, code(-2) + REQUEST_HEADER, 0x100)
    assert single(data, from_kernel=True) == [
        "> len=36 type=NLMSG_ERROR flags=NLM_F_CAPPED seq=7 pid=0 "
        "error=-ENOENT (No such file or directory)",
        REQUEST_LINE,
    ]


EXPLANATION = (
    attr(1, b"Attribute failed policy validation\0")
    + host32(2, 20)
    + nest(4, host32(1, 3))
    + host32(5, 8)
)
EXPLANATION_LINES = [
    "  NLMSGERR_ATTR_MSG 'Attribute failed policy validation'",
    "  NLMSGERR_ATTR_OFFS 20 (0x14)",
    "  4",
    f"    1 0x{struct.pack('=I', 3).hex()}",
    "  NLMSGERR_ATTR_MISS_TYPE 8",
]


@pytest.mark.parametrize(
    ("echo", "flags"),
    [(b"", 0x300), (b"\x02\0\0\0\x01\0\0\0", 0x200)],
    ids=["capped", "with the whole request"],
)
def test_an_error_is_shown_with_its_extended_acknowledgement(echo: bytes, flags: int) -> None:
    data = packed(2, code(-34) + REQUEST_HEADER + echo + EXPLANATION, flags)
    head, *inside = single(data, from_kernel=True)
    assert head.endswith("seq=7 pid=0 error=-ERANGE (Numerical result out of range)")
    assert inside == [REQUEST_LINE, *EXPLANATION_LINES]


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        (b"", ""),
        (b"\0\0", ""),
        (code(0), " error=0"),
        (code(-9999), " error=-9999"),
        (code(5), " error=5"),
        (code(-2) + REQUEST_HEADER[:8], " error=-ENOENT (No such file or directory)"),
    ],
)
def test_a_truncated_error_is_shown_as_far_as_it_goes(inside: bytes, text: str) -> None:
    data = packed(2, inside)
    (line,) = single(data, from_kernel=True)
    assert line == f"> len={16 + len(inside)} type=NLMSG_ERROR flags=0 seq=7 pid=0{text}"


def test_the_end_of_a_dump_is_shown_with_its_error() -> None:
    assert single(packed(3, code(0), 2), from_kernel=True) == [
        "> len=20 type=NLMSG_DONE flags=NLM_F_MULTI seq=7 pid=0 error=0"
    ]
    assert single(packed(3, code(-34) + EXPLANATION, 0x202), from_kernel=True) == [
        f"> len={20 + len(EXPLANATION)} type=NLMSG_DONE flags=NLM_F_MULTI|NLM_F_ACK_TLVS "
        "seq=7 pid=0 error=-ERANGE (Numerical result out of range)",
        *EXPLANATION_LINES,
    ]


# Types and flags


@pytest.mark.parametrize(
    ("kind", "flags", "from_kernel", "text"),
    [
        (0x100, 0x700, False, "type=IPCTNL_MSG_CT_NEW flags=NLM_F_REPLACE|NLM_F_EXCL|NLM_F_CREATE"),
        (0x100, 0x600, True, "type=IPCTNL_MSG_CT_NEW flags=NLM_F_EXCL|NLM_F_CREATE"),
        (0x100, 0x32, True, "type=IPCTNL_MSG_CT_NEW flags=NLM_F_MULTI|NLM_F_DUMP_INTR|"
         "NLM_F_DUMP_FILTERED"),
        (0x101, 0x301, False, "type=IPCTNL_MSG_CT_GET flags=NLM_F_REQUEST|NLM_F_DUMP"),
        (0x101, 0x101, False, "type=IPCTNL_MSG_CT_GET flags=NLM_F_REQUEST|NLM_F_ROOT"),
        (0x101, 0x600, False, "type=IPCTNL_MSG_CT_GET flags=NLM_F_MATCH|NLM_F_ATOMIC"),
        (0x103, 0x309, False, "type=IPCTNL_MSG_CT_GET_CTRZERO flags=NLM_F_REQUEST|NLM_F_ECHO|"
         "NLM_F_DUMP"),
        (0x102, 0x305, False, "type=IPCTNL_MSG_CT_DELETE flags=NLM_F_REQUEST|NLM_F_ACK|"
         "NLM_F_NONREC|NLM_F_BULK"),
        (0x102, 0x8000, False, "type=IPCTNL_MSG_CT_DELETE flags=0x8000"),
        (0x200, 0x400, False, "type=IPCTNL_MSG_EXP_NEW flags=NLM_F_CREATE"),
        (0x202, 0x100, False, "type=IPCTNL_MSG_EXP_DELETE flags=NLM_F_NONREC"),
        (0xA06, 0x805, False, "type=NFT_MSG_NEWRULE flags=NLM_F_REQUEST|NLM_F_ACK|NLM_F_APPEND"),
        (0xA0B, 0x200, False, "type=NFT_MSG_DELSET flags=NLM_F_BULK"),
        (0x010, 0x1, False, "type=NFNL_MSG_BATCH_BEGIN flags=NLM_F_REQUEST"),
        (0x3FF, 0x301, False, "type=NFNL_SUBSYS_QUEUE<<8|255 flags=NLM_F_REQUEST|0x300"),
        (0x1FF, 0x0, False, "type=NFNL_SUBSYS_CTNETLINK<<8|255 flags=0"),
        (0xD00, 0x0, False, "type=0xd00 flags=0"),
        (0xFFFF, 0xFFFF, True, "type=0xffff flags=NLM_F_REQUEST|NLM_F_MULTI|NLM_F_ACK|NLM_F_ECHO|"
         "NLM_F_DUMP_INTR|NLM_F_DUMP_FILTERED|0xffc0"),
        (0x1, 0x0, True, "type=NLMSG_NOOP flags=0"),
        (0x4, 0x0, True, "type=NLMSG_OVERRUN flags=0"),
        (0xF, 0x0, True, "type=0xf flags=0"),
    ],
)  # fmt: skip
def test_the_type_determines_the_names_of_the_flags(
    kind: int, flags: int, from_kernel: bool, text: str
) -> None:
    line = single(entry(b"", kind, flags), from_kernel=from_kernel)[0]
    assert line.startswith(f"> len=20 {text} seq=7 pid=0")


def test_every_type_of_ctnetlink_has_a_name() -> None:
    for number in IPCTNL_MSG_CT:
        kind = message_info(NFNL_SUBSYS.CTNETLINK << 8 | number, from_kernel=False)
        assert kind is not None
        assert kind.name == f"IPCTNL_MSG_CT_{number.name}"


@pytest.mark.parametrize(
    ("kind", "name"),
    [(16, "RTM_NEWLINK"), (19, "RTM_SETLINK"), (2, "NLMSG_ERROR"), (999, "0x3e7")],
)
def test_rtnetlink_types_have_names(kind: int, name: str) -> None:
    (line,) = single(packed(kind, bytes(16), 1), protocol=NETLINK.ROUTE)
    assert line.startswith(f"> len=32 type={name} flags=NLM_F_REQUEST seq=7 pid=0")


def test_messages_of_other_protocols_are_shown_as_bytes() -> None:
    (line,) = single(entry(BOTH_TUPLES), protocol=16)
    assert line == f"> len={20 + len(BOTH_TUPLES)} type=0x100 flags=0 seq=7 pid=0"


# Attributes


NAMES = {
    **dict.fromkeys((FlowEvent, Flow, RequestOnly), 0x100),
    **dict.fromkeys((ExpectEvent, Expectation, ExpectRequestOnly), 0x200),
}


@pytest.mark.parametrize(
    "case", [case for case in CASES if type(case.object) in NAMES], ids=lambda case: case.name
)
def test_every_declared_attribute_has_a_name(case: Case) -> None:
    lines = single(entry(case.data, NAMES[type(case.object)]))
    shown_names = {line.split()[0] for line in lines[1:]}
    names = _names(schema_of(type(case.object)).root, case.data, 0, len(case.data))
    assert names <= shown_names
    assert not [line for line in lines[1:] if "!" in line]


def _names(branch: Branch, data: bytes, start: int, end: int) -> set[str]:
    """Return the names of the declared attributes in a message, including those in nests."""
    names: set[str] = set()
    for number, _, first, last in attributes.walk(data, start, end):
        child = branch.children.get(number)
        if child is None:
            continue
        names.add(child.name)
        if isinstance(child, Branch):
            names |= _names(child, data, first, last)
        elif isinstance(child, Leaf) and child.nest is not None:
            names |= _names(child.nest.root, data, first, last)
    return names


TOO_SHORT, TOO_LONG = struct.pack("=HH", 3, 8), struct.pack("=HHB", 12, 8, 0xFF)
"""Attributes whose lengths in the header are too small and too large."""


@pytest.mark.parametrize(
    ("inside", "lines"),
    [
        # attributes that are not declared
        (attr(99, b""), ["  99 empty"]),
        (attr(99, b"\x01\x02"), ["  99 0x0102"]),
        (attr(99, bytes(70)), [f"  99 0x{'00' * 64}… (70 bytes)"]),
        (nest(99, be8(1, 1), nest(2)), ["  99", "    1 0x01", "    2"]),
        (nest(1, nest(77, be8(1, 1))), ["  CTA_TUPLE_ORIG", "    77", "      1 0x01"]),
        # flags of an attribute
        (attr(8, b"\0\0\0\1", 0x8000), ["  CTA_MARK NLA_F_NESTED 1"]),
        (attr(8, b"\0\0\0\1", 0x4000), ["  CTA_MARK NLA_F_NET_BYTEORDER 1"]),
        (
            attr(25, host32(1, 1)),
            ["  CTA_FILTER (without NLA_F_NESTED)", "    CTA_FILTER_ORIG_FLAGS 1"],
        ),
        # values of a wrong size or form
        (attr(8, b""), ["  CTA_MARK empty"]),
        (attr(8, b"\1\2\3"), ["  CTA_MARK 0x010203 (3 bytes where 4 are expected)"]),
        (attr(8, b"\1\2\3\4\5"), ["  CTA_MARK 0x0102030405 (5 bytes where 4 are expected)"]),
        (
            attr(22, b"\1\0\0"),
            ["  CTA_LABELS 0x010000 (a bitmap must be a multiple of 4 bytes; got 3)"],
        ),
        (
            attr(22, pack_unsigned_longs(1)[:8]),
            [f"  CTA_LABELS bits [0] = 0x{pack_unsigned_longs(1)[:8].hex()}"],
        ),
        (
            nest(5, attr(1, b"ftp\0secret")),
            ["  CTA_HELP", "    CTA_HELP_NAME 'ftp' = 0x66747000736563726574"],
        ),
        (nest(5, attr(1, b"ftp")), ["  CTA_HELP", "    CTA_HELP_NAME 'ftp' = 0x667470"]),
        (be32(3, 0), ["  CTA_STATUS 0"]),
        (
            nest(4, nest(1, be8(1, 99))),
            ["  CTA_PROTOINFO", "    CTA_PROTOINFO_TCP", "      CTA_PROTOINFO_TCP_STATE 99"],
        ),
        # repeated attributes
        (be16(18, 1) + be16(18, 2), ["  CTA_ZONE 1", "  CTA_ZONE 2"]),
        # wrong lengths
        (
            be16(18, 1) + TOO_SHORT,
            [
                "  CTA_ZONE 1",
                "  ! CTA_MARK: its length of 3 has no room for its header: 0x" + TOO_SHORT.hex(),
            ],
        ),
        (
            be16(18, 1) + TOO_LONG,
            ["  CTA_ZONE 1", "  ! CTA_MARK: it claims 12 bytes, 5 are left: 0x" + TOO_LONG.hex()],
        ),
        (
            nest(1, b"\x09\x00") + be16(18, 2),
            [
                "  CTA_TUPLE_ORIG",
                "    ! 2 bytes are left over after the last attribute: 0x0900",
                "  CTA_ZONE 2",
            ],
        ),
    ],
)  # fmt: skip
def test_attributes_are_shown(inside: bytes, lines: list[str]) -> None:
    # The header has the real length, although the attributes may claim another.
    data = struct.pack("=IHHII", 20 + len(inside), 0x100, 0, 7, 0) + b"\x02\0\0\0" + inside
    assert single(data)[1:] == lines


def test_nests_beyond_the_maximum_depth_are_shown_as_bytes() -> None:
    data = b""
    for _ in range(5000):
        data = nest(99, data)
    lines = single(entry(data))
    assert len(lines) < 25
    assert lines[-1].startswith(f"{' ' * 34}99 NLA_F_NESTED 0x")


# Bytes that are not a message


def test_invalid_datagrams_are_shown_with_an_error() -> None:
    assert shown(b"") == [["> an empty datagram"]]
    assert shown(b"\x01\x02\x03") == [["> 3 bytes are left over after the last message"]]
    assert shown(struct.pack("=IHHII", 8, 0x100, 0, 7, 0)) == [
        ["> a message claims 8 bytes, 16 are left"]
    ]
    assert shown(packed(0x100, b"\x02\0")) == [
        [
            "> len=18 type=IPCTNL_MSG_CT_NEW flags=0 seq=7 pid=0 "
            "(a message of 2 bytes has no nfgenmsg)"
        ]
    ]


def test_the_messages_before_an_invalid_one_are_shown() -> None:
    data = entry(be16(18, 1)) + struct.pack("=IHHII", 99, 0x100, 0, 7, 0)
    first, second = shown(data)
    assert first[1:] == ["  CTA_ZONE 1"]
    assert second == ["> a message claims 99 bytes, 16 are left"]


def test_the_hexdump_has_offsets_bytes_and_ascii() -> None:
    data = bytes(range(30, 30 + 18)) + b"\x7f\xff"
    assert list(hexdump(data)) == [
        "  0000  1e 1f 20 21 22 23 24 25  26 27 28 29 2a 2b 2c 2d  |.. !\"#$%&'()*+,-|",
        "  0010  2e 2f 7f ff                                       |./..|",
    ]
    assert list(hexdump(b"")) == []
