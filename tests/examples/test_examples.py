"""The examples run unmodified until an interrupt ends them."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import flows
from support.lab import Lab
from support.processes import DESTROY, NEW, UPDATE, Process, count_subscribers, wait_until

from conntrack_aio import Connection, Flow, NATRange
from conntrack_aio.sandbox import traffic

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.kernels,
    pytest.mark.long,  # on other kernels tests/kernels/test_first.py runs all examples
]

EXAMPLES = Path(__file__).parents[2] / "examples"


@contextlib.contextmanager
def running(lab: Lab, name: str, *arguments: str) -> Iterator[Process]:
    """Run an example, and at the end interrupt it. It must end without a traceback."""
    with Process(lab, sys.executable, "-u", str(EXAMPLES / name), *arguments) as process:
        yield process
        process.signal(signal.SIGINT)
        _, errors = process.wait()
        if name != "first.py":  # so short that it does not handle the interrupt
            assert errors == ""


@pytest.mark.anyio
async def test_first_prints_events(lab: Lab, conn: Connection) -> None:
    with running(lab, "first.py") as example:
        wait_until(lambda: count_subscribers(lab, NEW | UPDATE | DESTROY))
        await conn.create(flows.tcp(mark=7))
        assert example.line().startswith(
            "NEW     tcp ESTABLISHED 10.1.0.1:40000 -> 10.2.0.1:80 [UNREPLIED] timeout=600 mark=0x7"
        )


def test_asyncio_server_counts_connections(lab: Lab) -> None:
    lab.track()
    with running(lab, "asyncio_server.py") as example:
        found = re.fullmatch(r"listening on (\d+)", example.line())
        assert found is not None
        client = lab.run(socket.create_connection, ("127.0.0.1", int(found[1])), 5)
        with client, client.makefile("rw") as lines:
            lines.write("127.0.0.1\n")
            lines.flush()
            # The only tracked connection is that of this client.
            assert lines.readline() == "opened by 127.0.0.1: 1; in the table: 1\n"


@pytest.mark.anyio
async def test_trio_application_deletes_flows_and_prints_their_ends(
    lab: Lab, conn: Connection
) -> None:
    lab.track()
    lab.sysctl("nf_conntrack_timestamp", 1)
    arguments = ("--limit", "0", "--interval", "0.01")
    with running(lab, "trio_application.py", *arguments) as example:
        wait_until(lambda: count_subscribers(lab, DESTROY))
        sport, _ = lab.run(traffic.tcp_exchange)
        assert f"127.0.0.1:{sport} -> " in example.line()


@pytest.mark.anyio
async def test_live_table_translates_packets(lab: Lab, conn: Connection) -> None:
    outside = Flow.tcp("10.0.0.2", 40422, "198.51.100.9", 443, timeout=60)
    with running(lab, "live_table.py") as example:
        assert example.line() == "0 connections, followed"
        port = int(example.line().removeprefix("listening on "))
        await conn.create(outside, nat_src=NATRange.of("192.0.2.1", 61000))
        with lab.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
            client.settimeout(5)
            client.connect(("127.0.0.1", port))
            replies: set[bytes] = set()
            while b"tcp 198.51.100.9:443 -> 10.0.0.2:40422" not in replies:
                client.send(b"tcp 198.51.100.9 443 192.0.2.1 61000")
                replies.add(client.recv(1000))
            assert replies <= {b"no such connection", b"tcp 198.51.100.9:443 -> 10.0.0.2:40422"}
            client.send(b"hello")
            assert client.recv(1000) == b"not a packet"
