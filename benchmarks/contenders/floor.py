"""Time the floor: loops on plain Python sockets that parse nothing of what they receive."""

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

from ..timing import Contender, Observation, Stopwatch, Timing

FLOOR: Final = "floor"
REQUESTS_PER_DATAGRAM: Final = 64
"""Requests in one datagram. Their acknowledgements fit into the default receive buffer."""

_ERRNO = struct.Struct("=i")


def open_socket(receive_buffer: int | None = None) -> socket.socket:
    """Return a non-blocking netlink socket.

    :param receive_buffer: the bytes of its receive buffer, instead of the default size.
    """
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    sock = socket.socket(AF_NETLINK, kind, NETLINK.NETFILTER)
    sock.bind((0, 0))
    sock.connect((0, 0))
    if receive_buffer is not None:
        set_receive_buffer(sock, receive_buffer)
    return sock


def replies(sock: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield the type and payload of each message that waits in the socket."""
    buffer = bytearray(RECEIVE_SIZE)
    while True:
        try:
            size = sock.recv_into(buffer)
        except BlockingIOError:
            return
        for message in messages.walk(buffer, size):
            yield message.type, bytes(buffer[message.start : message.end])


def error_codes(sock: socket.socket) -> list[int]:
    """Return the error numbers of the acknowledgements that wait in the socket; 0 is success."""
    return [
        -_ERRNO.unpack_from(payload)[0]
        for type_, payload in replies(sock)
        if type_ == messages.ERROR
    ]


def flush() -> None:
    """Delete all flows of the calling thread's network namespace.

    :raises OSError: when the kernel refuses the request.
    """
    with closing(open_socket()) as sock:
        sock.send(requests.flush().pack(1))
        for code in error_codes(sock):
            if code:
                raise OSError(code, os.strerror(code))


def dump(flows: int, selection: Selection | None = None, name: str = FLOOR) -> Contender:
    """Time receiving a dump.

    :param flows: the number of flows in the table.
    :param selection: which flows the kernel sends, instead of all.
    :param name: the name of the contender.
    """
    request = requests.dump(selection).pack(1)

    def run() -> Timing:
        buffer = bytearray(RECEIVE_SIZE)
        with closing(open_socket()) as sock:
            receive = sock.recv_into
            watch = Stopwatch()
            sock.send(request)
            try:
                # recv() makes the kernel prepare the next part of the dump (netlink_dump), so the
                # socket is empty only at the end.
                while True:
                    receive(buffer)
            except BlockingIOError:
                return watch.stop(flows)

    def check() -> Observation:
        with closing(open_socket()) as sock:
            sock.send(request)
            return Observation(sum(type_ != messages.DONE for type_, _ in replies(sock)))

    return Contender(name, run, check)


def events(cause: Callable[[], None], receive_buffer: int) -> Contender:
    """Time receiving queued events with the addresses of their senders.

    :param cause: a function that causes the events.
    :param receive_buffer: the bytes of a receive buffer that holds all of them.
    """

    def subscribe() -> socket.socket:
        sock = open_socket(receive_buffer)
        sock.setsockopt(SOL_NETLINK, NETLINK_OPTION.ADD_MEMBERSHIP, NFNLGRP.CONNTRACK_NEW)
        cause()
        return sock

    def run() -> Timing:
        buffer = bytearray(RECEIVE_SIZE)
        with closing(subscribe()) as sock:
            receive = sock.recvfrom_into
            count = 0
            watch = Stopwatch()
            try:
                while True:
                    receive(buffer)
                    count += 1
            except BlockingIOError:
                return watch.stop(count)

    def check() -> Observation:
        with closing(subscribe()) as sock:
            return Observation(sum(1 for _ in replies(sock)))

    return Contender(FLOOR, run, check)


def create(flows: Sequence[Flow]) -> Contender:
    """Time sending encoded requests, 64 per datagram, and receiving the replies."""
    packed = [requests.create(flow).pack(seq) for seq, flow in enumerate(flows, 1)]
    size = REQUESTS_PER_DATAGRAM
    batches = [packed[start : start + size] for start in range(0, len(packed), size)]
    datagrams = [(b"".join(batch), range(len(batch))) for batch in batches]

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

    def check() -> Observation:
        flush()
        with closing(open_socket()) as sock:
            created = 0
            for datagram, _ in datagrams:
                sock.send(datagram)
                created += error_codes(sock).count(0)
            return Observation(created)

    return Contender(FLOOR, run, check)
