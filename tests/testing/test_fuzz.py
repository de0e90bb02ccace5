"""Random requests to the fake and to the real kernel: the answers are the same, byte by byte."""

from __future__ import annotations

import difflib
import os
import pprint
import struct
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import raw
from support.effort import examples
from support.lab import Lab
from support.namespaces import new_network_namespace
from support.raw import CTA, be16, byte, pack, pack_be32, pack_nest
from support.release import release_text

from conntrack_aio.netlink.socket import NetlinkSocket, open_socket
from conntrack_aio.testing import FakeKernel
from conntrack_aio.uapi.netlink import NETLINK

pytestmark = [pytest.mark.kernels, pytest.mark.kernel]

# -- what is asked ----------------------------------------------------------------------------

SYSCTLS = {"nf_conntrack_events": 1, "nf_conntrack_acct": 1}
ADDRESSES = {2: ("10.0.0.1", "10.0.0.2"), 10: ("2001:db8::1", "2001:db8::2")}


def mostly(value: object, others: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(st.just(value), st.just(value), others)


@st.composite
def proto_parts(draw: st.DrawFn, reply: bool) -> bytes:
    """``CTA_TUPLE_PROTO``, now and then incomplete."""
    proto = draw(st.sampled_from((6, 6, 17, 132, 47, 33, 1, 58, 136, 50, 0, 255)))
    parts = [byte(1, proto)]
    if proto in (1, 58):
        base = 4 if proto == 1 else 7
        kinds = (
            ((0, 8) if reply else (8, 0)) if proto == 1 else ((129, 128) if reply else (128, 129))
        )
        kind = draw(mostly(kinds[0], st.sampled_from((kinds[1], 3, 13, 200))))
        parts += [be16(base, 5), byte(base + 1, kind), byte(base + 2, 0)]
    else:
        port = draw(st.integers(1, 2))
        one, two = (80, port) if reply else (port, 80)
        parts += [be16(2, one), be16(3, two)]
    if draw(st.integers(0, 9)) == 0:
        parts.pop(draw(st.integers(0, len(parts) - 1)))
    if draw(st.integers(0, 19)) == 0:
        parts.append(pack(draw(st.integers(1, 9)), draw(st.binary(max_size=3))))
    return pack_nest(2, *parts)


@st.composite
def tuples(draw: st.DrawFn, number: int, family: int, reply: bool) -> bytes:
    one, two = ADDRESSES[family]
    if reply:
        one, two = two, one
    if draw(st.integers(0, 15)) == 0:
        one = two
    parts = [raw.addresses(one, two), draw(proto_parts(reply))]
    if draw(st.integers(0, 9)) == 0:
        parts.append(be16(3, draw(st.integers(0, 2))))
    if draw(st.integers(0, 19)) == 0:
        parts.pop(0)
    return pack_nest(number, *parts)


@st.composite
def whole(draw: st.DrawFn, family: int) -> list[bytes]:
    """Both tuples of one flow, as they should be."""
    one, two = ADDRESSES[family]
    proto = draw(st.sampled_from((6, 17, 132, 47, 50)))
    port = draw(st.integers(1, 3))
    orig = pack_nest(1, raw.addresses(one, two), raw.ports(proto, port, 80))
    reply = pack_nest(2, raw.addresses(two, one), raw.ports(proto, 80, port))
    return [orig, reply]


def tcp_info() -> st.SearchStrategy[bytes]:
    part = st.one_of(
        st.builds(byte, st.just(1), st.integers(0, 12)),
        st.builds(byte, st.integers(2, 3), st.integers(0, 16)),
        st.builds(pack, st.integers(4, 5), st.binary(min_size=1, max_size=3)),
    )
    return st.lists(part, max_size=5).map(lambda parts: pack_nest(4, pack_nest(1, *parts)))


def sctp_info() -> st.SearchStrategy[bytes]:
    part = st.one_of(
        st.builds(byte, st.just(1), st.integers(0, 10)),
        st.builds(pack_be32, st.integers(2, 3), st.integers(0, 9)),
    )
    return st.lists(part, max_size=5).map(lambda parts: pack_nest(4, pack_nest(3, *parts)))


def words(number: int) -> st.SearchStrategy[bytes]:
    return st.builds(
        lambda numbers: pack_nest(number, *(pack_be32(n, 7 * n) for n in numbers)),
        st.one_of(st.just([1, 2, 3]), st.lists(st.integers(1, 3), max_size=3)),
    )


MARKS = st.sampled_from((0, 1, 5, 0xFF, 0xFFFFFFFF))
STATUSES = st.sampled_from((0, 6, 8, 0xA, 0xE, 0xF, 0x40E, 0x200E, 0xFFFF, 0x1000E))
FLAGS = st.sampled_from((0, 1, 2, 3, 8, 0x18, 0x28, 0x38, 0x10, 4, 12, 0xFFF, 0x1000))
GARBAGE = st.builds(pack, st.integers(1, 40), st.binary(max_size=20))


def nat(number: int, family: int) -> st.SearchStrategy[bytes]:
    """A translation to one address, one port, or both: which of several is drawn by lot."""
    address = pack(1, b"\x0a\0\0\x09") if family == 2 else pack(4, bytes(15) + b"\x09")
    port = pack_nest(3, be16(1, 700), be16(2, 700))
    parts = st.sampled_from(((address,), (port,), (address, port), (), (pack(1, b"x"),)))
    return parts.map(lambda chosen: pack_nest(number, *chosen))


def settable(family: int) -> st.SearchStrategy[bytes]:
    """An attribute of a new or changed entry."""
    return st.one_of(
        nat(CTA.NAT_SRC, family),
        nat(CTA.NAT_DST, family),
        whole(family).map(lambda pair: pack_nest(CTA.TUPLE_MASTER, pair[0][4:])),
        st.builds(pack_be32, st.just(CTA.MARK), MARKS),
        st.builds(pack_be32, st.just(CTA.MARK_MASK), MARKS),
        st.builds(pack_be32, st.just(CTA.STATUS), STATUSES),
        st.builds(pack, st.just(CTA.LABELS), st.binary(max_size=17)),
        st.builds(pack, st.just(CTA.LABELS), st.binary(min_size=16, max_size=16)),
        st.builds(pack, st.just(CTA.LABELS_MASK), st.binary(min_size=16, max_size=16)),
        tcp_info(),
        sctp_info(),
        words(15),
        words(16),
        words(24),
        st.builds(
            lambda name: pack_nest(5, pack(1, name)),
            st.sampled_from((b"ftp\0", b"sip\0", b"tftp\0", b"", b"\0", b"ftp", b"nohelper\0")),
        ),
        GARBAGE,
    )


def selecting(family: int) -> st.SearchStrategy[bytes]:
    """An attribute of a filter."""
    return st.one_of(
        st.builds(pack_be32, st.sampled_from((CTA.MARK, CTA.MARK_MASK)), MARKS),
        st.builds(pack_be32, st.sampled_from((CTA.STATUS, CTA.STATUS_MASK)), STATUSES),
        st.builds(be16, st.just(CTA.ZONE), st.integers(0, 2)),
        st.builds(
            lambda one, two, nested: pack(
                CTA.FILTER,
                pack(1, struct.pack("=I", one)) + pack(2, struct.pack("=I", two)),
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
    """A filter of parts of the tuples, and now and then one by something else."""
    flags = [struct.pack("=I", draw(FLAGS)) for _ in range(2)]
    chosen = pack_nest(CTA.FILTER, pack(1, flags[0]), pack(2, flags[1]))
    others = draw(st.lists(selecting(family), max_size=1))
    return [*draw(whole(family)), chosen, *others]


KINDS = (
    *(raw.NEW, raw.NEW, raw.NEW, raw.NEW, raw.GET, raw.GET, raw.DELETE, raw.GET_CTRZERO),
    *(raw.GET_STATS, 0x106, 0x107, 0x108, 0xD00, 0x7),
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[int, int, int, int, bytes]:
    """Type, flags, family, version and attributes."""
    kind = draw(st.sampled_from(KINDS))
    family = draw(st.sampled_from((2, 2, 2, 10)))
    flags = raw.REQUEST | draw(st.sampled_from((raw.ACK, raw.ACK, 0, raw.ACK | raw.ECHO)))
    parts: list[bytes] = []
    version = 0
    sent = draw(mostly(family, st.sampled_from((0, 7, 2, 10))))
    if kind == raw.NEW:
        flags |= draw(st.sampled_from((0x600, 0x600, 0x400, 0, 0x200)))
        parts += draw(st.one_of(whole(family), whole(family), both(family)))
        parts += [pack_be32(CTA.TIMEOUT, draw(st.sampled_from((1000, 2000, 1 << 31))))]
        parts += draw(st.lists(settable(family), max_size=3))
        if draw(st.integers(0, 4)) == 0:
            parts.append(be16(CTA.ZONE, draw(st.integers(0, 2))))
        if draw(st.integers(0, 9)) == 0:
            parts.pop(draw(st.integers(0, len(parts) - 1)))
    elif kind in (raw.NEW, raw.GET, raw.DELETE, raw.GET_CTRZERO) and draw(st.booleans()):
        parts += draw(whole(family))[: draw(st.integers(1, 2))]
        if draw(st.integers(0, 4)) == 0:
            parts.append(be16(CTA.ZONE, draw(st.integers(0, 2))))
    else:
        if kind != raw.DELETE:
            flags |= draw(st.sampled_from((0x300, 0x300, 0x100, 0x200)))
        parts += draw(st.one_of(st.lists(selecting(family), max_size=3), tuple_filters(family)))
        version = draw(st.integers(0, 1))
    if draw(st.integers(0, 19)) == 0:
        parts.append(draw(st.binary(min_size=1, max_size=3)))
    return kind, flags, sent, version, b"".join(parts)


def both(family: int) -> st.SearchStrategy[list[bytes]]:
    return st.tuples(tuples(1, family, False), tuples(2, family, True)).map(list)


# -- what is answered -------------------------------------------------------------------------


class Reader:
    """One kernel's answers, without what can't be the same: ids, ports, seconds, order."""

    def __init__(self, socket: NetlinkSocket, listener: NetlinkSocket) -> None:
        self.socket = socket
        self.listener = listener

    def __call__(self, batch: list[bytes]) -> list[object]:
        answers = raw.ask(self.socket, *batch)
        return [self._plain(answers), self._plain(raw.read(self.listener))]

    def _plain(self, answers: list[raw.Answer]) -> list[object]:
        plain: list[object] = []
        entries: list[str] = []
        for answer in answers:
            if answer.code is None and answer.type in (raw.NEW, raw.DELETE):
                entries.append(repr(self._entry(answer)))
                continue
            plain += sorted(entries)
            entries = []
            plain.append(answer._replace(port=0))
        return plain + sorted(entries)

    def _entry(self, answer: raw.Answer) -> object:
        told = {number: part.hex() for number, part in raw.numbers(answer.payload).items()}
        told[CTA.ID] = "an id"
        if CTA.TIMEOUT in told:
            told[CTA.TIMEOUT] = f"{(int(told[CTA.TIMEOUT], 16) + 5) // 10} times ten seconds"
        port = "a program" if answer.port else "the kernel"
        return (answer.type, answer.flags, answer.seq, port, answer.groups, told)


def difference(expected: list[object], got: list[object]) -> str:
    """Line by line, what the real kernel said and the fake did not, and the other way."""
    one, two = (pprint.pformat(answers, width=200).splitlines() for answers in (expected, got))
    return "\n".join(difflib.unified_diff(one, two, "real", "fake", lineterm="", n=0))


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
    """A namespace for all the examples, with a rule that uses labels or not."""
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
def test_the_answers_are_the_same(
    setting: tuple[Lab, bool], batches: list[list[tuple[int, int, int, int, bytes]]]
) -> None:
    lab, labels = setting
    # Of the age that this machine's kernel is, and of its size.
    size = {"nf_conntrack_max": int(lab.read_sysctl("nf_conntrack_max"))}
    fake = FakeKernel(release_text(), sysctls=SYSCTLS | size)
    fake.labels_used = labels

    def open_real() -> NetlinkSocket:
        return open_socket(NETLINK.NETFILTER)

    def readers(open_one: Callable[[], NetlinkSocket]) -> Reader:
        listener = open_one()
        for group in range(1, 4):
            listener.join(group)
        return Reader(open_one(), listener)

    real_reader = lab.run(readers, open_real)
    fake_reader = readers(fake._endpoint.open)
    try:
        raw.ask(real_reader.socket, raw.request(raw.DELETE, family=0))
        raw.read(real_reader.listener)
        for batch in batches:
            data = [
                raw.request(kind, attributes, flags=flags, seq=seq, family=family, version=version)
                for seq, (kind, flags, family, version, attributes) in enumerate(batch, 1)
            ]
            told = difference(real_reader(data), fake_reader(data))
            assert not told, told
    finally:
        for reader in (real_reader, fake_reader):
            reader.socket.close()
            reader.listener.close()
