"""The fake and the real kernel reply alike to requests that the library never sends."""

from __future__ import annotations

import errno
import struct

import pytest
from support import raw_requests
from support.raw_requests import (
    ACK,
    CTA,
    DUMP,
    ECHO,
    REQUEST,
    be8,
    be16,
    error_codes,
    exchange,
    pack,
    pack_be32,
    pack_nest,
    request,
)
from support.real_or_fake_kernel import AnyKernel

from conntrack_aio.netlink.socket import NetlinkSocket

from .conftest import Opener

NO_TUPLE = [
    pytest.param(pack_be32(CTA.ID, 1), id="id"),
    pytest.param(pack_be32(CTA.MARK_MASK, 1), id="mark mask"),
    pytest.param(pack_be32(CTA.STATUS_MASK, 1), id="status mask"),
    pytest.param(pack(99, b""), id="unknown attribute"),
    pytest.param(b"", id="no attribute"),
]


@pytest.fixture
def socket(open_socket: Opener) -> NetlinkSocket:
    return open_socket()


def orig(number: int = 1, proto: int = 17, *, kind: int = CTA.TUPLE_ORIG) -> bytes:
    return pack_nest(
        kind,
        raw_requests.addresses(f"10.0.0.{number}", "10.0.1.1"),
        raw_requests.ports(proto, 1, 2),
    )


def reply(number: int = 1, proto: int = 17) -> bytes:
    addresses = raw_requests.addresses("10.0.1.1", f"10.0.0.{number}")
    return pack_nest(CTA.TUPLE_REPLY, addresses, raw_requests.ports(proto, 2, 1))


def tuple6(kind: int, *, is_reply: bool = False, proto: int = 17) -> bytes:
    ends = ("2001:db8::2", "2001:db8::1") if is_reply else ("2001:db8::1", "2001:db8::2")
    return pack_nest(
        kind,
        raw_requests.addresses(*ends),
        raw_requests.ports(proto, *((2, 1) if is_reply else (1, 2))),
    )


def create(socket: NetlinkSocket, number: int = 1, proto: int = 17, *others: bytes) -> None:
    data = (orig(number, proto), reply(number, proto), pack_be32(CTA.TIMEOUT, 600), *others)
    assert error_codes(
        exchange(socket, request(raw_requests.NEW, *data, flags=REQUEST | ACK | 0x600))
    ) == [0]


def count(socket: NetlinkSocket) -> int:
    message, _ = exchange(socket, request(raw_requests.GET_STATS, family=0))
    return int.from_bytes(raw_requests.attributes_by_number(message.payload)[1], "big")


def dumped(
    socket: NetlinkSocket, *attributes: bytes, family: int = 2
) -> list[raw_requests.RawReply]:
    """Return the entries of a dump, and check that it ends without an error."""
    *entries, end = exchange(
        socket, request(raw_requests.GET, *attributes, flags=REQUEST | DUMP, family=family)
    )
    assert (end.type, end.payload) == (3, bytes(4)), end
    return entries


def filtered(orig_flags: int, reply_flags: int = 0, *, nested: bool = True) -> bytes:
    flags = pack(1, struct.pack("=I", orig_flags)) + pack(2, struct.pack("=I", reply_flags))
    return pack(CTA.FILTER, flags, nested=nested)


# -- deletes and flushes ----------------------------------------------------------------------


@pytest.mark.parametrize("attributes", NO_TUPLE)
def test_a_delete_without_a_tuple_is_a_flush(socket: NetlinkSocket, attributes: bytes) -> None:
    for number in range(3):
        create(socket, number)
    assert error_codes(exchange(socket, request(raw_requests.DELETE, attributes))) == [0]
    assert count(socket) == 0


@pytest.mark.parametrize(("version", "left"), [(0, 0), (1, 2)])
def test_a_flush_honors_the_family_only_with_a_version(
    socket: NetlinkSocket, version: int, left: int
) -> None:
    create(socket, 1)
    create(socket, 2)
    assert error_codes(
        exchange(socket, request(raw_requests.DELETE, family=10, version=version))
    ) == [0]
    assert count(socket) == left


def test_the_id_is_compared_by_delete_and_ignored_by_get(socket: NetlinkSocket) -> None:
    create(socket)
    assert error_codes(
        exchange(socket, request(raw_requests.DELETE, orig(), pack_be32(CTA.ID, 1)))
    ) == [errno.ENOENT]
    assert count(socket) == 1
    assert error_codes(
        exchange(socket, request(raw_requests.GET, orig(), pack_be32(CTA.ID, 1)))
    ) == [0]


