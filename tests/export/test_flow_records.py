"""Flow records count the packets that nftables counts, and each of them once."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import anyio
import anyio.lowlevel
import pytest
from support.flows import fill_cached
from support.lab import Lab
from support.polling import wait_until

from conntrack_aio import Connection, EventMode, Flow, Match
from conntrack_aio.export.flow_records import FlowRecords
from conntrack_aio.export.records import (
    EndReason,
    FlowRecord,
    LostRecord,
    Record,
    ResynchronizedRecord,
)

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.kernel,
    pytest.mark.program("nft", "nftables"),
]

RULES = """
table inet t {
    counter tracked { }
    chain output {
        type filter hook output priority filter
        ct state new,established,related counter name tracked
    }
}
"""


class Totals(NamedTuple):
    packets: int
    bytes: int


def counted_by_nftables(lab: Lab) -> Totals:
    output = json.loads(lab.program("nft", "-j", "list", "counters"))["nftables"]
    (counter,) = [each["counter"] for each in output if "counter" in each]
    return Totals(counter["packets"], counter["bytes"])


def total(records: list[Record]) -> Totals:
    passed = [
        each
        for record in records
        if isinstance(record, FlowRecord)
        for each in (record.orig, record.reply)
        if each is not None
    ]
    return Totals(sum(each.packets for each in passed), sum(each.bytes for each in passed))


def exchange(number: int) -> None:
    """Open, use and close TCP connections, and send datagrams in a flow that lives on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(number):
            client = socket.create_connection(listener.getsockname())
            server, _ = listener.accept()
            client.sendall(b"x" * 1000)
            server.recv(2000)
            client.close()
            server.close()
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        for _ in range(number):
            datagrams.sendto(b"y" * 50, datagrams.getsockname())


@asynccontextmanager
async def collecting(source: FlowRecords) -> AsyncIterator[list[Record]]:
    """Collect the records of a source in a list."""
    collected: list[Record] = []

    async def collect() -> None:
        async for records in source:
            collected.extend(records)

    async with source, anyio.create_task_group() as tasks:
        tasks.start_soon(collect)
        yield collected
        tasks.cancel_scope.cancel()


async def wait_for_end(conn: Connection, source: FlowRecords) -> None:
    """Wait until all entries have gone, and the events of their ends were read."""
    with anyio.fail_after(60):
        # An entry whose event was not delivered counts.
        while await conn.count():
            await anyio.lowlevel.checkpoint()
    await wait_until(lambda: not source.known_flows)


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("active_timeout", [None, 0.05])
async def test_the_sums_are_those_of_nftables(
    lab: Lab, conn: Connection, resets: bool, active_timeout: float | None
) -> None:
    lab.program("nft", "-f", "-", input=RULES)
    await conn.sysctls.set(acct=True, timestamp=resets)
    source = FlowRecords(conn, active_timeout=active_timeout, reset_counters=resets)
    async with collecting(source) as records:
        for _ in range(5):
            await anyio.to_thread.run_sync(lab.run, exchange, 20)
        await conn.flush()
        await wait_for_end(conn, source)
    assert total(records) == counted_by_nftables(lab)
    assert all(isinstance(record, FlowRecord) and record.exact for record in records)


async def test_what_passed_before_is_in_no_record(lab: Lab, conn: Connection) -> None:
    await conn.sysctls.set(acct=True)
    await anyio.to_thread.run_sync(lab.run, exchange, 20)
    lab.program("nft", "-f", "-", input=RULES)
    source = FlowRecords(conn, active_timeout=0.05)
    async with collecting(source) as records:
        await anyio.to_thread.run_sync(lab.run, exchange, 20)
        await conn.flush()
        await wait_for_end(conn, source)
    assert total(records) == counted_by_nftables(lab)


async def test_lost_events_change_no_sum(lab: Lab, conn: Connection) -> None:
    """The buffer has room for a few events. Those of ends are delivered later."""
    lab.program("nft", "-f", "-", input=RULES)
    await conn.sysctls.set(acct=True)
    source = FlowRecords(conn, active_timeout=0.2, receive_buffer=1 << 12)
    async with collecting(source) as records:
        for _ in range(2):
            await anyio.to_thread.run_sync(lab.run, exchange, 100)
            await fill_cached(conn, 2000)  # without a pause, so that nobody reads the events
            await conn.flush()
        await wait_for_end(conn, source)
        await wait_until(lambda: any(isinstance(each, ResynchronizedRecord) for each in records))
        packets = counted_by_nftables(lab).packets
        await wait_until(lambda: total(records).packets >= packets)
    assert any(isinstance(record, LostRecord) for record in records)
    assert total(records) == counted_by_nftables(lab)


async def test_flows_without_events_are_found_in_the_table(lab: Lab, conn: Connection) -> None:
    lab.program("nft", "-f", "-", input=RULES)
    await conn.sysctls.set(acct=True, events=EventMode.OFF)
    source = FlowRecords(conn, active_timeout=0.05)
    async with collecting(source) as records:
        await anyio.to_thread.run_sync(lab.run, exchange, 3)
        await wait_until(lambda: source.known_flows > 0)
        await conn.flush()
        await wait_for_end(conn, source)
    last = [record for record in records if isinstance(record, FlowRecord) and record.is_final]
    assert last
    assert {(record.reason, record.exact) for record in last} == {(EndReason.UNKNOWN, False)}


async def test_flows_are_selected_by_a_match(conn: Connection) -> None:
    source = FlowRecords(conn, match=Match(proto=17))
    async with collecting(source) as records:
        await conn.create(Flow.tcp("10.0.0.1", 1, "10.0.0.2", 80, timeout=60))
        await conn.create(Flow.udp("10.0.0.1", 1, "10.0.0.2", 53, timeout=60))
        await conn.flush()
        await wait_until(lambda: bool(records))
    (record,) = records
    assert isinstance(record, FlowRecord)
    assert (record.flow.orig.proto, record.reason) == (17, EndReason.FORCED)
    assert (record.orig, record.reply) == (None, None)  # accounting is off


async def test_records_have_to_be_entered(conn: Connection) -> None:
    with pytest.raises(RuntimeError, match="async with FlowRecords"):
        await anext(FlowRecords(conn))
    for timeout in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="a positive number of seconds"):
            FlowRecords(conn, active_timeout=timeout)
