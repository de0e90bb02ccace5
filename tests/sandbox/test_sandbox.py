"""The sandbox against this machine's kernel: the traffic is real, and really tracked."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from conntrack_aio.errors import (
    AlreadyExists,
    KernelError,
    NotFound,
    NotSupported,
    PermissionDenied,
)
from conntrack_aio.netlink.namespaces import run_inside
from conntrack_aio.sandbox import links, namespace, rules, traffic
from conntrack_aio.sysctls import read_sysctl, set_sysctl
from conntrack_aio.uapi.nf_tables import NF_INET, NFT_CT

pytestmark = pytest.mark.kernels

kernel = pytest.mark.kernel
PROCFS = Path("/proc/thread-self/net/nf_conntrack")
"""A list of the entries, in kernels that were built with it (CONFIG_NF_CONNTRACK_PROCFS)."""


@pytest.fixture
def new_namespace() -> Iterator[Callable[[], int]]:
    descriptors: list[int] = []

    def new() -> int:
        descriptors.append(namespace.new_network_namespace())
        return descriptors[-1]

    yield new
    for fd in descriptors:
        os.close(fd)


def tracked() -> tuple[int, list[str] | None]:
    """How many connections are tracked in this thread's namespace, and a line about each."""
    count = int(read_sysctl("net.netfilter.nf_conntrack_count"))
    return count, PROCFS.read_text().splitlines() if PROCFS.exists() else None


def check_one(pattern: str) -> None:
    count, lines = tracked()
    assert count == 1
    if lines is not None:
        (line,) = lines
        assert re.search(pattern, line), line


# A network namespace of one's own


@kernel
def test_a_new_namespace_is_another_one_with_its_loopback_up(
    new_namespace: Callable[[], int],
) -> None:
    here = os.stat("/proc/self/ns/net")
    fd = new_namespace()
    assert not os.path.samestat(os.fstat(fd), here)
    assert not os.get_inheritable(fd)
    assert run_inside(fd, lambda: traffic.tcp_exchange("127.0.0.1"))
    assert os.path.samestat(os.stat("/proc/thread-self/ns/net"), here)
    names = run_inside(fd, lambda: [name for _, name in socket.if_nameindex()])
    assert "lo" in names


@kernel
def test_sysctls_are_those_of_the_namespace(new_namespace: Callable[[], int]) -> None:
    one, other = new_namespace(), new_namespace()
    name = "net.ipv4.ip_default_ttl"
    run_inside(one, lambda: set_sysctl(name, 17))
    assert run_inside(one, lambda: read_sysctl(name)) == "17"
    assert run_inside(other, lambda: read_sysctl(name)) == "64"
    with pytest.raises(FileNotFoundError):
        read_sysctl("net.ipv4.no_such_thing")


# Tracking


@kernel
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_tcp_is_tracked(new_namespace: Callable[[], int], address: str) -> None:
    def body() -> None:
        rules.track_connections()
        sport, dport = traffic.tcp_exchange(address)
        check_one(rf"tcp .* TIME_WAIT .*sport={sport} dport={dport} .*\[ASSURED\]")

    run_inside(new_namespace(), body)


@kernel
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_udp_is_tracked(new_namespace: Callable[[], int], address: str) -> None:
    def body() -> None:
        rules.track_connections()
        sport, dport = traffic.udp_exchange(address)
        check_one(rf"udp .*sport={sport} dport={dport} src.*sport={dport} dport={sport}")

    run_inside(new_namespace(), body)


@kernel
@pytest.mark.parametrize(
    ("address", "protocol", "types"),
    [("127.0.0.1", "icmp", (8, 0)), ("::1", "icmpv6", (128, 129))],
)
@pytest.mark.parametrize("id", [0, 1, 0xBEEF, 0xFFFF])
def test_pings_are_tracked(
    new_namespace: Callable[[], int],
    address: str,
    protocol: str,
    types: tuple[int, int],
    id: int,
) -> None:
    def body() -> None:
        rules.track_connections()
        traffic.ping(address, id)
        ask, answer = types
        check_one(rf"{protocol} .*type={ask} code=0 id={id} src.*type={answer} code=0 id={id} ")

    run_inside(new_namespace(), body)


@kernel
def test_nothing_is_tracked_without_the_rule_and_its_table_may_exist(
    new_namespace: Callable[[], int],
) -> None:
    def body() -> None:
        traffic.udp_exchange()
        assert tracked()[0] == 0
        rules.track_connections()
        rules.track_connections()
        traffic.udp_exchange()
        assert tracked()[0] == 1

    # The first user of connection tracking loads its module, and the sysctl with it.
    run_inside(new_namespace(), rules.track_connections)
    run_inside(new_namespace(), body)


@kernel
def test_a_change_of_the_rules_is_made_as_a_whole_or_not(
    new_namespace: Callable[[], int],
) -> None:
    def body() -> None:
        load = rules.load_ct(NFT_CT.STATE)
        with pytest.raises(NotFound, match=r"create the nftables rule in t nowhere: .*ENOENT"):
            rules.commit(rules.new_table("t"), rules.new_rule("t", "nowhere", load))
        with pytest.raises(NotFound, match="create the nftables chain t c"):
            rules.commit(rules.new_chain("t", "c", NF_INET.LOCAL_OUT))

    run_inside(new_namespace(), body)


