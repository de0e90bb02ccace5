"""Test that a live table has what this machine's kernel has."""

from __future__ import annotations

import copy
from collections.abc import Callable

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from support import flows
from support.lab import Lab
from support.live_tables import by_tuple, check, read, send_one_datagram
from support.polling import wait_until

from conntrack_aio import (
    Cause,
    ChangeType,
    Connection,
    Flow,
    FlowTable,
    Match,
    Status,
    TCPInfo,
    TCPState,
    Tuple,
    connect,
)
from conntrack_aio.sandbox import traffic
from conntrack_aio.table.tuple_keys import orig_key

pytestmark = [pytest.mark.kernels, pytest.mark.anyio, pytest.mark.kernel]


async def test_the_table_has_older_entries_and_follows_new_ones(lab: Lab) -> None:
    async with connect(netns=lab.netns) as conn:
        await flows.fill(conn, map(flows.tcp, range(300)))
        async with conn.table() as table:
            assert len(table) == 300
            await conn.create(flows.udp6(), nat_src="2001:db8:5::1")
            await conn.update(flows.tcp(3), mark=7, timeout=1000, status=Status.ASSURED)
            await conn.delete(flows.tcp(4))
            await conn.create(flows.tcp(301, mark=3))
            await check(conn, table)
            assert len(table) == 301
            await conn.flush()
            await check(conn, table)
            assert len(table) == 0


async def test_real_traffic_is_followed_without_look_ups(
    lab: Lab, conn: Connection, table: FlowTable
) -> None:
    lab.track()
    await anyio.to_thread.run_sync(lab.run, traffic.tcp_exchange)
    await anyio.to_thread.run_sync(lab.run, traffic.udp_exchange, "::1")
    await anyio.to_thread.run_sync(lab.run, traffic.ping, "127.0.0.1", 7)
    await check(conn, table)
    states = [flow.protoinfo.state for flow in table if isinstance(flow.protoinfo, TCPInfo)]
    assert states == [TCPState.TIME_WAIT]
    assert len(table) == 3
    assert table.statistics().looked_up == 0


LABEL_RULES = """
table ip t {
    chain c {
        type filter hook output priority 0
        ct label set 5
    }
}
"""
"""The kernel allocates labels for an entry only if a rule uses labels."""


@pytest.mark.program("nft", "nftables")
async def test_cleared_labels_are_noticed(lab: Lab, conn: Connection, table: FlowTable) -> None:
    """No event reports that all labels were cleared."""
    lab.program("nft", "-f", "-", input=LABEL_RULES)
    created = await conn.create(flows.tcp())
    await conn.set_labels(created, 5)
    await table.synced()
    assert [flow.labels for flow in table] == [1 << 5]
    await conn.set_labels(created)
    await check(conn, table)
    assert [flow.labels or 0 for flow in table] == [0]


async def test_lost_events_are_repaired(conn: Connection) -> None:
    async with conn.table(receive_buffer=4096, reconcile=None) as table:
        changes = table.changes()
        for start in range(0, 2000, 200):
            await flows.fill(conn, map(flows.tcp, range(start, start + 200)))
            await conn.update_many([flows.tcp(start)], mark=9)
        await check(conn, table)
        statistics = table.statistics()
        assert statistics.resyncs > 0
        assert statistics.stream.events_lost > 0
        assert conn.client_statistics().resyncs == statistics.resyncs
        assert not table.behind
        await conn.flush()
        await check(conn, table)
        assert len(table) == 0
        assert changes.waiting == 0, "the reader got none of the entries, and all have ended"


# -- tables of a part of the entries --------------------------------------------------------------


