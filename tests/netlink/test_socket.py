"""The socket: closing while a thread uses it, and its options."""

from __future__ import annotations

import errno

import anyio
import pytest
from support.lab import Lab
from support.scripted import lone_socket

from conntrack_aio.errors import DecodeError
from conntrack_aio.netlink import socket as netlink_socket
from conntrack_aio.netlink.socket import open_socket
from conntrack_aio.uapi.netlink import NETLINK


class Trouble(Exception):
    """What happens inside."""


@pytest.mark.parametrize("trouble", [False, True])
def test_a_close_waits_for_whoever_uses_it(trouble: bool) -> None:
    socket, raw = lone_socket()
    try:
        with socket.using():
            assert socket.in_use
            socket.close()
            assert socket.closed
            assert not raw.closed
            if trouble:
                raise Trouble
    except Trouble:
        pass
    assert raw.closed
    with pytest.raises(anyio.ClosedResourceError), socket.using():
        pass
    socket.close()


def test_a_datagram_that_is_too_large() -> None:
    socket, raw = lone_socket()
    raw.deliver(bytes(netlink_socket.RECEIVE_SIZE + 1))
    with pytest.raises(DecodeError, match="65537 bytes"):
        socket.receive()
    raw.deliver(bytes(netlink_socket.RECEIVE_SIZE))
    assert socket.receive() == netlink_socket.RECEIVE_SIZE
    assert socket.datagrams_received == 2
    socket.close()


def test_the_backlog_where_the_kernel_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    socket, raw = lone_socket()
    raw.drops = 5
    assert socket.backlog() == (0, 5)
    monkeypatch.setattr(raw, "getsockopt", lambda *arguments: b"")
    assert socket.backlog() is None

    def refuse(*arguments: object) -> bytes:
        raise OSError(errno.ENOPROTOOPT, "no")

    monkeypatch.setattr(raw, "getsockopt", refuse)
    assert socket.backlog() is None
    socket.close()


@pytest.mark.kernel
def test_a_real_one(lab: Lab) -> None:
    socket = lab.run(lambda: open_socket(NETLINK.NETFILTER, receive_buffer=100_000))
    assert socket.receive_buffer == 200_000
    assert socket.backlog() == (0, 0)
    with pytest.raises(BlockingIOError):
        socket.receive()
    socket.close()
