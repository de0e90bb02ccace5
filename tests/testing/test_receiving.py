"""Buffers, overruns and the chunks of dumps, of the fake and of the real kernel: the same."""

from __future__ import annotations

import errno
import select
import socket as sockets
import struct

import pytest
from support import flows, raw
from support.anykernel import AnyKernel, Fake
from support.lab import Lab
from support.raw import CTA, DUMP, REQUEST, ask, codes, pack_be32, request

from conntrack_aio import Counters, Flow
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.sandbox import rules
from conntrack_aio.testing import FakeKernel
from conntrack_aio.uapi.netlink import NETLINK_OPTION, SOL_NETLINK
from conntrack_aio.uapi.socket import SO_MEMINFO

from .conftest import Opener
from .test_protocol import make, orig

EVENT = 1280


def meminfo(socket: NetlinkSocket) -> tuple[int, int, int]:
    """Bytes that wait, the buffer's size, and the drops."""
    info = struct.unpack("=9I", socket.raw.getsockopt(sockets.SOL_SOCKET, SO_MEMINFO, 36))
    return info[0], info[1], info[8]


def is_readable(socket: NetlinkSocket) -> bool:
    return bool(select.select([socket.raw.fileno()], [], [], 0)[0])


def update(socket: NetlinkSocket, times: int) -> None:
    """Cause so many events."""
    for _ in range(times):
        assert codes(ask(socket, request(raw.NEW, orig(), pack_be32(CTA.MARK, 1)))) == [0]


# -- buffers ----------------------------------------------------------------------------------


def test_what_waits_is_readable(opened: Opener) -> None:
    socket = opened()
    assert not is_readable(socket)
    socket.send(request(raw.GET_STATS))
    for _ in range(2):
        assert is_readable(socket)
        socket.receive()
    assert not is_readable(socket)
    with pytest.raises(BlockingIOError):
        socket.receive()


@pytest.mark.sizes
@pytest.mark.parametrize(
    ("asked", "granted"), [(1, 2304), (1152, 2304), (1153, 2306), (100_000, 200_000)]
)
def test_a_buffer_is_doubled(opened: Opener, asked: int, granted: int) -> None:
    assert opened(asked).receive_buffer == granted
    other = opened()
    assert other.receive_buffer == 212992
    other.raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, asked)
    assert other.receive_buffer == granted


@pytest.mark.sizes
def test_what_is_too_long_to_send(opened: Opener) -> None:
    socket = opened()
    with pytest.raises(OSError, match="too long") as caught:
        socket.send(bytes(212961))
    assert caught.value.errno == errno.EMSGSIZE


@pytest.mark.parametrize("level", [SOL_NETLINK, sockets.SOL_SOCKET])
def test_options_that_there_are_not(opened: Opener, level: int) -> None:
    with pytest.raises(OSError, match="rotocol not available"):
        opened().raw.setsockopt(level, 99, 1)


@pytest.mark.sizes
def test_a_message_takes_more_than_its_bytes(opened: Opener) -> None:
    socket = opened()
    make(socket)
    socket.send(request(raw.GET, orig()))
    assert meminfo(socket)[0] == 832 + 832
    raw.read(socket)
    assert meminfo(socket)[0] == 0
    listener = opened(groups=(2,))
    update(socket, 3)
    assert meminfo(listener)[0] == 3 * EVENT


@pytest.mark.sizes
def test_acknowledgements_that_do_not_fit_are_lost(opened: Opener) -> None:
    """The requests were carried out all the same."""
    socket = opened()
    make(socket)
    most = 212992 // 832
    answers = ask(socket, *[request(raw.NEW, orig(), seq=seq) for seq in range(1, most + 11)])
    assert [answer.code for answer in answers] == [errno.ENOBUFS] + [0] * most
    assert meminfo(socket)[2] == 10


# -- overruns ---------------------------------------------------------------------------------


