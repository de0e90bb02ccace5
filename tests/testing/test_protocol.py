"""What the library never sends, to the fake and to the real kernel: the same answers."""

from __future__ import annotations

import errno
import struct

import pytest
from support import raw
from support.anykernel import AnyKernel
from support.raw import (
    ACK,
    CTA,
    DUMP,
    ECHO,
    REQUEST,
    ask,
    be16,
    byte,
    codes,
    pack,
    pack_be32,
    pack_nest,
    request,
)

from conntrack_aio.netlink.socket import NetlinkSocket

from .conftest import Opener

BAD = [
    pytest.param(pack_be32(CTA.ID, 1), id="an id"),
    pytest.param(pack_be32(CTA.MARK_MASK, 1), id="a mask of marks"),
    pytest.param(pack_be32(CTA.STATUS_MASK, 1), id="a mask of status"),
    pytest.param(pack(99, b""), id="an unknown attribute"),
    pytest.param(b"", id="nothing"),
]


@pytest.fixture
def socket(opened: Opener) -> NetlinkSocket:
    return opened()


def orig(number: int = 1, proto: int = 17, *, kind: int = CTA.TUPLE_ORIG) -> bytes:
    return pack_nest(kind, raw.addresses(f"10.0.0.{number}", "10.0.1.1"), raw.ports(proto, 1, 2))


def reply(number: int = 1, proto: int = 17) -> bytes:
    addresses = raw.addresses("10.0.1.1", f"10.0.0.{number}")
    return pack_nest(CTA.TUPLE_REPLY, addresses, raw.ports(proto, 2, 1))


def tuple6(kind: int, *, back: bool = False, proto: int = 17) -> bytes:
    ends = ("2001:db8::2", "2001:db8::1") if back else ("2001:db8::1", "2001:db8::2")
    return pack_nest(kind, raw.addresses(*ends), raw.ports(proto, *((2, 1) if back else (1, 2))))


def make(socket: NetlinkSocket, number: int = 1, proto: int = 17, *others: bytes) -> None:
    data = (orig(number, proto), reply(number, proto), pack_be32(CTA.TIMEOUT, 600), *others)
    assert codes(ask(socket, request(raw.NEW, *data, flags=REQUEST | ACK | 0x600))) == [0]


def count(socket: NetlinkSocket) -> int:
    answer, _ = ask(socket, request(raw.GET_STATS, family=0))
    return int.from_bytes(raw.numbers(answer.payload)[1], "big")


def dumped(socket: NetlinkSocket, *attributes: bytes, family: int = 2) -> list[raw.Answer]:
    """The entries of a dump, which must end as it should."""
    *entries, end = ask(socket, request(raw.GET, *attributes, flags=REQUEST | DUMP, family=family))
    assert (end.type, end.payload) == (3, bytes(4)), end
    return entries


def filtered(orig_flags: int, reply_flags: int = 0, *, nested: bool = True) -> bytes:
    flags = pack(1, struct.pack("=I", orig_flags)) + pack(2, struct.pack("=I", reply_flags))
    return pack(CTA.FILTER, flags, nested=nested)


# -- deletes that delete everything ---------------------------------------------------------------


@pytest.mark.parametrize("attributes", BAD)
def test_a_delete_that_names_nothing_is_a_flush(socket: NetlinkSocket, attributes: bytes) -> None:
    for number in range(3):
        make(socket, number)
    assert codes(ask(socket, request(raw.DELETE, attributes))) == [0]
    assert count(socket) == 0


@pytest.mark.parametrize(("version", "left"), [(0, 0), (1, 2)])
def test_a_flush_of_a_family_takes_a_version(
    socket: NetlinkSocket, version: int, left: int
) -> None:
    make(socket, 1)
    make(socket, 2)
    assert codes(ask(socket, request(raw.DELETE, family=10, version=version))) == [0]
    assert count(socket) == left


def test_the_id_counts_only_beside_a_tuple(socket: NetlinkSocket) -> None:
    make(socket)
    assert codes(ask(socket, request(raw.DELETE, orig(), pack_be32(CTA.ID, 1)))) == [errno.ENOENT]
    assert count(socket) == 1
    assert codes(ask(socket, request(raw.GET, orig(), pack_be32(CTA.ID, 1)))) == [0]


