"""Entries that lost a race for their original tuple, on this machine's kernel."""

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


async def read(conn: Connection, reply: Tuple) -> Flow:
    flow = await conn.get(reply)
    assert flow.reply == reply
    return flow


async def test_both_have_the_original_tuple(lab: Lab, conn: Connection) -> None:
    with clashing_entries(lab) as (winners, losers):
        winner, loser = await read(conn, winners), await read(conn, losers)
        assert winner.orig == loser.orig
        assert winner.id != loser.id
        assert loser.status is not None
        assert winner.status is not None
        assert Status.UNTRACKED in loser.status
        assert Status.UNTRACKED not in winner.status
        assert [flow.id for flow in await conn.list()] == [winner.id]  # a dump has no losers
        assert (await conn.get(winner.orig)).id == winner.id
        for flow in (winner, loser):
            assert (await conn.get(flow)).id == flow.id


async def _update_many(conn: Connection, flow: Flow) -> None:
    (outcome,) = await conn.update_many([flow], mark=7)
    outcome.result()


CHANGES: dict[str, Callable[[Connection, Flow], Awaitable[object]]] = {
    "update": lambda conn, flow: conn.update(flow, mark=7),
    "update of the mark's bits": lambda conn, flow: conn.update(flow, mark=7, mark_mask=15),
    "update_many": _update_many,
}


@pytest.mark.parametrize("which", ["winner", "loser"])
@pytest.mark.parametrize("verb", CHANGES)
async def test_a_change_is_of_the_one_that_is_meant(
    lab: Lab, conn: Connection, verb: str, which: str
) -> None:
    with clashing_entries(lab) as tuples:
        both = [await read(conn, reply) for reply in tuples]
        meant = which == "loser"
        await CHANGES[verb](conn, both[meant])
        marks = [(await read(conn, reply)).mark for reply in tuples]
        assert marks == [0, 7] if meant else [7, 0]


async def _delete_many(conn: Connection, flow: Flow) -> None:
    (outcome,) = await conn.delete_many([flow])
    outcome.result()


DELETES: dict[str, Callable[[Connection, Flow], Awaitable[object]]] = {
    "delete": lambda conn, flow: conn.delete(flow),
    "delete_many": _delete_many,
}


@pytest.mark.parametrize("which", ["winner", "loser"])
@pytest.mark.parametrize("verb", DELETES)
async def test_a_delete_is_of_the_one_that_is_meant(
    lab: Lab, conn: Connection, verb: str, which: str
) -> None:
    with clashing_entries(lab) as tuples:
        both = [await read(conn, reply) for reply in tuples]
        meant = which == "loser"
        await DELETES[verb](conn, both[meant])
        with pytest.raises(NotFound):
            await conn.get(both[meant])
        other = both[not meant]
        assert (await conn.get(other)).id == other.id


HERE = Match(orig_dst=SERVICE, timeout=range(1, 10_000))
"""What no kernel can select."""


@pytest.mark.parametrize(("match", "left"), [(HERE, True), (Match(orig_dst=SERVICE), False)])
async def test_a_delete_by_a_match(lab: Lab, conn: Connection, match: Match, left: bool) -> None:
    """What is checked here was in the dump, which has no losers; the kernel's own filter ends all.

    (``get_next_corpse`` goes by reply tuples, which all are found by.)
    """
    with clashing_entries(lab) as (winners, losers):
        winner, loser = await read(conn, winners), await read(conn, losers)
        assert await conn.delete_matching(match) == 1
        with pytest.raises(NotFound):
            await conn.get(winner)
        if left:
            assert (await conn.get(loser)).id == loser.id
        else:
            with pytest.raises(NotFound):
                await conn.get(loser)


async def ended(conn: Connection, loser: Flow) -> None:
    """Read it for the second that it has: that ends it, the kernel's own sweep may take a minute.

    (``nf_ct_gc_expired`` of a look-up; ``gc_worker`` goes by what it met before.)
    """
    with suppress(NotFound):
        while True:
            await conn.get(loser)


async def test_the_end_of_a_loser_is_not_the_winners(lab: Lab, conn: Connection) -> None:
    """A live table keeps the winner: it has the tuples, and another id."""
    async with conn.events() as events, conn.table(reconcile=None) as table:
        with clashing_entries(lab) as (winners, losers):
            winner, loser = await read(conn, winners), await read(conn, losers)
            await table.synced()
            assert table.find(winners) is not None
            with anyio.fail_after(20):
                await ended(conn, loser)
                async for event in events:
                    if event.type is EventType.DESTROY and event.flow.id == loser.id:
                        break
            await table.synced()
            assert [flow.id for flow in table] == [flow.id for flow in await conn.list()]
            assert [flow.id for flow in table] == [winner.id]
