"""One interface to this machine's kernel and to the fake kernel.

A test that uses it runs on both: whatever holds for one must hold for the other.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

import pytest

from conntrack_aio import ConntrackError, connect
from conntrack_aio.connecting import Connecting
from conntrack_aio.netlink.opening import open_socket
from conntrack_aio.netlink.socket import NetlinkSocket
from conntrack_aio.testing import FakeKernel
from conntrack_aio.uapi.netlink import NETLINK

from .lab import Lab

REAL = pytest.param("real", marks=[pytest.mark.kernel, pytest.mark.kernels])
"""The parameter that makes a test run on this machine's kernel."""


class AnyKernel(Protocol):
    """What a test may do with either kernel."""

    def connect(self) -> Connecting:
        """Return a connection to the kernel, which the caller enters."""
        ...

    def open(self, receive_buffer: int | None = None) -> NetlinkSocket:
        """Open a separate socket, for requests that the library never sends."""
        ...

    def sysctl(self, name: str, value: int) -> None:
        """Set ``net.netfilter.NAME``."""
        ...

    def read_sysctl(self, name: str) -> int:
        """Return the value of ``net.netfilter.NAME``."""
        ...


class RealKernel:
    """This machine's kernel, in the network namespace of a test."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def connect(self) -> Connecting:
        return connect(netns=self._lab.netns)

    def open(self, receive_buffer: int | None = None) -> NetlinkSocket:
        return self._lab.run(lambda: open_socket(NETLINK.NETFILTER, receive_buffer=receive_buffer))

    def sysctl(self, name: str, value: int) -> None:
        self._lab.sysctl(name, value)

    def read_sysctl(self, name: str) -> int:
        return int(self._lab.read_sysctl(name))


class FakeKernelAdapter:
    """The fake kernel of :mod:`conntrack_aio.testing`."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel

    def connect(self) -> Connecting:
        return self.kernel.connect()

    def open(self, receive_buffer: int | None = None) -> NetlinkSocket:
        return self.kernel._socket_factory.open(receive_buffer)

    def sysctl(self, name: str, value: int) -> None:
        self.kernel.sysctls[name] = value

    def read_sysctl(self, name: str) -> int:
        return self.kernel.sysctls[name]


async def result_or_error(verb: Awaitable[object]) -> object:
    """Return the result of a verb, or the name of the error's class."""
    try:
        return await verb
    except ConntrackError as error:
        return type(error).__name__
