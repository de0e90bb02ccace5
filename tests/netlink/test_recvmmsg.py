"""Check how one system call receives many datagrams."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Generator

import pytest
from support.lab import Lab

from conntrack_aio.errors import DecodeError
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.exchange import Answers
from conntrack_aio.netlink.receiving import receive_answers
from conntrack_aio.netlink.recvmmsg import MessageVector, is_available
from conntrack_aio.netlink.socket import RECEIVE_SIZE, NetlinkSocket
from conntrack_aio.uapi.netlink import AF_NETLINK

pytestmark = pytest.mark.kernels

NETLINK_USERSOCK = 2
"""A netlink protocol for messages between programs, without the kernel."""


@pytest.fixture
def pair() -> Generator[tuple[socket.socket, socket.socket]]:
    """Return a pair of sockets whose datagrams have no port id."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    with ours, theirs:
        yield ours, theirs


def test_recvmmsg_is_available_on_this_system() -> None:
    assert is_available()


def test_buffers_are_filled_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    sent = [bytes([n]) * (4 * n + 4) for n in range(5)]
    for datagram in sent:
        theirs.send(datagram)
    vector = MessageVector(3, 100)
    assert vector.receive(ours.fileno(), 10) == 3
    assert [
        bytes(vector.view[start : start + size])
        for start, size in zip(vector.offsets, vector.lengths.tolist(), strict=True)
    ] == sent[:3]
    assert vector.receive(ours.fileno(), 1) == 1
    assert vector.lengths[0] == len(sent[3])
    assert vector.receive(ours.fileno(), 10) == 1
    with pytest.raises(BlockingIOError):
        vector.receive(ours.fileno(), 10)


