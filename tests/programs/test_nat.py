"""A router that translates: what really passed, what it says of it, and what conntrack(8) says."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address

import anyio
import attrs
import pytest
from support.byte_order import nft_label
from support.conntrack8 import check_listing
from support.hosts import Host, connect_host, without_prefix
from support.lab import Lab
from support.namespaces import new_network_namespace
from support.processes import TIMEOUT

from conntrack_aio import (
    NAT,
    AlreadyExists,
    Connection,
    Counters,
    Endpoint,
    EventStream,
    EventType,
    Flow,
    FlowEvent,
    NATRange,
    Status,
    TCPInfo,
    TCPState,
    Translation,
    Tuple,
)
from conntrack_aio.proc_sys import set_sysctl
from conntrack_aio.sandbox import traffic

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.anyio,
    pytest.mark.kernel,
    pytest.mark.program("nft", "nftables"),
    pytest.mark.program("conntrack", "conntrack"),
    pytest.mark.program("unshare", "util-linux"),
]

RULES = """
table inet nat {{
    chain raw {{
        type filter hook prerouting priority raw
        meta l4proto udp ct zone set 5
    }}
    chain prerouting {{
        type nat hook prerouting priority dstnat
        iifname "client" tcp dport 8080 dnat {ip} to {server}:80
    }}
    chain tell {{
        type filter hook postrouting priority mangle
        tcp dport 80 ct mark set 0x80
        meta l4proto {{ icmp, icmpv6 }} ct label set 5
        meta l4proto {{ icmp, icmpv6 }} ct label set 127
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat
        oifname "server" meta l4proto udp snat {ip} to {other}:4000-4999
        oifname "server" masquerade
    }}
}}
"""
BOTH = Status.SRC_NAT | Status.DST_NAT


@attrs.frozen
class Network:
    client: Host
    server: Host
    other: str
    """An address that nobody has, which the server answers by way of the router."""


@pytest.fixture(params=["10.0.{}.{}/24", "fd00:{}::{}/64"], ids=["IPv4", "IPv6"])
def network(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Network]:
    net: str = request.param
    ip, literal = ("ip6", "[{}]") if ":" in net else ("ip", "{}")
    with ExitStack() as stack:
        hosts: list[Host] = []
        for number, name in enumerate(("client", "server"), 1):
            descriptor = new_network_namespace()
            stack.callback(os.close, descriptor)
            hosts.append(
                connect_host(lab, name, net.format(number, 1), descriptor, net.format(number, 2))
            )
        client, server = hosts
        network = Network(client, server, other=without_prefix(net.format(3, 3)))
        for sysctl in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            lab.run(set_sysctl, sysctl, 1)
        literals = [literal.format(end) for end in (server.address, network.other)]
        lab.program(
            "nft", "-f", "-", input=RULES.format(ip=ip, server=literals[0], other=literals[1])
        )
        for sysctl in ("nf_conntrack_acct", "nf_conntrack_timestamp"):
            lab.sysctl(sysctl, 1)
        yield network


def connect_tcp(network: Network, to: str, port: int) -> tuple[socket.socket, socket.socket]:
    """A connection to the server's port 80, used both ways: its two ends."""
    with network.server.bind(socket.SOCK_STREAM, 80) as listener:
        listener.listen()
        client = network.client.bind(socket.SOCK_STREAM)
        client.connect((to, port))
        server, _ = listener.accept()
    server.settimeout(TIMEOUT)
    for sender, receiver in ((client, server), (server, client)):
        sender.sendall(b"over the router")
        assert receiver.recv(64) == b"over the router"
    return client, server


def close_tcp(client: socket.socket, server: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)
    assert server.recv(64) == b""
    server.close()
    assert client.recv(64) == b""
    client.close()


def exchange_udp(client: socket.socket, server: socket.socket) -> None:
    """A datagram each way between the connected client and the server, who then is, too."""
    client.send(b"question")
    said, peer = server.recvfrom(64)
    server.connect(peer)
    server.send(said)
    assert client.recv(64) == b"question"


def view(end: socket.socket) -> Tuple:
    """What it sends: the client the original direction, the server the reply."""
    make = Tuple.tcp if end.type == socket.SOCK_STREAM else Tuple.udp
    return make(*end.getsockname()[:2], *end.getpeername()[:2])


