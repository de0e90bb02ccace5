"""Check the size and the state of the receive buffer, even if the kernel refuses to report them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import NoReturn

import pytest
from support.scripted_kernel import standalone_socket

from conntrack_aio.uapi.socket import SO_MEMINFO, SO_RCVBUFFORCE

pytestmark = pytest.mark.kernels


def raise_errno(code: int) -> Callable[..., NoReturn]:
    """Return a function that fails with an errno."""

    def raise_error(*arguments: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return raise_error


def test_the_queue_state_is_none_if_it_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    socket, fake = standalone_socket()
    fake.drops = 5
    assert socket.queue_state() == (0, 5)
    monkeypatch.setattr(fake, "getsockopt", lambda *arguments: b"")
    assert socket.queue_state() is None
    socket.close()

    socket, fake = standalone_socket()
    monkeypatch.setattr(fake, "getsockopt", raise_errno(errno.ENOPROTOOPT))
    assert socket.queue_state() is None
    socket.close()


def test_the_size_of_an_unreadable_buffer_has_known_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size set by SO_RCVBUFFORCE is known exactly; of any other size, only bounds are known."""
    socket, fake = standalone_socket()
    monkeypatch.setattr(fake, "getsockopt", raise_errno(errno.EPERM))
    assert (socket.least_receive_buffer, socket.receive_buffer) == (2304, 2**31 - 1)
    socket.grow(100_000)
    assert (socket.least_receive_buffer, socket.receive_buffer) == (200_000, 200_000)
    socket.close()

    socket, fake = standalone_socket()
    set_in_kernel = fake.setsockopt

    def set_option(level: int, option: int, value: int | bytes) -> None:
        if option == SO_RCVBUFFORCE:
            raise OSError(errno.EPERM, "no")
        set_in_kernel(level, option, value)

    monkeypatch.setattr(fake, "setsockopt", set_option)
    socket.grow(100_000_000)
    granted = socket.receive_buffer
    assert granted < 200_000_000
    monkeypatch.setattr(fake, "getsockopt", raise_errno(errno.EPERM))
    assert socket.least_receive_buffer <= granted <= socket.receive_buffer == 200_000_000
    monkeypatch.setattr(fake, "setsockopt", raise_errno(errno.EPERM))
    socket.grow(1_000)
    assert socket.receive_buffer == 200_000_000
    socket.close()


def test_the_size_of_the_buffer_can_be_read_from_so_meminfo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    socket, fake = standalone_socket()
    size = socket.receive_buffer
    get_from_kernel = fake.getsockopt

    def get_option(level: int, option: int, size: int) -> bytes:
        if option != SO_MEMINFO:
            raise OSError(errno.EPERM, "no")
        return get_from_kernel(level, option, size)

    monkeypatch.setattr(fake, "getsockopt", get_option)
    assert socket.receive_buffer == socket.least_receive_buffer == size
    socket.close()
