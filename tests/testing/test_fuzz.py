"""The fake and the real kernel reply to random requests with the same bytes."""

from __future__ import annotations

import difflib
import os
import pprint
import struct
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import raw_requests
from support.effort import examples
from support.kernel_release import release_text
from support.lab import Lab
from support.namespaces import new_network_namespace
from support.raw_requests import CTA, be8, be16, pack, pack_be32, pack_nest

from conntrack_aio.netlink.opening import open_socket
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.testing import FakeKernel
from conntrack_aio.uapi.netlink import NETLINK

pytestmark = [pytest.mark.kernels, pytest.mark.kernel]

# -- requests ---------------------------------------------------------------------------------

SYSCTLS = {"nf_conntrack_events": 1, "nf_conntrack_acct": 1}
ADDRESSES = {2: ("10.0.0.1", "10.0.0.2"), 10: ("2001:db8::1", "2001:db8::2")}


def usually(value: object, others: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(st.just(value), st.just(value), others)


@st.composite
def proto_parts(draw: st.DrawFn, reply: bool) -> bytes:
    """Draw a ``CTA_TUPLE_PROTO``, sometimes an incomplete one."""
    proto = draw(st.sampled_from((6, 6, 17, 132, 47, 33, 1, 58, 136, 50, 0, 255)))
    parts = [be8(1, proto)]
    if proto in (1, 58):
        base = 4 if proto == 1 else 7
        kinds = (
            ((0, 8) if reply else (8, 0)) if proto == 1 else ((129, 128) if reply else (128, 129))
        )
        kind = draw(usually(kinds[0], st.sampled_from((kinds[1], 3, 13, 200))))
        parts += [be16(base, 5), be8(base + 1, kind), be8(base + 2, 0)]
    else:
        port = draw(st.integers(1, 2))
        sport, dport = (80, port) if reply else (port, 80)
        parts += [be16(2, sport), be16(3, dport)]
    if draw(st.integers(0, 9)) == 0:
        parts.pop(draw(st.integers(0, len(parts) - 1)))
    if draw(st.integers(0, 19)) == 0:
        parts.append(pack(draw(st.integers(1, 9)), draw(st.binary(max_size=3))))
    return pack_nest(2, *parts)


@st.composite
def tuples(draw: st.DrawFn, number: int, family: int, reply: bool) -> bytes:
    src, dst = ADDRESSES[family]
    if reply:
        src, dst = dst, src
    if draw(st.integers(0, 15)) == 0:
        src = dst
    parts = [raw_requests.addresses(src, dst), draw(proto_parts(reply))]
    if draw(st.integers(0, 9)) == 0:
        parts.append(be16(3, draw(st.integers(0, 2))))
    if draw(st.integers(0, 19)) == 0:
        parts.pop(0)
    return pack_nest(number, *parts)


@st.composite
def valid_tuples(draw: st.DrawFn, family: int) -> list[bytes]:
    """Draw both tuples of a flow, complete and consistent."""
    src, dst = ADDRESSES[family]
    proto = draw(st.sampled_from((6, 17, 132, 47, 50)))
    port = draw(st.integers(1, 3))
    orig = pack_nest(1, raw_requests.addresses(src, dst), raw_requests.ports(proto, port, 80))
    reply = pack_nest(2, raw_requests.addresses(dst, src), raw_requests.ports(proto, 80, port))
    return [orig, reply]


def tcp_info() -> st.SearchStrategy[bytes]:
    part = st.one_of(
        st.builds(be8, st.just(1), st.integers(0, 12)),
        st.builds(be8, st.integers(2, 3), st.integers(0, 16)),
        st.builds(pack, st.integers(4, 5), st.binary(min_size=1, max_size=3)),
    )
    return st.lists(part, max_size=5).map(lambda parts: pack_nest(4, pack_nest(1, *parts)))


def sctp_info() -> st.SearchStrategy[bytes]:
    part = st.one_of(
        st.builds(be8, st.just(1), st.integers(0, 10)),
        st.builds(pack_be32, st.integers(2, 3), st.integers(0, 9)),
    )
    return st.lists(part, max_size=5).map(lambda parts: pack_nest(4, pack_nest(3, *parts)))


def u32_nests(number: int) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda numbers: pack_nest(number, *(pack_be32(n, 7 * n) for n in numbers)),
        st.one_of(st.just([1, 2, 3]), st.lists(st.integers(1, 3), max_size=3)),
    )


MARKS = st.sampled_from((0, 1, 5, 0xFF, 0xFFFFFFFF))
STATUSES = st.sampled_from((0, 6, 8, 0xA, 0xE, 0xF, 0x40E, 0x200E, 0xFFFF, 0x1000E))
FLAGS = st.sampled_from((0, 1, 2, 3, 8, 0x18, 0x28, 0x38, 0x10, 4, 12, 0xFFF, 0x1000))
GARBAGE = st.builds(pack, st.integers(1, 40), st.binary(max_size=20))


