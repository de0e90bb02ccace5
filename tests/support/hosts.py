"""Hosts in network namespaces, each connected to a router by a veth pair."""

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
    """A host that is connected to the router."""

    lab: Lab
    """The network namespace of the host itself."""
    address: str
    gateway: str
    """The router's address on the link."""

    def bind(self, kind: socket.SocketKind, port: int = 0) -> socket.socket:
        """Return a socket that is bound to the host's address."""
        return self.lab.run(self._bind, kind, port)

    def _bind(self, kind: socket.SocketKind, port: int) -> socket.socket:
        end = socket.socket(socket.AF_INET6 if ":" in self.address else socket.AF_INET, kind)
        end.settimeout(TIMEOUT)
        # A previous connection of this port may be in TIME_WAIT.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        end.bind((self.address, port))
        return end


def connect_host(router: Lab, name: str, gateway: str, descriptor: int, address: str) -> Host:
    """Connect a new host to a router.

    :param name: the name of the router's interface, which is created.
    :param gateway: the router's address with its prefix.
    :param descriptor: the network namespace of the host.
    :param address: the host's address with its prefix.
    """
    host = Host(Lab(descriptor), without_prefix(address), without_prefix(gateway))
    for end in (router, host.lab):
        # Neighbor solicitations come from the link-local address. Without duplicate address
        # detection, that address is usable at once.
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
