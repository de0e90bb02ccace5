"""Connect the library to the fake kernel instead of Linux."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

from ..netlink.netns import NetNS
from ..netlink.socket import NetlinkSocket
from ..proc_sys import SysctlTree
from ..socket_factory import SocketFactory, socket_factory_for
from ..uapi.netlink import NETLINK, NETLINK_OPTION, SOL_NETLINK
from .protocol import Receiver
from .settings import FakeSysctlTree
from .sockets import FakeSocket
from .state import State

T = TypeVar("T")


@contextmanager
def socket_factory_override(endpoint: Callable[[NetNS | None], SocketFactory]) -> Generator[None]:
    """Replace the function that :func:`conntrack_aio.connect` gets its endpoint from.

    The old function is restored by value and not by the context variable's token: a test fixture
    may be torn down in another context than it was set up in, where the token is not valid.
    """
    before = socket_factory_for.get()
    socket_factory_for.set(endpoint)
    try:
        yield
    finally:
        socket_factory_for.set(before)


class FakeSocketFactory:
    """The endpoint of the fake kernel: it opens the sockets of a connection."""

    def __init__(self, state: State, receiver: Receiver) -> None:
        self._state = state
        self._kernel = _SocketKernel(state, receiver)
        self.sysctls: SysctlTree = FakeSysctlTree(
            state.sysctls, lambda: state.entries, state.release
        )

    def open_first(self) -> NetlinkSocket:
        """Open the socket for the requests of a connection."""
        return self.open()

    def open(
        self, receive_buffer: int | None = None, protocol: int = NETLINK.NETFILTER
    ) -> NetlinkSocket:
        """Open a socket.

        :param receive_buffer: the size of the receive buffer in bytes, before the kernel doubles
            it.
        :param protocol: the netlink protocol.
        """
        with self._state.lock:
            opened = len(self._state.sockets)
            # The kernel gives the first socket of a process the process id as its port id, and
            # the others large numbers (netlink_autobind).
            port_id = os.getpid() if not opened else 0xFFFFF000 - opened
            raw = FakeSocket(port_id, self._kernel, protocol)
            for option in (NETLINK_OPTION.CAP_ACK, NETLINK_OPTION.EXT_ACK):
                raw.setsockopt(SOL_NETLINK, option, 1)
            socket = NetlinkSocket(raw)
            if receive_buffer is not None:
                socket.grow(receive_buffer)
            self._state.sockets.append(raw)
        return socket

    def run_in_namespace_of(self, first: NetlinkSocket, function: Callable[[], T]) -> T:
        """Call a function; a fake kernel has one network namespace."""
        return function()


class _SocketKernel:
    """The kernel as its sockets use it: a :class:`.socket_kernel.SocketKernel`."""

    def __init__(self, state: State, receiver: Receiver) -> None:
        self._state = state
        self._receiver = receiver
        self.lock = state.lock

    @property
    def largest_buffer(self) -> int:
        return self._state.sysctls["net.core.rmem_max"]

    @property
    def option_memory(self) -> int:
        return self._state.sysctls["net.core.optmem_max"]

    def receive(self, socket: FakeSocket, data: bytes) -> None:
        self._receiver.receive(socket, data)

    def after_read(self, socket: FakeSocket) -> None:
        if self._state.dying:
            self._state.retry_destroy_events()

    def check_join(self, group: int) -> None:
        if "CAP_NET_ADMIN" in self._state.unavailable:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def check_force(self) -> None:
        if self._state.unavailable & {"CAP_NET_ADMIN", "initial CAP_NET_ADMIN"}:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