def nat(number: int, family: int) -> st.SearchStrategy[bytes]:
    """Build a translation to one address, one port, or both.

    The kernel chooses at random from several, so there is only one of each.
    """
    address = pack(1, b"\x0a\0\0\x09") if family == 2 else pack(4, bytes(15) + b"\x09")
    port = pack_nest(3, be16(1, 700), be16(2, 700))
    parts = st.sampled_from(((address,), (port,), (address, port), (), (pack(1, b"x"),)))
    return parts.map(lambda chosen: pack_nest(number, *chosen))


def entry_attributes(family: int) -> st.SearchStrategy[bytes]:
    """Build an attribute of a request that creates or updates an entry."""
    return st.one_of(
        nat(CTA.NAT_SRC, family),
        nat(CTA.NAT_DST, family),
        valid_tuples(family).map(lambda pair: pack_nest(CTA.TUPLE_MASTER, pair[0][4:])),
        st.builds(pack_be32, st.just(CTA.MARK), MARKS),
        st.builds(pack_be32, st.just(CTA.MARK_MASK), MARKS),
        st.builds(pack_be32, st.just(CTA.STATUS), STATUSES),
        st.builds(pack, st.just(CTA.LABELS), st.binary(max_size=17)),
        st.builds(pack, st.just(CTA.LABELS), st.binary(min_size=16, max_size=16)),
        st.builds(pack, st.just(CTA.LABELS_MASK), st.binary(min_size=16, max_size=16)),
        tcp_info(),
        sctp_info(),
        u32_nests(15),
        u32_nests(16),
        u32_nests(24),
        st.builds(
            lambda name: pack_nest(5, pack(1, name)),
            st.sampled_from((b"ftp\0", b"sip\0", b"tftp\0", b"", b"\0", b"ftp", b"nohelper\0")),
        ),
        GARBAGE,
    )


def filter_attributes(family: int) -> st.SearchStrategy[bytes]:
    """Build an attribute of a filter."""
    return st.one_of(
        st.builds(pack_be32, st.sampled_from((CTA.MARK, CTA.MARK_MASK)), MARKS),
        st.builds(pack_be32, st.sampled_from((CTA.STATUS, CTA.STATUS_MASK)), STATUSES),
        st.builds(be16, st.just(CTA.ZONE), st.integers(0, 2)),
        st.builds(
            lambda orig_flags, reply_flags, nested: pack(
                CTA.FILTER,
                pack(1, struct.pack("=I", orig_flags)) + pack(2, struct.pack("=I", reply_flags)),
                nested=nested,
            ),
            FLAGS,
            FLAGS,
            st.sampled_from((True, True, True, False)),
        ),
        tuples(1, family, False),
        tuples(2, family, True),
        GARBAGE,
    )


@st.composite
def tuple_filters(draw: st.DrawFn, family: int) -> list[bytes]:
    """Draw a filter by fields of the tuples, sometimes with another filter attribute."""
    flags = [struct.pack("=I", draw(FLAGS)) for _ in range(2)]
    flags_nest = pack_nest(CTA.FILTER, pack(1, flags[0]), pack(2, flags[1]))
    others = draw(st.lists(filter_attributes(family), max_size=1))
    return [*draw(valid_tuples(family)), flags_nest, *others]