@pytest.mark.sizes
def test_an_overrun(opened: Opener) -> None:
    socket, listener = opened(), opened(groups=(2,))
    make(socket)
    held = 212992 // EVENT
    assert held == 166
    update(socket, held + 5)
    assert meminfo(listener)[2] == 5
    assert is_readable(listener)
    with pytest.raises(OSError, match="No buffer space"):  # first
        listener.receive()
    assert meminfo(listener)[0] == held * EVENT
    for _ in range(held - 1):
        listener.receive()
    update(socket, 2)  # one still waits: these are dropped too, and nothing says so
    assert meminfo(listener)[2] == 7
    listener.receive()
    update(socket, 1)  # the queue was empty: events come again
    assert listener.receive()
    with pytest.raises(BlockingIOError):
        listener.receive()
    assert meminfo(listener)[2] == 7


def test_an_overrun_that_nothing_waits_behind(opened: Opener) -> None:
    """ENOBUFS itself is the read that finds the queue empty."""
    socket, listener = opened(), opened(1, groups=(2,))
    make(socket)
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


def test_drops_without_an_error(opened: Opener) -> None:
    socket, listener = opened(), opened(1, groups=(2,))
    listener.raw.setsockopt(SOL_NETLINK, NETLINK_OPTION.NO_ENOBUFS, 1)
    make(socket)
    update(socket, 5)
    assert meminfo(listener)[2] == 4
    assert listener.receive()
    update(socket, 1)
    assert listener.receive()


def test_who_insists_on_destroy_events_gets_them_all(opened: Opener) -> None:
    """The flows stay on the list of the dying until the event finds room."""
    socket, listener = opened(), opened(1, groups=(3,))
    listener.raw.setsockopt(SOL_NETLINK, NETLINK_OPTION.BROADCAST_ERROR, 1)
    listener.raw.setsockopt(SOL_NETLINK, NETLINK_OPTION.NO_ENOBUFS, 1)
    for number in range(1, 6):
        make(socket, number)
    ask(socket, request(raw.DELETE))
    dying = ask(socket, request(0x106, flags=REQUEST | DUMP, family=0))
    assert len(dying) == 4 + 1
    stats, _ = ask(socket, request(raw.GET_STATS))
    assert raw.numbers(stats.payload)[1] == b"\0\0\0\4"  # they are still counted
    seen = set()
    while len(seen) < 5:
        assert select.select([listener.raw.fileno()], [], [], 5)[0]
        seen |= {raw.numbers(answer.payload)[1] for answer in raw.read(listener)}
    (end,) = ask(socket, request(0x106, flags=REQUEST | DUMP, family=0))
    assert end.type == 3


def test_who_insists_is_told_of_overruns_too(opened: Opener) -> None:
    """Each retry that finds no room is counted as a drop; all events come, and once."""
    socket, listener = opened(), opened(6000, groups=(3,))
    listener.enable_broadcast_errors()
    for number in range(1, 41):
        make(socket, number)
    ask(socket, request(raw.DELETE))
    held = 12000 // EVENT
    first = meminfo(listener)
    assert first[0] == held * EVENT
    with pytest.raises(OSError, match="No buffer space"):
        listener.receive()
    seen: list[bytes] = []
    while len(seen) < 40:
        assert select.select([listener.raw.fileno()], [], [], 5)[0]
        seen += [
            raw.numbers(answer.payload)[CTA.ID] for answer in raw.read(listener) if answer.payload
        ]
    assert len(set(seen)) == 40
    assert meminfo(listener)[2] >= first[2] > 0


def test_the_fake_kernel_retries_up_to_the_first_that_finds_no_room() -> None:
    kernel = FakeKernel(flows=map(flows.tcp, range(40)), sysctls={"nf_conntrack_events": 1})
    socket_factory = kernel._socket_factory
    socket, listener = socket_factory.open(), socket_factory.open(6000)
    listener.join(3)
    listener.enable_broadcast_errors()
    ask(socket, request(raw.DELETE))
    drops = meminfo(listener)[2]
    assert len(kernel.dying) == 40 - 12000 // EVENT == 31
    with pytest.raises(OSError, match="No buffer space"):
        listener.receive()
    for _ in range(8):
        listener.receive()
    assert meminfo(listener)[2] == drops + 8
    assert len(kernel.dying) == 31
    listener.receive()  # the last: now there is room for nine more
    assert len(kernel.dying) == 31 - 9
    socket.close()
    listener.close()


