"""Receive buffers, overruns and chunks of dumps are the same in the fake and the real kernel."""

from __future__ import annotations

import errno
import select
import socket as sockets
import struct

import pytest
from support import flows, raw_requests
from support.lab import Lab
from support.raw_requests import CTA, DUMP, REQUEST, error_codes, exchange, pack_be32, request
from support.real_or_fake_kernel import AnyKernel, FakeKernelAdapter

from conntrack_aio import Counters, Flow
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.sandbox import rules
from conntrack_aio.testing import FakeKernel
from conntrack_aio.uapi.netlink import NETLINK_OPTION, SOL_NETLINK
from conntrack_aio.uapi.socket import SO_MEMINFO

from .conftest import Opener
from .test_protocol import create, orig

EVENT = 1280


def meminfo(socket: NetlinkSocket) -> tuple[int, int, int]:
    """Return the queued bytes, the size of the receive buffer, and the number of drops."""
    info = struct.unpack("=9I", socket.raw.getsockopt(sockets.SOL_SOCKET, SO_MEMINFO, 36))
    return info[0], info[1], info[8]


def is_readable(socket: NetlinkSocket) -> bool:
    return bool(select.select([socket.raw.fileno()], [], [], 0)[0])


def update(socket: NetlinkSocket, times: int) -> None:
    """Cause this many UPDATE events."""
    for _ in range(times):
        assert error_codes(
            exchange(socket, request(raw_requests.NEW, orig(), pack_be32(CTA.MARK, 1)))
        ) == [0]


# -- buffers ----------------------------------------------------------------------------------


def test_a_socket_is_readable_while_messages_are_queued(open_socket: Opener) -> None:
    socket = open_socket()
    assert not is_readable(socket)
    socket.send(request(raw_requests.GET_STATS))
    for _ in range(2):
        assert is_readable(socket)
        socket.receive()
    assert not is_readable(socket)
    with pytest.raises(BlockingIOError):
        socket.receive()


@pytest.mark.sizes
@pytest.mark.parametrize(
    ("requested", "granted"), [(1, 2304), (1152, 2304), (1153, 2306), (100_000, 200_000)]
)
def test_the_kernel_doubles_the_receive_buffer(
    open_socket: Opener, requested: int, granted: int
) -> None:
    assert open_socket(requested).receive_buffer == granted
    other = open_socket()
    assert other.receive_buffer == 212992
    other.raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, requested)
    assert other.receive_buffer == granted


@pytest.mark.sizes
def test_a_datagram_beyond_the_send_buffer_is_refused(open_socket: Opener) -> None:
    socket = open_socket()
    with pytest.raises(OSError, match="too long") as caught:
        socket.send(bytes(212961))
    assert caught.value.errno == errno.EMSGSIZE


@pytest.mark.parametrize("level", [SOL_NETLINK, sockets.SOL_SOCKET])
def test_unknown_options_are_refused(open_socket: Opener, level: int) -> None:
    with pytest.raises(OSError, match="rotocol not available"):
        open_socket().raw.setsockopt(level, 99, 1)


@pytest.mark.sizes
def test_a_message_takes_more_of_the_buffer_than_its_bytes(open_socket: Opener) -> None:
    socket = open_socket()
    create(socket)
    socket.send(request(raw_requests.GET, orig()))
    assert meminfo(socket)[0] == 832 + 832
    raw_requests.read_replies(socket)
    assert meminfo(socket)[0] == 0
    listener = open_socket(groups=(2,))
    update(socket, 3)
    assert meminfo(listener)[0] == 3 * EVENT


@pytest.mark.sizes
def test_acknowledgements_that_do_not_fit_are_dropped(open_socket: Opener) -> None:
    """The kernel executes the requests nevertheless."""
    socket = open_socket()
    create(socket)
    capacity = 212992 // 832
    replies = exchange(
        socket, *[request(raw_requests.NEW, orig(), seq=seq) for seq in range(1, capacity + 11)]
    )
    assert [reply.code for reply in replies] == [errno.ENOBUFS] + [0] * capacity
    assert meminfo(socket)[2] == 10


# -- overruns ---------------------------------------------------------------------------------


@pytest.mark.sizes
def test_an_overrun_is_reported_before_the_queued_messages(open_socket: Opener) -> None:
    socket, listener = open_socket(), open_socket(groups=(2,))
    create(socket)
    capacity = 212992 // EVENT
    assert capacity == 166
    update(socket, capacity + 5)
    assert meminfo(listener)[2] == 5
    assert is_readable(listener)
    with pytest.raises(OSError, match="No buffer space"):  # reported first
        listener.receive()
    assert meminfo(listener)[0] == capacity * EVENT
    for _ in range(capacity - 1):
        listener.receive()
    update(socket, 2)  # While a message is queued, these are dropped too, without an error.
    assert meminfo(listener)[2] == 7
    listener.receive()
    update(socket, 1)  # The queue was empty, so events arrive again.
    assert listener.receive()
    with pytest.raises(BlockingIOError):
        listener.receive()
    assert meminfo(listener)[2] == 7