async def test_a_table_with_a_match_has_the_matching_entries(conn: Connection) -> None:
    await flows.fill(conn, [flows.tcp(n, mark=n % 2) for n in range(100)])
    async with conn.table(Match(mark=1), reconcile=None) as table:
        assert len(table) == 50
        changes = table.changes()
        await read(changes, 50)
        await conn.update(flows.tcp(1), mark=2)
        await conn.update(flows.tcp(2), mark=1)
        await table.synced()  # unknown entries are looked up, and may come behind later events
        await conn.create(flows.tcp(101, mark=1))
        await conn.create(flows.tcp(102, mark=2))
        await table.synced()
        assert {flow.mark for flow in table} == {1}
        assert by_tuple(table) == by_tuple(await conn.list(Match(mark=1)))
        unmatched, matched, new = await read(changes, 3)
        assert (unmatched.type, unmatched.cause) == (ChangeType.REMOVED, Cause.UNMATCHED)
        assert unmatched.flow.mark == 2
        assert (matched.type, matched.flow.orig) == (ChangeType.ADDED, flows.tcp(2).orig)
        assert (new.type, new.cause) == (ChangeType.ADDED, Cause.EVENT)


@pytest.mark.parametrize("match", [Match(mark=0), lambda flow: flow.mark == 0])
async def test_entries_without_a_mark_match_mark_zero(
    lab: Lab, conn: Connection, match: Match | Callable[[Flow], bool]
) -> None:
    """NEW events leave out a mark of 0."""
    lab.track()
    async with conn.table(match, reconcile=None) as table:
        lab.run(send_one_datagram)
        await table.synced()
        assert [flow.mark for flow in table] == [0]


async def test_a_function_may_select_the_entries(conn: Connection) -> None:
    await flows.fill(conn, map(flows.tcp, range(10)))
    await flows.fill(conn, map(flows.udp6, range(10)))
    async with conn.table(lambda flow: flow.orig.src.version == 6) as table:
        assert len(table) == 10


async def test_synced_waits_for_a_dump_that_may_return_an_updated_entry(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The update is of an entry that did not match before."""
    await conn.create(flows.tcp())
    async with (
        conn.table(Match(mark=7), reconcile=None) as table,
        anyio.create_task_group() as tasks,
    ):
        reconciling, go_on = anyio.Event(), anyio.Event()

        async def read_setting(setting: str) -> int:
            if table._mirror._dump is not None:
                reconciling.set()
                await go_on.wait()
            return 1

        monkeypatch.setattr(table._kernel_table, "read_setting", read_setting)
        tasks.start_soon(table.reconcile)
        await reconciling.wait()
        await conn.update(flows.tcp(), mark=7)

        async def wait() -> None:
            await table.synced()
            assert len(table) == 1

        tasks.start_soon(wait)
        await wait_until(lambda: table.statistics().events_applied == 1)
        await anyio.wait_all_tasks_blocked()
        go_on.set()


# -- entries that share tuples --------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
async def test_an_update_of_an_entry_that_shares_tuples_is_applied_to_that_entry(
    conn: Connection, first: int
) -> None:
    """Zones apply to one direction.

    So the original tuple of each entry is the reply tuple of the other. The look-up of an updated
    entry must return that entry.
    """
    tuple_ = Tuple.udp("10.0.0.1", 1000, "10.0.0.2", 53)
    zoned = copy.copy(tuple_)
    zoned.zone = 1
    pair = [
        Flow(orig=zoned, reply=tuple_.inverse, timeout=600),
        Flow(orig=tuple_.inverse, reply=zoned, timeout=600),
    ]
    async with conn.table(Match(mark=7), reconcile=None) as table:
        await flows.fill(conn, [pair[first], pair[1 - first]])
        # The kernel finds the entry that was created last by either tuple.
        await conn.update(pair[1 - first].orig, mark=7)
        await check(conn, table, Match(mark=7))
        assert len(table) == 1
        younger = next(iter(table))
        older = next(each for each in await conn.list() if each.id != younger.id)
        found = await table._kernel_table.look_up(
            {orig_key(each): each for each in (older, younger)}
        )
        assert [each and each.id for each in found.values()] == [older.id, younger.id]
