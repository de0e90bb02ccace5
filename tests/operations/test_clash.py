"""Test entries that lost a clash over their original tuple, on this machine's kernel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
import pytest
from support.lab import Lab
from support.nat_clash import SERVICE, clashing_entries, prepare_namespace

from conntrack_aio import Connection, EventType, Flow, Match, NotFound, Status, Tuple

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.kernel,
    pytest.mark.program("nft", "nftables"),
    pytest.mark.program("iptables-legacy", "iptables"),
]


@pytest.fixture
def lab(lab: Lab) -> Lab:
    prepare_namespace(lab)
    return lab


async def get_by_reply(conn: Connection, reply: Tuple) -> Flow:
    flow = await conn.get(reply)
    assert flow.reply == reply
    return flow


async def test_both_entries_have_the_original_tuple(lab: Lab, conn: Connection) -> None:
    with clashing_entries(lab) as (winners, losers):
        winner, loser = await get_by_reply(conn, winners), await get_by_reply(conn, losers)
        assert winner.orig == loser.orig
        assert winner.id != loser.id
        assert loser.status is not None
        assert winner.status is not None
        assert Status.UNTRACKED in loser.status
        assert Status.UNTRACKED not in winner.status
        assert [flow.id for flow in await conn.list()] == [winner.id]  # dumps do not include losers
        assert (await conn.get(winner.orig)).id == winner.id
        for flow in (winner, loser):
            assert (await conn.get(flow)).id == flow.id


async def _update_many(conn: Connection, flow: Flow) -> None:
    (outcome,) = await conn.update_many([flow], mark=7)
    outcome.result()


UPDATES: dict[str, Callable[[Connection, Flow], Awaitable[object]]] = {
    "update": lambda conn, flow: conn.update(flow, mark=7),
    "update of the mark's bits": lambda conn, flow: conn.update(flow, mark=7, mark_mask=15),
    "update_many": _update_many,
}


@pytest.mark.parametrize("which", ["winner", "loser"])
@pytest.mark.parametrize("method", UPDATES)
async def test_an_update_changes_the_entry_that_was_read(
    lab: Lab, conn: Connection, method: str, which: str
) -> None:
    with clashing_entries(lab) as tuples:
        both = [await get_by_reply(conn, reply) for reply in tuples]
        index = which == "loser"
        await UPDATES[method](conn, both[index])
        marks = [(await get_by_reply(conn, reply)).mark for reply in tuples]
        assert marks == [0, 7] if index else [7, 0]


async def _delete_many(conn: Connection, flow: Flow) -> None:
    (outcome,) = await conn.delete_many([flow])
    outcome.result()


DELETES: dict[str, Callable[[Connection, Flow], Awaitable[object]]] = {
    "delete": lambda conn, flow: conn.delete(flow),
    "delete_many": _delete_many,
}


@pytest.mark.parametrize("which", ["winner", "loser"])
@pytest.mark.parametrize("method", DELETES)
async def test_a_delete_deletes_the_entry_that_was_read(
    lab: Lab, conn: Connection, method: str, which: str
) -> None:
    with clashing_entries(lab) as tuples:
        both = [await get_by_reply(conn, reply) for reply in tuples]
        index = which == "loser"
        await DELETES[method](conn, both[index])
        with pytest.raises(NotFound):
            await conn.get(both[index])
        other = both[not index]
        assert (await conn.get(other)).id == other.id


CHECKED_BY_THE_LIBRARY = Match(orig_dst=SERVICE, timeout=range(1, 10_000))
"""A match on a timeout, which no kernel can filter by."""


@pytest.mark.parametrize(
    ("match", "loser_stays"), [(CHECKED_BY_THE_LIBRARY, True), (Match(orig_dst=SERVICE), False)]
)
async def test_only_a_delete_by_the_kernel_includes_losers(
    lab: Lab, conn: Connection, match: Match, loser_stays: bool
) -> None:
    """The library checks a dump, which has no losers. The kernel's own filter deletes both.

    ``get_next_corpse`` iterates over reply tuples, by which losers are found, too.
    """
    with clashing_entries(lab) as (winners, losers):
        winner, loser = await get_by_reply(conn, winners), await get_by_reply(conn, losers)
        assert await conn.delete_matching(match) == 1
        with pytest.raises(NotFound):
            await conn.get(winner)
        if loser_stays:
            assert (await conn.get(loser)).id == loser.id
        else:
            with pytest.raises(NotFound):
                await conn.get(loser)


async def read_until_expired(conn: Connection, loser: Flow) -> None:
    """Read the loser until its timeout of one second has expired.

    A look-up frees an expired entry at once (``nf_ct_gc_expired``). The kernel's garbage collector
    may take a minute: ``gc_worker`` adapts its interval to what it found before.
    """
    with suppress(NotFound):
        while True:
            await conn.get(loser)


async def test_a_live_table_keeps_the_winner_when_the_loser_ends(
    lab: Lab, conn: Connection
) -> None:
    """The destroy event of the loser has tuples of the winner, but another id."""
    async with conn.events() as events, conn.table(reconcile=None) as table:
        with clashing_entries(lab) as (winners, losers):
            winner, loser = await get_by_reply(conn, winners), await get_by_reply(conn, losers)
            await table.synced()
            assert table.find(winners) is not None
            with anyio.fail_after(20):
                await read_until_expired(conn, loser)
                async for event in events:
                    if event.type is EventType.DESTROY and event.flow.id == loser.id:
                        break
            await table.synced()
            assert [flow.id for flow in table] == [flow.id for flow in await conn.list()]
            assert [flow.id for flow in table] == [winner.id]
