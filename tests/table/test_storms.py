"""Test that the live table equals the kernel's after storms of events that overrun its socket.

The table is compared with a dump by the library, when the storm is over.
"""

from __future__ import annotations

import gc
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from itertools import count, islice

import anyio
import anyio.to_thread
import pytest
from support import flows
from support.effort import thorough_or_quick
from support.event_storm import SMALL_BUFFER, TUPLES, Storm, enable_labels, flow_pool, plan_storm
from support.lab import Lab
from support.table_comparison import (
    Replay,
    by_key,
    differences,
    kernel_flows,
    key_of,
    wrong_look_ups,
)

from benchmarks import isolation, tables
from conntrack_aio import Connection, FlowTable, Match, TableMode, connect
from conntrack_aio.sandbox import traffic

pytestmark = [pytest.mark.anyio, pytest.mark.kernel]

SEEDS = range(thorough_or_quick(6, 3))
BACKENDS = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
MANY = 100_000
"""Entries of a large table."""
ALL = [flow for flow, _ in flow_pool(TUPLES)]
SAMPLE = 8_000
"""Entries that are looked up in each check."""
ROOMY = 1 << 22
"""Bytes of a receive buffer: the most that an unprivileged process may set. The kernel doubles
them."""
SHORT = 4_000
"""Steps of a storm whose events all fit into that buffer. The kernel counts 1,280 bytes each."""


def spread(numbers: Iterable[int]) -> list[object]:
    """Return parameters that pair each number with one of the backends."""
    names = [*BACKENDS]
    chosen = [(number, names[number % len(names)]) for number in numbers]
    return [pytest.param(number, BACKENDS[name], id=f"{number}-{name}") for number, name in chosen]


def on(name: str) -> pytest.MarkDecorator:
    """Run a test on one backend only. The tests with seeds use all backends."""
    return pytest.mark.parametrize("anyio_backend", [BACKENDS[name]], ids=[name], indirect=True)


@pytest.fixture
def lab(lab: Lab) -> Lab:
    """A lab whose entries have room for labels."""
    enable_labels(lab)
    return lab


class Mirrored:
    """A live table, the readers of its changes, and the checks at the end."""

    def __init__(self, conn: Connection, table: FlowTable, replays: list[Replay]) -> None:
        self.conn = conn
        self.table = table
        self.replays = replays
        self.unread: list[Replay] = []
        """Readers that read nothing before the check."""
        self.checks = 0

    async def overrun(self, storm: Storm, times: int) -> None:
        """Run the storm again until the table has survived this many overruns."""
        with anyio.fail_after(100):
            while self.table.statistics().stream.overruns < times:
                await storm.run()

    async def check(self) -> None:
        """Check that the table and all readers have what the kernel has."""
        with anyio.fail_after(100):
            await self.table.synced()
            self.checks += 1
            # All losses are repaired, so no change comes behind this one.
            last = await self.conn.create(flows.tcp(60_000 - self.checks))
            await self.table.synced()
        assert not self.table.behind
        truth = await kernel_flows(self.conn)
        mirror = by_key(self.table)
        assert not differences(mirror, truth)
        assert len(self.table) == len(truth)
        assert not wrong_look_ups(self.table, islice(truth.values(), SAMPLE))
        absent = [flow for flow in ALL if key_of(flow) not in truth]
        assert not [flow for flow in absent if self.table.by_orig(flow.orig, zone=flow.zone)]
        assert not [flow for flow in absent if flow in self.table]
        async with anyio.create_task_group() as tasks:
            for replay in self.unread:
                tasks.start_soon(replay.follow)
            for replay in (*self.replays, *self.unread):
                await replay.wait_until_present(key_of(last))
                assert not differences(replay.flows, mirror)
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def mirrored(conn: Connection) -> AsyncIterator[Mirrored]:
    """Open a table with a small receive buffer, a quick reader, and one that reads nothing yet."""
    async with (
        conn.table(receive_buffer=SMALL_BUFFER) as table,
        anyio.create_task_group() as tasks,
    ):
        quick = Replay(table)
        mirrored_table = Mirrored(conn, table, [quick])
        mirrored_table.unread.append(Replay(table))
        tasks.start_soon(quick.follow)
        yield mirrored_table
        tasks.cancel_scope.cancel()


async def replay_from(mirrored_table: Mirrored, moment: int) -> None:
    """Start another reader after the first has applied this many changes."""
    await mirrored_table.replays[0].wait_until(lambda: mirrored_table.replays[0].count >= moment)
    late = Replay(mirrored_table.table)
    mirrored_table.replays.append(late)
    await late.follow()


