"""A listener that is not read, so that flows that end stay dying."""

from __future__ import annotations

import socket

from conntrack_aio.uapi.netlink import NETLINK, NETLINK_OPTION, SOL_NETLINK
from conntrack_aio.uapi.nfnetlink import NFNLGRP


def open_reliable_listener() -> socket.socket:
    """Open a socket with NETLINK_BROADCAST_ERROR that receives destroy events, with a small buffer.

    While nobody reads it, the kernel keeps the flows whose events it has no room for.
    """
    listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK.NETFILTER)
    listener.bind((0, 0))  # the kernel skips sockets without an address
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    listener.setsockopt(SOL_NETLINK, NETLINK_OPTION.BROADCAST_ERROR, 1)
    listener.setsockopt(SOL_NETLINK, NETLINK_OPTION.ADD_MEMBERSHIP, NFNLGRP.CONNTRACK_DESTROY)
    return listener
