"""Open the sockets of a connection, all in one network namespace.

The first socket is opened in the calling thread's namespace or in one given by name. All others are
opened in the namespace of the first. So a connection talks to one namespace all its life, even if
the name is removed or reused, and its sockets alone keep the namespace alive.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from .netlink import namespaces
from .netlink.namespaces import run_in_namespace_of, run_inside
from .netlink.opening import open_socket, require_linux
from .netlink.socket import NetlinkSocket
from .proc_sys import KernelSysctls, SysctlTree
from .uapi.netlink import NETLINK

if TYPE_CHECKING:
    from .netlink.netns import NetNS

T = TypeVar("T")


class SocketFactory(Protocol):
    """Open the sockets of a connection, and give access to the namespace's settings."""

    @property
    def sysctls(self) -> SysctlTree:
        """The settings of the calling thread's network namespace.

        Use them through :meth:`run_in_namespace_of`.
        """
        ...

    def open_first(self) -> NetlinkSocket:
        """Open the request socket, which determines the namespace."""
        ...

    def open(
        self, receive_buffer: int | None = None, protocol: int = NETLINK.NETFILTER
    ) -> NetlinkSocket:
        """Open a socket in the calling thread's network namespace.

        Call this through :meth:`run_in_namespace_of`.
        """
        ...

    def run_in_namespace_of(self, first: NetlinkSocket, function: Callable[[], T]) -> T:
        """Call ``function`` in the network namespace of the request socket."""
        ...


class KernelSocketFactory:
    """Open sockets of the kernel that this process runs on."""

    def __init__(self, netns: NetNS | None = None) -> None:
        """Set where to open sockets.

        :param netns: the namespace; ``None`` for that of the thread that opens the first socket.
        """
        self._netns = netns
        self.sysctls: SysctlTree = KernelSysctls()

    def open_first(self) -> NetlinkSocket:
        """Open the request socket.

        :raises NamespaceError: when the namespace cannot be entered.
        :raises KernelError: when :func:`open_socket` raises it.
        :raises UnsupportedPlatform: when the operating system is not Linux.
        """
        require_linux()
        if self._netns is None:
            first = self.open()
            first.namespace = namespaces.current()
            return first
        namespace = self._netns.open()
        try:
            first = run_inside(namespace, self.open, str(self._netns))
            first.namespace = namespaces.identify(namespace)
            return first
        finally:
            os.close(namespace)

    def open(
        self, receive_buffer: int | None = None, protocol: int = NETLINK.NETFILTER
    ) -> NetlinkSocket:
        return open_socket(protocol, receive_buffer=receive_buffer)

    def run_in_namespace_of(self, first: NetlinkSocket, function: Callable[[], T]) -> T:
        return run_in_namespace_of(first.raw.fileno(), first.namespace, self._netns, function)


socket_factory_for: Final[ContextVar[Callable[[NetNS | None], SocketFactory]]] = ContextVar(
    "conntrack_aio socket factory", default=KernelSocketFactory
)
"""The function that makes a connection's socket factory from its namespace. Tests set another."""
