"""Flows that a flowtable forwards past the tracker (``IPS_OFFLOAD``), between two hosts."""

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

DELETED = RELEASE.has(releases.OFFLOADED_DELETED)


@pytest.fixture
def hosts(lab: Lab) -> Iterator[tuple[Host, Host]]:
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
    """Both ends of a TCP connection that was forwarded a few times."""
    client, server = hosts
    with server.bind(socket.SOCK_STREAM, 80) as listener, client.bind(socket.SOCK_STREAM) as one:
        listener.listen()
        one.connect(listener.getsockname())
        other, _ = listener.accept()
        with other:
            other.settimeout(one.gettimeout())
            for _ in range(4):
                one.sendall(b"x")
                assert other.recv(1) == b"x"
                other.sendall(b"y")
                assert one.recv(1) == b"y"
            yield one, other


def orig(ends: tuple[socket.socket, socket.socket]) -> Tuple:
    one, other = ends
    return Tuple.tcp(*one.getsockname(), *other.getsockname())


async def test_what_is_told(conn: Connection, ends: tuple[socket.socket, socket.socket]) -> None:
    """It has no timeout of its own, and nobody follows its state."""
    flow = await conn.get(orig(ends))
    assert flow.status is not None
    assert Status.OFFLOAD in flow.status
    assert (flow.timeout, flow.protoinfo) == (None, None)
    assert (flow.id, flow.status) in [(each.id, each.status) for each in await conn.list()]
    assert "[OFFLOAD]" in str(flow)


async def test_deletes(conn: Connection, ends: tuple[socket.socket, socket.socket]) -> None:
    flow = await conn.get(orig(ends))
    if DELETED:
        await conn.delete(flow)
        with pytest.raises(NotFound):
            await conn.get(flow)
    else:
        assert Status.OFFLOAD in (flow.status or Status(0))
        with pytest.raises(ResourceBusy):
            await conn.delete(flow)
        await conn.flush()
        assert (await conn.get(flow)).id == flow.id


async def test_a_table(conn: Connection, ends: tuple[socket.socket, socket.socket]) -> None:
    """It is kept as long as the kernel keeps it, though it has no timeout."""
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
            current = await conn.get(current)  # until the flowtable has seen the end of it
        await conn.delete(current)
        with anyio.fail_after(60):
            assert (await anext(events)).flow.id == flow.id
            await table.synced()
        assert table.find(key) is None
