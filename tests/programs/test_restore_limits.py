"""What a restored entry does not keep, because requests cannot set it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from support import links
from support.command import run_process
from support.lab import Lab
from support.processes import TIMEOUT

from conntrack_aio import Connection, Counters, SynProxy
from conntrack_aio.sandbox import traffic
from conntrack_aio.sandbox.links import set_up

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.kernel,
    pytest.mark.program("nft", "nftables"),
    pytest.mark.program("ip", "iproute2"),
]


MASQUERADE = """
table ip t {
    chain postrouting {
        type nat hook postrouting priority srcnat
        ip saddr 10.6.0.1 oifname "outer" masquerade
    }
}
"""
TIMEOUT_POLICY = """
table ip t {
    ct timeout slow {
        protocol udp
        l3proto ip
        policy = { unreplied : 500, replied : 600 }
    }
    chain output {
        type filter hook output priority filter
        udp dport 53 ct timeout set "slow"
    }
}
"""


async def replace_table(lab: Lab, conn: Connection, tmp_path: Path) -> None:
    file = str(tmp_path / "table")
    assert (await to_thread.run_sync(run_process, lab, "save", "--quiet", "--output", file))[0] == 0
    await conn.flush()
    assert await to_thread.run_sync(run_process, lab, "restore", "--quiet", file) == (0, "", "")


async def test_counters_the_start_and_the_state_of_synproxy(
    lab: Lab, conn: Connection, tmp_path: Path
) -> None:
    for sysctl in ("nf_conntrack_acct", "nf_conntrack_timestamp"):
        lab.sysctl(sysctl, 1)
    lab.track()
    await to_thread.run_sync(lab.run, traffic.udp_exchange)
    (before,) = await conn.list()
    assert before.counters_orig == Counters(packets=1, bytes=32)
    assert before.synproxy is None
    await replace_table(lab, conn, tmp_path)
    (after,) = await conn.list()
    assert after.orig == before.orig
    assert after.counters_orig == after.counters_reply == Counters(packets=0, bytes=0)
    assert before.timestamp is not None
    assert after.timestamp is not None
    assert (after.timestamp.start or 0) > (before.timestamp.start or 0)
    assert after.synproxy == SynProxy(isn=0, its=0, tsoff=0)


def send(lab: Lab, source: str, to: tuple[str, int]) -> None:
    """Send a datagram from a port of its own, so that the next one belongs to the same flow."""

    def action() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((source, 4000))
            sock.sendto(b"", to)

    lab.run(action)


async def test_a_timeout_policy(lab: Lab, conn: Connection, tmp_path: Path) -> None:
    """The policy is not part of the entry that the kernel reports. Rules assign it to new ones."""
    lab.program("nft", "-f", "-", input=TIMEOUT_POLICY)
    send(lab, "127.0.0.1", ("127.0.0.1", 53))
    send(lab, "127.0.0.1", ("127.0.0.1", 53))
    assert ((await conn.list())[0].timeout or 0) > 400
    await replace_table(lab, conn, tmp_path)
    assert ((await conn.list())[0].timeout or 0) > 400
    send(lab, "127.0.0.1", ("127.0.0.1", 53))
    assert ((await conn.list())[0].timeout or 0) <= 30


async def test_the_interface_of_masquerading(
    lab: Lab, conn: Connection, tmp_path: Path, new_namespace: Callable[[], int]
) -> None:
    """An entry that the kernel masquerades ends with its interface; a restored one does not."""
    peer = new_namespace()
    lab.run(links.add_veth, "outer", "inner", peer)
    Lab(peer).run(set_up, "inner")
    for address, interface in (("10.6.0.1/24", "lo"), ("10.5.0.1/24", "outer")):
        lab.run(links.add_address, interface, address)
    lab.run(set_up, "outer")
    lab.run(links.wait_until_up, "outer")
    lab.program("nft", "-f", "-", input=MASQUERADE)
    send(lab, "10.6.0.1", ("10.5.0.2", 53))
    await replace_table(lab, conn, tmp_path)
    send(lab, "10.6.0.1", ("10.5.0.2", 54))
    flows = {flow.orig.dport: flow for flow in await conn.list()}
    assert [flows[port].nat is not None for port in (53, 54)] == [True, True]
    lab.program("ip", "link", "set", "outer", "down")
    with anyio.fail_after(TIMEOUT):
        while len(left := await conn.list()) > 1:
            pass
    assert [flow.orig for flow in left] == [flows[53].orig]
