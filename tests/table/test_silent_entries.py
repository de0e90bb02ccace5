"""Test changes, silent entries and modes of a live table, on this machine's kernel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from support import flows
from support.lab import Lab
from support.live_tables import check, read, send_one_datagram

from conntrack_aio import (
    Cause,
    ChangeType,
    Connection,
    FlowTable,
    Status,
    TableMode,
)

pytestmark = [pytest.mark.kernels, pytest.mark.anyio, pytest.mark.kernel]


async def test_changes_have_the_cause_event(conn: Connection, table: FlowTable) -> None:
    changes = table.changes()
    created = await conn.create(flows.tcp(mark=1))
    (added,) = await read(changes, 1)
    await conn.update(created, mark=2)
    (changed,) = await read(changes, 1)
    await conn.delete(created)
    (removed,) = await read(changes, 1)
    assert [each.cause for each in (added, changed, removed)] == [Cause.EVENT] * 3
    assert changed.fields == ("mark",)
    assert removed.flow.mark == 2
    assert removed.flow.status is not None
    assert removed.flow.status & Status.DYING


# -- silent entries -------------------------------------------------------------------------------


@asynccontextmanager
async def silenced(lab: Lab) -> AsyncIterator[None]:
    """Entries that are created inside emit no events."""
    lab.sysctl("nf_conntrack_events", 0)
    yield
    lab.sysctl("nf_conntrack_events", 1)


async def test_a_reconciliation_finds_silent_changes(
    lab: Lab, conn: Connection, table: FlowTable
) -> None:
    changes = table.changes()
    async with silenced(lab):
        await conn.create(flows.tcp(1))
    await conn.create(flows.tcp(2))
    await read(changes, 1)
    await table.synced()
    assert len(table) == 1
    await table.reconcile()
    (added,) = await read(changes, 1)
    assert (added.type, added.cause) == (ChangeType.ADDED, Cause.RECONCILED)
    await conn.update(flows.tcp(1), mark=7)
    await table.reconcile()
    (changed,) = await read(changes, 1)
    assert (changed.type, changed.fields) == (ChangeType.CHANGED, ("mark",))
    await conn.delete(flows.tcp(1))
    await table.synced()
    assert flows.tcp(1).orig in table
    await table.reconcile()
    (removed,) = await read(changes, 1)
    assert (removed.type, removed.cause) == (ChangeType.REMOVED, Cause.RECONCILED)
    await check(conn, table)


async def test_a_new_entry_replaces_a_silent_one_with_its_tuple(lab: Lab, conn: Connection) -> None:
    async with silenced(lab):
        await conn.create(flows.tcp(1, mark=5))
    async with conn.table(reconcile=None) as table:
        changes = table.changes()
        await read(changes, 1)
        await conn.delete(flows.tcp(1))
        await conn.create(flows.tcp(1, mark=6))
        removed, added = await read(changes, 2)
        assert (removed.cause, removed.flow.mark) == (Cause.REPLACED, 5)
        assert (added.cause, added.flow.mark) == (Cause.EVENT, 6)
        assert table.statistics().without_events == 0


async def test_the_table_reconciles_at_the_given_interval(lab: Lab, conn: Connection) -> None:
    async with silenced(lab):
        await conn.create(flows.tcp(1))
        async with conn.table(reconcile=0.05) as table:
            changes = table.changes()
            await read(changes, 1)
            await conn.delete(flows.tcp(1))
            (removed,) = await read(changes, 1)
            assert (removed.type, removed.cause) == (ChangeType.REMOVED, Cause.RECONCILED)


async def test_the_table_does_not_reconcile_without_silent_entries(
    conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conntrack_aio.table.reconciler._AUTO_INTERVAL", 0.001)
    async with conn.table() as table:
        await conn.create(flows.tcp(1))
        await table.synced()
        done = table.statistics().reconciliations
        for _ in range(20):
            await anyio.sleep(0.001)
        assert table.statistics().reconciliations == done


SUPPRESSING_RULES = """
table inet masks {
    chain out {
        type filter hook output priority -150
        ct state new ct event set new
    }
}
"""
"""Rules that suppress all events of a flow but the first."""


@pytest.mark.program("nft", "nftables")
@pytest.mark.parametrize("reconcile", [0.2, None])
@pytest.mark.long
async def test_changes_whose_events_rules_suppress_are_found(
    lab: Lab, conn: Connection, reconcile: float | None
) -> None:
    """A reconciliation finds them. Without one, an ended entry is removed after its timeout."""
    lab.program("nft", "-f", "-", input=SUPPRESSING_RULES)
    lab.sysctl("nf_conntrack_udp_timeout", 1)
    async with conn.table(reconcile=reconcile) as table:
        changes = table.changes()
        lab.run(send_one_datagram)
        (added,) = await read(changes, 1)
        assert (added.type, added.cause) == (ChangeType.ADDED, Cause.EVENT)
        assert table.mode is TableMode.FOLLOWED
        with anyio.fail_after(20):
            removed = await anext(changes)
        assert (removed.type, removed.cause) == (ChangeType.REMOVED, Cause.RECONCILED)
        with anyio.fail_after(20):
            while table.mode is TableMode.FOLLOWED:  # noqa: ASYNC110
                await anyio.sleep(0.05)
        assert table.mode is TableMode.PARTIAL
        assert table.statistics().unreported_changes == 1
        assert (table.statistics().reconciliations == 1) == (reconcile is None)


# -- modes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "mode", "later"),
    [
        (0, TableMode.POLLED, TableMode.POLLED),
        (1, TableMode.FOLLOWED, TableMode.FOLLOWED),
        (2, TableMode.PARTIAL, TableMode.FOLLOWED),
    ],
)
async def test_the_mode_depends_on_the_setting_and_on_older_entries(
    lab: Lab, conn: Connection, setting: int, mode: TableMode, later: TableMode
) -> None:
    lab.sysctl("nf_conntrack_events", setting)
    await conn.create(flows.tcp(1))
    async with conn.table() as table:
        assert table.mode is mode
        assert table.statistics().without_events == 1
        await conn.delete(flows.tcp(1))
        await table.reconcile()
        assert table.mode is later


async def test_entries_created_without_events_stay_silent(
    lab: Lab, conn: Connection, table: FlowTable
) -> None:
    assert table.mode is TableMode.FOLLOWED
    lab.sysctl("nf_conntrack_events", 0)
    await conn.create(flows.tcp())
    await table.reconcile()
    assert table.mode is TableMode.POLLED
    lab.sysctl("nf_conntrack_events", 1)
    await table.reconcile()
    assert table.mode is TableMode.PARTIAL
    await conn.delete(flows.tcp())
    await table.reconcile()
    assert table.mode is TableMode.FOLLOWED


async def test_enable_events_changes_the_setting(lab: Lab, conn: Connection) -> None:
    lab.sysctl("nf_conntrack_events", 0)
    await conn.create(flows.tcp(1))
    async with conn.table(enable_events=True) as table:
        assert lab.read_sysctl("nf_conntrack_events") == "1"
        assert table.mode is TableMode.PARTIAL, "the older entry is silent"
        await conn.create(flows.tcp(2))
        await table.synced()
        assert len(table) == 2
    assert lab.read_sysctl("nf_conntrack_events") == "1"