def test_a_delete_with_an_incomplete_tuple_is_refused(socket: NetlinkSocket) -> None:
    create(socket)
    ends = raw_requests.addresses("10.0.0.1", "10.0.1.1")
    for incomplete in (
        pack_nest(1, ends),
        pack_nest(1, ends, raw_requests.ports(17, 1)),
        pack_nest(1),
    ):
        assert error_codes(exchange(socket, request(raw_requests.DELETE, incomplete))) == [
            errno.EINVAL
        ]
    assert error_codes(exchange(socket, request(raw_requests.DELETE, orig(), family=7))) == [
        errno.EOPNOTSUPP
    ]
    assert count(socket) == 1


def test_cta_tuple_orig_may_hold_the_reply_tuple(socket: NetlinkSocket) -> None:
    create(socket)
    under_orig = pack_nest(
        CTA.TUPLE_ORIG, raw_requests.addresses("10.0.1.1", "10.0.0.1"), raw_requests.ports(17, 2, 1)
    )
    assert error_codes(exchange(socket, request(raw_requests.DELETE, under_orig))) == [0]
    assert count(socket) == 0


def test_a_filtered_flush_deletes_only_selected_entries(socket: NetlinkSocket) -> None:
    for number in (1, 2, 3):
        create(socket, number)
    assert error_codes(exchange(socket, request(raw_requests.DELETE, orig(2), filtered(3)))) == [0]
    assert count(socket) == 2


# -- filters ----------------------------------------------------------------------------------


def create6(socket: NetlinkSocket) -> None:
    data = (
        tuple6(CTA.TUPLE_ORIG),
        tuple6(CTA.TUPLE_REPLY, is_reply=True),
        pack_be32(CTA.TIMEOUT, 600),
    )
    new = request(raw_requests.NEW, *data, flags=REQUEST | ACK | 0x600, family=10)
    assert error_codes(exchange(socket, new)) == [0]


def test_the_comparison_of_ipv6_addresses_is_inverted(socket: NetlinkSocket) -> None:
    create6(socket)
    same, different = tuple6(CTA.TUPLE_ORIG), tuple6(CTA.TUPLE_ORIG, is_reply=True)
    assert dumped(socket, same, filtered(1), family=10) == []
    assert len(dumped(socket, different, filtered(1), family=10)) == 1
    # So a flush of other addresses deletes this entry.
    assert error_codes(
        exchange(socket, request(raw_requests.DELETE, different, filtered(3), family=10))
    ) == [0]
    assert count(socket) == 0


@pytest.mark.parametrize(("proto", "found"), [(6, 0), (17, 0), (132, 1), (47, 1)])
def test_ports_are_compared_only_for_tcp_and_udp(
    socket: NetlinkSocket, proto: int, found: int
) -> None:
    create(socket, 1, proto)
    other = pack_nest(
        1, raw_requests.addresses("10.0.0.1", "10.0.1.1"), raw_requests.ports(proto, 7, 7)
    )
    assert len(dumped(socket, other, filtered(0x3B))) == found
    assert len(dumped(socket, orig(1, proto), filtered(0x3B))) == 1


@pytest.mark.since("FILTERED_FLUSH")
def test_invalid_filters_are_refused(socket: NetlinkSocket) -> None:
    create(socket)

    def code(*attributes: bytes, family: int = 2) -> list[int | None]:
        dump = request(raw_requests.GET, *attributes, flags=REQUEST | DUMP, family=family)
        return error_codes(exchange(socket, dump))

    assert code(orig(), filtered(1, nested=False)) == [errno.EINVAL]
    assert code(filtered(1)) == [errno.EINVAL]  # There is no tuple.
    assert code(orig(), filtered(0x10)) == [errno.EINVAL]  # The filter has a port but no protocol.
    assert code(orig(), filtered(1), family=0) == [errno.EOPNOTSUPP]
    assert code(orig(), filtered(0x1000)) == [errno.EINVAL]
    assert code(pack_be32(CTA.MARK_MASK, 1)) == [errno.EINVAL]
    # Without a family the kernel ignores the mask.
    assert code(pack_be32(CTA.MARK_MASK, 1), family=0) == []
    assert code(pack_be32(CTA.STATUS, 0)) == [errno.EINVAL]
    # Without CTA_FILTER the kernel ignores the tuple.
    assert code(orig()) == []


