"""Test that a flow denotes the entry it was read from, even if others have its tuples."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import product
from typing import Any

import attrs
import pytest
from support.real_or_fake_kernel import REAL, AnyKernel, FakeKernelAdapter, RealKernel

from conntrack_aio import (
    Connection,
    Flow,
    Match,
    NewFlow,
    NotFound,
    Status,
    Timestamp,
    Tuple,
    masters_first,
)
from conntrack_aio.testing import FakeKernel

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["fake", REAL])
def anykernel(request: pytest.FixtureRequest) -> AnyKernel:
    if request.param == "fake":
        return FakeKernelAdapter(FakeKernel("6.18", sysctls={"nf_conntrack_events": 1}))
    return RealKernel(request.getfixturevalue("lab"))


@pytest.fixture
async def conn(anykernel: AnyKernel) -> AsyncIterator[Connection]:
    anykernel.sysctl("nf_conntrack_acct", 1)
    async with anykernel.connect() as connection:
        yield connection


# Two entries that share tuples


ORIG = Tuple.udp("10.0.0.1", 1000, "10.0.0.2", 53)
FORWARD, REVERSE = ORIG, ORIG.inverse
FORWARD_IN_ZONE, REVERSE_IN_ZONE = attrs.evolve(FORWARD, zone=1), attrs.evolve(REVERSE, zone=1)


def new_flow(orig: Tuple, reply: Tuple) -> Flow:
    return Flow(orig=orig, reply=reply, timeout=600)


OTHER = Tuple.udp("10.0.0.2", 53, "10.0.0.9", 9999)
PAIRS = {
    "both tuples": (new_flow(FORWARD_IN_ZONE, REVERSE), new_flow(REVERSE, FORWARD_IN_ZONE)),
    "both tuples, second entry first": (
        new_flow(REVERSE, FORWARD_IN_ZONE),
        new_flow(FORWARD_IN_ZONE, REVERSE),
    ),
    "the original tuple": (
        new_flow(FORWARD_IN_ZONE, attrs.evolve(OTHER)),
        new_flow(REVERSE, FORWARD_IN_ZONE),
    ),
    "the original tuple of the second entry": (
        new_flow(REVERSE, FORWARD_IN_ZONE),
        new_flow(FORWARD_IN_ZONE, attrs.evolve(OTHER)),
    ),
    "the reply tuple": (
        new_flow(FORWARD, REVERSE_IN_ZONE),
        new_flow(REVERSE_IN_ZONE, attrs.evolve(OTHER.inverse)),
    ),
}


async def create_pair(conn: Connection, name: str) -> tuple[Flow, Flow]:
    """Create the two entries of a pair, and return them as a dump has them."""
    for flow in PAIRS[name]:
        created = await conn.create(flow)
        assert (created.orig, created.reply) == (flow.orig, flow.reply)
    listed = {(flow.orig, flow.reply): flow for flow in await conn.list()}
    first, second = (listed[flow.orig, flow.reply] for flow in PAIRS[name])
    assert first.id != second.id
    return first, second


async def update_many(conn: Connection, flow: Flow) -> None:
    (outcome,) = await conn.update_many([flow], mark=7)
    outcome.result()


async def update_matching(conn: Connection, flow: Flow) -> None:
    assert await conn.update_matching(match_only(flow), mark=7) == 1


def match_only(flow: Flow) -> Match:
    """Return a match of only this flow of a pair, by a timeout, which no kernel can filter by."""
    match = Match(orig_src=flow.orig.src, orig_sport=flow.orig.sport, timeout=range(1, 10_000))
    return match & Match(reply_dst=flow.reply.dst)


UPDATES: dict[str, Callable[[Connection, Flow], Awaitable[object]]] = {
    "update": lambda conn, flow: conn.update(flow, mark=7),
    "update of the mark's bits": lambda conn, flow: conn.update(flow, mark=7, mark_mask=15),
    "update of the status": lambda conn, flow: conn.update(flow, mark=7, status=Status.ASSURED),
    "update_many": update_many,
    "update_matching": update_matching,
}


@pytest.mark.parametrize(("name", "which"), list(product(PAIRS, (0, 1))))
@pytest.mark.parametrize("method", UPDATES)
async def test_an_update_changes_the_entry_that_was_read(
    conn: Connection, name: str, which: int, method: str
) -> None:
    both = await create_pair(conn, name)
    await UPDATES[method](conn, both[which])
    marks = {flow.id: flow.mark for flow in await conn.list()}
    assert marks == {both[which].id: 7, both[1 - which].id: 0}


async def delete_many(conn: Connection, flow: Flow) -> None:
    (outcome,) = await conn.delete_many([flow])
    outcome.result()


async def delete_many_stopping(conn: Connection, flow: Flow) -> None:
    (outcome,) = await conn.delete_many([flow], stop_on_error=True)
    outcome.result()


async def delete_matching(conn: Connection, flow: Flow) -> None:
    assert await conn.delete_matching(match_only(flow)) == 1


DELETES: dict[str, Callable[[Connection, Flow], Awaitable[object]]] = {
    "delete": lambda conn, flow: conn.delete(flow),
    "delete_many": delete_many,
    "delete_many, stopping": delete_many_stopping,
    "delete_matching": delete_matching,
}


@pytest.mark.parametrize("timestamps", [0, 1])
@pytest.mark.parametrize(("name", "which"), list(product(PAIRS, (0, 1))))
@pytest.mark.parametrize("method", DELETES)
async def test_a_delete_deletes_the_entry_that_was_read(
    anykernel: AnyKernel, conn: Connection, name: str, which: int, method: str, timestamps: int
) -> None:
    anykernel.sysctl("nf_conntrack_timestamp", timestamps)
    both = await create_pair(conn, name)
    assert (both[0].timestamp is not None) == bool(timestamps)
    await DELETES[method](conn, both[which])
    assert [flow.id for flow in await conn.list()] == [both[1 - which].id]
    for method_after in (conn.delete, conn.get):
        with pytest.raises(NotFound):
            await method_after(both[which])
    assert [flow.id for flow in await conn.list()] == [both[1 - which].id]


@pytest.mark.parametrize(("name", "which"), list(product(PAIRS, (0, 1))))
async def test_get_returns_the_entry_that_was_read(conn: Connection, name: str, which: int) -> None:
    both = await create_pair(conn, name)
    for reset in (False, True):
        read = await conn.get(both[which], reset_counters=reset)
        assert read.key == both[which].key
    assert {flow.id for flow in await conn.list(reset_counters=True)} == {flow.id for flow in both}


@pytest.mark.parametrize("name", PAIRS)
async def test_both_entries_of_a_pair_are_deleted(conn: Connection, name: str) -> None:
    both = await create_pair(conn, name)
    assert await conn.delete_matching(Match(timeout=range(1, 10_000))) == 2
    both = await create_pair(conn, name)
    assert [outcome.error for outcome in await conn.delete_many(both)] == [None, None]
    assert await conn.count() == 0


@pytest.mark.long
async def test_bulk_operations_find_the_entries_of_many_pairs(conn: Connection) -> None:
    """More than a window of entries, each of which is looked up."""
    flows: list[Flow] = []
    for port in range(300):
        forward = attrs.evolve(FORWARD, sport=port + 1)
        in_zone = attrs.evolve(forward, zone=1)
        flows += [new_flow(in_zone, forward.inverse), new_flow(forward.inverse, in_zone)]
    assert all(outcome.ok for outcome in await conn.create_many(flows))
    listed = await conn.list()
    assert len(listed) == 600
    assert all(outcome.ok for outcome in await conn.update_many(listed, mark=3))
    assert {flow.mark for flow in await conn.list()} == {3}
    assert all(outcome.ok for outcome in await conn.delete_many(listed))
    assert await conn.count() == 0
    assert all(isinstance(outcome.error, NotFound) for outcome in await conn.delete_many(listed))


@pytest.mark.parametrize("reset_singly", [False, True])
async def test_each_packet_is_reported_by_a_flow_of_its_own_entry(reset_singly: bool) -> None:
    """Each packet is reported once, although two entries share both tuples."""
    kernel = FakeKernel("6.18", sysctls={"nf_conntrack_events": 1, "nf_conntrack_acct": 1})
    async with kernel.connect() as conn:
        both = await create_pair(conn, "both tuples")
        packets = {both[0].id: 3, both[1].id: 5}
        for entry in kernel._state.table:
            assert entry.counters is not None
            entry.counters[0].packets = packets[entry.id]
        reported: dict[int | None, int] = dict.fromkeys(packets, 0)
        for flow in await conn.list(reset_counters=True):
            assert flow.counters_orig is not None
            reported[flow.id] += flow.counters_orig.packets or 0
        assert reported == packets
        if reset_singly:
            for flow in both:
                read = await conn.get(flow, reset_counters=True)
                assert read.id == flow.id
                assert read.counters_orig is not None
                assert read.counters_orig.packets == 0


# An entry that lost a clash over its original tuple (NAT_CLASH)


async def test_an_entry_found_only_by_its_reply_tuple_can_be_used() -> None:
    kernel = FakeKernel("6.18", sysctls={"nf_conntrack_events": 1})
    winner = kernel.add(new_flow(FORWARD, OTHER))
    loser = kernel.add(
        attrs.evolve(
            new_flow(FORWARD, attrs.evolve(OTHER, src="10.0.0.3")),
            status=Status.UNTRACKED | Status.CONFIRMED,
        )
    )
    async with kernel.connect() as conn:
        # A dump includes only the winner.
        assert [flow.id for flow in await conn.list()] == [winner.id]
        assert (await conn.get(loser)).id == loser.id
        await conn.update(loser, mark=7)
        assert [(await conn.get(flow)).mark for flow in (winner, loser)] == [0, 7]
        (outcome,) = await conn.update_many([loser], mark=8)
        assert outcome.ok
        (outcome,) = await conn.delete_many([loser])
        assert outcome.ok
        with pytest.raises(NotFound):
            await conn.get(loser)
        assert (await conn.get(winner)).mark == 0


# An entry that was created again at once


FLOW_METHODS: dict[str, Callable[[Connection, Flow], Awaitable[Any]]] = {
    "get": lambda conn, flow: conn.get(flow),
    "get and reset": lambda conn, flow: conn.get(flow, reset_counters=True),
    **UPDATES,
    "set_labels": lambda conn, flow: conn.set_labels(flow, 1),
    "add_labels": lambda conn, flow: conn.add_labels(flow, 1),
    "add_labels, none": lambda conn, flow: conn.add_labels(flow),
    "remove_labels": lambda conn, flow: conn.remove_labels(flow, 1),
    "delete": lambda conn, flow: conn.delete(flow),
    "delete_many": delete_many,
}
del FLOW_METHODS["update_matching"]  # it reads its flows itself


@pytest.mark.parametrize("method", FLOW_METHODS)
async def test_a_successor_with_the_same_id_is_not_the_entry_that_was_read(
    anykernel: AnyKernel, conn: Connection, method: str
) -> None:
    """Where the kernel keeps start times, they distinguish the two entries."""
    anykernel.sysctl("nf_conntrack_timestamp", 1)
    successor = await conn.create(new_flow(FORWARD, REVERSE))
    assert successor.timestamp is not None
    assert successor.timestamp.start is not None
    # The predecessor as it was read: with the same id, and an earlier start time.
    predecessor = attrs.evolve(successor, timestamp=Timestamp(start=successor.timestamp.start - 1))
    with pytest.raises(NotFound):
        await FLOW_METHODS[method](conn, predecessor)
    (left,) = await conn.list()
    assert (left.id, left.mark) == (successor.id, 0)
    await FLOW_METHODS["get"](conn, successor)
    await conn.delete(successor)
    assert await conn.count() == 0


async def test_bulk_deletes_compare_start_times(anykernel: AnyKernel, conn: Connection) -> None:
    """The entries are looked up, then deleted. Those with another start time stay."""
    anykernel.sysctl("nf_conntrack_timestamp", 1)
    flows = [
        new_flow(attrs.evolve(FORWARD, sport=n), attrs.evolve(REVERSE, dport=n))
        for n in range(1, 601)
    ]
    assert all(outcome.ok for outcome in await conn.create_many(flows))
    listed = await conn.list()
    for flow in listed[::3]:
        assert flow.timestamp is not None
        assert flow.timestamp.start is not None
        flow.timestamp = Timestamp(start=flow.timestamp.start - 1)
    outcomes = await conn.delete_many([*listed, listed[1], FORWARD])
    failed = [outcome.item for outcome in outcomes if not outcome.ok]
    assert failed == [*listed[::3], listed[1], FORWARD]
    assert all(outcome.ok or isinstance(outcome.error, NotFound) for outcome in outcomes)
    assert await conn.count() == 200


# Masters before their related flows


def related_flow(number: int, master: Flow | None) -> Flow:
    flow = Flow.udp("10.0.0.1", number, "10.0.0.2", number, timeout=600)
    flow.master = None if master is None else master.orig
    return flow


def chain_of_masters(count: int) -> list[Flow]:
    flows = [related_flow(1, None)]
    for number in range(2, count + 1):
        flows.append(related_flow(number, flows[-1]))
    return flows


def test_masters_first_returns_masters_before_related_flows() -> None:
    flows = chain_of_masters(4)
    assert masters_first(reversed(flows)) == flows
    assert masters_first(flows) == flows
    others = [related_flow(number, None) for number in range(10, 14)]
    mixed = [others[0], flows[2], others[1], flows[0], others[2], flows[1], others[3]]
    assert masters_first(mixed) == [others[0], *flows[:3], *others[1:]]
    assert masters_first(map(NewFlow, reversed(flows))) == list(map(NewFlow, flows))
    assert masters_first([]) == []
    orphan = related_flow(5, related_flow(99, None))
    assert masters_first([orphan]) == [orphan]
    with pytest.raises(TypeError, match="a Flow or a NewFlow"):
        masters_first([ORIG])  # type: ignore[type-var]


def test_masters_first_returns_each_flow_of_a_cycle_once() -> None:
    flows = chain_of_masters(3)
    flows[0].master = flows[2].orig
    assert sorted(masters_first(flows), key=flows.index) == flows


def test_masters_first_accepts_a_long_chain() -> None:
    flows = chain_of_masters(5000)
    assert masters_first(reversed(flows)) == flows


async def test_create_many_creates_masters_first_within_a_window(conn: Connection) -> None:
    flows = chain_of_masters(6)
    outcomes = await conn.create_many(reversed(flows))
    assert [outcome.item for outcome in outcomes] == flows[::-1]
    assert all(outcome.ok for outcome in outcomes)
    listed = {flow.orig: flow.master for flow in await conn.list()}
    assert listed == {flow.orig: flow.master for flow in flows}


async def test_masters_first_orders_flows_beyond_a_window(conn: Connection) -> None:
    masters = [related_flow(number, None) for number in range(1, 601)]
    flows = [related_flow(10_000 + number, master) for number, master in enumerate(masters)]
    orphan = related_flow(9_000, related_flow(9_001, None))
    saved = [*flows, orphan, *masters]
    outcomes = await conn.create_many(masters_first(saved))
    assert [outcome.item for outcome in outcomes if not outcome.ok] == [orphan]
    assert await conn.count() == 1200