def test_what_was_missed_comes_with_the_next(opened: Opener) -> None:
    """Of an entry whose NEW found no room, the first event that does is a NEW."""
    socket, listener = opened(), opened(1, groups=(1, 2))
    listener.raw.setsockopt(SOL_NETLINK, NETLINK_OPTION.BROADCAST_ERROR, 1)
    listener.raw.setsockopt(SOL_NETLINK, NETLINK_OPTION.NO_ENOBUFS, 1)
    make(socket, 2)
    make(socket, 1)
    raw.read(listener)
    update(socket, 2)
    (first,) = raw.read(listener)
    update(socket, 1)
    (second,) = raw.read(listener)
    assert [event.flags for event in (first, second)] == [0x600, 0]


# -- dumps ------------------------------------------------------------------------------------


def chunks(socket: NetlinkSocket, kind: int, buffer: int) -> list[bytes]:
    """A dump's datagrams, read with a buffer of this size."""
    socket.send(request(kind, flags=REQUEST | DUMP))
    room = memoryview(bytearray(buffer))
    read: list[bytes] = []
    while not read or read[-1][4] != 3:
        size, _ = socket.raw.recvfrom_into(room, buffer, 0x20)
        read.append(bytes(room[: min(size, buffer)]) + bytes(max(0, size - buffer)))
    return read


ENTRY = 192
"""A UDP flow in a dump."""


@pytest.mark.sizes
@pytest.mark.parametrize(
    ("buffer", "room"),
    [(65536, 32448), (32768, 32448), (16384, 16384), (8192, 8192), (100, 3776)],
)
def test_the_size_of_chunks(opened: Opener, buffer: int, room: int) -> None:
    """The first is of a page; the next as large as the largest buffer that was read with."""
    socket = opened()
    data = []
    for number in range(400):
        source = f"10.3.{number >> 8}.{number & 255}"
        parts = (
            raw.pack_nest(1, raw.addresses(source, "10.2.0.1"), raw.ports(17, 1, 2)),
            raw.pack_nest(2, raw.addresses("10.2.0.1", source), raw.ports(17, 2, 1)),
            pack_be32(CTA.TIMEOUT, 600),
        )
        data.append(request(raw.NEW, *parts, flags=REQUEST | 0x600))
    assert ask(socket, *data) == []
    first, *rest, last, end = map(len, chunks(opened(), raw.GET, buffer))
    assert first == 3776 // ENTRY * ENTRY
    assert set(rest) <= {room // ENTRY * ENTRY}
    assert first + sum(rest) + last == 400 * ENTRY
    assert end == 20


@pytest.mark.sizes
def test_a_dump_goes_on_with_the_table_as_it_is(opened: Opener) -> None:
    """A chunk is made when the one before is read: what ends meanwhile is not told."""
    socket = opened()
    for number in range(1, 101):
        make(socket, number)
    dump = opened()
    dump.send(request(raw.GET, flags=REQUEST | DUMP))
    dump.receive()
    assert codes(ask(socket, request(raw.DELETE))) == [0]
    rest = raw.read(dump)
    told = [answer for answer in rest if answer.type == raw.NEW]
    assert len(told) == 100 - 3776 // ENTRY  # the second chunk was made with the first's reading
    assert rest[-1].type == 3


@pytest.mark.sizes
@pytest.mark.parametrize("buffer", [8330])
def test_a_dump_that_resets_counters_loses_some(
    anykernel: AnyKernel, request: pytest.FixtureRequest, opened: Opener, buffer: int
) -> None:
    """The entry that does not fit any more is reset, and told again with zeros."""
    if isinstance(anykernel, Fake):
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
    datagrams = chunks(opened(), raw.GET_CTRZERO, buffer)
    for chunk in datagrams:
        for entry in entries(chunk):
            counters = raw.numbers(entry)[CTA.COUNTERS_ORIG]
            lost += counters[4:12] == bytes(8)
    assert 0 < lost < len(datagrams)


def send_to_ports(ports: range) -> None:
    with sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM) as socket:
        for port in ports:
            socket.sendto(b"x", ("127.0.0.1", port))


def entries(chunk: bytes) -> list[bytes]:
    """The payloads of the flows over loopback that a test made."""
    found = []
    start = 0
    while start < len(chunk):
        size, kind = struct.unpack_from("=IH", chunk, start)
        if kind == raw.NEW:
            found.append(chunk[start + 16 : start + size])
        start += (size + 3) & ~3
    return found