def test_an_incomplete_tuple_deletes_nothing(socket: NetlinkSocket) -> None:
    make(socket)
    ends = raw.addresses("10.0.0.1", "10.0.1.1")
    for bad in (pack_nest(1, ends), pack_nest(1, ends, raw.ports(17, 1)), pack_nest(1)):
        assert codes(ask(socket, request(raw.DELETE, bad))) == [errno.EINVAL]
    assert codes(ask(socket, request(raw.DELETE, orig(), family=7))) == [errno.EOPNOTSUPP]
    assert count(socket) == 1


def test_any_tuple_under_either_name(socket: NetlinkSocket) -> None:
    make(socket)
    under_orig = pack_nest(
        CTA.TUPLE_ORIG, raw.addresses("10.0.1.1", "10.0.0.1"), raw.ports(17, 2, 1)
    )
    assert codes(ask(socket, request(raw.DELETE, under_orig))) == [0]
    assert count(socket) == 0


def test_a_filtered_flush(socket: NetlinkSocket) -> None:
    for number in (1, 2, 3):
        make(socket, number)
    assert codes(ask(socket, request(raw.DELETE, orig(2), filtered(3)))) == [0]
    assert count(socket) == 2


# -- filters ----------------------------------------------------------------------------------


def make6(socket: NetlinkSocket) -> None:
    data = (
        tuple6(CTA.TUPLE_ORIG),
        tuple6(CTA.TUPLE_REPLY, back=True),
        pack_be32(CTA.TIMEOUT, 600),
    )
    new = request(raw.NEW, *data, flags=REQUEST | ACK | 0x600, family=10)
    assert codes(ask(socket, new)) == [0]


def test_the_address_filter_of_ipv6_is_the_wrong_way_round(socket: NetlinkSocket) -> None:
    make6(socket)
    here, elsewhere = tuple6(CTA.TUPLE_ORIG), tuple6(CTA.TUPLE_ORIG, back=True)
    assert dumped(socket, here, filtered(1), family=10) == []
    assert len(dumped(socket, elsewhere, filtered(1), family=10)) == 1
    # and so a flush of others is one of this
    assert codes(ask(socket, request(raw.DELETE, elsewhere, filtered(3), family=10))) == [0]
    assert count(socket) == 0


@pytest.mark.parametrize(("proto", "found"), [(6, 0), (17, 0), (132, 1), (47, 1)])
def test_ports_are_compared_for_tcp_and_udp_alone(
    socket: NetlinkSocket, proto: int, found: int
) -> None:
    make(socket, 1, proto)
    other = pack_nest(1, raw.addresses("10.0.0.1", "10.0.1.1"), raw.ports(proto, 7, 7))
    assert len(dumped(socket, other, filtered(0x3B))) == found
    assert len(dumped(socket, orig(1, proto), filtered(0x3B))) == 1


@pytest.mark.since("FILTERED_FLUSH")
def test_filters_that_are_refused(socket: NetlinkSocket) -> None:
    make(socket)

    def code(*attributes: bytes, family: int = 2) -> list[int | None]:
        dump = request(raw.GET, *attributes, flags=REQUEST | DUMP, family=family)
        return codes(ask(socket, dump))

    assert code(orig(), filtered(1, nested=False)) == [errno.EINVAL]
    assert code(filtered(1)) == [errno.EINVAL]  # no tuple
    assert code(orig(), filtered(0x10)) == [errno.EINVAL]  # a port without a protocol
    assert code(orig(), filtered(1), family=0) == [errno.EOPNOTSUPP]
    assert code(orig(), filtered(0x1000)) == [errno.EINVAL]
    assert code(pack_be32(CTA.MARK_MASK, 1)) == [errno.EINVAL]
    assert code(pack_be32(CTA.MARK_MASK, 1), family=0) == []  # nothing makes it look
    assert code(pack_be32(CTA.STATUS, 0)) == [errno.EINVAL]
    assert code(orig()) == []  # a tuple without a filter is passed over


@pytest.mark.since("ZONE_FILTER")
def test_the_zone_of_a_filter(socket: NetlinkSocket) -> None:
    make(socket, 1)
    make(socket, 2, 17, be16(CTA.ZONE, 5))
    assert len(dumped(socket)) == 2
    assert len(dumped(socket, be16(CTA.ZONE, 5))) == 1
    assert len(dumped(socket, be16(CTA.ZONE, 0))) == 1
    assert dumped(socket, be16(CTA.ZONE, 6)) == []