KINDS = (
    *(
        raw_requests.NEW,
        raw_requests.NEW,
        raw_requests.NEW,
        raw_requests.NEW,
        raw_requests.GET,
        raw_requests.GET,
        raw_requests.DELETE,
        raw_requests.GET_CTRZERO,
    ),
    *(raw_requests.GET_STATS, 0x106, 0x107, 0x108, 0xD00, 0x7),
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[int, int, int, int, bytes]:
    """Draw the type, flags, family, version and attributes of a request."""
    kind = draw(st.sampled_from(KINDS))
    family = draw(st.sampled_from((2, 2, 2, 10)))
    flags = raw_requests.REQUEST | draw(
        st.sampled_from(
            (raw_requests.ACK, raw_requests.ACK, 0, raw_requests.ACK | raw_requests.ECHO)
        )
    )
    parts: list[bytes] = []
    version = 0
    sent_family = draw(usually(family, st.sampled_from((0, 7, 2, 10))))
    if kind == raw_requests.NEW:
        flags |= draw(st.sampled_from((0x600, 0x600, 0x400, 0, 0x200)))
        parts += draw(st.one_of(valid_tuples(family), valid_tuples(family), any_tuples(family)))
        parts += [pack_be32(CTA.TIMEOUT, draw(st.sampled_from((1000, 2000, 1 << 31))))]
        parts += draw(st.lists(entry_attributes(family), max_size=3))
        if draw(st.integers(0, 4)) == 0:
            parts.append(be16(CTA.ZONE, draw(st.integers(0, 2))))
        if draw(st.integers(0, 9)) == 0:
            parts.pop(draw(st.integers(0, len(parts) - 1)))
    elif kind in (
        raw_requests.NEW,
        raw_requests.GET,
        raw_requests.DELETE,
        raw_requests.GET_CTRZERO,
    ) and draw(st.booleans()):
        parts += draw(valid_tuples(family))[: draw(st.integers(1, 2))]
        if draw(st.integers(0, 4)) == 0:
            parts.append(be16(CTA.ZONE, draw(st.integers(0, 2))))
    else:
        if kind != raw_requests.DELETE:
            flags |= draw(st.sampled_from((0x300, 0x300, 0x100, 0x200)))
        parts += draw(
            st.one_of(st.lists(filter_attributes(family), max_size=3), tuple_filters(family))
        )
        version = draw(st.integers(0, 1))
    if draw(st.integers(0, 19)) == 0:
        parts.append(draw(st.binary(min_size=1, max_size=3)))
    return kind, flags, sent_family, version, b"".join(parts)


def any_tuples(family: int) -> st.SearchStrategy[list[bytes]]:
    return st.tuples(tuples(1, family, False), tuples(2, family, True)).map(list)


# -- replies ----------------------------------------------------------------------------------


class Reader:
    """Reads a kernel's replies and events, without the ids, port ids, seconds and order.

    These differ between two kernels.
    """

    def __init__(self, socket: NetlinkSocket, listener: NetlinkSocket) -> None:
        self.socket = socket
        self.listener = listener

    def __call__(self, batch: list[bytes]) -> list[object]:
        replies = raw_requests.exchange(self.socket, *batch)
        return [
            self._comparable(replies),
            self._comparable(raw_requests.read_replies(self.listener)),
        ]

    def _comparable(self, replies: list[raw_requests.RawReply]) -> list[object]:
        comparable: list[object] = []
        entries: list[str] = []
        for reply in replies:
            if reply.code is None and reply.type in (raw_requests.NEW, raw_requests.DELETE):
                entries.append(repr(self._entry(reply)))
                continue
            comparable += sorted(entries)
            entries = []
            comparable.append(reply._replace(port_id=0))
        return comparable + sorted(entries)

    def _entry(self, reply: raw_requests.RawReply) -> object:
        attributes = {
            number: part.hex()
            for number, part in raw_requests.attributes_by_number(reply.payload).items()
        }
        attributes[CTA.ID] = "an id"
        if CTA.TIMEOUT in attributes:
            attributes[CTA.TIMEOUT] = (
                f"{(int(attributes[CTA.TIMEOUT], 16) + 5) // 10} times ten seconds"
            )
        sender = "a program" if reply.port_id else "the kernel"
        return (reply.type, reply.flags, reply.seq, sender, reply.groups, attributes)


def difference(expected: list[object], got: list[object]) -> str:
    """Return the lines that only one of the kernels has, as a diff."""
    real, fake = (pprint.pformat(replies, width=200).splitlines() for replies in (expected, got))
    return "\n".join(difflib.unified_diff(real, fake, "real", "fake", lineterm="", n=0))


LABELS = """
table inet labels {
    chain out {
        type filter hook output priority 0
        ct label set 5
    }
}
"""


@pytest.fixture(
    scope="module",
    params=[False, pytest.param(True, marks=pytest.mark.program("nft", "nftables"))],
    ids=["plain", "labels"],
)
def setting(request: pytest.FixtureRequest) -> Iterator[tuple[Lab, bool]]:
    """Return a namespace for all examples, and whether one of its rules uses labels."""
    descriptor = new_network_namespace()
    lab = Lab(descriptor)
    for name, value in SYSCTLS.items():
        lab.sysctl(name, value)
    if request.param:
        lab.program("nft", "-f", "-", input=LABELS)
    yield lab, request.param
    os.close(descriptor)


@settings(
    max_examples=examples(25),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(batches=st.lists(st.lists(requests(), min_size=1, max_size=3), min_size=1, max_size=12))
def test_the_replies_are_the_same(
    setting: tuple[Lab, bool], batches: list[list[tuple[int, int, int, int, bytes]]]
) -> None:
    lab, labels = setting
    # The fake kernel imitates the release of this machine's kernel, and its nf_conntrack_max.
    limit = {"nf_conntrack_max": int(lab.read_sysctl("nf_conntrack_max"))}
    fake = FakeKernel(release_text(), sysctls=SYSCTLS | limit)
    fake.labels_used = labels

    def open_real() -> NetlinkSocket:
        return open_socket(NETLINK.NETFILTER)

    def reader(open_one: Callable[[], NetlinkSocket]) -> Reader:
        listener = open_one()
        for group in range(1, 4):
            listener.join(group)
        return Reader(open_one(), listener)

    real_reader = lab.run(reader, open_real)
    fake_reader = reader(fake._socket_factory.open)
    try:
        raw_requests.exchange(
            real_reader.socket, raw_requests.request(raw_requests.DELETE, family=0)
        )
        raw_requests.read_replies(real_reader.listener)
        for batch in batches:
            data = [
                raw_requests.request(
                    kind, attributes, flags=flags, seq=seq, family=family, version=version
                )
                for seq, (kind, flags, family, version, attributes) in enumerate(batch, 1)
            ]
            differing = difference(real_reader(data), fake_reader(data))
            assert not differing, differing
    finally:
        for used in (real_reader, fake_reader):
            used.socket.close()
            used.listener.close()
