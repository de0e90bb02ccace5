"""Make the kernel load the modules of connection tracking.

Opening a netlink socket of netfilter's protocol makes the kernel load ``nfnetlink``
(``request_module`` in ``netlink_create``). A request to the subsystem ctnetlink makes it load
``nf_conntrack_netlink``, and with it ``nf_conntrack`` (``nfnetlink_rcv_msg``). Both calls return
only when the module is loaded.
"""

from __future__ import annotations

import errno
from typing import Final

from .errors import InvalidRequest, NoReply, NotSupported, PermissionDenied, kernel_error
from .netlink import nfnetlink
from .netlink.exchange import Exchange, Request
from .netlink.receiving import run_exchange
from .uapi.netlink import NETLINK
from .uapi.nfnetlink import NFNL_SUBSYS
from .uapi.nfnetlink_conntrack import IPCTNL_MSG_CT

LOAD: Final = "load connection tracking"

MISSING: Final = (
    "This kernel was built without ctnetlink (CONFIG_NF_CT_NETLINK), or could not load its module: "
    "`modprobe nf_conntrack_netlink` says why. In a container, run that on the host; kernels of "
    "clouds and of small images have their modules in a package of their own"
)
"""What to do if the kernel has no ctnetlink."""

_REFUSED: Final = (
    "The module nf_conntrack is not loaded, and a program needs CAP_NET_ADMIN to make the kernel "
    "load it: run this as root, or run `modprobe nf_conntrack_netlink` once"
)


def load_conntrack() -> None:
    """Make the kernel load connection tracking, if it has not; in any network namespace.

    This requests the number of entries, the cheapest of all requests, on a socket of its own. It
    blocks until the modules are loaded, which can take tens of milliseconds.

    :raises NotSupported: when the kernel has no ctnetlink, or cannot load its module.
    :raises PermissionDenied: when this program lacks CAP_NET_ADMIN.
    :raises ResourceExhausted: when there are no file descriptors left.
    :raises KernelError: when the kernel refuses for another reason.
    """
    kind = nfnetlink.message_type(NFNL_SUBSYS.CTNETLINK, IPCTNL_MSG_CT.GET_STATS)
    exchange = Exchange([Request(LOAD, None, kind, 0, nfnetlink.pack(0))], seq=1)
    try:
        run_exchange(NETLINK.NETFILTER, exchange)
    except NoReply:
        pass  # the module is loaded even so: the kernel has carried the request out
    except (InvalidRequest, NotSupported) as error:
        raise NotSupported(errno.EOPNOTSUPP, LOAD, hint=MISSING) from error
    except PermissionDenied as error:
        raise kernel_error(error.errno or errno.EPERM, LOAD, hint=_REFUSED) from error