def test_an_overrun_ends_with_the_read_that_finds_the_queue_empty(open_socket: Opener) -> None:
    """A read that fails with ENOBUFS counts if the queue is empty."""
    socket, listener = open_socket(), open_socket(1, groups=(2,))
    create(socket)
    update(socket, 2)
    assert meminfo(listener)[2] == 1
    with pytest.raises(OSError, match="No buffer space"):
        listener.receive()
    listener.receive()
    update(socket, 3)
    assert meminfo(listener)[2] == 3
    with pytest.raises(OSError, match="No buffer space"):
        listener.receive()
    listener.receive()
    with pytest.raises(BlockingIOError):
        listener.receive()


def test_no_enobufs_suppresses_the_error(open_socket: Opener) -> None:
    socket, listener = open_socket(), open_socket(1, groups=(2,))
    listener.raw.setsockopt(SOL_NETLINK, NETLINK_OPTION.NO_ENOBUFS, 1)
    create(socket)
    update(socket, 5)
    assert meminfo(listener)[2] == 4
    assert listener.receive()
    update(socket, 1)
    assert listener.receive()


def test_broadcast_error_makes_destroy_events_reliable(open_socket: Opener) -> None:
    """An entry stays on the dying list until its event is delivered."""
    socket, listener = open_socket(), open_socket(1, groups=(3,))
    listener.raw.setsockopt(SOL_NETLINK, NETLINK_OPTION.BROADCAST_ERROR, 1)
    listener.raw.setsockopt(SOL_NETLINK, NETLINK_OPTION.NO_ENOBUFS, 1)
    for number in range(1, 6):
        create(socket, number)
    exchange(socket, request(raw_requests.DELETE))
    dying = exchange(socket, request(0x106, flags=REQUEST | DUMP, family=0))
    assert len(dying) == 4 + 1
    stats, _ = exchange(socket, request(raw_requests.GET_STATS))
    assert (
        raw_requests.attributes_by_number(stats.payload)[1] == b"\0\0\0\4"
    )  # Dying entries still count.
    seen = set()
    while len(seen) < 5:
        assert select.select([listener.raw.fileno()], [], [], 5)[0]
        seen |= {
            raw_requests.attributes_by_number(message.payload)[1]
            for message in raw_requests.read_replies(listener)
        }
    (end,) = exchange(socket, request(0x106, flags=REQUEST | DUMP, family=0))
    assert end.type == 3


def test_reliable_streams_get_enobufs_too(open_socket: Opener) -> None:
    """Each retry that does not fit counts as a drop, and each event is delivered once."""
    socket, listener = open_socket(), open_socket(6000, groups=(3,))
    listener.enable_broadcast_errors()
    for number in range(1, 41):
        create(socket, number)
    exchange(socket, request(raw_requests.DELETE))
    capacity = 12000 // EVENT
    first = meminfo(listener)
    assert first[0] == capacity * EVENT
    with pytest.raises(OSError, match="No buffer space"):
        listener.receive()
    seen: list[bytes] = []
    while len(seen) < 40:
        assert select.select([listener.raw.fileno()], [], [], 5)[0]
        seen += [
            raw_requests.attributes_by_number(message.payload)[CTA.ID]
            for message in raw_requests.read_replies(listener)
            if message.payload
        ]
    assert len(set(seen)) == 40
    assert meminfo(listener)[2] >= first[2] > 0


def test_the_fake_kernel_retries_up_to_the_first_event_that_does_not_fit() -> None:
    kernel = FakeKernel(flows=map(flows.tcp, range(40)), sysctls={"nf_conntrack_events": 1})
    endpoint = kernel._socket_factory
    socket, listener = endpoint.open(), endpoint.open(6000)
    listener.join(3)
    listener.enable_broadcast_errors()
    exchange(socket, request(raw_requests.DELETE))
    drops = meminfo(listener)[2]
    assert len(kernel.dying) == 40 - 12000 // EVENT == 31
    with pytest.raises(OSError, match="No buffer space"):
        listener.receive()
    for _ in range(8):
        listener.receive()
    assert meminfo(listener)[2] == drops + 8
    assert len(kernel.dying) == 31
    listener.receive()  # The queue is empty now, and nine more events fit.
    assert len(kernel.dying) == 31 - 9
    socket.close()
    listener.close()


def test_a_missed_event_is_sent_with_the_next_one(open_socket: Opener) -> None:
    """If the NEW event of an entry does not fit, its first event that fits is a NEW."""
    socket, listener = open_socket(), open_socket(1, groups=(1, 2))
    listener.raw.setsockopt(SOL_NETLINK, NETLINK_OPTION.BROADCAST_ERROR, 1)
    listener.raw.setsockopt(SOL_NETLINK, NETLINK_OPTION.NO_ENOBUFS, 1)
    create(socket, 2)
    create(socket, 1)
    raw_requests.read_replies(listener)
    update(socket, 2)
    (first,) = raw_requests.read_replies(listener)
    update(socket, 1)
    (second,) = raw_requests.read_replies(listener)
    assert [event.flags for event in (first, second)] == [0x600, 0]