def test_entries_of_a_filtered_dump_say_so(socket: NetlinkSocket) -> None:
    make(socket)
    (entry,) = dumped(socket, family=0)
    assert entry.flags == 2
    (entry,) = dumped(socket, family=2)
    assert entry.flags == 0x22


# -- changes ----------------------------------------------------------------------------------


def mark_of(socket: NetlinkSocket) -> int:
    answer, _ = ask(socket, request(raw.GET, orig()))
    return int.from_bytes(raw.numbers(answer.payload)[CTA.MARK], "big")


def test_a_mark_outside_its_mask_toggles(socket: NetlinkSocket) -> None:
    make(socket, 1, 17, pack_be32(CTA.MARK, 0xF0))
    parts = (pack_be32(CTA.MARK, 0x93), pack_be32(CTA.MARK_MASK, 0x0F))
    assert codes(ask(socket, request(raw.NEW, orig(), *parts))) == [0]
    assert mark_of(socket) == 0xF0 ^ 0x93


@pytest.mark.parametrize(
    ("status", "code"),
    [(8, 0), (0xE, 0), (0, 16), (6, 16), (9, 16), (0x208, 16), (0x1F538, 0)],
)
def test_what_a_status_may_say(socket: NetlinkSocket, status: int, code: int) -> None:
    make(socket)
    assert codes(ask(socket, request(raw.NEW, orig(), pack_be32(CTA.STATUS, status)))) == [code]
    answer, _ = ask(socket, request(raw.GET, orig()))
    settable = status & 0x2406 if not code else 0
    told = int.from_bytes(raw.numbers(answer.payload)[CTA.STATUS], "big")
    assert told == 8 | settable


def test_what_came_before_a_refusal_stays(socket: NetlinkSocket, opened: Opener) -> None:
    make(socket)
    listener = opened(groups=(2,))
    parts = (pack_be32(CTA.MARK, 7), pack(CTA.LABELS, bytes(16)))
    assert codes(ask(socket, request(raw.NEW, orig(), *parts))) == [errno.ENOSPC]
    assert mark_of(socket) == 7
    assert raw.read(listener) == []


def test_an_update_that_changes_nothing_is_an_event(socket: NetlinkSocket, opened: Opener) -> None:
    make(socket)
    listener = opened(groups=(2,))
    assert codes(ask(socket, request(raw.NEW, orig()))) == [0]
    (event,) = raw.read(listener)
    assert (event.type, event.flags, event.seq, event.groups) == (raw.NEW, 0, 0, 2)


def test_the_other_tuple_updates_too(socket: NetlinkSocket) -> None:
    """A new flow whose original tuple is another's reply is that one."""
    make(socket)
    turned = (
        pack_nest(1, raw.addresses("10.0.1.1", "10.0.0.1"), raw.ports(17, 2, 1)),
        pack_nest(2, raw.addresses("10.0.0.1", "10.0.1.1"), raw.ports(17, 1, 2)),
    )
    parts = (*turned, pack_be32(CTA.TIMEOUT, 600), pack_be32(CTA.MARK, 9))
    assert codes(ask(socket, request(raw.NEW, *parts, flags=REQUEST | ACK | 0x400))) == [0]
    assert (count(socket), mark_of(socket)) == (1, 9)


# -- requests and answers -----------------------------------------------------------------------


def test_an_acknowledgement_is_asked_for(socket: NetlinkSocket) -> None:
    make(socket)
    assert ask(socket, request(raw.NEW, orig(), flags=REQUEST)) == []
    (answer,) = ask(socket, request(raw.GET, orig(), flags=REQUEST))
    assert (answer.type, answer.flags) == (raw.NEW, 2)  # multipart, and no DONE
    assert codes(ask(socket, request(raw.GET, orig(2), flags=REQUEST))) == [errno.ENOENT]


def test_several_in_a_datagram(socket: NetlinkSocket) -> None:
    """Each has its answer, and a refusal does not stop the next."""
    make(socket)
    batch = [
        request(raw.GET, orig(), seq=1),
        request(raw.GET, orig(2), seq=2),
        request(raw.DELETE, orig(), seq=3),
        request(raw.GET, orig(), seq=4),
    ]
    answers = ask(socket, *batch)
    told = [(answer.seq, answer.code) for answer in answers]
    assert told == [(1, None), (1, 0), (2, errno.ENOENT), (3, 0), (4, errno.ENOENT)]


