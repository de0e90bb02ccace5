"""Network interfaces over rtnetlink, in the calling thread's network namespace."""

from __future__ import annotations

import socket
import struct

from ..netlink.attributes import pack_text
from ..netlink.exchange import Exchange, Request
from ..uapi.if_link import IFF_UP, IFLA
from ..uapi.netlink import NETLINK
from ..uapi.rtnetlink import RTM
from .conversation import converse

_IFINFOMSG = struct.Struct("=BxHiII")


def set_up(name: str) -> None:
    """Bring an interface up. The kernel then gives ``lo`` its addresses.

    :raises KernelError: when the kernel refuses the request.
    """
    payload = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, IFF_UP, IFF_UP)
    payload += pack_text(IFLA.IFNAME, name)
    converse(NETLINK.ROUTE, Exchange([Request("set up", name, RTM.SETLINK, 0, payload)], seq=1))