def place(address: str, port: int | None) -> Endpoint:
    return Endpoint(ip_address(address), port)


def translated(before: tuple[str, int], after: tuple[str, int]) -> Translation:
    """Between what two sockets have seen."""
    return Translation(place(*before[:2]), place(*after[:2]))


async def wait_for(stream: EventStream[FlowEvent], state: TCPState) -> None:
    """The last packet may still be on its way through the router."""
    with anyio.fail_after(TIMEOUT):
        async for event in stream:
            if isinstance(event.flow.protoinfo, TCPInfo) and event.flow.protoinfo.state is state:
                return


async def test_what_passed_is_what_both_list(network: Network, lab: Lab, conn: Connection) -> None:
    client, server = network.client, network.server
    began = time.time_ns()
    with ExitStack() as stack:
        # Masqueraded, and open while both list it.
        straight = connect_tcp(network, server.address, 80)
        for end in straight:
            stack.enter_context(end)
        # By the router's own address.
        async with conn.events(EventType.UPDATE) as stream:
            around = connect_tcp(network, client.gateway, 8080)
            seen_around = [view(end) for end in around]
            close_tcp(*around)
            await wait_for(stream, TCPState.TIME_WAIT)
        # To an address and one of some ports.
        asker = stack.enter_context(client.bind(socket.SOCK_DGRAM))
        answerer = stack.enter_context(server.bind(socket.SOCK_DGRAM, 53))
        asker.connect((server.address, 53))
        exchange_udp(asker, answerer)
        client.lab.run(traffic.ping, server.address, 7)

        flows = {flow.orig: flow for flow in await check_listing(lab, conn)}
        assert len(flows) == 4
        for flow in flows.values():
            assert flow.timestamp is not None
            assert began <= (flow.timestamp.start or 0) <= time.time_ns()
            assert (flow.status or 0) & Status.SEEN_REPLY

        masqueraded = flows[view(straight[0])]
        assert masqueraded.reply == view(straight[1])
        assert masqueraded.reply.dst == ip_address(server.gateway)
        assert (masqueraded.status or 0) & BOTH == Status.SRC_NAT
        assert (masqueraded.status or 0) & Status.ASSURED
        assert masqueraded.nat == NAT(
            src=translated(straight[0].getsockname(), straight[1].getpeername())
        )
        assert masqueraded.mark == 0x80
        assert isinstance(masqueraded.protoinfo, TCPInfo)
        assert masqueraded.protoinfo.state is TCPState.ESTABLISHED

        redirected = flows[seen_around[0]]
        assert redirected.reply == seen_around[1]
        assert redirected.reply.src == ip_address(server.address)
        assert (redirected.status or 0) & BOTH == BOTH
        assert redirected.nat is not None
        assert redirected.nat.dst == translated((client.gateway, 8080), (server.address, 80))
        assert redirected.nat.src is not None
        assert redirected.nat.src.after == place(server.gateway, seen_around[1].dport)
        assert isinstance(redirected.protoinfo, TCPInfo)
        assert redirected.protoinfo.state is TCPState.TIME_WAIT

        question = flows[view(asker)]
        assert question.reply == view(answerer)
        assert question.reply.dst == ip_address(network.other)
        assert (question.reply.dport or 0) in range(4000, 5000)
        assert question.nat == NAT(src=translated(asker.getsockname(), answerer.getpeername()))
        assert question.zone == 5
        header = 28 if question.orig.src.version == 4 else 48
        counters = Counters(packets=1, bytes=header + len("question"))
        assert (question.counters_orig, question.counters_reply) == (counters, counters)

        ping = flows[Tuple.icmp(client.address, server.address, id=7)]
        assert ping.reply.dst == ip_address(server.gateway)
        assert ping.reply.src == ip_address(server.address)
        assert ping.nat is not None
        assert ping.nat.dst is None
        assert ping.nat.src is not None
        assert ping.nat.src.after.address == ip_address(server.gateway)
        assert ping.labels == nft_label(5) | nft_label(127)
        assert ping.counters_orig == Counters(packets=1, bytes=header)