@pytest.mark.since("ZONE_FILTER")
def test_dumps_filter_by_zone(socket: NetlinkSocket) -> None:
    create(socket, 1)
    create(socket, 2, 17, be16(CTA.ZONE, 5))
    assert len(dumped(socket)) == 2
    assert len(dumped(socket, be16(CTA.ZONE, 5))) == 1
    assert len(dumped(socket, be16(CTA.ZONE, 0))) == 1
    assert dumped(socket, be16(CTA.ZONE, 6)) == []


def test_entries_of_a_filtered_dump_have_the_flag(socket: NetlinkSocket) -> None:
    create(socket)
    (entry,) = dumped(socket, family=0)
    assert entry.flags == 2
    (entry,) = dumped(socket, family=2)
    assert entry.flags == 0x22


# -- updates ----------------------------------------------------------------------------------


def read_mark(socket: NetlinkSocket) -> int:
    message, _ = exchange(socket, request(raw_requests.GET, orig()))
    return int.from_bytes(raw_requests.attributes_by_number(message.payload)[CTA.MARK], "big")


def test_bits_of_the_mark_outside_its_mask_are_toggled(socket: NetlinkSocket) -> None:
    create(socket, 1, 17, pack_be32(CTA.MARK, 0xF0))
    parts = (pack_be32(CTA.MARK, 0x93), pack_be32(CTA.MARK_MASK, 0x0F))
    assert error_codes(exchange(socket, request(raw_requests.NEW, orig(), *parts))) == [0]
    assert read_mark(socket) == 0xF0 ^ 0x93


@pytest.mark.parametrize(
    ("status", "code"),
    [(8, 0), (0xE, 0), (0, 16), (6, 16), (9, 16), (0x208, 16), (0x1F538, 0)],
)
def test_which_status_bits_an_update_may_set(socket: NetlinkSocket, status: int, code: int) -> None:
    create(socket)
    assert error_codes(
        exchange(socket, request(raw_requests.NEW, orig(), pack_be32(CTA.STATUS, status)))
    ) == [code]
    message, _ = exchange(socket, request(raw_requests.GET, orig()))
    settable = status & 0x2406 if not code else 0
    stored = int.from_bytes(raw_requests.attributes_by_number(message.payload)[CTA.STATUS], "big")
    assert stored == 8 | settable


def test_attributes_before_a_refused_one_are_applied_without_an_event(
    socket: NetlinkSocket, open_socket: Opener
) -> None:
    create(socket)
    listener = open_socket(groups=(2,))
    parts = (pack_be32(CTA.MARK, 7), pack(CTA.LABELS, bytes(16)))
    assert error_codes(exchange(socket, request(raw_requests.NEW, orig(), *parts))) == [
        errno.ENOSPC
    ]
    assert read_mark(socket) == 7
    assert raw_requests.read_replies(listener) == []


def test_an_update_that_changes_nothing_emits_an_event(
    socket: NetlinkSocket, open_socket: Opener
) -> None:
    create(socket)
    listener = open_socket(groups=(2,))
    assert error_codes(exchange(socket, request(raw_requests.NEW, orig()))) == [0]
    (event,) = raw_requests.read_replies(listener)
    assert (event.type, event.flags, event.seq, event.groups) == (raw_requests.NEW, 0, 0, 2)


def test_a_new_flow_with_the_reply_tuple_of_an_entry_updates_it(socket: NetlinkSocket) -> None:
    """The kernel finds the entry by either tuple, whichever attribute has it."""
    create(socket)
    swapped = (
        pack_nest(1, raw_requests.addresses("10.0.1.1", "10.0.0.1"), raw_requests.ports(17, 2, 1)),
        pack_nest(2, raw_requests.addresses("10.0.0.1", "10.0.1.1"), raw_requests.ports(17, 1, 2)),
    )
    parts = (*swapped, pack_be32(CTA.TIMEOUT, 600), pack_be32(CTA.MARK, 9))
    assert error_codes(
        exchange(socket, request(raw_requests.NEW, *parts, flags=REQUEST | ACK | 0x400))
    ) == [0]
    assert (count(socket), read_mark(socket)) == (1, 9)


# -- requests and replies ---------------------------------------------------------------------


def test_a_success_is_acknowledged_only_on_request(socket: NetlinkSocket) -> None:
    create(socket)
    assert exchange(socket, request(raw_requests.NEW, orig(), flags=REQUEST)) == []
    (message,) = exchange(socket, request(raw_requests.GET, orig(), flags=REQUEST))
    # The reply has NLM_F_MULTI, although no NLMSG_DONE follows.
    assert (message.type, message.flags) == (raw_requests.NEW, 2)
    assert error_codes(exchange(socket, request(raw_requests.GET, orig(2), flags=REQUEST))) == [
        errno.ENOENT
    ]


