"""SYNPROXY: a connection that it proxies goes on after its entry was saved and restored."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from anyio import to_thread
from support.command import run_process
from support.hosts import Host, connect_host
from support.lab import Lab
from support.namespaces import new_network_namespace
from support.processes import TIMEOUT
from support.saved_tables import in_order, list_at_rest

from conntrack_aio import Connection, Status, SynProxy
from conntrack_aio.proc_sys import set_sysctl

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.kernel,
    pytest.mark.program("nft", "nftables"),
]

RULES = """
table inet proxy {
    chain raw {
        type filter hook prerouting priority raw
        iifname "client" tcp flags & (fin|syn|rst|ack) == syn notrack
    }
    chain forward {
        type filter hook forward priority filter
        ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm
        ct state invalid drop
    }
}
"""


@pytest.fixture(params=["10.{}.0.{}/24", "fd00:{}::{}/64"], ids=["IPv4", "IPv6"])
def hosts(lab: Lab, request: pytest.FixtureRequest) -> Iterator[tuple[Host, Host]]:
    """A client and a server, which are connected through the lab, where SYNPROXY runs."""
    net: str = request.param
    with ExitStack() as stack:
        made: list[Host] = []
        for number, name in enumerate(("client", "server"), 1):
            descriptor = new_network_namespace()
            stack.callback(os.close, descriptor)
            made.append(
                connect_host(lab, name, net.format(number, 1), descriptor, net.format(number, 2))
            )
        for sysctl in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            lab.run(set_sysctl, sysctl, 1)
        # Packets in the middle of a connection belong to no entry, so SYNPROXY checks them.
        lab.sysctl("nf_conntrack_tcp_loose", 0)
        lab.program("nft", "-f", "-", input=RULES)
        client, server = made
        yield client, server


async def test_a_saved_and_restored_proxied_connection_goes_on(
    lab: Lab, conn: Connection, hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    """The proxy's sequence numbers and timestamps differ from the server's."""
    client, server = hosts
    file = str(tmp_path / "table")
    with server.bind(socket.SOCK_STREAM, 80) as listener, client.bind(socket.SOCK_STREAM) as ours:
        listener.listen()
        await to_thread.run_sync(ours.connect, (server.address, 80))
        theirs, _ = await to_thread.run_sync(listener.accept)
        theirs.settimeout(TIMEOUT)
        with theirs:

            def exchange() -> None:
                for sender, receiver in ((ours, theirs), (theirs, ours)):
                    sender.sendall(b"through the proxy")
                    assert receiver.recv(64) == b"through the proxy"

            await to_thread.run_sync(exchange)
            (before,) = await list_at_rest(conn)
            assert before.synproxy not in (None, SynProxy(isn=0, its=0, tsoff=0))
            assert before.seqadj_reply is not None
            assert before.seqadj_reply.offset_after
            assert (before.status or 0) & Status.SEQ_ADJUST
            saved = await to_thread.run_sync(run_process, lab, "save", "--quiet", "--output", file)
            assert saved == (0, "", "")
            await conn.flush()
            restored = await to_thread.run_sync(run_process, lab, "restore", "--quiet", file)
            assert restored == (0, "", "")
            assert in_order(await conn.list()) == in_order([before])
            await to_thread.run_sync(exchange)
            (after,) = await conn.list()
            assert (after.orig, after.synproxy) == (before.orig, before.synproxy)
