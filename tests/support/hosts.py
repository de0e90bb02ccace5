"""Hosts beside the lab: namespaces of their own, each joined to it by a pair of interfaces."""

from __future__ import annotations

import socket

import attrs

from conntrack_aio.proc_sys import set_sysctl
from conntrack_aio.sandbox.links import set_up

from . import links
from .lab import Lab
from .processes import TIMEOUT


@attrs.frozen
class Host:
    """One beside the router, which is the lab."""

    lab: Lab
    address: str
    gateway: str

    def bind(self, kind: socket.SocketKind, port: int = 0) -> socket.socket:
        """A socket at its address."""
        return self.lab.run(self._bind, kind, port)

    def _bind(self, kind: socket.SocketKind, port: int) -> socket.socket:
        end = socket.socket(socket.AF_INET6 if ":" in self.address else socket.AF_INET, kind)
        end.settimeout(TIMEOUT)
        # One that was at this port may still be saying farewell.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        end.bind((self.address, port))
        return end


def connect_host(router: Lab, name: str, gateway: str, descriptor: int, address: str) -> Host:
    """Join a host to the router's interface ``name``."""
    host = Host(Lab(descriptor), without_prefix(address), without_prefix(gateway))
    for end in (router, host.lab):
        # Neighbours are asked for from link-local addresses, which are to be usable at once.
        end.run(set_sysctl, "net.ipv6.conf.default.accept_dad", 0)
    router.run(links.add_veth, name, "router", descriptor)
    ends = ((router, name, gateway), (host.lab, "router", address))
    for end, interface, its_address in ends:
        end.run(links.add_address, interface, its_address)
        end.run(set_up, interface)
    for end, interface, _ in ends:
        end.run(links.wait_until_up, interface)
    host.lab.run(links.add_route, "default", host.gateway)
    return host


def without_prefix(address: str) -> str:
    return address.split("/")[0]
