"""Open netlink sockets in the calling thread's network namespace."""

from __future__ import annotations

import errno
import socket
from typing import Final

from ..errors import UnsupportedPlatform, call_error, request_error
from ..uapi.netlink import AF_NETLINK, NETLINK_OPTION, SOL_NETLINK
from .socket import KERNEL, NetlinkSocket

_SOCKET_HINTS: Final = {
    errno.EPROTONOSUPPORT: "This kernel was built without this netlink protocol",
    errno.EAFNOSUPPORT: "A seccomp profile forbids this process sockets of this family, as "
    "systemd's RestrictAddressFamilies= does: allow AF_NETLINK there",
}


def require_linux() -> None:
    """Check that this system has netlink.

    :raises UnsupportedPlatform: when it has not.
    """
    if not hasattr(socket, "AF_NETLINK"):
        raise UnsupportedPlatform(
            "conntrack_aio talks to the Linux kernel; on this system only its types and its "
            "codec work"
        )


def open_socket(protocol: int, *, receive_buffer: int | None = None) -> NetlinkSocket:
    """Open a socket of a netlink protocol in the calling thread's network namespace.

    :param protocol: the netlink protocol, such as ``NETLINK.NETFILTER``.
    :param receive_buffer: the size to ask for in bytes, which the kernel doubles.
    :raises UnsupportedPlatform: when this system has no netlink.
    :raises KernelError: when this kernel lacks the protocol, or the process may not use it.
    """
    require_linux()
    try:
        raw = socket.socket(
            AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol
        )
    except OSError as error:
        refusal = request_error(
            f"open a netlink socket (protocol {protocol})", call_error(error, "socket(AF_NETLINK)")
        )
        if hint := _SOCKET_HINTS.get(refusal.errno or 0):
            refusal.hint = hint
        raise refusal from error
    try:
        _bind(raw)
        for option in (NETLINK_OPTION.CAP_ACK, NETLINK_OPTION.EXT_ACK):
            try:
                raw.setsockopt(SOL_NETLINK, option, 1)
            except OSError:
                pass  # before Linux 4.3 or 4.12, or forbidden: errors then have no detail
        opened = NetlinkSocket(raw)
        if receive_buffer is not None:
            opened.grow(receive_buffer)
    except BaseException:
        raw.close()
        raise
    return opened


def _bind(raw: socket.socket) -> None:
    """Give the socket an address: bind() and connect() both do, if the other one is forbidden.

    A socket without an address receives no event that a packet causes.

    :raises KernelError: when both calls are refused.
    """
    refusal: OSError | None = None
    try:
        # The kernel chooses the port id for an address of 0; a process may have many sockets.
        raw.bind(KERNEL)
    except OSError as error:
        refusal = error
    try:
        # Other programs that send to this port id get ECONNREFUSED and cannot fill the buffer. What
        # they send to the groups still arrives, and is recognized by its sender's port id.
        raw.connect(KERNEL)
    except OSError:
        if refusal is not None:
            raise request_error(
                "open a netlink socket", call_error(refusal, "bind() and connect()")
            ) from refusal