async def test_real_packets_follow_an_entry_that_was_made(
    network: Network, lab: Lab, conn: Connection
) -> None:
    client, server = network.client, network.server
    with client.bind(socket.SOCK_DGRAM) as asker, server.bind(socket.SOCK_DGRAM, 53) as answerer:
        asker.connect((client.gateway, 9999))
        port = asker.getsockname()[1]
        made = await conn.create(
            Flow.udp(client.address, port, client.gateway, 9999, timeout=60, zone=5),
            nat_src=NATRange.of(network.other, 1234),
            nat_dst=NATRange.of(server.address, 53),
        )
        exchange_udp(asker, answerer)
        assert answerer.getpeername()[:2] == (network.other, 1234)
        (flow,) = await check_listing(lab, conn)
        assert (flow.key, flow.orig, flow.reply) == (made.key, view(asker), view(answerer))
        assert (flow.status or 0) & (BOTH | Status.SEEN_REPLY) == BOTH | Status.SEEN_REPLY


async def test_the_kernel_picks_from_a_range(network: Network, lab: Lab, conn: Connection) -> None:
    """Two connections to one server's port, each from another port of a range of two."""
    client, server = network.client, network.server
    ports = NATRange(
        address_min=ip_address(network.other),
        address_max=ip_address(network.other),
        port_min=4000,
        port_max=4001,
    )
    seen: set[int] = set()
    with server.bind(socket.SOCK_DGRAM, 53) as answerer:
        for _ in range(2):
            with client.bind(socket.SOCK_DGRAM) as asker:
                asker.connect((server.address, 53))
                port = asker.getsockname()[1]
                flow = Flow.udp(client.address, port, server.address, 53, timeout=60, zone=5)
                made = await conn.create(flow, nat_src=ports)
                assert made.nat is not None
                assert made.nat.dst is None
                assert made.nat.src is not None
                assert made.nat.src.before == place(client.address, port)
                assert made.nat.src.after.address == ip_address(network.other)
                asker.send(b"question")
                _, peer = answerer.recvfrom(64)
                assert made.nat.src.after == place(*peer[:2])
                answerer.sendto(b"answer", peer)
                assert asker.recv(64) == b"answer"
                seen.add(peer[1])
        assert seen == {4000, 4001}
        with client.bind(socket.SOCK_DGRAM) as asker:
            port = asker.getsockname()[1]
            flow = Flow.udp(client.address, port, server.address, 53, timeout=60, zone=5)
            with pytest.raises(AlreadyExists, match="is in use"):
                await conn.create(flow, nat_src=ports)


async def test_a_range_of_addresses(network: Network, lab: Lab, conn: Connection) -> None:
    client, server = network.client, network.server
    first = ip_address(network.other)
    addresses = NATRange(address_min=first, address_max=first + 3)
    with server.bind(socket.SOCK_DGRAM, 53) as answerer, client.bind(socket.SOCK_DGRAM) as asker:
        asker.connect((server.address, 53))
        port = asker.getsockname()[1]
        made = await conn.create(
            Flow.udp(client.address, port, server.address, 53, timeout=60, zone=5),
            nat_src=addresses,
        )
        exchange_udp(asker, answerer)
        peer = ip_address(answerer.getpeername()[0])
        assert first <= peer <= first + 3
        assert made.nat == NAT(
            src=Translation(place(client.address, port), Endpoint(peer, answerer.getpeername()[1]))
        )


async def test_tcp_through_an_entry_that_was_made(
    network: Network, lab: Lab, conn: Connection
) -> None:
    """As a failover does it: the entry is there before its first packet, then it is removed."""
    client, server = network.client, network.server
    async with conn.events(EventType.UPDATE) as stream:
        with client.bind(socket.SOCK_STREAM) as ours, server.bind(socket.SOCK_STREAM, 80) as they:
            they.listen()
            port = ours.getsockname()[1]
            made = await conn.create(
                Flow.tcp(
                    *(client.address, port, client.gateway, 7777),
                    timeout=60,
                    state=TCPState.SYN_SENT,
                ),
                nat_src=server.gateway,
                nat_dst=NATRange.of(server.address, 80),
            )
            assert made.nat is not None
            ours.connect((client.gateway, 7777))
            theirs, _ = they.accept()
            theirs.settimeout(TIMEOUT)
            with theirs:
                assert made.nat.src is not None
                assert made.nat.src.after == place(*theirs.getpeername()[:2])
                ours.sendall(b"over the router")
                assert theirs.recv(64) == b"over the router"
                close_tcp(ours, theirs)
            await wait_for(stream, TCPState.TIME_WAIT)
    assert (await conn.get(made)).nat == made.nat
