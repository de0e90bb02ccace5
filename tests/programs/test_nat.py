"""NAT on a router: compare real traffic with this library's flows and with conntrack(8)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import anyio
import attrs
import pytest
from anyio import to_thread
from support.byte_order import nft_label
from support.command import run_process
from support.conntrack8 import check_listing
from support.hosts import Host, connect_host, without_prefix
from support.lab import Lab
from support.namespaces import new_network_namespace
from support.processes import TIMEOUT
from support.saved_tables import in_order, list_at_rest

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
    chain set_marks {{
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
    """An address that no host has. The server's route to it is through the router."""


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
    """Connect to the server's port 80, send data in both directions, and return both sockets."""
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
    """Send a datagram in each direction. The server's socket is connected in between."""
    client.send(b"request")
    data, peer = server.recvfrom(64)
    server.connect(peer)
    server.send(data)
    assert client.recv(64) == b"request"


def sent_tuple(end: socket.socket) -> Tuple:
    """Return the tuple of the packets that a socket sends.

    For the client's socket that is the original tuple, for the server's the reply tuple.
    """
    build = Tuple.tcp if end.type == socket.SOCK_STREAM else Tuple.udp
    return build(*end.getsockname()[:2], *end.getpeername()[:2])


def endpoint(address: str, port: int | None) -> Endpoint:
    return Endpoint(ip_address(address), port)


def translated(before: tuple[str, int], after: tuple[str, int]) -> Translation:
    """Return the translation between two addresses with ports."""
    return Translation(endpoint(*before[:2]), endpoint(*after[:2]))


async def wait_for(stream: EventStream[FlowEvent], state: TCPState) -> None:
    """Wait for an event with this TCP state: the last packet may not have passed the router yet."""
    with anyio.fail_after(TIMEOUT):
        async for event in stream:
            if isinstance(event.flow.protoinfo, TCPInfo) and event.flow.protoinfo.state is state:
                return


async def test_both_list_the_translations_of_real_traffic(
    network: Network, lab: Lab, conn: Connection
) -> None:
    client, server = network.client, network.server
    began = time.time_ns()
    with ExitStack() as stack:
        # A masqueraded connection, which is open while both programs list it.
        direct = connect_tcp(network, server.address, 80)
        for end in direct:
            stack.enter_context(end)
        # A connection to the router's own address.
        async with conn.events(EventType.UPDATE) as stream:
            redirected_ends = connect_tcp(network, client.gateway, 8080)
            redirected_tuples = [sent_tuple(end) for end in redirected_ends]
            close_tcp(*redirected_ends)
            await wait_for(stream, TCPState.TIME_WAIT)
        # UDP whose source is translated to an address and a port from a range.
        requester = stack.enter_context(client.bind(socket.SOCK_DGRAM))
        responder = stack.enter_context(server.bind(socket.SOCK_DGRAM, 53))
        requester.connect((server.address, 53))
        exchange_udp(requester, responder)
        client.lab.run(traffic.ping, server.address, 7)

        flows = {flow.orig: flow for flow in await check_listing(lab, conn)}
        assert len(flows) == 4
        for flow in flows.values():
            assert flow.timestamp is not None
            assert began <= (flow.timestamp.start or 0) <= time.time_ns()
            assert (flow.status or 0) & Status.SEEN_REPLY

        masqueraded = flows[sent_tuple(direct[0])]
        assert masqueraded.reply == sent_tuple(direct[1])
        assert masqueraded.reply.dst == ip_address(server.gateway)
        assert (masqueraded.status or 0) & BOTH == Status.SRC_NAT
        assert (masqueraded.status or 0) & Status.ASSURED
        assert masqueraded.nat == NAT(
            src=translated(direct[0].getsockname(), direct[1].getpeername())
        )
        assert masqueraded.mark == 0x80
        assert isinstance(masqueraded.protoinfo, TCPInfo)
        assert masqueraded.protoinfo.state is TCPState.ESTABLISHED

        redirected = flows[redirected_tuples[0]]
        assert redirected.reply == redirected_tuples[1]
        assert redirected.reply.src == ip_address(server.address)
        assert (redirected.status or 0) & BOTH == BOTH
        assert redirected.nat is not None
        assert redirected.nat.dst == translated((client.gateway, 8080), (server.address, 80))
        assert redirected.nat.src is not None
        assert redirected.nat.src.after == endpoint(server.gateway, redirected_tuples[1].dport)
        assert isinstance(redirected.protoinfo, TCPInfo)
        assert redirected.protoinfo.state is TCPState.TIME_WAIT

        udp_flow = flows[sent_tuple(requester)]
        assert udp_flow.reply == sent_tuple(responder)
        assert udp_flow.reply.dst == ip_address(network.other)
        assert (udp_flow.reply.dport or 0) in range(4000, 5000)
        assert udp_flow.nat == NAT(src=translated(requester.getsockname(), responder.getpeername()))
        assert udp_flow.zone == 5
        header = 28 if udp_flow.orig.src.version == 4 else 48
        counters = Counters(packets=1, bytes=header + len("request"))
        assert (udp_flow.counters_orig, udp_flow.counters_reply) == (counters, counters)

        ping = flows[Tuple.icmp(client.address, server.address, id=7)]
        assert ping.reply.dst == ip_address(server.gateway)
        assert ping.reply.src == ip_address(server.address)
        assert ping.nat is not None
        assert ping.nat.dst is None
        assert ping.nat.src is not None
        assert ping.nat.src.after.address == ip_address(server.gateway)
        assert ping.labels == nft_label(5) | nft_label(127)
        assert ping.counters_orig == Counters(packets=1, bytes=header)


