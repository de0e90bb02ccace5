"""A flow that was read stands for its own entry, whatever else has its tuples, with every verb."""

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


PLAIN = Tuple.udp("10.0.0.1", 1000, "10.0.0.2", 53)
THERE, BACK = PLAIN, PLAIN.inverse
THERE1, BACK1 = attrs.evolve(THERE, zone=1), attrs.evolve(BACK, zone=1)


def made(orig: Tuple, reply: Tuple) -> Flow:
    return Flow(orig=orig, reply=reply, timeout=600)


OTHER = Tuple.udp("10.0.0.2", 53, "10.0.0.9", 9999)
PAIRS = {
    "both tuples": (made(THERE1, BACK), made(BACK, THERE1)),
    "both, turned around": (made(BACK, THERE1), made(THERE1, BACK)),
    "the original one": (made(THERE1, attrs.evolve(OTHER)), made(BACK, THERE1)),
    "the original one of the second": (made(BACK, THERE1), made(THERE1, attrs.evolve(OTHER))),
    "the reply": (made(THERE, BACK1), made(BACK1, attrs.evolve(OTHER.inverse))),
}


async def pair(conn: Connection, name: str) -> tuple[Flow, Flow]:
    """Two living entries, as a dump has them."""
    for each in PAIRS[name]:
        created = await conn.create(each)
        assert (created.orig, created.reply) == (each.orig, each.reply)
    listed = {(flow.orig, flow.reply): flow for flow in await conn.list()}
    first, second = (listed[each.orig, each.reply] for each in PAIRS[name])
    assert first.id != second.id
    return first, second


async def update_many(conn: Connection, flow: Flow) -> None:
    (outcome,) = await conn.update_many([flow], mark=7)
    outcome.result()


async def update_matching(conn: Connection, flow: Flow) -> None:
    assert await conn.update_matching(only(flow), mark=7) == 1


def only(flow: Flow) -> Match:
    """What just this one of a pair is, as no kernel can select."""
    match = Match(orig_src=flow.orig.src, orig_sport=flow.orig.sport, timeout=range(1, 10_000))
    return match & Match(reply_dst=flow.reply.dst)


CHANGES: dict[str, Callable[[Connection, Flow], Awaitable[object]]] = {
    "update": lambda conn, flow: conn.update(flow, mark=7),
    "update of the mark's bits": lambda conn, flow: conn.update(flow, mark=7, mark_mask=15),
    "update of the status": lambda conn, flow: conn.update(flow, mark=7, status=Status.ASSURED),
    "update_many": update_many,
    "update_matching": update_matching,
}


@pytest.mark.parametrize(("name", "which"), list(product(PAIRS, (0, 1))))
@pytest.mark.parametrize("verb", CHANGES)
async def test_a_change_is_of_the_entry_that_is_meant(
    conn: Connection, name: str, which: int, verb: str
) -> None:
    both = await pair(conn, name)
    await CHANGES[verb](conn, both[which])
    marks = {flow.id: flow.mark for flow in await conn.list()}
    assert marks == {both[which].id: 7, both[1 - which].id: 0}


async def delete_many(conn: Connection, flow: Flow) -> None:
    (outcome,) = await conn.delete_many([flow])
    outcome.result()


async def delete_many_stopping(conn: Connection, flow: Flow) -> None:
    (outcome,) = await conn.delete_many([flow], stop_on_error=True)
    outcome.result()


async def delete_matching(conn: Connection, flow: Flow) -> None:
    assert await conn.delete_matching(only(flow)) == 1


DELETES: dict[str, Callable[[Connection, Flow], Awaitable[object]]] = {
    "delete": lambda conn, flow: conn.delete(flow),
    "delete_many": delete_many,
    "delete_many, stopping": delete_many_stopping,
    "delete_matching": delete_matching,
}


@pytest.mark.parametrize("timestamps", [0, 1])
@pytest.mark.parametrize(("name", "which"), list(product(PAIRS, (0, 1))))
@pytest.mark.parametrize("verb", DELETES)
async def test_a_delete_is_of_the_entry_that_is_meant(
    anykernel: AnyKernel, conn: Connection, name: str, which: int, verb: str, timestamps: int
) -> None:
    anykernel.sysctl("nf_conntrack_timestamp", timestamps)
    both = await pair(conn, name)
    assert (both[0].timestamp is not None) == bool(timestamps)
    await DELETES[verb](conn, both[which])
    assert [flow.id for flow in await conn.list()] == [both[1 - which].id]
    for again in (conn.delete, conn.get):
        with pytest.raises(NotFound):
            await again(both[which])
    assert [flow.id for flow in await conn.list()] == [both[1 - which].id]