def test_each_request_of_a_datagram_is_executed(socket: NetlinkSocket) -> None:
    """Each request gets a reply, and a refused request does not stop the next one."""
    create(socket)
    batch = [
        request(raw_requests.GET, orig(), seq=1),
        request(raw_requests.GET, orig(2), seq=2),
        request(raw_requests.DELETE, orig(), seq=3),
        request(raw_requests.GET, orig(), seq=4),
    ]
    replies = exchange(socket, *batch)
    seen = [(message.seq, message.code) for message in replies]
    assert seen == [(1, None), (1, 0), (2, errno.ENOENT), (3, 0), (4, errno.ENOENT)]


def test_a_socket_has_one_dump_at_a_time(socket: NetlinkSocket) -> None:
    create(socket)
    dump = REQUEST | ACK | DUMP
    replies = exchange(
        socket,
        request(raw_requests.GET, flags=dump, seq=1),
        request(raw_requests.GET, flags=dump, seq=2),
    )
    seen = [(message.type, message.seq, message.code) for message in replies]
    assert seen == [(raw_requests.NEW, 1, None), (2, 2, errno.EBUSY), (3, 1, None)]
    assert len(dumped(socket)) == 1


@pytest.mark.parametrize("flag", [0x100, 0x200])
def test_either_bit_of_nlm_f_dump_starts_a_dump(socket: NetlinkSocket, flag: int) -> None:
    create(socket)
    seen = [
        message.type
        for message in exchange(socket, request(raw_requests.GET, flags=REQUEST | flag))
    ]
    assert seen == [raw_requests.NEW, 3]


def test_messages_that_are_not_requests_are_only_acknowledged(socket: NetlinkSocket) -> None:
    create(socket)
    assert error_codes(exchange(socket, request(raw_requests.DELETE, flags=ACK))) == [
        0
    ]  # NLM_F_REQUEST is missing.
    assert error_codes(exchange(socket, request(7))) == [0]
    short = struct.pack("=IHHII", 18, raw_requests.DELETE, REQUEST | ACK, 1, 0) + bytes(4)
    assert error_codes(exchange(socket, short)) == [0]
    assert count(socket) == 1
    for size in (15, 100):
        bad = struct.pack("=IHHII", size, raw_requests.GET, REQUEST | ACK, 1, 0) + bytes(4)
        assert exchange(socket, bad, request(raw_requests.DELETE)) == []
    assert count(socket) == 1


@pytest.mark.parametrize("kind", [0x108, 0x1FF, 0xD00, 0xC00 | 1])
def test_unknown_messages_are_refused(socket: NetlinkSocket, kind: int) -> None:
    assert error_codes(exchange(socket, request(kind))) == [errno.EINVAL]


@pytest.mark.parametrize("kind", [0x106, 0x107])
def test_dying_and_unconfirmed_entries_can_only_be_dumped(socket: NetlinkSocket, kind: int) -> None:
    create(socket)
    assert error_codes(exchange(socket, request(kind))) == [errno.EOPNOTSUPP]
    (end,) = exchange(socket, request(kind, flags=REQUEST | DUMP | ACK))
    assert end.type == 3


def test_the_statistics_of_processors_can_only_be_dumped(socket: NetlinkSocket) -> None:
    create(socket)
    assert exchange(socket, request(raw_requests.GET_STATS_CPU, flags=REQUEST)) == []
    assert error_codes(exchange(socket, request(raw_requests.GET_STATS_CPU))) == [0]
    *replies, end = exchange(socket, request(raw_requests.GET_STATS_CPU, flags=REQUEST | DUMP))
    assert end.type == 3
    assert {message.type for message in replies} == {raw_requests.GET_STATS_CPU}
    assert [message.payload[3] for message in replies] == list(range(len(replies)))
    assert list(raw_requests.attributes_by_number(replies[0].payload)) == [
        2,
        4,
        8,
        9,
        10,
        11,
        12,
        13,
        14,
        15,
    ]
    inserts = sum(
        int.from_bytes(raw_requests.attributes_by_number(message.payload)[8], "big")
        for message in replies
    )
    assert inserts == 1


def test_the_statistics_have_the_number_of_entries_and_its_limit(socket: NetlinkSocket) -> None:
    create(socket)
    message, ack = exchange(socket, request(raw_requests.GET_STATS, flags=REQUEST | ACK | DUMP))
    assert (message.type, message.flags, ack.code) == (raw_requests.GET_STATS, 2, 0)
    entries, limit = (
        int.from_bytes(value, "big")
        for value in raw_requests.attributes_by_number(message.payload).values()
    )
    assert (entries, list(raw_requests.attributes_by_number(message.payload))) == (1, [1, 2])
    # The limit is that of the machine, and other programs may change it.
    assert limit >= 1 << 10


