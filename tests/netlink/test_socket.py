"""The socket: closing while a thread uses it, and its options."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from typing import NoReturn

import anyio
import pytest
from support.lab import Lab
from support.scripted_kernel import standalone_socket

from conntrack_aio.errors import DecodeError, KernelError
from conntrack_aio.netlink import socket as netlink_socket
from conntrack_aio.netlink.opening import open_socket
from conntrack_aio.uapi.netlink import NETLINK

pytestmark = pytest.mark.kernels


class Trouble(Exception):
    """An error inside the block."""


def test_it_is_used_by_a_function_as_well() -> None:
    socket, raw = standalone_socket()

    def work() -> None:
        assert socket.in_use
        socket.close()
        assert not raw.closed

    socket.use(work)
    assert raw.closed
    with pytest.raises(anyio.ClosedResourceError):
        socket.use(work)


@pytest.mark.parametrize("trouble", [False, True])
def test_a_close_waits_for_the_user(trouble: bool) -> None:
    socket, raw = standalone_socket()
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
    socket, raw = standalone_socket()
    raw.deliver(bytes(netlink_socket.RECEIVE_SIZE + 1))
    with pytest.raises(DecodeError, match="65537 bytes"):
        socket.receive()
    raw.deliver(bytes(netlink_socket.RECEIVE_SIZE))
    assert socket.receive() == netlink_socket.RECEIVE_SIZE
    assert socket.datagrams_received == 2
    socket.close()


def refuse(code: int) -> Callable[..., NoReturn]:
    def refused(*arguments: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return refused


def test_whether_anything_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """poll(2) decides, or else epoll(7); without both the answer is yes."""
    socket, raw = standalone_socket()
    for attribute in ("", "poll", "epoll"):
        if attribute:
            monkeypatch.setattr(select, attribute, refuse(errno.EPERM))
        assert socket.is_readable() == (attribute == "epoll")
        raw.deliver(bytes(16))
        assert socket.is_readable()
        socket.receive()
    socket.close()


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES, errno.ENOSYS])
def test_it_receives_by_the_other_call(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    socket, raw = standalone_socket()
    calls: list[object] = []

    def receive(*arguments: object) -> NoReturn:
        calls.append(arguments)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(raw, "recvfrom_into", receive)
    for size in (16, 32):
        raw.deliver(bytes(size))
        assert socket.receive() == size
    assert len(calls) == 1, "what was refused is not tried again"
    with pytest.raises(BlockingIOError):
        socket.receive()
    monkeypatch.setattr(raw, "recvmsg_into", refuse(code))
    with pytest.raises(KernelError, match=r"recvfrom\(\) and recvmsg\(\): .*seccomp"):
        socket.receive()
    socket.close()


def test_what_fails_for_another_reason_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    socket, raw = standalone_socket()
    monkeypatch.setattr(raw, "sendto", refuse(errno.ENOBUFS))
    with pytest.raises(OSError, match="buffer space") as failed:
        socket.send(b"")
    assert not isinstance(failed.value, KernelError)
    raw.fail(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        socket.receive()
    socket.close()


@pytest.mark.kernel
def test_a_real_one(lab: Lab) -> None:
    socket = lab.run(lambda: open_socket(NETLINK.NETFILTER, receive_buffer=100_000))
    assert socket.receive_buffer == 200_000
    assert socket.queue_state() == (0, 0)
    with pytest.raises(BlockingIOError):
        socket.receive()
    socket.close()
