"""Where sockets come from: this thread's network namespace, or one that was named.

Later sockets are made in the namespace of the first, so that a connection talks to one namespace
all its life, whatever becomes of its name, and keeps it alive by its sockets alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, Protocol, TypeVar

from ..proc_sys import Files, SysctlTree
from ..uapi.netlink import NETLINK
from . import modules as modules  # so that settings can have the kernel load it
from . import namespaces
from .namespaces import NetNS, run_beside, run_inside
from .socket import NetlinkSocket, open_socket, require_linux

T = TypeVar("T")


class Endpoint(Protocol):
    """What a connection needs of a kernel: a first socket, more beside it, and the settings."""

    @property
    def sysctls(self) -> SysctlTree:
        """The settings of the calling thread's namespace; use it through :meth:`beside`."""
        ...

    def open_first(self) -> NetlinkSocket:
        """The request socket."""
        ...

    def open(
        self, receive_buffer: int | None = None, protocol: int = NETLINK.NETFILTER
    ) -> NetlinkSocket:
        """A socket of the calling thread's namespace; use it through :meth:`beside`."""
        ...

    def beside(self, first: NetlinkSocket, function: Callable[[], T]) -> T:
        """Call ``function`` in the namespace of the request socket."""
        ...


class Kernel:
    """The kernel that this process runs on."""

    def __init__(self, netns: NetNS | None = None) -> None:
        self._netns = netns
        self.sysctls: SysctlTree = Files()

    def open_first(self) -> NetlinkSocket:
        """Raises :exc:`NamespaceError`, and what :func:`open_socket` raises."""
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

    def beside(self, first: NetlinkSocket, function: Callable[[], T]) -> T:
        return run_beside(first.raw.fileno(), first.namespace, self._netns, function)


endpoint_for: Final[ContextVar[Callable[[NetNS | None], Endpoint]]] = ContextVar(
    "conntrack_aio endpoint", default=Kernel
)
"""What makes a connection's endpoint of the namespace it is to be in: tests put a fake there."""