def test_a_datagram_that_does_not_fit_leaves_the_other_buffers_intact(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    for datagram in (b"a" * 8, b"b" * 500, b"c" * 8):
        theirs.send(datagram)
    vector = MessageVector(3, 100)
    assert vector.receive(ours.fileno(), 3) == 3
    assert vector.lengths.tolist() == [8, 500, 8]
    third = vector.offsets[2]
    assert bytes(vector.view[third : third + 8]) == b"c" * 8


def test_an_error_of_the_system_call_is_raised() -> None:
    with pytest.raises(OSError, match="Bad file descriptor") as failed:
        MessageVector(1, 100).receive(-1, 1)
    assert failed.value.errno == errno.EBADF


# NetlinkSocket.receive_some


def pack_message(number: int, size: int = 4) -> bytes:
    return messages.pack(0x100, 0, number, bytes([number]) * size)


def receive_all(sock: NetlinkSocket, limit: int = 64) -> list[bytes | DecodeError]:
    """Receive what waits, and return datagrams of joined messages and errors."""
    datagrams: list[bytes | DecodeError] = []
    sock.receive_some(datagrams, limit)
    return datagrams


def test_datagrams_with_one_message_each_are_joined(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    sent = [pack_message(number, 4 * number) for number in range(1, 6)]
    for datagram in sent:
        theirs.send(datagram)
    sock = NetlinkSocket(ours)
    assert receive_all(sock) == [b"".join(sent)]
    assert (sock.datagrams_received, sock.bytes_received) == (5, len(b"".join(sent)))


@pytest.mark.parametrize(
    "other",
    [
        pack_message(1) + pack_message(2),
        b"\1\2\3\4\5\6\7\10",
        struct.pack("=II", 8, 0),
        pack_message(1)[:-2],
        pack_message(1) + b"\0\0\0\0",
    ],
    ids=[
        "two messages",
        "no message",
        "shorter than a header",
        "truncated",
        "data after the message",
    ],
)
def test_any_other_datagram_is_not_joined(
    pair: tuple[socket.socket, socket.socket], other: bytes
) -> None:
    """If a malformed datagram were joined, it would be parsed together with the next one."""
    ours, theirs = pair
    for datagram in (pack_message(7), other, pack_message(8)):
        theirs.send(datagram)
    assert receive_all(NetlinkSocket(ours)) == [pack_message(7), other, pack_message(8)]


def test_a_datagram_that_is_too_large_is_an_error_among_the_others(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    for datagram in (pack_message(7), bytes(RECEIVE_SIZE + 1), pack_message(8)):
        theirs.send(datagram)
    first, second, third = receive_all(NetlinkSocket(ours))
    assert (first, third) == (pack_message(7), pack_message(8))
    assert isinstance(second, DecodeError)
    assert str(RECEIVE_SIZE + 1) in str(second)


def test_a_datagram_with_one_message_that_is_too_large_is_an_error(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    size = RECEIVE_SIZE + 4
    theirs.send(struct.pack("=I", size) + bytes(size - 4))
    theirs.send(pack_message(8))
    first, second = receive_all(NetlinkSocket(ours))
    assert isinstance(first, DecodeError)
    assert second == pack_message(8)


@pytest.mark.kernel
def test_messages_of_another_program_are_dropped_and_counted(lab: Lab) -> None:
    def open_usersock() -> socket.socket:
        raw = socket.socket(AF_NETLINK, socket.SOCK_RAW, NETLINK_USERSOCK)
        raw.bind((0, 0))
        return raw

    raw, sender = lab.run(lambda: (open_usersock(), open_usersock()))
    with raw, sender:
        for number in range(5):
            sender.sendto(pack_message(number), (raw.getsockname()[0], 0))
        sock = NetlinkSocket(raw)
        assert receive_all(sock) == []
        assert (sock.forged, sock.datagrams_received) == (5, 0)


# receive_answers


def acknowledgement(seq: int, code: int = 0, flags: int = 0x100) -> bytes:
    return struct.pack("=IHHIIiIHHII", 36, messages.ERROR, flags, seq, 0, -code, 20, 1, 5, seq, 0)


def receive_answers_to(ours: socket.socket, count: int) -> tuple[Answers, NetlinkSocket]:
    """Receive the answers to requests with the sequence numbers from 1 on."""
    ours.setblocking(False)
    answers, sock = Answers(1, count), NetlinkSocket(ours)
    while True:
        try:
            receive_answers(sock, answers)
        except DecodeError:
            answers.note_lost()
        else:
            return answers, sock


def test_many_acknowledgements_are_received_at_a_time(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    for seq in range(1, 151):
        theirs.send(acknowledgement(seq, flags=seq // 100))
    answers, sock = receive_answers_to(ours, 150)
    assert answers.completions == [messages.SUCCESS] * 150
    assert answers.done
    assert (sock.datagrams_received, sock.bytes_received) == (150, 150 * 36)


@pytest.mark.parametrize(
    "other",
    [
        acknowledgement(20, errno.EEXIST),
        struct.pack("=IHHII", 20, 0x100, 2, 20, 0) + b"some" + acknowledgement(20),
        struct.pack("=IHHIIi", 20, messages.DONE, 2, 20, 0, 0),
        acknowledgement(999),
        acknowledgement(20, flags=2),
    ],
    ids=["an error", "a reply", "done", "another request's", "other flags"],
)
@pytest.mark.parametrize("before", [0, 19, 39])
def test_other_answers_among_them_are_read_as_if_they_came_alone(
    pair: tuple[socket.socket, socket.socket], other: bytes, before: int
) -> None:
    ours, theirs = pair
    numbers = [seq for seq in range(1, 41) if seq != 20]
    sent = [*map(acknowledgement, numbers[:before]), other, *map(acknowledgement, numbers[before:])]
    for datagram in sent:
        theirs.send(datagram)
    answers, _ = receive_answers_to(ours, 40)
    one_by_one = Answers(1, 40)
    for datagram in sent:
        one_by_one.feed(datagram, len(datagram))
    assert answers.completions == one_by_one.completions
    assert answers.replies == one_by_one.replies
    assert (answers.open, answers.stray_replies) == (one_by_one.open, one_by_one.stray_replies)


def test_a_malformed_answer_hides_no_other_answer(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    for seq in range(1, 41):
        malformed = struct.pack("=IHHII", 16, messages.ERROR, 0, seq, 0)
        theirs.send(malformed if seq == 20 else acknowledgement(seq))
    answers, _ = receive_answers_to(ours, 40)
    expected: list[messages.Completion | None] = [messages.SUCCESS] * 40
    expected[19] = None
    assert answers.completions == expected
    assert answers.lossy


def test_acknowledgements_that_come_twice_count_once(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    for seq in [*range(1, 21), *range(1, 41)]:
        theirs.send(acknowledgement(seq))
    answers, _ = receive_answers_to(ours, 40)
    assert answers.completions == [messages.SUCCESS] * 40
    assert answers.done


def test_acknowledgements_of_the_next_requests_are_passed_on(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    for seq in range(1, 81):
        theirs.send(acknowledgement(seq))
    first, second = Answers(1, 40), Answers(41, 40)
    first.following = second
    assert receive_answers(NetlinkSocket(ours), first)
    assert first.done
    assert second.done


def test_forged_acknowledgements_are_dropped(lab: Lab) -> None:
    """Another program sends what looks like the kernel's answers."""

    def open_usersock() -> socket.socket:
        raw = socket.socket(AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_USERSOCK)
        raw.bind((0, 0))
        return raw

    raw, sender = lab.run(lambda: (open_usersock(), open_usersock()))
    with raw, sender:
        for seq in range(1, 41):
            sender.sendto(acknowledgement(seq), (raw.getsockname()[0], 0))
        answers, sock = receive_answers_to(raw, 40)
        assert answers.completions == [None] * 40
        assert (sock.forged, sock.datagrams_received) == (40, 0)
