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
