"""Interfaces, addresses and routes over rtnetlink, in the calling thread's network namespace.

Every function raises a :exc:`KernelError` when the kernel refuses the request.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
import time

from conntrack_aio.errors import kernel_error
from conntrack_aio.netlink.attributes import pack, pack_nest, pack_text, walk
from conntrack_aio.netlink.exchange import Exchange, Reply, Request
from conntrack_aio.netlink.receiving import run_exchange
from conntrack_aio.uapi.if_link import IFLA
from conntrack_aio.uapi.net_namespace import NETNSA, NETNSA_NSID_NOT_ASSIGNED
from conntrack_aio.uapi.netlink import NETLINK, NLM_F
from conntrack_aio.uapi.rtnetlink import RTM

from .uapi.if_addr import IFA, IFA_F
from .uapi.if_link import IF_OPER, IFLA_INFO, VETH_INFO
from .uapi.rtnetlink import RT_SCOPE, RT_TABLE, RTA, RTN, RTPROT

_IFINFOMSG = struct.Struct("=BxHiII")
_IFADDRMSG = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_TIMEOUT = 2.0
_RTGENMSG = bytes(4)  # a family of zero, and padding
_U32 = struct.Struct("=I")
_S32 = struct.Struct("=i")
_NEW = NLM_F.CREATE | NLM_F.EXCL
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def wait_until_up(name: str) -> None:
    """Wait until an interface carries packets: for a veth, until both of its ends are up.

    Before that, the kernel drops what the first end sends.

    :raises TimeoutError: after two seconds.
    """
    payload = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + pack_text(IFLA.IFNAME, name)
    deadline = time.monotonic() + _TIMEOUT
    # Since 6.8 the kernel updates the state before it replies, so that one request is enough.
    while not _is_up(*_request("look at", name, RTM.GETLINK, 0, payload)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} is not up")


def _is_up(reply: Reply) -> bool:
    payload = reply.payload
    for number, _, start, _ in walk(payload, _IFINFOMSG.size, len(payload)):
        if number == IFLA.OPERSTATE:
            return payload[start] == IF_OPER.UP
    return False


def add_veth(name: str, peer: str, peer_namespace: int) -> None:
    """Create a veth pair: ``name`` in this network namespace, ``peer`` in the other one.

    Both interfaces are down at first.

    :param peer_namespace: a descriptor of the other network namespace.
    """
    blank = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    other_end = pack(
        VETH_INFO.PEER,
        blank + pack_text(IFLA.IFNAME, peer) + pack(IFLA.NET_NS_FD, _U32.pack(peer_namespace)),
        nested=True,
    )
    link_info = pack_nest(
        IFLA.LINKINFO,
        pack_text(IFLA_INFO.KIND, "veth"),
        pack_nest(IFLA_INFO.DATA, other_end),
    )
    payload = blank + pack_text(IFLA.IFNAME, name) + link_info
    _request("add the veth", f"{name} to {peer}", RTM.NEWLINK, _NEW, payload)


def add_address(interface: str, address: str) -> None:
    """Add an address with its prefix to an interface: ``"10.0.0.1/24"``, ``"fd00::1/64"``.

    An IPv6 address is usable at once, without duplicate address detection.

    :raises ValueError: when ``address`` is not an address.
    """
    parsed = ipaddress.ip_interface(address)
    # The kernel ignores IFA_F_NODAD for IPv4, which has no duplicate address detection.
    head = _IFADDRMSG.pack(
        _FAMILIES[parsed.version],
        parsed.network.prefixlen,
        IFA_F.NODAD,
        RT_SCOPE.UNIVERSE,
        _index(interface),
    )
    # Without IFA_LOCAL, IFA_ADDRESS would be the peer address of a point-to-point link.
    payload = head + pack(IFA.LOCAL, parsed.ip.packed) + pack(IFA.ADDRESS, parsed.ip.packed)
    _request("add the address", f"{parsed} to {interface}", RTM.NEWADDR, _NEW, payload)


def add_route(destination: str, via: str) -> None:
    """Add a route to a network, or to ``"default"``, through the gateway ``via``.

    :raises ValueError: when ``destination`` is not a network, ``via`` is not an address, or their
        families differ.
    """
    gateway = ipaddress.ip_address(via)
    default = "0.0.0.0/0" if gateway.version == 4 else "::/0"
    network = ipaddress.ip_network(default if destination == "default" else destination)
    if network.version != gateway.version:
        raise ValueError(f"{network} cannot be reached through {gateway}")
    head = _RTMSG.pack(
        _FAMILIES[gateway.version],
        network.prefixlen,
        0,
        0,
        RT_TABLE.MAIN,
        RTPROT.STATIC,
        RT_SCOPE.UNIVERSE,
        RTN.UNICAST,
        0,
    )
    payload = (
        head + pack(RTA.DST, network.network_address.packed) + pack(RTA.GATEWAY, gateway.packed)
    )
    _request("add the route", f"to {destination} via {via}", RTM.NEWROUTE, _NEW, payload)


def assign_nsid(namespace: int, id: int = NETNSA_NSID_NOT_ASSIGNED) -> int:
    """Assign an id to another network namespace, as seen from this one, and return the id.

    The kernel keeps the id as long as both namespaces exist, and may reuse it afterward.

    :param namespace: a descriptor of the other network namespace.
    :param id: the id; by default the kernel chooses one.
    :raises AlreadyExists: when the namespace already has an id.
    """
    peer = _RTGENMSG + pack(NETNSA.FD, _U32.pack(namespace))
    _request("assign", f"the id {id}", RTM.NEWNSID, 0, peer + pack(NETNSA.NSID, _S32.pack(id)))
    (reply,) = _request("look up", "the id", RTM.GETNSID, 0, peer)
    payload = reply.payload
    for number, _, start, end in walk(payload, len(_RTGENMSG), len(payload)):
        if number == NETNSA.NSID:
            (id,) = _S32.unpack(payload[start:end])
    return id


def _index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError as error:
        raise kernel_error(errno.ENODEV, f"find the interface {interface}") from error


def _request(verb: str, subject: str, type: int, flags: int, payload: bytes) -> list[Reply]:
    exchange = Exchange([Request(verb, subject, type, flags, payload)], seq=1)
    (response,) = run_exchange(NETLINK.ROUTE, exchange)
    return response.replies
