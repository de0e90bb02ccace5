"""The live table in storms that overrun its socket again and again: in the end it is the kernel's.

What is compared is a dump of the library's own, taken when nothing happens any more.
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
from itertools import islice

import anyio
import anyio.to_thread
import pytest
from support import flows
from support.effort import of
from support.lab import Lab
from support.mirrors import Replay, by_key, differences, kernel_truth, key_of, wrong_answers
from support.storm import SMALL_BUFFER, TUPLES, Storm, plan, pool, use_labels

from benchmarks import isolation, tables
from conntrack_aio import Connection, FlowTable, Match, TableMode, connect
from conntrack_aio.sandbox import traffic

pytestmark = [pytest.mark.anyio, pytest.mark.kernel]

SEEDS = range(of(6, 3))
BACKENDS = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
MANY = 100_000
"""Of a large table."""
ALL = [flow for flow, _ in pool(TUPLES)]
SAMPLE = 8_000
"""Entries that are looked up."""
ROOMY = 1 << 22
"""Bytes of a receive buffer, as many as a user without rights may have. The kernel doubles it."""
SHORT = 4_000
"""Steps of a storm whose events have room there, all of them: 1,280 bytes each, so the kernel."""


def spread(numbers: Iterable[int]) -> list[object]:
    """Each number on one of the backends."""
    names = [*BACKENDS]
    chosen = [(number, names[number % len(names)]) for number in numbers]
    return [pytest.param(number, BACKENDS[name], id=f"{number}-{name}") for number, name in chosen]


def on(name: str) -> pytest.MarkDecorator:
    """On one of the backends: those with seeds are on all of them."""
    return pytest.mark.parametrize("anyio_backend", [BACKENDS[name]], ids=[name], indirect=True)


@pytest.fixture
def lab(lab: Lab) -> Lab:
    """Its flows have room for labels."""
    use_labels(lab)
    return lab


class Mirrored:
    """A table, those who follow its changes, and the checks at the end."""

    def __init__(self, conn: Connection, table: FlowTable, replays: list[Replay]) -> None:
        self.conn = conn
        self.table = table
        self.replays = replays
        self.unread: list[Replay] = []
        """They read nothing before all is over."""
        self.checks = 0

    async def overrun(self, storm: Storm, times: int) -> None:
        """Have it storm until so many overruns were survived."""
        with anyio.fail_after(100):
            while self.table.statistics().stream.overruns < times:
                await storm.run()

    async def check(self) -> None:
        """All of them have what the kernel has."""
        with anyio.fail_after(100):
            await self.table.synced()
            self.checks += 1
            # What was lost is repaired, so that no change comes behind this one.
            last = await self.conn.create(flows.tcp(60_000 - self.checks))
            await self.table.synced()
        assert not self.table.behind
        truth = await kernel_truth(self.conn)
        mirror = by_key(self.table)
        assert not differences(mirror, truth)
        assert len(self.table) == len(truth)
        assert not wrong_answers(self.table, islice(truth.values(), SAMPLE))
        absent = [flow for flow in ALL if key_of(flow) not in truth]
        assert not [flow for flow in absent if self.table.by_orig(flow.orig, zone=flow.zone)]
        assert not [flow for flow in absent if flow in self.table]
        async with anyio.create_task_group() as tasks:
            for replay in self.unread:
                tasks.start_soon(replay.follow)
            for replay in (*self.replays, *self.unread):
                await replay.until_it_has(key_of(last))
                assert not differences(replay.flows, mirror)
            tasks.cancel_scope.cancel()


@asynccontextmanager
async def mirrored(conn: Connection) -> AsyncIterator[Mirrored]:
    """A table of little room, one who reads its changes at once, and one who reads none yet."""
    async with (
        conn.table(receive_buffer=SMALL_BUFFER) as table,
        anyio.create_task_group() as tasks,
    ):
        quick = Replay(table)
        all_ = Mirrored(conn, table, [quick])
        all_.unread.append(Replay(table))
        tasks.start_soon(quick.follow)
        yield all_
        tasks.cancel_scope.cancel()


async def replay_from(all_: Mirrored, moment: int) -> None:
    """Follow the changes, from the so manieth on."""
    await all_.replays[0].until(lambda: all_.replays[0].count >= moment)
    late = Replay(all_.table)
    all_.replays.append(late)
    await late.follow()


@pytest.mark.parametrize(("seed", "anyio_backend"), spread(SEEDS), indirect=["anyio_backend"])
async def test_the_table_is_the_kernels_in_the_end(lab: Lab, seed: int) -> None:
    rng = random.Random(seed)
    rounds, pause = rng.choice([(8, 0.0), (4, 0.0005), (1, 0.004)])
    moments = sorted(rng.sample(range(3_000), 3))
    async with AsyncExitStack() as stack:
        storm = stack.enter_context(Storm(lab, plan(seed)))
        conn = await stack.enter_async_context(connect(netns=lab.netns))
        during = rng.random() < 0.5
        if during:
            storm.begin(rounds, pause=pause)
        all_ = await stack.enter_async_context(mirrored(conn))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        for moment in moments:
            tasks.start_soon(replay_from, all_, moment)
        storm.begin(rounds, pause=pause)
        for _ in range(1 + during):
            await storm.ended()
        await all_.overrun(storm, 10)
        await all_.check()
        assert len(all_.replays) == 1 + len(moments)
        tasks.cancel_scope.cancel()


@on("asyncio")
async def test_the_loop_stands_still(lab: Lab, conn: Connection) -> None:
    """Whoever holds the loop has the table fall behind, not go wrong."""
    with Storm(lab, plan(100)) as storm:
        async with mirrored(conn) as all_:
            storm.begin(3)
            time.sleep(1)  # noqa: ASYNC251 - that is what is tested
            storm.begin(3)
            await storm.ended()
            time.sleep(1)  # noqa: ASYNC251
            await storm.ended()
            assert all_.table.statistics().stream.overruns > 0
            await all_.check()


@on("uvloop")
async def test_the_namespaces_name_goes(lab: Lab) -> None:
    """Each resynchronization opens a socket, and knows of the namespace by its sockets alone."""
    copy = os.dup(lab.descriptor)
    try:
        with Storm(lab, plan(101)) as storm:
            async with connect(netns=f"/proc/self/fd/{copy}") as conn, mirrored(conn) as all_:
                storm.begin(8)
                os.close(copy)
                copy = -1
                await storm.ended()
                await all_.overrun(storm, 10)
                await all_.check()
    finally:
        if copy >= 0:
            os.close(copy)


@on("trio")
async def test_flushed_in_the_storm(lab: Lab, conn: Connection) -> None:
    with Storm(lab, plan(102)) as storm:
        async with mirrored(conn) as all_:
            for _ in range(3):
                storm.begin(2, pause=0.001)
                await all_.replays[0].until(lambda: len(all_.table) > 100)
                await conn.flush()
                await storm.ended()
            await all_.overrun(storm, 10)
            await all_.check()
            await conn.flush()
            await all_.table.synced()
            assert len(all_.table) == 0


@on("uvloop")
async def test_synced_in_the_storm(lab: Lab, conn: Connection) -> None:
    """What had happened at the call is there after it, whatever happens meanwhile."""
    with Storm(lab, plan(103)) as storm:
        async with mirrored(conn) as all_:
            storm.begin(8, pause=0.001)
            for number in range(5):
                made = await conn.create(flows.tcp(50_000 + number))
                with anyio.fail_after(90):
                    await all_.table.synced()
                assert made in all_.table
                await conn.delete(made)
                with anyio.fail_after(90):
                    await all_.table.synced()
                assert made not in all_.table
            await storm.ended()
            await all_.check()


@on("asyncio")
async def test_compared_in_a_storm(lab: Lab, conn: Connection) -> None:
    """While the table changes it is read, again and again; and nothing is lost that would have it
    read once more when all is still."""
    async with conn.table(receive_buffer=ROOMY) as table:
        quick = Replay(table)
        all_ = Mirrored(conn, table, [quick])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(quick.follow)
            compared = 0
            with Storm(lab, plan(104, steps=SHORT)) as storm:
                while compared < 6:
                    compared += await compare_until_ended(table, storm)
                    await all_.check()
            tasks.cancel_scope.cancel()
        assert table.statistics().stream.overruns == 0
        await judged(table)
        assert table.statistics().unreported_changes == 0, "each change was reported"
        assert table.mode is TableMode.FOLLOWED


async def judged(table: FlowTable) -> None:
    """Return when whatever was found has been examined."""
    with anyio.fail_after(30):
        while table._mirror.discrepancies:  # noqa: ASYNC110
            await anyio.sleep(0.1)


MASKS = """
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
"""Rules that silence some events of most flows: of those to port 5 none, of each other some."""


