"""Check the netlink socket: closing while a thread uses it, and refused system calls."""

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


class BodyError(Exception):
    """An error in the block that uses the socket."""


def test_a_close_waits_for_the_function_that_uses_the_socket() -> None:
    socket, fake = standalone_socket()

    def work() -> None:
        assert socket.in_use
        socket.close()
        assert not fake.closed

    socket.call_kept_open(work)
    assert fake.closed
    with pytest.raises(anyio.ClosedResourceError):
        socket.call_kept_open(work)


@pytest.mark.parametrize("fails", [False, True])
def test_a_close_waits_for_the_block_that_uses_the_socket(fails: bool) -> None:
    socket, fake = standalone_socket()
    try:
        with socket.keep_open():
            assert socket.in_use
            socket.close()
            assert socket.closed
            assert not fake.closed
            if fails:
                raise BodyError
    except BodyError:
        pass
    assert fake.closed
    with pytest.raises(anyio.ClosedResourceError), socket.keep_open():
        pass
    socket.close()


def test_a_datagram_that_is_too_large_is_an_error() -> None:
    socket, fake = standalone_socket()
    fake.deliver(bytes(netlink_socket.RECEIVE_SIZE + 1))
    with pytest.raises(DecodeError, match="65537 bytes"):
        socket.receive()
    fake.deliver(bytes(netlink_socket.RECEIVE_SIZE))
    assert socket.receive() == netlink_socket.RECEIVE_SIZE
    assert socket.datagrams_received == 2
    socket.close()


def raise_errno(code: int) -> Callable[..., NoReturn]:
    """Return a function that fails with an errno."""

    def raise_error(*arguments: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return raise_error


def test_is_readable_works_without_poll_and_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    """``is_readable`` calls poll(2) or else epoll(7). If both are refused, it returns ``True``."""
    socket, fake = standalone_socket()
    for attribute in ("", "poll", "epoll"):
        if attribute:
            monkeypatch.setattr(select, attribute, raise_errno(errno.EPERM))
        assert socket.is_readable() == (attribute == "epoll")
        fake.deliver(bytes(16))
        assert socket.is_readable()
        socket.receive()
    socket.close()


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES, errno.ENOSYS])
def test_recvmsg_is_used_if_recvfrom_is_refused(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    socket, fake = standalone_socket()
    calls: list[object] = []

    def receive(*arguments: object) -> NoReturn:
        calls.append(arguments)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fake, "recvfrom_into", receive)
    for size in (16, 32):
        fake.deliver(bytes(size))
        assert socket.receive() == size
    assert len(calls) == 1, "a refused call is not repeated"
    with pytest.raises(BlockingIOError):
        socket.receive()
    monkeypatch.setattr(fake, "recvmsg_into", raise_errno(code))
    with pytest.raises(KernelError, match=r"recvfrom\(\) and recvmsg\(\): .*seccomp"):
        socket.receive()
    socket.close()


def test_other_errors_of_system_calls_are_raised_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    socket, fake = standalone_socket()
    monkeypatch.setattr(fake, "sendto", raise_errno(errno.ENOBUFS))
    with pytest.raises(OSError, match="buffer space") as failed:
        socket.send(b"")
    assert not isinstance(failed.value, KernelError)
    fake.fail(errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        socket.receive()
    socket.close()


@pytest.mark.kernel
def test_a_socket_of_the_kernel_can_be_used(lab: Lab) -> None:
    socket = lab.run(lambda: open_socket(NETLINK.NETFILTER, receive_buffer=100_000))
    assert socket.receive_buffer == 200_000
    assert socket.queue_state() == (0, 0)
    with pytest.raises(BlockingIOError):
        socket.receive()
    socket.close()