@pytest.mark.parametrize(("name", "which"), list(product(PAIRS, (0, 1))))
async def test_what_is_read_is_the_entry_that_is_meant(
    conn: Connection, name: str, which: int
) -> None:
    both = await pair(conn, name)
    for zero in (False, True):
        read = await conn.get(both[which], reset_counters=zero)
        assert read.key == both[which].key
    assert {flow.id for flow in await conn.list(reset_counters=True)} == {each.id for each in both}


@pytest.mark.parametrize("name", PAIRS)
async def test_all_are_deleted(conn: Connection, name: str) -> None:
    both = await pair(conn, name)
    assert await conn.delete_matching(Match(timeout=range(1, 10_000))) == 2
    both = await pair(conn, name)
    assert [outcome.error for outcome in await conn.delete_many(both)] == [None, None]
    assert await conn.count() == 0


@pytest.mark.long
async def test_many_pairs_at_once(conn: Connection) -> None:
    """More than a window of them, all of which are looked for again."""
    flows: list[Flow] = []
    for port in range(300):
        there = attrs.evolve(THERE, sport=port + 1)
        one = attrs.evolve(there, zone=1)
        flows += [made(one, there.inverse), made(there.inverse, one)]
    assert all(outcome.ok for outcome in await conn.create_many(flows))
    listed = await conn.list()
    assert len(listed) == 600
    assert all(outcome.ok for outcome in await conn.update_many(listed, mark=3))
    assert {flow.mark for flow in await conn.list()} == {3}
    assert all(outcome.ok for outcome in await conn.delete_many(listed))
    assert await conn.count() == 0
    assert all(isinstance(outcome.error, NotFound) for outcome in await conn.delete_many(listed))


@pytest.mark.parametrize("zero", [False, True])
async def test_counters_of_one_are_not_taken_for_those_of_the_other(zero: bool) -> None:
    """Each packet is told once, by a flow of its own entry."""
    kernel = FakeKernel("6.18", sysctls={"nf_conntrack_events": 1, "nf_conntrack_acct": 1})
    async with kernel.connect() as conn:
        both = await pair(conn, "both tuples")
        packets = {both[0].id: 3, both[1].id: 5}
        for entry in kernel._state.table:
            assert entry.counters is not None
            entry.counters[0].packets = packets[entry.id]
        told: dict[int | None, int] = dict.fromkeys(packets, 0)
        for flow in await conn.list(reset_counters=True):
            assert flow.counters_orig is not None
            told[flow.id] += flow.counters_orig.packets or 0
        assert told == packets
        if zero:
            for flow in both:
                read = await conn.get(flow, reset_counters=True)
                assert read.id == flow.id
                assert read.counters_orig is not None
                assert read.counters_orig.packets == 0


# An entry that lost a race for its original tuple (NAT_CLASH)


async def test_an_entry_that_is_found_by_its_reply_alone() -> None:
    kernel = FakeKernel("6.18", sysctls={"nf_conntrack_events": 1})
    winner = kernel.add(made(THERE, OTHER))
    loser = kernel.add(
        attrs.evolve(
            made(THERE, attrs.evolve(OTHER, src="10.0.0.3")),
            status=Status.UNTRACKED | Status.CONFIRMED,
        )
    )
    async with kernel.connect() as conn:
        assert [flow.id for flow in await conn.list()] == [winner.id]  # a dump has no others
        assert (await conn.get(loser)).id == loser.id
        await conn.update(loser, mark=7)
        assert [(await conn.get(each)).mark for each in (winner, loser)] == [0, 7]
        (outcome,) = await conn.update_many([loser], mark=8)
        assert outcome.ok
        (outcome,) = await conn.delete_many([loser])
        assert outcome.ok
        with pytest.raises(NotFound):
            await conn.get(loser)
        assert (await conn.get(winner)).mark == 0


# An entry that was made again at once


ON_A_FLOW: dict[str, Callable[[Connection, Flow], Awaitable[Any]]] = {
    "get": lambda conn, flow: conn.get(flow),
    "get and reset": lambda conn, flow: conn.get(flow, reset_counters=True),
    **CHANGES,
    "set_labels": lambda conn, flow: conn.set_labels(flow, 1),
    "add_labels": lambda conn, flow: conn.add_labels(flow, 1),
    "add_labels, none": lambda conn, flow: conn.add_labels(flow),
    "remove_labels": lambda conn, flow: conn.remove_labels(flow, 1),
    "delete": lambda conn, flow: conn.delete(flow),
    "delete_many": delete_many,
}
del ON_A_FLOW["update_matching"]  # it has read its flows itself


