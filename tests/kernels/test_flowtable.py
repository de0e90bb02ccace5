"""Check flows whose packets a flowtable forwards, so that they bypass connection tracking.

The kernel marks such entries with ``IPS_OFFLOAD``. The packets are forwarded between two hosts.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import anyio
import pytest
from support.hosts import Host, connect_host
from support.kernel_release import RELEASE
from support.lab import Lab
from support.namespaces import new_network_namespace

from conntrack_aio import Connection, EventType, NotFound, ResourceBusy, Status, Tuple
from conntrack_aio.proc_sys import set_sysctl
from conntrack_aio.testing import releases

pytestmark = [pytest.mark.kernels, pytest.mark.anyio]

RULES = """
table inet t {
    flowtable f {
        hook ingress priority 0
        devices = { client, server }
    }
    chain forward {
        type filter hook forward priority 0
        meta l4proto { tcp, udp } flow add @f
    }
}
"""

CAN_DELETE_OFFLOADED = RELEASE.has(releases.OFFLOADED_DELETED)
"""Whether this kernel deletes an offloaded entry on request. Older ones refuse with EBUSY."""


@pytest.fixture
def hosts(lab: Lab) -> Iterator[tuple[Host, Host]]:
    """Return a client and a server, between which the lab's namespace forwards by a flowtable."""
    with ExitStack() as stack:

        def namespace() -> int:
            descriptor = new_network_namespace()
            stack.callback(os.close, descriptor)
            return descriptor

        client = connect_host(lab, "client", "10.1.0.1/24", namespace(), "10.1.0.2/24")
        server = connect_host(lab, "server", "10.2.0.1/24", namespace(), "10.2.0.2/24")
        lab.run(set_sysctl, "net.ipv4.ip_forward", 1)
        lab.program("nft", "-f", "-", input=RULES)
        yield client, server


@pytest.fixture
def ends(hosts: tuple[Host, Host]) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return both ends of a TCP connection after enough packets to offload it."""
    client, server = hosts
    with (
        server.bind(socket.SOCK_STREAM, 80) as listener,
        client.bind(socket.SOCK_STREAM) as client_end,
    ):
        listener.listen()
        client_end.connect(listener.getsockname())
        server_end, _ = listener.accept()
        with server_end:
            server_end.settimeout(client_end.gettimeout())
            for _ in range(4):
                client_end.sendall(b"x")
                assert server_end.recv(1) == b"x"
                server_end.sendall(b"y")
                assert client_end.recv(1) == b"y"
            yield client_end, server_end


def orig(ends: tuple[socket.socket, socket.socket]) -> Tuple:
    """Return the original tuple of the connection."""
    client_end, server_end = ends
    return Tuple.tcp(*client_end.getsockname(), *server_end.getsockname())


async def test_an_offloaded_flow_has_neither_timeout_nor_protocol_state(
    conn: Connection, ends: tuple[socket.socket, socket.socket]
) -> None:
    """The kernel neither lets the entry expire nor tracks its TCP state."""
    flow = await conn.get(orig(ends))
    assert flow.status is not None
    assert Status.OFFLOAD in flow.status
    assert (flow.timeout, flow.protoinfo) == (None, None)
    assert (flow.id, flow.status) in [(listed.id, listed.status) for listed in await conn.list()]
    assert "[OFFLOAD]" in str(flow)


async def test_an_offloaded_flow_is_deleted_or_busy_depending_on_the_kernel(
    conn: Connection, ends: tuple[socket.socket, socket.socket]
) -> None:
    flow = await conn.get(orig(ends))
    if CAN_DELETE_OFFLOADED:
        await conn.delete(flow)
        with pytest.raises(NotFound):
            await conn.get(flow)
    else:
        assert Status.OFFLOAD in (flow.status or Status(0))
        with pytest.raises(ResourceBusy):
            await conn.delete(flow)
        await conn.flush()
        assert (await conn.get(flow)).id == flow.id


async def test_a_table_keeps_an_offloaded_flow_until_its_entry_is_deleted(
    conn: Connection, ends: tuple[socket.socket, socket.socket]
) -> None:
    """The flow has no timeout, from which the table could infer its end."""
    key = orig(ends)
    async with conn.events(EventType.DESTROY) as events, conn.table() as table:
        await table.synced()
        flow = table.find(key)
        assert flow is not None
        assert flow.status is not None
        assert Status.OFFLOAD in flow.status
        assert flow.timeout is None
        for end in ends:
            end.close()
        current = await conn.get(key)
        while current.status is not None and Status.OFFLOAD in current.status:
            current = await conn.get(current)  # the flowtable releases a connection that closed
        await conn.delete(current)
        with anyio.fail_after(60):
            assert (await anext(events)).flow.id == flow.id
            await table.synced()
        assert table.find(key) is None
