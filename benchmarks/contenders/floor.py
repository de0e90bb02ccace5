"""The floor: Python's own sockets, and loops that look at nothing of what they receive."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Final

from conntrack_aio import Flow
from conntrack_aio.codec.requests import flows as requests
from conntrack_aio.model.requests import Selection
from conntrack_aio.netlink import messages
from conntrack_aio.netlink.receive_buffer import set_receive_buffer
from conntrack_aio.netlink.socket import RECEIVE_SIZE
from conntrack_aio.uapi.netlink import AF_NETLINK, NETLINK, NETLINK_OPTION, SOL_NETLINK
from conntrack_aio.uapi.nfnetlink import NFNLGRP

from ..timing import Contender, Seen, Stopwatch, Timing

FLOOR: Final = "floor"
WINDOW: Final = 64
"""Requests in one datagram, as many as the default receive buffer has room for the answers to."""

_ERRNO = struct.Struct("=i")


def open_socket(receive_buffer: int | None = None) -> socket.socket:
    """A netlink socket that does not block."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    sock = socket.socket(AF_NETLINK, kind, NETLINK.NETFILTER)
    sock.bind((0, 0))
    sock.connect((0, 0))
    if receive_buffer is not None:
        set_receive_buffer(sock, receive_buffer)
    return sock


def answers(sock: socket.socket) -> Iterator[tuple[int, bytes]]:
    """The messages that wait: the type and payload of each."""
    buffer = bytearray(RECEIVE_SIZE)
    while True:
        try:
            size = sock.recv_into(buffer)
        except BlockingIOError:
            return
        for message in messages.walk(buffer, size):
            yield message.type, bytes(buffer[message.start : message.end])


def codes(sock: socket.socket) -> list[int]:
    """The errnos of the acknowledgements that wait: 0 is success."""
    return [
        -_ERRNO.unpack_from(payload)[0] for kind, payload in answers(sock) if kind == messages.ERROR
    ]


def flush() -> None:
    """Delete all flows of the calling thread's network namespace."""
    with closing(open_socket()) as sock:
        sock.send(requests.flush().pack(1))
        for code in codes(sock):
            if code:
                raise OSError(code, os.strerror(code))


def dump(flows: int, selection: Selection | None = None, name: str = FLOOR) -> Contender:
    """Ask for a dump of a table of so many flows, or of what is selected of it, and receive it."""
    request = requests.dump(selection).pack(1)

    def run() -> Timing:
        buffer = bytearray(RECEIVE_SIZE)
        with closing(open_socket()) as sock:
            receive = sock.recv_into
            watch = Stopwatch()
            sock.send(request)
            try:
                # The kernel makes the next chunk in the very call that takes one.
                while True:
                    receive(buffer)
            except BlockingIOError:
                return watch.stop(flows)

    def check() -> Seen:
        with closing(open_socket()) as sock:
            sock.send(request)
            return Seen(sum(kind != messages.DONE for kind, _ in answers(sock)))

    return Contender(name, run, check)


def events(cause: Callable[[], None], receive_buffer: int) -> Contender:
    """Receive the events that ``cause`` has queued, with their senders."""

    def listen() -> socket.socket:
        sock = open_socket(receive_buffer)
        sock.setsockopt(SOL_NETLINK, NETLINK_OPTION.ADD_MEMBERSHIP, NFNLGRP.CONNTRACK_NEW)
        cause()
        return sock

    def run() -> Timing:
        buffer = bytearray(RECEIVE_SIZE)
        with closing(listen()) as sock:
            receive = sock.recvfrom_into
            count = 0
            watch = Stopwatch()
            try:
                while True:
                    receive(buffer)
                    count += 1
            except BlockingIOError:
                return watch.stop(count)

    def check() -> Seen:
        with closing(listen()) as sock:
            return Seen(sum(1 for _ in answers(sock)))

    return Contender(FLOOR, run, check)


def create(flows: Sequence[Flow]) -> Contender:
    """Send requests that were encoded beforehand, 64 at a time, and receive what answers them."""
    packed = [requests.create(flow).pack(seq) for seq, flow in enumerate(flows, 1)]
    windows = [packed[start : start + WINDOW] for start in range(0, len(packed), WINDOW)]
    datagrams = [(b"".join(window), range(len(window))) for window in windows]

    def run() -> Timing:
        flush()
        buffer = bytearray(RECEIVE_SIZE)
        with closing(open_socket()) as sock:
            send, receive = sock.send, sock.recv_into
            watch = Stopwatch()
            for datagram, acknowledgements in datagrams:
                send(datagram)
                for _ in acknowledgements:
                    receive(buffer)
            return watch.stop(len(packed))

    def check() -> Seen:
        flush()
        with closing(open_socket()) as sock:
            made = 0
            for datagram, _ in datagrams:
                sock.send(datagram)
                made += codes(sock).count(0)
            return Seen(made)

    return Contender(FLOOR, run, check)
