"""Test interfaces, addresses, routes and namespace ids on this machine's kernel."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from functools import partial

import pytest

from conntrack_aio.errors import AlreadyExists, KernelError
from conntrack_aio.netlink.namespaces import run_inside
from conntrack_aio.proc_sys import set_sysctl
from conntrack_aio.sandbox import rules, traffic
from conntrack_aio.sandbox.links import set_up
from support import links
from support.nft_rules import new_source_nat_chain
from support.proc_entries import check_single_entry

pytestmark = [pytest.mark.kernels, pytest.mark.kernel]


def join(left: int, left_address: str, right: int, right_address: str) -> None:
    """Connect two namespaces with a veth pair.

    Both interfaces are named after the network: ``to3`` belongs to 10.0.3.0/24 or fd00:3::/64.
    """
    (segment,) = re.findall(r"^(?:10\.0\.|fd00:)(\d)", left_address)
    name = f"to{segment}"

    def set_up_with_address(address: str) -> None:
        links.add_address(name, address)
        set_up(name)

    run_inside(left, lambda: links.add_veth(name, name, right))
    run_inside(right, lambda: set_up_with_address(right_address))
    run_inside(left, lambda: set_up_with_address(left_address))
    for end in (left, right):
        run_inside(end, lambda: links.wait_until_up(name))


@pytest.mark.parametrize("net", ["10.0.1.{}/24", "fd00:1::{}/64"])
def test_a_veth_pair_carries_a_ping_and_a_connection(
    new_namespace: Callable[[], int], net: str
) -> None:
    left, right = new_namespace(), new_namespace()
    join(left, net.format(1), right, net.format(2))
    address = net.format(2).split("/")[0]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    run_inside(left, lambda: traffic.ping(address, 5))
    listener = run_inside(right, lambda: socket.create_server((address, 0), family=family))
    with listener:
        port = listener.getsockname()[1]
        client = run_inside(left, lambda: socket.create_connection((address, port), 2))
        with client:
            listener.settimeout(2)
            server, (peer, *_) = listener.accept()
            with server:
                client.sendall(b"over the link")
                assert server.recv(64) == b"over the link"
                assert peer == net.format(1).split("/")[0]


def test_a_veth_whose_peer_is_down_does_not_come_up(
    new_namespace: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = new_namespace()

    def body() -> None:
        links.add_veth("here", "there", other)
        set_up("here")
        with pytest.raises(TimeoutError, match="here is not up"):
            links.wait_until_up("here")

    monkeypatch.setattr(links, "_TIMEOUT", 0.01)
    run_inside(new_namespace(), body)


def through_a_router(new_namespace: Callable[[], int], net: str) -> tuple[int, int, str]:
    """Connect a client and a server through a router.

    :returns: the namespaces of the client and the router, and the server's address.
    """
    client, router, server = new_namespace(), new_namespace(), new_namespace()
    for sysctl in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        run_inside(router, partial(set_sysctl, sysctl, 1))
    join(client, net.format(1, 2), router, net.format(1, 1))
    join(server, net.format(2, 2), router, net.format(2, 1))
    far = [net.format(n, 1).split("/")[0] for n in (1, 2)]
    run_inside(client, lambda: links.add_route("default", far[0]))
    network = re.sub(r"\d/", "0/", net.format(1, 0)) if "." in net else "fd00:1::/64"
    run_inside(server, lambda: links.add_route(network, far[1]))
    # The router solicits an IPv6 neighbor from its link-local address, which is not usable at once.
    # After a ping from the server, the router knows it without solicitation.
    run_inside(server, lambda: traffic.ping(far[1]))
    return client, router, net.format(2, 2).split("/")[0]


@pytest.mark.parametrize("net", ["10.0.{}.{}/24", "fd00:{}::{}/64"])
def test_forwarded_packets_are_tracked(new_namespace: Callable[[], int], net: str) -> None:
    client, router, server_address = through_a_router(new_namespace, net)
    run_inside(router, rules.track_connections)
    run_inside(client, lambda: traffic.ping(server_address, 9))
    run_inside(router, lambda: check_single_entry(r"icmp.*id=9 .*id=9 "))


def test_the_functions_can_build_a_masquerading_rule(new_namespace: Callable[[], int]) -> None:
    client, router, server_address = through_a_router(new_namespace, "10.0.{}.{}/24")

    def masquerade() -> None:
        rules.commit(
            rules.new_table("t"),
            new_source_nat_chain("t", "nat"),
            rules.new_rule("t", "nat", rules.expression("masq")),
        )

    run_inside(router, masquerade)
    run_inside(client, lambda: traffic.ping(server_address, 9))
    run_inside(
        router,
        lambda: check_single_entry(r"src=10.0.1.2 dst=10.0.2.2 .*src=10.0.2.2 dst=10.0.2.1 "),
    )


def test_an_id_can_be_assigned_to_another_namespace(new_namespace: Callable[[], int]) -> None:
    one, other = new_namespace(), new_namespace()

    def body() -> None:
        assert links.assign_nsid(one, 7) == 7
        assert links.assign_nsid(other) == 0
        with pytest.raises(AlreadyExists, match=r"assign the id 8: .*EEXIST"):
            links.assign_nsid(one, 8)

    run_inside(new_namespace(), body)


def test_errors_name_the_refused_request(new_namespace: Callable[[], int]) -> None:
    def body() -> None:
        with pytest.raises(KernelError, match=r"set up none: .*ENODEV"):
            set_up("none")
        with pytest.raises(KernelError, match=r"find the interface none: .*ENODEV"):
            links.add_address("none", "10.0.0.1/24")
        with pytest.raises(KernelError, match=r"look at none: .*ENODEV"):
            links.wait_until_up("none")
        with pytest.raises(KernelError, match=r"add the route to 10.9.0.0/16 via 10.0.0.1"):
            links.add_route("10.9.0.0/16", "10.0.0.1")
        with pytest.raises(AlreadyExists, match=r"add the address 127.0.0.1/8 to lo"):
            links.add_address("lo", "127.0.0.1/8")
        with pytest.raises(ValueError, match="cannot be reached"):
            links.add_route("10.9.0.0/16", "fd00::1")

    run_inside(new_namespace(), body)
