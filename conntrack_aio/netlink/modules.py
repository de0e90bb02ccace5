"""Having the kernel load the modules of connection tracking.

A netlink socket of netfilter's protocol makes it load ``nfnetlink``; a request of the subsystem
ctnetlink ``nf_conntrack_netlink``, and with it ``nf_conntrack`` (``request_module`` in
``netlink_create`` and ``nfnetlink_rcv_msg``). Both wait until it is done.
"""

from __future__ import annotations

import errno
from contextlib import closing
from typing import Final

from ..errors import InvalidRequest, NoReply, NotSupported, PermissionDenied, kernel_error
from ..proc_sys import load_by
from ..uapi.netlink import NETLINK
from ..uapi.nfnetlink import NFNL_SUBSYS
from . import nfnetlink
from .exchange import Exchange, Request
from .socket import open_socket

LOAD: Final = "load connection tracking"

MISSING: Final = (
    "This kernel was built without ctnetlink (CONFIG_NF_CT_NETLINK), or could not load its module: "
    "`modprobe nf_conntrack_netlink` says why. In a container, run that on the host; kernels of "
    "clouds and of small images have their modules in a package of their own"
)
"""What to do where the kernel knows no ctnetlink."""

_REFUSED: Final = (
    "The module nf_conntrack is not loaded, and a program needs CAP_NET_ADMIN to have the kernel "
    "load it: run this as root, or run `modprobe nf_conntrack_netlink` once"
)

_GET_STATS: Final = 5
"""``IPCTNL_MSG_CT_GET_STATS``: how many entries there are, the cheapest of all requests."""


def load_conntrack() -> None:
    """Have the kernel load connection tracking, if it has not; in any network namespace.

    It sends a request that changes nothing, from a socket of its own, and blocks until the modules
    are loaded, which can take tens of milliseconds.

    :raises NotSupported: the kernel has no ctnetlink, or can't load its module.
    :raises PermissionDenied: this program lacks CAP_NET_ADMIN.
    """
    kind = nfnetlink.message_type(NFNL_SUBSYS.CTNETLINK, _GET_STATS)
    exchange = Exchange([Request(LOAD, None, kind, 0, nfnetlink.pack(0))], seq=1)
    try:
        with closing(open_socket(NETLINK.NETFILTER)) as socket:
            socket.send(exchange.data)
            while not exchange.done:
                try:
                    size = socket.receive()
                except BlockingIOError:
                    break  # it is loaded all the same: the kernel answers before it returns
                exchange.feed(socket.buffer, size)
        exchange.outcomes[0].result()
    except NoReply:
        pass
    except (InvalidRequest, NotSupported) as error:
        raise NotSupported(errno.EOPNOTSUPP, LOAD, hint=MISSING) from error
    except PermissionDenied as error:
        raise kernel_error(error.errno or errno.EPERM, LOAD, hint=_REFUSED) from error


load_by(load_conntrack)