def test_one_dump_at_a_time(socket: NetlinkSocket) -> None:
    make(socket)
    dump = REQUEST | ACK | DUMP
    answers = ask(socket, request(raw.GET, flags=dump, seq=1), request(raw.GET, flags=dump, seq=2))
    told = [(answer.type, answer.seq, answer.code) for answer in answers]
    assert told == [(raw.NEW, 1, None), (2, 2, errno.EBUSY), (3, 1, None)]
    assert len(dumped(socket)) == 1


@pytest.mark.parametrize("flag", [0x100, 0x200])
def test_either_bit_is_a_dump(socket: NetlinkSocket, flag: int) -> None:
    make(socket)
    told = [answer.type for answer in ask(socket, request(raw.GET, flags=REQUEST | flag))]
    assert told == [raw.NEW, 3]


def test_what_is_no_request(socket: NetlinkSocket) -> None:
    make(socket)
    assert codes(ask(socket, request(raw.DELETE, flags=ACK))) == [0]  # no NLM_F_REQUEST
    assert codes(ask(socket, request(7))) == [0]
    short = struct.pack("=IHHII", 18, raw.DELETE, REQUEST | ACK, 1, 0) + bytes(4)
    assert codes(ask(socket, short)) == [0]
    assert count(socket) == 1
    for size in (15, 100):
        bad = struct.pack("=IHHII", size, raw.GET, REQUEST | ACK, 1, 0) + bytes(4)
        assert ask(socket, bad, request(raw.DELETE)) == []
    assert count(socket) == 1


@pytest.mark.parametrize("kind", [0x108, 0x1FF, 0xD00, 0xC00 | 1])
def test_what_no_subsystem_has(socket: NetlinkSocket, kind: int) -> None:
    assert codes(ask(socket, request(kind))) == [errno.EINVAL]


@pytest.mark.parametrize("kind", [0x106, 0x107])
def test_lists_that_are_dumps_alone(socket: NetlinkSocket, kind: int) -> None:
    make(socket)
    assert codes(ask(socket, request(kind))) == [errno.EOPNOTSUPP]
    (end,) = ask(socket, request(kind, flags=REQUEST | DUMP | ACK))
    assert end.type == 3


def test_the_statistics_of_processors_are_a_dump_alone(socket: NetlinkSocket) -> None:
    make(socket)
    assert ask(socket, request(raw.GET_STATS_CPU, flags=REQUEST)) == []
    assert codes(ask(socket, request(raw.GET_STATS_CPU))) == [0]
    *told, end = ask(socket, request(raw.GET_STATS_CPU, flags=REQUEST | DUMP))
    assert end.type == 3
    assert {answer.type for answer in told} == {raw.GET_STATS_CPU}
    assert [answer.payload[3] for answer in told] == list(range(len(told)))
    assert list(raw.numbers(told[0].payload)) == [2, 4, 8, 9, 10, 11, 12, 13, 14, 15]
    inserts = sum(int.from_bytes(raw.numbers(a.payload)[8], "big") for a in told)
    assert inserts == 1


def test_statistics(socket: NetlinkSocket) -> None:
    make(socket)
    answer, ack = ask(socket, request(raw.GET_STATS, flags=REQUEST | ACK | DUMP))
    assert (answer.type, answer.flags, ack.code) == (raw.GET_STATS, 2, 0)
    entries, most = (int.from_bytes(value, "big") for value in raw.numbers(answer.payload).values())
    assert (entries, list(raw.numbers(answer.payload))) == (1, [1, 2])
    assert most >= 1 << 10  # it is the machine's, and others may change it


def test_an_echo(socket: NetlinkSocket, opened: Opener) -> None:
    """The event as an answer, before the acknowledgement, and then not as an event too."""
    for group in (1, 2, 3):
        socket.join(group)
    listener = opened(groups=(1, 3))
    data = (orig(), reply(), pack_be32(CTA.TIMEOUT, 600))
    event, ack = ask(socket, request(raw.NEW, *data, flags=REQUEST | ACK | ECHO | 0x600, seq=9))
    assert (event.type, event.flags, event.seq, ack.code) == (raw.NEW, 0x600, 0, 0)
    event, ack = ask(socket, request(raw.DELETE, flags=REQUEST | ACK | ECHO, seq=9))
    assert (event.type, event.flags, event.seq, ack.code) == (raw.DELETE, 0, 0, 0)
    assert [each.groups for each in raw.read(listener)] == [1, 4]


