"""The receive buffer: its size and its state, also where they can not be read."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import NoReturn

import pytest
from support.scripted_kernel import standalone_socket

from conntrack_aio.uapi.socket import SO_MEMINFO, SO_RCVBUFFORCE

pytestmark = pytest.mark.kernels


def refuse(code: int) -> Callable[..., NoReturn]:
    def refused(*arguments: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return refused


def test_the_queue_state_where_it_can_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    socket, raw = standalone_socket()
    raw.drops = 5
    assert socket.queue_state() == (0, 5)
    monkeypatch.setattr(raw, "getsockopt", lambda *arguments: b"")
    assert socket.queue_state() is None
    socket.close()

    socket, raw = standalone_socket()
    monkeypatch.setattr(raw, "getsockopt", refuse(errno.ENOPROTOOPT))
    assert socket.queue_state() is None
    socket.close()


def test_the_size_of_a_buffer_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forced size is known; of any other, the least and the largest possible are."""
    socket, raw = standalone_socket()
    monkeypatch.setattr(raw, "getsockopt", refuse(errno.EPERM))
    assert (socket.least_receive_buffer, socket.receive_buffer) == (2304, 2**31 - 1)
    socket.grow(100_000)
    assert (socket.least_receive_buffer, socket.receive_buffer) == (200_000, 200_000)
    socket.close()

    socket, raw = standalone_socket()
    kernel_sets = raw.setsockopt

    def set_option(level: int, option: int, value: int | bytes) -> None:
        if option == SO_RCVBUFFORCE:
            raise OSError(errno.EPERM, "no")
        kernel_sets(level, option, value)

    monkeypatch.setattr(raw, "setsockopt", set_option)
    socket.grow(100_000_000)
    granted = socket.receive_buffer
    assert granted < 200_000_000
    monkeypatch.setattr(raw, "getsockopt", refuse(errno.EPERM))
    assert socket.least_receive_buffer <= granted <= socket.receive_buffer == 200_000_000
    monkeypatch.setattr(raw, "setsockopt", refuse(errno.EPERM))
    socket.grow(1_000)
    assert socket.receive_buffer == 200_000_000
    socket.close()


def test_the_size_of_a_buffer_is_in_its_memory_info(monkeypatch: pytest.MonkeyPatch) -> None:
    socket, raw = standalone_socket()
    size = socket.receive_buffer
    kernel_gets = raw.getsockopt

    def get_option(level: int, option: int, size: int) -> bytes:
        return refuse(errno.EPERM)() if option != SO_MEMINFO else kernel_gets(level, option, size)

    monkeypatch.setattr(raw, "getsockopt", get_option)
    assert socket.receive_buffer == socket.least_receive_buffer == size
    socket.close()