def test_a_kernel_without_nftables_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal: KernelError

    def run_exchange(protocol: int, exchange: object) -> None:
        raise refusal

    monkeypatch.setattr(rules, "run_exchange", run_exchange)
    for refusal in (NotFound(errno.ENOENT, "a"), NotSupported(errno.EOPNOTSUPP, "a")):
        with pytest.raises(NotSupported, match=r"CONFIG_NFT_CT") as caught:
            rules.track_connections()
        assert caught.value.errno == refusal.errno
    refusal = PermissionDenied(errno.EPERM, "a")
    with pytest.raises(PermissionDenied, match="CAP_NET_ADMIN"):
        rules.track_connections()


# Two and three namespaces


def join(left: int, left_address: str, right: int, right_address: str) -> None:
    """A wire between two namespaces: in both, ``to3`` leads along the segment of 10.0.3.0/24."""
    (segment,) = re.findall(r"^(?:10\.0\.|fd00:)(\d)", left_address)
    name = f"to{segment}"

    def settle(address: str) -> None:
        links.add_address(name, address)
        links.set_up(name)

    run_inside(left, lambda: links.add_veth(name, name, right))
    run_inside(right, lambda: settle(right_address))
    run_inside(left, lambda: settle(left_address))
    for end in (left, right):
        run_inside(end, lambda: links.wait_until_up(name))


@kernel
@pytest.mark.parametrize("net", ["10.0.1.{}/24", "fd00:1::{}/64"])
def test_a_wire_carries_a_ping_and_a_connection(new_namespace: Callable[[], int], net: str) -> None:
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
                client.sendall(b"over the wire")
                assert server.recv(64) == b"over the wire"
                assert peer == net.format(1).split("/")[0]


@kernel
def test_a_wire_with_a_loose_end_does_not_come_up(
    new_namespace: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = new_namespace()

    def body() -> None:
        links.add_veth("here", "there", other)
        links.set_up("here")
        with pytest.raises(TimeoutError, match="here is not up"):
            links.wait_until_up("here")

    monkeypatch.setattr(links, "_TIMEOUT", 0.01)
    run_inside(new_namespace(), body)


def through_a_router(new_namespace: Callable[[], int], net: str) -> tuple[int, int, str]:
    """A client and a router with a server behind it: their namespaces, and its address."""
    client, router, server = new_namespace(), new_namespace(), new_namespace()
    for sysctl in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        run_inside(router, partial(set_sysctl, sysctl, 1))
    join(client, net.format(1, 2), router, net.format(1, 1))
    join(server, net.format(2, 2), router, net.format(2, 1))
    far = [net.format(n, 1).split("/")[0] for n in (1, 2)]
    run_inside(client, lambda: links.add_route("default", far[0]))
    network = re.sub(r"\d/", "0/", net.format(1, 0)) if "." in net else "fd00:1::/64"
    run_inside(server, lambda: links.add_route(network, far[1]))
    # A router asks for an IPv6 neighbour from its link-local address, which takes a while to be
    # usable. It need not ask for one that has spoken to it.
    run_inside(server, lambda: traffic.ping(far[1]))
    return client, router, net.format(2, 2).split("/")[0]


@kernel
@pytest.mark.parametrize("net", ["10.0.{}.{}/24", "fd00:{}::{}/64"])
def test_what_is_forwarded_is_tracked_too(new_namespace: Callable[[], int], net: str) -> None:
    client, router, server_address = through_a_router(new_namespace, net)
    run_inside(router, rules.track_connections)
    run_inside(client, lambda: traffic.ping(server_address, 9))
    run_inside(router, lambda: check_one(r"icmp.*id=9 .*id=9 "))


@kernel
def test_other_rules_are_made_of_the_same_parts(new_namespace: Callable[[], int]) -> None:
    client, router, server_address = through_a_router(new_namespace, "10.0.{}.{}/24")

    def masquerade() -> None:
        rules.commit(
            rules.new_table("t"),
            rules.new_chain("t", "nat", NF_INET.POST_ROUTING, kind="nat", priority=100),
            rules.new_rule("t", "nat", rules.expression("masq")),
        )

    run_inside(router, masquerade)
    run_inside(client, lambda: traffic.ping(server_address, 9))
    run_inside(router, lambda: check_one(r"src=10.0.1.2 dst=10.0.2.2 .*src=10.0.2.2 dst=10.0.2.1 "))


@kernel
def test_an_id_for_another_namespace(new_namespace: Callable[[], int]) -> None:
    one, other = new_namespace(), new_namespace()

    def body() -> None:
        assert links.assign_nsid(one, 7) == 7
        assert links.assign_nsid(other) == 0
        with pytest.raises(AlreadyExists, match=r"assign the id 8: .*EEXIST"):
            links.assign_nsid(one, 8)

    run_inside(new_namespace(), body)


@kernel
def test_links_say_what_was_refused(new_namespace: Callable[[], int]) -> None:
    def body() -> None:
        with pytest.raises(KernelError, match=r"set up none: .*ENODEV"):
            links.set_up("none")
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