def test_no_echo_of_flows_that_emit_nothing(anykernel: AnyKernel, socket: NetlinkSocket) -> None:
    anykernel.sysctl("nf_conntrack_events", 0)
    make(socket)
    (ack,) = ask(socket, request(raw.DELETE, orig(), flags=REQUEST | ACK | ECHO))
    assert ack.code == 0


# -- attributes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "size", "code", "offset"),
    [
        (CTA.MARK_MASK, 1, errno.ERANGE, 20),
        (CTA.LABELS_MASK, 17, errno.ERANGE, 20),
        (CTA.FILTER, 1, errno.ERANGE, 20),
        (CTA.STATUS_MASK, 1, errno.ERANGE, 20),
        (CTA.ZONE, 1, errno.ERANGE, 20),
        (CTA.TIMESTAMP_EVENT, 8, errno.EINVAL, 20),
        (CTA.SYNPROXY, 1, errno.EINVAL, None),
        (28, 1, errno.EINVAL, None),
        (99, 1, errno.EINVAL, None),
    ],
)
@pytest.mark.since("EVENT_TIMESTAMP")
def test_the_probes_of_what_is_known(
    socket: NetlinkSocket, number: int, size: int, code: int, offset: int | None
) -> None:
    (answer,) = ask(socket, request(raw.GET, pack(number, bytes(size))))
    assert (answer.code, answer.offset) == (code, offset)
    assert (answer.detail is None) is (offset is None)


@pytest.mark.since("FILTERED_FLUSH")
def test_the_probe_of_a_filtered_flush(socket: NetlinkSocket) -> None:
    nobody = pack_nest(1, raw.addresses("0.0.0.0", "0.0.0.0"), raw.ports(255))
    probe = request(raw.DELETE, nobody, filtered(0, nested=False), pack_be32(CTA.ID, 0))
    assert codes(ask(socket, probe)) == [errno.EINVAL]


def test_what_is_too_long_repeated_or_left_over(socket: NetlinkSocket) -> None:
    make(socket, 1, 17, pack(CTA.MARK, b"\0\0\0\1\0\0\0\2"))
    assert mark_of(socket) == 1
    parts = (pack_be32(CTA.MARK, 3), pack_be32(CTA.MARK, 4))
    assert codes(ask(socket, request(raw.NEW, orig(), *parts))) == [0]
    assert mark_of(socket) == 4
    _, ack = ask(socket, request(raw.GET, orig(), b"\0"))
    assert (ack.code, ack.detail) == (0, "bytes leftover after parsing attributes")


def test_an_echoed_request(socket: NetlinkSocket) -> None:
    """Where no capped errors are asked for, they bear the whole request."""
    socket.raw.setsockopt(270, 10, 0)
    asked = request(raw.GET, pack(CTA.MARK, b"\0"))
    (answer,) = ask(socket, asked)
    assert (answer.code, answer.flags, answer.offset) == (errno.ERANGE, 0x200, 20)
    socket.raw.setsockopt(270, 11, 0)
    (answer,) = ask(socket, asked)
    assert (answer.code, answer.flags, answer.detail) == (errno.ERANGE, 0, None)
    assert answer.payload == asked[:16]


@pytest.mark.parametrize(
    ("info", "code"),
    [
        (pack_nest(1, byte(1, 9)), 0),
        (pack_nest(1, byte(1, 10)), errno.ERANGE),
        (pack_nest(1, byte(2, 15)), errno.ERANGE),
        (pack_nest(1, pack(4, b"\1")), errno.ERANGE),
        (pack_nest(3, byte(1, 1)), 0),  # another protocol's
        (b"", 0),
    ],
)
@pytest.mark.since("STRICT_RANGES")
def test_the_state_of_tcp(socket: NetlinkSocket, info: bytes, code: int) -> None:
    make(socket, 1, 6)
    update = request(raw.NEW, orig(1, 6), pack(CTA.PROTOINFO, info, nested=True))
    assert codes(ask(socket, update)) == [code]
