"""Which settings make a router end a TCP connection whose entry is deleted.

These are the cases of the recipe "End the connections of one client", with real traffic. A
connection is opened and used through a router, its entry is deleted, and then both ends send again.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import anyio
import anyio.to_thread
import attrs
import pytest
from support.hosts import Host, connect_host
from support.lab import Lab
from support.namespaces import new_network_namespace
from support.processes import TIMEOUT, wait_until

from conntrack_aio import Connection, Match
from conntrack_aio.proc_sys import set_sysctl

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.kernel,
    pytest.mark.program("nft", "nftables"),
]

RULES = """
table inet filter {{
    counter dropped {{ }}
    chain forward {{
        type filter hook forward priority filter
        {rule}
    }}
}}
"""
DROPS_INVALID = "ct state invalid counter name dropped drop"
DROPS_NEW_WITHOUT_SYN = (
    "tcp flags & (fin | syn | rst | ack) != syn ct state new counter name dropped drop"
)
REJECTS_INVALID = "meta l4proto tcp ct state invalid reject with tcp reset"
TRACKS = "ct state new accept"


class Case(NamedTuple):
    loose: bool
    rule: str
    passes: bool
    """Whether data passes after the entry is deleted."""
    entries: int
    """The number of entries after that."""


CASES = {
    "the kernel's defaults": Case(True, TRACKS, passes=True, entries=1),
    "only tcp_loose": Case(False, TRACKS, passes=True, entries=0),
    "tcp_loose, and a rule that drops invalid packets": Case(
        False, DROPS_INVALID, passes=False, entries=0
    ),
    "a rule that drops new TCP without SYN": Case(
        True, DROPS_NEW_WITHOUT_SYN, passes=False, entries=0
    ),
    "tcp_loose, and a rule that drops new TCP without SYN": Case(
        False, DROPS_NEW_WITHOUT_SYN, passes=True, entries=0
    ),
    "only a rule that drops invalid packets": Case(True, DROPS_INVALID, passes=True, entries=1),
}


@attrs.frozen
class Network:
    client: Host
    server: Host


@pytest.fixture(params=["10.0.{}.{}/24", "fd00:{}::{}/64"], ids=["IPv4", "IPv6"])
def network(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Network]:
    net: str = request.param
    with ExitStack() as stack:
        hosts: list[Host] = []
        for number, name in enumerate(("client", "server"), 1):
            descriptor = new_network_namespace()
            stack.callback(os.close, descriptor)
            hosts.append(
                connect_host(lab, name, net.format(number, 1), descriptor, net.format(number, 2))
            )
        for sysctl in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            lab.run(set_sysctl, sysctl, 1)
        yield Network(*hosts)


def dropped(lab: Lab) -> int:
    """Return how many packets the rule has dropped."""
    output = json.loads(lab.program("nft", "-j", "list", "counters"))["nftables"]
    (count,) = (each["counter"]["packets"] for each in output if "counter" in each)
    return int(count)


class Ends(NamedTuple):
    client: socket.socket
    server: socket.socket

    @property
    def directions(self) -> list[tuple[socket.socket, socket.socket]]:
        return [(self.client, self.server), (self.server, self.client)]


@contextmanager
def used_connection(network: Network) -> Generator[Ends]:
    """Open a connection from the client to the server, and send data in both directions."""
    with ExitStack() as stack:
        listener = stack.enter_context(network.server.bind(socket.SOCK_STREAM, 80))
        listener.listen()
        client = stack.enter_context(network.client.bind(socket.SOCK_STREAM))
        client.connect(listener.getsockname())
        ends = Ends(client, stack.enter_context(listener.accept()[0]))
        for one, other in ends.directions:
            one.settimeout(TIMEOUT)
            other.settimeout(TIMEOUT)
            one.sendall(b"before")
            assert other.recv(64) == b"before"
        yield ends


async def delete(conn: Connection, network: Network, *, loose: bool) -> None:
    """Delete the client's entry as in the recipe."""
    await conn.sysctls.set(tcp_loose=loose)
    assert await conn.delete_matching(Match(orig_src=network.client.address)) == 1


@pytest.mark.parametrize("case", CASES)
async def test_whether_data_passes_after_the_entry_is_deleted(
    lab: Lab, network: Network, conn: Connection, case: str
) -> None:
    loose, rule, passes, entries = CASES[case]
    lab.program("nft", "-f", "-", input=RULES.format(rule=rule))
    with used_connection(network) as ends:
        before = dropped(lab)
        await delete(conn, network, loose=loose)
        for one, other in ends.directions:
            one.sendall(b"after")
            if passes:
                assert other.recv(64) == b"after"
        if not passes:
            # The rule has dropped the data of both ends, and perhaps an acknowledgement.
            await anyio.to_thread.run_sync(wait_until, lambda: dropped(lab) >= before + 2)
            for end in ends:
                end.setblocking(False)
                with pytest.raises(BlockingIOError):
                    end.recv(64)
        assert await conn.count() == entries


async def test_a_rule_that_rejects_resets_both_ends(
    lab: Lab, network: Network, conn: Connection
) -> None:
    lab.program("nft", "-f", "-", input=RULES.format(rule=REJECTS_INVALID))
    with used_connection(network) as ends:
        await delete(conn, network, loose=False)
        for end in ends:
            end.sendall(b"after")
            with pytest.raises(ConnectionResetError):
                end.recv(64)