async def test_real_packets_use_an_entry_that_a_program_created(
    network: Network, lab: Lab, conn: Connection
) -> None:
    client, server = network.client, network.server
    with (
        client.bind(socket.SOCK_DGRAM) as requester,
        server.bind(socket.SOCK_DGRAM, 53) as responder,
    ):
        requester.connect((client.gateway, 9999))
        port = requester.getsockname()[1]
        created = await conn.create(
            Flow.udp(client.address, port, client.gateway, 9999, timeout=60, zone=5),
            nat_src=NATRange.of(network.other, 1234),
            nat_dst=NATRange.of(server.address, 53),
        )
        exchange_udp(requester, responder)
        assert responder.getpeername()[:2] == (network.other, 1234)
        (flow,) = await check_listing(lab, conn)
        assert (flow.key, flow.orig, flow.reply) == (
            created.key,
            sent_tuple(requester),
            sent_tuple(responder),
        )
        assert (flow.status or 0) & (BOTH | Status.SEEN_REPLY) == BOTH | Status.SEEN_REPLY


async def test_the_kernel_picks_a_port_from_a_range(
    network: Network, lab: Lab, conn: Connection
) -> None:
    """Two UDP flows to one server port get the two ports of a range of two."""
    client, server = network.client, network.server
    ports = NATRange(
        address_min=ip_address(network.other),
        address_max=ip_address(network.other),
        port_min=4000,
        port_max=4001,
    )
    seen: set[int] = set()
    with server.bind(socket.SOCK_DGRAM, 53) as responder:
        for _ in range(2):
            with client.bind(socket.SOCK_DGRAM) as requester:
                requester.connect((server.address, 53))
                port = requester.getsockname()[1]
                flow = Flow.udp(client.address, port, server.address, 53, timeout=60, zone=5)
                created = await conn.create(flow, nat_src=ports)
                assert created.nat is not None
                assert created.nat.dst is None
                assert created.nat.src is not None
                assert created.nat.src.before == endpoint(client.address, port)
                assert created.nat.src.after.address == ip_address(network.other)
                requester.send(b"request")
                _, peer = responder.recvfrom(64)
                assert created.nat.src.after == endpoint(*peer[:2])
                responder.sendto(b"reply", peer)
                assert requester.recv(64) == b"reply"
                seen.add(peer[1])
        assert seen == {4000, 4001}
        with client.bind(socket.SOCK_DGRAM) as requester:
            port = requester.getsockname()[1]
            flow = Flow.udp(client.address, port, server.address, 53, timeout=60, zone=5)
            with pytest.raises(AlreadyExists, match="is in use"):
                await conn.create(flow, nat_src=ports)