def test_an_echo_is_a_reply_and_not_an_event_too(
    socket: NetlinkSocket, open_socket: Opener
) -> None:
    """The requester gets the event once, before the acknowledgement."""
    for group in (1, 2, 3):
        socket.join(group)
    listener = open_socket(groups=(1, 3))
    data = (orig(), reply(), pack_be32(CTA.TIMEOUT, 600))
    event, ack = exchange(
        socket, request(raw_requests.NEW, *data, flags=REQUEST | ACK | ECHO | 0x600, seq=9)
    )
    assert (event.type, event.flags, event.seq, ack.code) == (raw_requests.NEW, 0x600, 0, 0)
    event, ack = exchange(socket, request(raw_requests.DELETE, flags=REQUEST | ACK | ECHO, seq=9))
    assert (event.type, event.flags, event.seq, ack.code) == (raw_requests.DELETE, 0, 0, 0)
    assert [event.groups for event in raw_requests.read_replies(listener)] == [1, 4]


def test_flows_without_events_have_no_echo(anykernel: AnyKernel, socket: NetlinkSocket) -> None:
    anykernel.sysctl("nf_conntrack_events", 0)
    create(socket)
    (ack,) = exchange(socket, request(raw_requests.DELETE, orig(), flags=REQUEST | ACK | ECHO))
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
def test_the_refusal_of_a_short_attribute_shows_whether_it_is_known(
    socket: NetlinkSocket, number: int, size: int, code: int, offset: int | None
) -> None:
    (message,) = exchange(socket, request(raw_requests.GET, pack(number, bytes(size))))
    assert (message.code, message.offset) == (code, offset)
    assert (message.detail is None) is (offset is None)


@pytest.mark.since("FILTERED_FLUSH")
def test_a_flush_with_an_unnested_filter_is_refused(socket: NetlinkSocket) -> None:
    unused_tuple = pack_nest(
        1, raw_requests.addresses("0.0.0.0", "0.0.0.0"), raw_requests.ports(255)
    )
    probe = request(
        raw_requests.DELETE, unused_tuple, filtered(0, nested=False), pack_be32(CTA.ID, 0)
    )
    assert error_codes(exchange(socket, probe)) == [errno.EINVAL]


def test_long_repeated_and_trailing_attributes_are_accepted(socket: NetlinkSocket) -> None:
    create(socket, 1, 17, pack(CTA.MARK, b"\0\0\0\1\0\0\0\2"))
    assert read_mark(socket) == 1
    parts = (pack_be32(CTA.MARK, 3), pack_be32(CTA.MARK, 4))
    assert error_codes(exchange(socket, request(raw_requests.NEW, orig(), *parts))) == [0]
    assert read_mark(socket) == 4
    _, ack = exchange(socket, request(raw_requests.GET, orig(), b"\0"))
    assert (ack.code, ack.detail) == (0, "bytes leftover after parsing attributes")


def test_errors_have_the_request_without_cap_ack(socket: NetlinkSocket) -> None:
    """Without NETLINK_CAP_ACK an error has the complete request."""
    socket.raw.setsockopt(270, 10, 0)
    short = request(raw_requests.GET, pack(CTA.MARK, b"\0"))
    (message,) = exchange(socket, short)
    assert (message.code, message.flags, message.offset) == (errno.ERANGE, 0x200, 20)
    socket.raw.setsockopt(270, 11, 0)
    (message,) = exchange(socket, short)
    assert (message.code, message.flags, message.detail) == (errno.ERANGE, 0, None)
    assert message.payload == short[:16]


@pytest.mark.parametrize(
    ("info", "code"),
    [
        (pack_nest(1, be8(1, 9)), 0),
        (pack_nest(1, be8(1, 10)), errno.ERANGE),
        (pack_nest(1, be8(2, 15)), errno.ERANGE),
        (pack_nest(1, pack(4, b"\1")), errno.ERANGE),
        (pack_nest(3, be8(1, 1)), 0),  # the nest of another protocol
        (b"", 0),
    ],
)
@pytest.mark.since("STRICT_RANGES")
def test_tcp_attributes_are_validated(socket: NetlinkSocket, info: bytes, code: int) -> None:
    create(socket, 1, 6)
    update = request(raw_requests.NEW, orig(1, 6), pack(CTA.PROTOINFO, info, nested=True))
    assert error_codes(exchange(socket, update)) == [code]
