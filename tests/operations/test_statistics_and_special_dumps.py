"""Test statistics of the table, and dumps of dying and unconfirmed entries."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

import anyio
import anyio.to_thread
import pytest
from support import flows
from support.lab import Lab
from support.reliable_listener import open_reliable_listener
from support.scripted_kernel import ScriptedKernel

from conntrack_aio import Connection, CPUStatistics, DecodeError, Match, NoReply
from conntrack_aio.netlink import messages
from conntrack_aio.sandbox import traffic
from conntrack_aio.testing import FakeSocket, ReceivedRequest

pytestmark = [pytest.mark.kernels, pytest.mark.anyio]


@pytest.mark.kernel
async def test_table_statistics_have_count_and_limit(lab: Lab, conn: Connection) -> None:
    await flows.fill(conn, map(flows.tcp, range(10)))
    statistics = await conn.table_statistics()
    assert statistics.entries == await conn.count() == 10
    assert statistics.max_entries == int(lab.read_sysctl("nf_conntrack_max"))


@pytest.mark.kernel
async def test_cpu_statistics_have_the_counters_of_each_cpu(lab: Lab, conn: Connection) -> None:
    lab.track()
    await flows.fill(conn, map(flows.tcp, range(10)))
    await flows.fill(conn, map(flows.tcp, range(3)))  # these exist already and are not inserted
    await anyio.to_thread.run_sync(lab.run, traffic.udp_exchange)
    statistics = await conn.cpu_statistics()
    assert [cpu.cpu for cpu in statistics] == list(range(len(statistics)))
    assert sum(cpu.insert or 0 for cpu in statistics) == 10
    for cpu in statistics:
        assert (cpu.drop, cpu.early_drop) == (0, 0)
        assert (cpu.searched, cpu.new, cpu.ignore, cpu.delete) == (None,) * 4


OUR_NAMES = {"clashres": "clash_resolve", "chaintoolong": "chain_toolong"}
"""Our names of counters that conntrack(8) names differently."""


@pytest.mark.kernel
@pytest.mark.program("conntrack", "conntrack")
async def test_conntrack8_prints_the_same_cpu_statistics(lab: Lab, conn: Connection) -> None:
    lab.track()
    await flows.fill(conn, map(flows.tcp, range(10)))
    await anyio.to_thread.run_sync(lab.run, traffic.ping)
    printed = [
        dict(item.split("=") for item in line.split()[1:] if "=" in item)
        for line in lab.program("conntrack", "-S").splitlines()
    ]
    statistics = await conn.cpu_statistics()
    assert len(printed) == len(statistics)
    for theirs, ours in zip(printed, statistics, strict=True):
        for name, value in theirs.items():
            assert int(value) == getattr(ours, OUR_NAMES.get(name, name)), name


def cpu_message(seq: int, cpu: int, attributes: bytes, message_type: int = 0x104) -> bytes:
    return messages.pack(message_type, 2, seq, struct.pack("!BBH", 0, 0, cpu) + attributes)


async def test_a_counter_that_the_kernel_lacks_is_none() -> None:
    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        assert request.type == 0x104
        assert request.flags & 0x300 == 0x300  # without NLM_F_DUMP, no kernel replies
        found = struct.pack("=HH", 8, 2) + struct.pack("!I", 7)
        socket.deliver(cpu_message(request.seq, 0, found) + cpu_message(request.seq, 300, b""))
        socket.done(request)

    async with ScriptedKernel(script).connect() as conn:
        assert await conn.cpu_statistics() == [
            CPUStatistics(cpu=0, found=7),
            CPUStatistics(cpu=300),
        ]


def acknowledge(socket: FakeSocket, request: ReceivedRequest) -> bool:
    socket.ack(request)
    return True


async def test_malformed_statistics_raise_an_error() -> None:
    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        socket.deliver(cpu_message(request.seq, 0, b"", message_type=0x100))
        socket.done(request)

    kernel = ScriptedKernel(script)
    async with kernel.connect() as conn:
        with pytest.raises(DecodeError, match="not the statistics of a processor"):
            await conn.cpu_statistics()
        kernel.on_request = acknowledge
        with pytest.raises(NoReply, match="read the statistics"):
            await conn.table_statistics()


# -- dying and unconfirmed ----------------------------------------------------------------------


@pytest.fixture
def unread_listener(lab: Lab) -> Iterator[socket.socket]:
    listener = lab.run(open_reliable_listener)
    yield listener
    listener.close()


@pytest.mark.kernel
async def test_dying_returns_entries_with_undelivered_destroy_events(
    conn: Connection, unread_listener: socket.socket
) -> None:
    await flows.fill(conn, (flows.tcp(number, mark=number % 2) for number in range(100)))
    await flows.fill(conn, map(flows.udp6, range(100)))
    assert [flow async for flow in conn.dying()] == []
    await conn.flush()
    dying = [flow async for flow in conn.dying()]
    assert 100 < len(dying) < 200
    # They are not in the table, but still counted.
    assert await conn.list() == []
    assert await conn.count() == len(dying)
    marked = [flow async for flow in conn.dying(Match(mark=1))]
    # Meanwhile the kernel retries deliveries, which changes the order and the timeouts.
    assert {flow.key for flow in marked} == {flow.key for flow in dying if flow.mark == 1}
    with anyio.fail_after(10):
        while await conn.count():
            # An OSError reports the overrun, or that all events are read. In the latter case the
            # kernel frees the entries shortly after.
            with contextlib.suppress(OSError):
                unread_listener.recv(4096, socket.MSG_DONTWAIT)


@pytest.mark.kernel
async def test_unconfirmed_is_empty_since_5_19(conn: Connection) -> None:
    await flows.fill(conn, map(flows.tcp, range(10)))
    assert [flow async for flow in conn.unconfirmed()] == []


async def test_dying_and_unconfirmed_return_entries_of_an_older_kernel() -> None:
    def script(socket: FakeSocket, request: ReceivedRequest) -> None:
        assert request.type in {0x106, 0x107}
        assert request.flags & 0x300 == 0x300
        socket.reply(request, 0x100, flows.message_payload(flows.tcp(mark=1)))
        socket.done(request)

    async with ScriptedKernel(script).connect() as conn:
        assert [flow async for flow in conn.unconfirmed()] == [flows.tcp(mark=1)]
        assert [flow async for flow in conn.dying(Match(mark=1))] == [flows.tcp(mark=1)]
        assert [flow async for flow in conn.unconfirmed(Match(mark=2))] == []
        with pytest.raises(TypeError):
            conn.dying("all")  # type: ignore[arg-type]