@pytest.mark.parametrize(("seed", "anyio_backend"), spread(SEEDS), indirect=["anyio_backend"])
async def test_the_table_converges_after_a_storm(lab: Lab, seed: int) -> None:
    rng = random.Random(seed)
    rounds, pause = rng.choice([(8, 0.0), (4, 0.0005), (1, 0.004)])
    moments = sorted(rng.sample(range(3_000), 3))
    async with AsyncExitStack() as stack:
        storm = stack.enter_context(Storm(lab, plan_storm(seed)))
        conn = await stack.enter_async_context(connect(netns=lab.netns))
        during = rng.random() < 0.5
        if during:
            storm.begin(rounds, pause=pause)
        mirrored_table = await stack.enter_async_context(mirrored(conn))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        for moment in moments:
            tasks.start_soon(replay_from, mirrored_table, moment)
        storm.begin(rounds, pause=pause)
        for _ in range(1 + during):
            await storm.ended()
        await mirrored_table.overrun(storm, 10)
        await mirrored_table.check()
        assert len(mirrored_table.replays) == 1 + len(moments)
        tasks.cancel_scope.cancel()


@on("asyncio")
async def test_a_blocked_event_loop_delays_the_table(lab: Lab, conn: Connection) -> None:
    """The table falls behind while the event loop is blocked. Afterwards it is correct again."""
    with Storm(lab, plan_storm(100)) as storm:
        async with mirrored(conn) as mirrored_table:
            storm.begin(3)
            time.sleep(1)  # noqa: ASYNC251 - blocking the loop is what is tested
            storm.begin(3)
            await storm.ended()
            time.sleep(1)  # noqa: ASYNC251
            await storm.ended()
            assert mirrored_table.table.statistics().stream.overruns > 0
            await mirrored_table.check()


@on("uvloop")
async def test_the_path_of_the_namespace_may_disappear(lab: Lab) -> None:
    """Each resynchronization opens a socket, and has only its sockets to find the namespace."""
    copy = os.dup(lab.descriptor)
    try:
        with Storm(lab, plan_storm(101)) as storm:
            async with (
                connect(netns=f"/proc/self/fd/{copy}") as conn,
                mirrored(conn) as mirrored_table,
            ):
                storm.begin(8)
                os.close(copy)
                copy = -1
                await storm.ended()
                await mirrored_table.overrun(storm, 10)
                await mirrored_table.check()
    finally:
        if copy >= 0:
            os.close(copy)


@on("trio")
async def test_flushing_during_a_storm(lab: Lab, conn: Connection) -> None:
    with Storm(lab, plan_storm(102)) as storm:
        async with mirrored(conn) as mirrored_table:
            for _ in range(3):
                storm.begin(2, pause=0.001)
                await mirrored_table.replays[0].wait_until(lambda: len(mirrored_table.table) > 100)
                await conn.flush()
                await storm.ended()
            await mirrored_table.overrun(storm, 10)
            await mirrored_table.check()
            await conn.flush()
            await mirrored_table.table.synced()
            assert len(mirrored_table.table) == 0


@on("uvloop")
async def test_synced_during_a_storm(lab: Lab, conn: Connection) -> None:
    """The table has all changes from before the call, whatever happens during the call."""
    with Storm(lab, plan_storm(103)) as storm:
        async with mirrored(conn) as mirrored_table:
            storm.begin(8, pause=0.001)
            for number in range(5):
                created = await conn.create(flows.tcp(50_000 + number))
                with anyio.fail_after(90):
                    await mirrored_table.table.synced()
                assert created in mirrored_table.table
                await conn.delete(created)
                with anyio.fail_after(90):
                    await mirrored_table.table.synced()
                assert created not in mirrored_table.table
            await storm.ended()
            await mirrored_table.check()


@on("asyncio")
async def test_reconciling_during_a_storm_finds_no_unreported_changes(
    lab: Lab, conn: Connection
) -> None:
    """The table is reconciled again and again while it changes.

    No event is lost, which would cause a further reconciliation after the storm.
    """
    async with conn.table(receive_buffer=ROOMY) as table:
        quick = Replay(table)
        mirrored_table = Mirrored(conn, table, [quick])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(quick.follow)
            reconciled = 0
            with Storm(lab, plan_storm(104, steps=SHORT)) as storm:
                while reconciled < 6:
                    reconciled += await reconcile_until_ended(table, storm)
                    await mirrored_table.check()
            tasks.cancel_scope.cancel()
        assert table.statistics().stream.overruns == 0
        await wait_evaluated(table)
        assert table.statistics().unreported_changes == 0, "each change was reported"
        assert table.mode is TableMode.FOLLOWED


async def wait_evaluated(table: FlowTable) -> None:
    """Wait until the table has evaluated all discrepancies."""
    with anyio.fail_after(30):
        while table._mirror.discrepancies:  # noqa: ASYNC110
            await anyio.sleep(0.1)


SUPPRESSING_RULES = """
table inet masks {
    chain out {
        type filter hook output priority -150
        ct state new udp dport 1 ct event set new
        ct state new udp dport 2 ct event set destroy
        ct state new udp dport 3 ct event set new,destroy,reply
        ct state new udp dport 4 ct event set assured
    }
}
"""
"""Rules that suppress some events of the flows to ports 1 to 4, and none of those to port 5."""