# -- dumps ------------------------------------------------------------------------------------


def chunks(socket: NetlinkSocket, kind: int, buffer: int) -> list[bytes]:
    """Return the datagrams of a dump that is read with a buffer of this size."""
    socket.send(request(kind, flags=REQUEST | DUMP))
    memory = memoryview(bytearray(buffer))
    datagrams: list[bytes] = []
    while not datagrams or datagrams[-1][4] != 3:
        size, _ = socket.raw.recvfrom_into(memory, buffer, 0x20)
        datagrams.append(bytes(memory[: min(size, buffer)]) + bytes(max(0, size - buffer)))
    return datagrams


ENTRY = 192
"""The size of a UDP flow in a dump, in bytes."""


@pytest.mark.sizes
@pytest.mark.parametrize(
    ("buffer", "chunk"),
    [(65536, 32448), (32768, 32448), (16384, 16384), (8192, 8192), (100, 3776)],
)
def test_the_size_of_chunks_follows_the_read_buffer(
    open_socket: Opener, buffer: int, chunk: int
) -> None:
    """The first chunk has a page; the next are as large as the largest buffer of a read."""
    socket = open_socket()
    data = []
    for number in range(400):
        source = f"10.3.{number >> 8}.{number & 255}"
        parts = (
            raw_requests.pack_nest(
                1, raw_requests.addresses(source, "10.2.0.1"), raw_requests.ports(17, 1, 2)
            ),
            raw_requests.pack_nest(
                2, raw_requests.addresses("10.2.0.1", source), raw_requests.ports(17, 2, 1)
            ),
            pack_be32(CTA.TIMEOUT, 600),
        )
        data.append(request(raw_requests.NEW, *parts, flags=REQUEST | 0x600))
    assert exchange(socket, *data) == []
    first, *rest, last, end = map(len, chunks(open_socket(), raw_requests.GET, buffer))
    assert first == 3776 // ENTRY * ENTRY
    assert set(rest) <= {chunk // ENTRY * ENTRY}
    assert first + sum(rest) + last == 400 * ENTRY
    assert end == 20


@pytest.mark.sizes
def test_a_dump_has_the_entries_at_the_time_of_each_chunk(open_socket: Opener) -> None:
    """The kernel builds a chunk when the previous one is read, without entries that have ended."""
    socket = open_socket()
    for number in range(1, 101):
        create(socket, number)
    dump = open_socket()
    dump.send(request(raw_requests.GET, flags=REQUEST | DUMP))
    dump.receive()
    assert error_codes(exchange(socket, request(raw_requests.DELETE))) == [0]
    rest = raw_requests.read_replies(dump)
    entries_left = [message for message in rest if message.type == raw_requests.NEW]
    # The kernel built the second chunk when the first one was read.
    assert len(entries_left) == 100 - 3776 // ENTRY
    assert rest[-1].type == 3


@pytest.mark.sizes
@pytest.mark.parametrize("buffer", [8330])
def test_a_dump_that_resets_counters_loses_those_of_entries_that_do_not_fit(
    anykernel: AnyKernel, request: pytest.FixtureRequest, open_socket: Opener, buffer: int
) -> None:
    """Such an entry is reset, and has zero counters in the next chunk."""
    if isinstance(anykernel, FakeKernelAdapter):
        anykernel.sysctl("nf_conntrack_acct", 1)
        for number in range(600):
            flow = Flow.udp("127.0.0.1", 40000, "127.0.0.1", 1000 + number, timeout=30)
            flow.counters_orig = Counters(packets=1, bytes=29)
            anykernel.kernel.add(flow)
    else:
        lab: Lab = request.getfixturevalue("lab")
        lab.sysctl("nf_conntrack_acct", 1)
        lab.run(rules.track_connections)
        lab.run(send_to_ports, range(1000, 1600))
    lost = 0
    datagrams = chunks(open_socket(), raw_requests.GET_CTRZERO, buffer)
    for chunk in datagrams:
        for entry in entries(chunk):
            counters = raw_requests.attributes_by_number(entry)[CTA.COUNTERS_ORIG]
            lost += counters[4:12] == bytes(8)
    assert 0 < lost < len(datagrams)


def send_to_ports(ports: range) -> None:
    with sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM) as socket:
        for port in ports:
            socket.sendto(b"x", ("127.0.0.1", port))


def entries(chunk: bytes) -> list[bytes]:
    """Return the payloads of the entries in a chunk."""
    payloads = []
    start = 0
    while start < len(chunk):
        size, kind = struct.unpack_from("=IH", chunk, start)
        if kind == raw_requests.NEW:
            payloads.append(chunk[start + 16 : start + size])
        start += (size + 3) & ~3
    return payloads