def exchange(seed: int) -> None:
    """Some datagrams of many flows on loopback, of which some are answered."""
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


@pytest.mark.program("nft", "nftables")
@pytest.mark.parametrize(("seed", "anyio_backend"), spread(range(3)), indirect=["anyio_backend"])
async def test_rules_keep_events_back(lab: Lab, seed: int) -> None:
    """Two intervals after the last change, a table with an explicit interval is the kernel's, and
    so is what its readers have. No message shows that events are missing."""
    lab.program("nft", "-f", "-", input=MASKS)
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
            there = await conn.list()
            some = rng.sample(there, len(there) // 4)
            await conn.update_many(some[::2], mark=rng.choice([1, 2, 3]))
            await conn.delete_many(some[1::2])
            if number < 8 and rng.random() < 0.2:
                await conn.flush()
        done = table.statistics().comparisons
        with anyio.fail_after(30):
            while table.statistics().comparisons < done + 3:  # noqa: ASYNC110 - one is under way
                await anyio.sleep(0.01)
            await table.synced()
        truth = await kernel_truth(conn)
        assert len(truth) > 50
        assert not differences(by_key(table), truth)
        await conn.create(last := flows.tcp(60_000))
        await quick.until_it_has(key_of(last))
        await judged(table)
        assert table.mode is TableMode.PARTIAL
        assert table.statistics().unreported_changes > 0
        tasks.cancel_scope.cancel()


@pytest.mark.program("nft", "nftables")
async def test_traffic_is_reported(lab: Lab, conn: Connection) -> None:
    """Where no rule keeps events back, none is missing, however often one looks."""
    lab.track()
    async with conn.table(reconcile=0.02, receive_buffer=ROOMY) as table:
        for seed in range(1000):
            if table.statistics().comparisons > 10:
                break
            await anyio.to_thread.run_sync(lab.run, exchange, seed)
            await anyio.to_thread.run_sync(lab.run, traffic.tcp_exchange)
            await conn.delete_matching(Match(proto="udp", orig_sport=range(2000, 2100)))
        await judged(table)
        assert table.statistics().comparisons > 10
        assert table.statistics().unreported_changes == 0
        assert table.mode is TableMode.FOLLOWED


async def compare_until_ended(table: FlowTable, storm: Storm) -> int:
    """How many times the table was compared while it stormed."""
    compared = 0
    ended = anyio.Event()

    async def run() -> None:
        await storm.run(pause=0.005)
        ended.set()

    async with anyio.create_task_group() as storming:
        storming.start_soon(run)
        while not ended.is_set():
            await table.reconcile()
            compared += 1
    return compared


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Without the garbage collector, which looks through millions of objects time and again."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.once
@pytest.mark.usefixtures("uncollected")
@on("trio")
async def test_many_flows(lab: Lab) -> None:
    """As many as there may be, and a storm on top."""
    with isolation.room_for(MANY + 20_000):
        count = min(MANY, isolation.room() - 20_000)
        fill = partial(lab.run, tables.fill, tables.tcp_shapes(), 0, count)
        with Storm(lab, plan(105)) as storm:
            await anyio.to_thread.run_sync(fill)
            async with (
                connect(netns=lab.netns) as conn,
                conn.table(receive_buffer=SMALL_BUFFER) as table,
            ):
                await storm.run(8)
                all_ = Mirrored(conn, table, [])
                await all_.overrun(storm, 10)
                await all_.check()
                assert len(table) > count
                await conn.flush()
                await table.synced()
                assert len(table) == 0