def exchange(seed: int) -> None:
    """Send datagrams of many flows on loopback, and reply to some of them."""
    rng = random.Random(seed)
    with ExitStack() as stack:
        servers: list[socket.socket] = []
        for port in range(1, 6):
            server = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            server.bind(("127.0.0.1", port))
            servers.append(server)
        for port in rng.sample(range(2000, 2200), 60):
            client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            client.bind(("127.0.0.1", port))
            server = rng.choice(servers)
            client.sendto(b"", server.getsockname())
            if rng.random() < 0.5:
                server.sendto(b"", client.getsockname())


async def reconciled(table: FlowTable) -> None:
    """Wait until everything that has happened before was reconciled and applied."""
    done = table.statistics().reconciliations
    with anyio.fail_after(30):
        while table.statistics().reconciliations < done + 3:  # noqa: ASYNC110 - one may be in progress
            await anyio.sleep(0.01)
        await table.synced()


@pytest.mark.program("nft", "nftables")
@pytest.mark.parametrize(("seed", "anyio_backend"), spread(range(3)), indirect=["anyio_backend"])
async def test_the_table_converges_although_rules_suppress_events(lab: Lab, seed: int) -> None:
    """A table with an explicit interval is correct two intervals after the last change.

    So are its readers. No message shows that events are missing.
    """
    lab.program("nft", "-f", "-", input=SUPPRESSING_RULES)
    rng = random.Random(seed)
    async with (
        connect(netns=lab.netns) as conn,
        conn.table(reconcile=0.1, receive_buffer=SMALL_BUFFER) as table,
        anyio.create_task_group() as tasks,
    ):
        quick = Replay(table)
        tasks.start_soon(quick.follow)
        for number in range(10):
            await anyio.to_thread.run_sync(lab.run, exchange, 100 * seed + number)
            present = await conn.list()
            some = rng.sample(present, len(present) // 4)
            await conn.update_many(some[::2], mark=rng.choice([1, 2, 3]))
            await conn.delete_many(some[1::2])
            if number < 8 and rng.random() < 0.2:
                await conn.flush()
        await reconciled(table)
        truth = await kernel_flows(conn)
        assert len(truth) > 50
        assert not differences(by_key(table), truth)
        await conn.create(last := flows.tcp(60_000))
        await quick.wait_until_present(key_of(last))
        with anyio.fail_after(30):
            # A loss of events, which may come late, hides what else no event has reported.
            for number in count(10):
                await wait_evaluated(table)
                if table.statistics().unreported_changes:
                    break
                await anyio.to_thread.run_sync(lab.run, exchange, 100 * seed + number)
                await reconciled(table)
        assert table.mode is TableMode.PARTIAL
        tasks.cancel_scope.cancel()


@pytest.mark.program("nft", "nftables")
async def test_without_rules_no_event_is_missing(lab: Lab, conn: Connection) -> None:
    """Without rules that suppress events, frequent reconciliations find no unreported change."""
    lab.track()
    async with conn.table(reconcile=0.02, receive_buffer=ROOMY) as table:
        for seed in range(1000):
            if table.statistics().reconciliations > 10:
                break
            await anyio.to_thread.run_sync(lab.run, exchange, seed)
            await anyio.to_thread.run_sync(lab.run, traffic.tcp_exchange)
            await conn.delete_matching(Match(proto="udp", orig_sport=range(2000, 2100)))
        await wait_evaluated(table)
        assert table.statistics().reconciliations > 10
        assert table.statistics().unreported_changes == 0
        assert table.mode is TableMode.FOLLOWED


async def reconcile_until_ended(table: FlowTable, storm: Storm) -> int:
    """Reconcile the table until the storm is over, and return how often."""
    reconciled = 0
    ended = anyio.Event()

    async def run() -> None:
        await storm.run(pause=0.005)
        ended.set()

    async with anyio.create_task_group() as storming:
        storming.start_soon(run)
        while not ended.is_set():
            await table.reconcile()
            reconciled += 1
    return reconciled


@pytest.fixture
def no_garbage_collector() -> Iterator[None]:
    """Switch off the garbage collector, which would scan millions of objects again and again."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collector")
@on("trio")
async def test_a_large_table_converges_after_a_storm(lab: Lab) -> None:
    """The namespace has as many entries as it may have, besides those of the storm."""
    with isolation.room_for(MANY + 20_000):
        count = min(MANY, isolation.room() - 20_000)
        fill = partial(lab.run, tables.fill, tables.tcp_shapes(), 0, count)
        with Storm(lab, plan_storm(105)) as storm:
            await anyio.to_thread.run_sync(fill)
            async with (
                connect(netns=lab.netns) as conn,
                conn.table(receive_buffer=SMALL_BUFFER) as table,
            ):
                await storm.run(8)
                mirrored_table = Mirrored(conn, table, [])
                await mirrored_table.overrun(storm, 10)
                await mirrored_table.check()
                assert len(table) > count
                await conn.flush()
                await table.synced()
                assert len(table) == 0