@pytest.mark.parametrize("verb", ON_A_FLOW)
async def test_a_successor_with_the_same_id_is_another_entry(
    anykernel: AnyKernel, conn: Connection, verb: str
) -> None:
    """Where the kernel keeps start times, they tell it from the one that was read."""
    anykernel.sysctl("nf_conntrack_timestamp", 1)
    successor = await conn.create(made(THERE, BACK))
    assert successor.timestamp is not None
    assert successor.timestamp.start is not None
    # As the predecessor was read: the same id, whatever the allocator would do.
    before = attrs.evolve(successor, timestamp=Timestamp(start=successor.timestamp.start - 1))
    with pytest.raises(NotFound):
        await ON_A_FLOW[verb](conn, before)
    (left,) = await conn.list()
    assert (left.id, left.mark) == (successor.id, 0)
    await ON_A_FLOW["get"](conn, successor)
    await conn.delete(successor)
    assert await conn.count() == 0


async def test_many_with_start_times(anykernel: AnyKernel, conn: Connection) -> None:
    """A window of look-ups, then of deletes; what was made again stays."""
    anykernel.sysctl("nf_conntrack_timestamp", 1)
    flows = [made(attrs.evolve(THERE, sport=n), attrs.evolve(BACK, dport=n)) for n in range(1, 601)]
    assert all(outcome.ok for outcome in await conn.create_many(flows))
    listed = await conn.list()
    for flow in listed[::3]:
        assert flow.timestamp is not None
        assert flow.timestamp.start is not None
        flow.timestamp = Timestamp(start=flow.timestamp.start - 1)
    outcomes = await conn.delete_many([*listed, listed[1], THERE])
    failed = [outcome.item for outcome in outcomes if not outcome.ok]
    assert failed == [*listed[::3], listed[1], THERE]
    assert all(outcome.ok or isinstance(outcome.error, NotFound) for outcome in outcomes)
    assert await conn.count() == 200


# Masters before the flows that they announced


def related(number: int, master: Flow | None) -> Flow:
    flow = Flow.udp("10.0.0.1", number, "10.0.0.2", number, timeout=600)
    flow.master = None if master is None else master.orig
    return flow


def chain(count: int) -> list[Flow]:
    flows = [related(1, None)]
    for number in range(2, count + 1):
        flows.append(related(number, flows[-1]))
    return flows


def test_masters_first() -> None:
    flows = chain(4)
    assert masters_first(reversed(flows)) == flows
    assert masters_first(flows) == flows
    others = [related(number, None) for number in range(10, 14)]
    mixed = [others[0], flows[2], others[1], flows[0], others[2], flows[1], others[3]]
    assert masters_first(mixed) == [others[0], *flows[:3], *others[1:]]
    assert masters_first(map(NewFlow, reversed(flows))) == list(map(NewFlow, flows))
    assert masters_first([]) == []
    lost = related(5, related(99, None))
    assert masters_first([lost]) == [lost]
    with pytest.raises(TypeError, match="a Flow or a NewFlow"):
        masters_first([PLAIN])  # type: ignore[type-var]


def test_masters_in_a_circle_are_each_told_once() -> None:
    flows = chain(3)
    flows[0].master = flows[2].orig
    assert sorted(masters_first(flows), key=flows.index) == flows


def test_a_long_chain_of_masters() -> None:
    flows = chain(5000)
    assert masters_first(reversed(flows)) == flows


async def test_flows_before_their_masters_are_made(conn: Connection) -> None:
    flows = chain(6)
    outcomes = await conn.create_many(reversed(flows))
    assert [outcome.item for outcome in outcomes] == flows[::-1]
    assert all(outcome.ok for outcome in outcomes)
    listed = {flow.orig: flow.master for flow in await conn.list()}
    assert listed == {flow.orig: flow.master for flow in flows}


async def test_beyond_a_window_they_are_ordered_beforehand(conn: Connection) -> None:
    masters = [related(number, None) for number in range(1, 601)]
    flows = [related(10_000 + number, master) for number, master in enumerate(masters)]
    orphan = related(9_000, related(9_001, None))
    saved = [*flows, orphan, *masters]
    outcomes = await conn.create_many(masters_first(saved))
    assert [outcome.item for outcome in outcomes if not outcome.ok] == [orphan]
    assert await conn.count() == 1200
