"""Interfaces, addresses and routes over rtnetlink, in the calling thread's network namespace.

Every function raises a :exc:`KernelError` where the kernel refuses.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
import time

from ..errors import kernel_error
from ..netlink.attributes import pack, pack_nest, pack_text, walk
from ..netlink.exchange import Exchange, Reply, Request
from ..netlink.receiving import run_exchange
from ..uapi.if_addr import IFA, IFA_F
from ..uapi.if_link import IF_OPER, IFF_UP, IFLA, IFLA_INFO, VETH_INFO
from ..uapi.net_namespace import NETNSA, NETNSA_NSID_NOT_ASSIGNED
from ..uapi.netlink import NETLINK, NLM_F
from ..uapi.rtnetlink import RT_SCOPE, RT_TABLE, RTA, RTM, RTN, RTPROT

_IFINFOMSG = struct.Struct("=BxHiII")
_IFADDRMSG = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_TIMEOUT = 2.0
_RTGENMSG = bytes(4)  # a family of zero, and padding
_U32 = struct.Struct("=I")
_S32 = struct.Struct("=i")
_NEW = NLM_F.CREATE | NLM_F.EXCL
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def set_up(name: str) -> None:
    """Bring an interface up; ``lo`` has its addresses from then on."""
    change = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, IFF_UP, IFF_UP)
    _request("set up", name, RTM.SETLINK, 0, change + pack_text(IFLA.IFNAME, name))


def wait_until_up(name: str) -> None:
    """Wait until an interface carries packets: a veth, until both of its ends are set up.

    The kernel throws away what the first end sends before it has heard of the other, and that it
    hears a little later. Raises :exc:`TimeoutError` after two seconds.
    """
    question = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + pack_text(IFLA.IFNAME, name)
    deadline = time.monotonic() + _TIMEOUT
    # Since 6.8 the kernel settles the matter before it answers, so that it is asked but once.
    while not _is_up(*_request("look at", name, RTM.GETLINK, 0, question)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} is not up")


def _is_up(answer: Reply) -> bool:
    payload = answer.payload
    for number, _, start, _ in walk(payload, _IFINFOMSG.size, len(payload)):
        if number == IFLA.OPERSTATE:
            return payload[start] == IF_OPER.UP
    return False


def add_veth(name: str, peer: str, peer_namespace: int) -> None:
    """Make a pair of interfaces joined by a wire, the one here and its peer over there.

    ``peer_namespace`` is a descriptor of the other network namespace. Both are down at first.
    """
    blank = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    other_end = pack(
        VETH_INFO.PEER,
        blank + pack_text(IFLA.IFNAME, peer) + pack(IFLA.NET_NS_FD, _U32.pack(peer_namespace)),
        nested=True,
    )
    kind = pack_nest(
        IFLA.LINKINFO,
        pack_text(IFLA_INFO.KIND, "veth"),
        pack_nest(IFLA_INFO.DATA, other_end),
    )
    payload = blank + pack_text(IFLA.IFNAME, name) + kind
    _request("add the veth", f"{name} to {peer}", RTM.NEWLINK, _NEW, payload)


def add_address(interface: str, address: str) -> None:
    """Give an interface an address with its prefix: ``"10.0.0.1/24"``, ``"fd00::1/64"``.

    An IPv6 address is usable at once: nobody is asked whether he has it already. Raises
    :exc:`ValueError` for what is not an address.
    """
    parsed = ipaddress.ip_interface(address)
    # The kernel drops this flag of IPv4 addresses, which are never asked about.
    head = _IFADDRMSG.pack(
        _FAMILIES[parsed.version],
        parsed.network.prefixlen,
        IFA_F.NODAD,
        RT_SCOPE.UNIVERSE,
        _index(interface),
    )
    # Both, because IFA_ADDRESS alone would be the other end of a point-to-point link.
    payload = head + pack(IFA.LOCAL, parsed.ip.packed) + pack(IFA.ADDRESS, parsed.ip.packed)
    _request("add the address", f"{parsed} to {interface}", RTM.NEWADDR, _NEW, payload)


def add_route(destination: str, via: str) -> None:
    """Route a network, or ``"default"``, through the gateway ``via``.

    Raises :exc:`ValueError` for what is not a network or an address, or for one of each family.
    """
    gateway = ipaddress.ip_address(via)
    anywhere = "0.0.0.0/0" if gateway.version == 4 else "::/0"
    network = ipaddress.ip_network(anywhere if destination == "default" else destination)
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
    """Give the network namespace of this descriptor an id here; the id.

    The kernel chooses one unless told. It keeps it as long as both namespaces live, and may give
    it away again after. One that has an id keeps that: :exc:`AlreadyExists`.
    """
    which = _RTGENMSG + pack(NETNSA.FD, _U32.pack(namespace))
    _request("assign", f"the id {id}", RTM.NEWNSID, 0, which + pack(NETNSA.NSID, _S32.pack(id)))
    (answer,) = _request("look up", "the id", RTM.GETNSID, 0, which)
    payload = answer.payload
    for number, _, start, end in walk(payload, len(_RTGENMSG), len(payload)):
        if number == NETNSA.NSID:
            (id,) = _S32.unpack(payload[start:end])
    return id


def _index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError as error:
        raise kernel_error(errno.ENODEV, f"find the interface {interface}") from error


def _request(verb: str, subject: str, kind: int, flags: int, payload: bytes) -> list[Reply]:
    exchange = Exchange([Request(verb, subject, kind, flags, payload)], seq=1)
    (response,) = run_exchange(NETLINK.ROUTE, exchange)
    return response.replies