async def test_the_kernel_picks_an_address_from_a_range(
    network: Network, lab: Lab, conn: Connection
) -> None:
    client, server = network.client, network.server
    first = ip_address(network.other)
    addresses = NATRange(address_min=first, address_max=first + 3)
    with (
        server.bind(socket.SOCK_DGRAM, 53) as responder,
        client.bind(socket.SOCK_DGRAM) as requester,
    ):
        requester.connect((server.address, 53))
        port = requester.getsockname()[1]
        created = await conn.create(
            Flow.udp(client.address, port, server.address, 53, timeout=60, zone=5),
            nat_src=addresses,
        )
        exchange_udp(requester, responder)
        peer = ip_address(responder.getpeername()[0])
        assert first <= peer <= first + 3
        assert created.nat == NAT(
            src=Translation(
                endpoint(client.address, port), Endpoint(peer, responder.getpeername()[1])
            )
        )


async def test_a_tcp_connection_uses_an_entry_that_a_program_created(
    network: Network, lab: Lab, conn: Connection
) -> None:
    """As in a failover, the entry is created before the first packet."""
    client, server = network.client, network.server
    async with conn.events(EventType.UPDATE) as stream:
        with (
            client.bind(socket.SOCK_STREAM) as ours,
            server.bind(socket.SOCK_STREAM, 80) as listener,
        ):
            listener.listen()
            port = ours.getsockname()[1]
            created = await conn.create(
                Flow.tcp(
                    *(client.address, port, client.gateway, 7777),
                    timeout=60,
                    state=TCPState.SYN_SENT,
                ),
                nat_src=server.gateway,
                nat_dst=NATRange.of(server.address, 80),
            )
            assert created.nat is not None
            ours.connect((client.gateway, 7777))
            theirs, _ = listener.accept()
            theirs.settimeout(TIMEOUT)
            with theirs:
                assert created.nat.src is not None
                assert created.nat.src.after == endpoint(*theirs.getpeername()[:2])
                ours.sendall(b"over the router")
                assert theirs.recv(64) == b"over the router"
                close_tcp(ours, theirs)
            await wait_for(stream, TCPState.TIME_WAIT)
    assert (await conn.get(created)).nat == created.nat


async def test_saved_and_restored_translations_go_on(
    network: Network, lab: Lab, conn: Connection, tmp_path: Path
) -> None:
    """Packets of real connections are translated by restored entries, without any rule of NAT."""
    client, server = network.client, network.server
    file = str(tmp_path / "table")
    with ExitStack() as stack:
        masqueraded = connect_tcp(network, server.address, 80)
        redirected = connect_tcp(network, client.gateway, 8080)
        for end in (*masqueraded, *redirected):
            stack.enter_context(end)
        requester = stack.enter_context(client.bind(socket.SOCK_DGRAM))
        responder = stack.enter_context(server.bind(socket.SOCK_DGRAM, 53))
        requester.connect((server.address, 53))
        exchange_udp(requester, responder)
        client.lab.run(traffic.ping, server.address, 7)
        before = await list_at_rest(conn)
        assert len(before) == 4
        assert all(flow.nat for flow in before)
        assert (await to_thread.run_sync(run_process, lab, "save", "--quiet", "--output", file))[
            0
        ] == 0

        # The chains stay, because without them the kernel translates nothing at all.
        for chain in ("prerouting", "postrouting"):
            lab.program("nft", "flush", "chain", "inet", "nat", chain)
        await conn.flush()
        assert await to_thread.run_sync(run_process, lab, "restore", "--quiet", file) == (0, "", "")
        assert in_order(await conn.list()) == in_order(before)

        for one, other in (masqueraded, redirected):
            for sender, receiver in ((one, other), (other, one)):
                sender.sendall(b"after the restore")
                assert receiver.recv(64) == b"after the restore"
        requester.send(b"request")
        assert responder.recv(64) == b"request"
        responder.send(b"reply")
        assert requester.recv(64) == b"reply"
        client.lab.run(traffic.ping, server.address, 7)
        # No packet has created an entry.
        assert {(flow.orig, flow.reply) for flow in await conn.list()} == {
            (flow.orig, flow.reply) for flow in before
        }
        close_tcp(*masqueraded)
        close_tcp(*redirected)
