"""Bulk operations have the same outcomes with the fake and with the real kernel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import anyio
import attrs
import pytest
from support import flows
from support.real_or_fake_kernel import AnyKernel

from conntrack_aio import (
    AlreadyExists,
    BulkOperation,
    Connection,
    EncodeError,
    Flow,
    Match,
    NATRange,
    NewFlow,
    NotFound,
    NotSupported,
    Outcome,
    SeqAdj,
    Status,
    Tuple,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def conn(anykernel: AnyKernel) -> AsyncIterator[Connection]:
    async with anykernel.connect() as connection:
        yield connection


async def marks(conn: Connection) -> list[int | None]:
    return sorted(flow.mark or 0 for flow in await conn.list())


async def test_create_many_returns_an_outcome_for_each_flow(conn: Connection) -> None:
    new = [flows.tcp(number, mark=number) for number in range(600)]
    outcomes = await conn.create_many(new)
    assert outcomes == [Outcome(flow) for flow in new]
    assert all(outcome.ok and outcome.result() is outcome.item for outcome in outcomes)
    assert await marks(conn) == list(range(600))


async def test_a_failure_affects_only_its_own_item(conn: Connection) -> None:
    await conn.create(flows.tcp(2))
    bad = flows.tcp(4)
    bad.timeout = None
    outcomes = await conn.create_many([flows.tcp(1), flows.tcp(2), flows.tcp(3), bad, flows.udp6()])
    assert [type(outcome.error) for outcome in outcomes] == [
        type(None),
        AlreadyExists,
        type(None),
        EncodeError,
        type(None),
    ]
    assert outcomes[3].item is bad
    with pytest.raises(AlreadyExists, match=r"create tcp 10\.1\.0\.2:40000.*has one of its two"):
        outcomes[1].result()
    with pytest.raises(EncodeError, match="timeout: a new entry needs a timeout"):
        outcomes[3].result()
    assert await conn.count() == 4


async def test_no_request_is_sent_if_no_item_can_be_encoded(conn: Connection) -> None:
    bad = attrs.evolve(flows.tcp(), mark=-1)
    before = conn.client_statistics().requests
    (outcome,) = await conn.create_many([bad])
    assert isinstance(outcome.error, EncodeError)
    assert conn.client_statistics().requests == before
    assert await conn.create_many([]) == []


async def test_create_many_applies_the_translation_of_the_call_or_of_the_item(
    conn: Connection,
) -> None:
    with_own_nat = NewFlow(
        flows.tcp(3), nat_src="192.0.2.3", nat_dst=NATRange.of("192.0.2.4", 8080)
    )
    outcomes = await conn.create_many(
        [flows.tcp(1), with_own_nat, NewFlow(flows.tcp(5))], nat_src="192.0.2.1"
    )
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert (await conn.get(flows.tcp(1))).reply.dst == NATRange.of("192.0.2.1").address_min
    assert (await conn.get(flows.tcp(3))).reply == Tuple.tcp("192.0.2.4", 8080, "192.0.2.3", 40000)
    assert (await conn.get(flows.tcp(5))).nat is None


async def test_a_dumped_table_can_be_restored(conn: Connection) -> None:
    await conn.create_many(map(flows.tcp, range(5)))
    await conn.create(flows.udp6(), nat_src="2001:db8::9", nat_dst=NATRange(port_min=5353))
    before = {(flow.orig, flow.reply, flow.status) for flow in await conn.list()}
    saved = await conn.list()
    await conn.flush()
    outcomes = await conn.create_many(map(NewFlow.from_flow, saved))
    assert [outcome.error for outcome in outcomes] == [None] * 6
    assert {(flow.orig, flow.reply, flow.status) for flow in await conn.list()} == before


async def test_a_restored_flow_has_the_nat_bits_that_it_had(conn: Connection) -> None:
    """The kernel decides about every connection where there are rules of NAT."""
    decided = NewFlow(flows.tcp(1), nat_src=NATRange.of(flows.tcp(1).orig.src, 40000))
    ping = NewFlow(
        Flow.icmp("10.0.0.1", "10.0.0.2", id=9, timeout=60), nat_src=NATRange.of("10.0.0.1", 9)
    )
    await conn.create_many([decided, ping, NewFlow(flows.tcp(2))])
    before = {(flow.orig, flow.reply, flow.status) for flow in await conn.list()}
    done = [bool(flow.status & Status.NAT_DONE_MASK) for flow in await conn.list() if flow.status]
    assert sorted(done) == [False, True, True]
    saved = await conn.list()
    await conn.flush()
    outcomes = await conn.create_many(map(NewFlow.from_flow, saved))
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert {(flow.orig, flow.reply, flow.status) for flow in await conn.list()} == before


async def test_a_program_made_flow_with_other_tuples_is_not_translated(conn: Connection) -> None:
    """Its status says that nothing is translated, although its tuples differ."""
    reply = Tuple.tcp("10.2.0.1", 80, "192.0.2.1", 40000)
    flow = attrs.evolve(flows.tcp(), reply=reply, status=Status.NAT_DONE_MASK | Status.CONFIRMED)
    assert NewFlow.from_flow(flow) == NewFlow(flow)


async def test_update_many_takes_flows_and_tuples_of_either_direction(conn: Connection) -> None:
    await conn.create_many(flows.tcp(number, mark=0x50 + number) for number in range(4))
    targets = [flows.tcp(0), flows.tcp(1).orig, flows.tcp(2).reply, flows.tcp(9)]
    outcomes = await conn.update_many(targets, mark=0x90, mark_mask=0xF0)
    assert [type(outcome.error) for outcome in outcomes[:3]] == [type(None)] * 3
    assert isinstance(outcomes[3].error, NotFound)
    assert str(outcomes[3].error).startswith("update tcp 10.1.0.9:40000")
    assert await marks(conn) == [0x53, 0x90, 0x91, 0x92]


async def test_update_many_sets_status_bits(conn: Connection) -> None:
    await conn.create_many(map(flows.tcp, range(3)))
    current = await conn.list()
    outcomes = await conn.update_many(current, status=Status.ASSURED, mark=3)
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert {flow.status for flow in await conn.list()} == {Status.CONFIRMED | Status.ASSURED}
    (refused, _, _) = await conn.update_many(current, status=Status.DYING)
    assert isinstance(refused.error, EncodeError)


async def test_update_many_does_not_change_an_entry_with_another_id(conn: Connection) -> None:
    await conn.create(flows.tcp(1))
    created = await conn.create(flows.tcp(2))
    other = attrs.evolve(created, id=(created.id or 0) ^ 1)
    outcomes = await conn.update_many([other, created], mark=7)
    assert isinstance(outcomes[0].error, NotFound)
    assert "Another flow, with another id" in str(outcomes[0].error)
    assert outcomes[1].ok
    assert await marks(conn) == [0, 7]


async def test_update_many_accepts_the_same_flow_several_times(conn: Connection) -> None:
    created = await conn.create(flows.tcp(1))
    outcomes = await conn.update_many([created] * 5, status=Status.ASSURED | Status.SEEN_REPLY)
    assert [outcome.error for outcome in outcomes] == [None] * 5


async def test_update_many_sets_sequence_adjustments_of_existing_flows(
    anykernel: AnyKernel,
) -> None:
    seqadj = SeqAdj(correction_pos=1, offset_before=2, offset_after=3)
    async with anykernel.connect() as conn:
        await conn.create_many(map(flows.tcp, range(2)))
        outcomes = await conn.update_many(map(flows.tcp, range(3)), seqadj_orig=seqadj)
        assert [outcome.ok for outcome in outcomes] == [True, True, False]
        assert not isinstance(outcomes[2].error, NotSupported)
        assert {flow.seqadj_orig for flow in await conn.list()} == {seqadj}


async def test_an_update_that_changes_nothing_is_refused_at_once(conn: Connection) -> None:
    with pytest.raises(EncodeError, match="changes nothing"):
        conn.update_many([])
    outcomes = await conn.update_many([flows.tcp()], mark=1 << 32)
    assert isinstance(outcomes[0].error, EncodeError)


async def test_delete_many_deletes_only_the_targets(conn: Connection) -> None:
    await conn.create_many(map(flows.tcp, range(10)))
    current = {flow.orig: flow for flow in await conn.list()}
    other = attrs.evolve(current[flows.tcp(0).orig], id=1)
    targets = [
        flows.tcp(1),
        flows.tcp(2).orig,
        flows.tcp(3).reply,
        current[flows.tcp(4).orig],
        other,
    ]
    outcomes = await conn.delete_many([*targets, "not a flow"])  # type: ignore[list-item]
    assert [outcome.ok for outcome in outcomes] == [True] * 4 + [False] * 2
    assert isinstance(outcomes[4].error, NotFound)
    assert isinstance(outcomes[5].error, EncodeError)
    assert {flow.orig for flow in await conn.list()} == {
        flows.tcp(n).orig for n in (0, *range(5, 10))
    }


async def test_bulk_operations_honor_zones(conn: Connection) -> None:
    await conn.create_many(attrs.evolve(flows.tcp(n), zone=4) for n in range(3))
    assert not any(outcome.ok for outcome in await conn.delete_many([flows.tcp(0)]))
    assert all(outcome.ok for outcome in await conn.delete_many([flows.tcp(0)], zone=4))
    assert all(outcome.ok for outcome in await conn.update_many([flows.tcp(1)], mark=1, zone=4))
    assert await marks(conn) == [0, 1]


async def test_outcomes_can_be_read_one_by_one_and_in_batches(conn: Connection) -> None:
    new = [flows.tcp(number) for number in range(300)]
    async with conn.create_many(new) as bulk:
        first = await anext(bulk)
        rest = [outcome async for batch in bulk.batches() for outcome in batch]
        assert [first, *rest] == [Outcome(flow) for flow in new]
        assert [outcome async for outcome in bulk] == []
    assert conn.client_statistics().open_bulk_operations == 0


async def test_a_dump_can_be_the_source_of_a_bulk_operation(conn: Connection) -> None:
    await conn.create_many(flows.tcp(number, mark=number % 2) for number in range(600))
    async with conn.dump(Match(mark=1)) as dump:
        outcomes = await conn.delete_many(dump)
    assert len(outcomes) == 300
    assert all(outcome.ok for outcome in outcomes)
    assert await marks(conn) == [0] * 300


async def test_the_source_may_use_the_connection(conn: Connection) -> None:
    async def source() -> AsyncIterator[Flow]:
        for number in range(20):
            assert await conn.count() >= 0
            yield flows.tcp(number)

    assert all(outcome.ok for outcome in await conn.create_many(source()))
    assert await conn.count() == 20


async def test_items_are_sent_while_the_source_is_awaited(conn: Connection) -> None:
    """The source sees its first flows in the table before it yields the third one."""
    seen: list[int] = []

    async def source() -> AsyncIterator[Flow]:
        for number in (1, 2):
            yield flows.tcp(number)
        with anyio.fail_after(5):
            while await conn.count() < 2:
                await anyio.lowlevel.checkpoint()
        seen.append(await conn.count())
        yield flows.tcp(3)

    async with conn.create_many(source()) as bulk:
        assert [outcome.ok async for outcome in bulk] == [True] * 3
    assert seen == [2]


async def test_the_consumer_may_use_the_connection(conn: Connection) -> None:
    async with conn.create_many(map(flows.tcp, range(300))) as bulk:
        async for outcome in bulk:
            if outcome.item.orig.src.packed[-1] == 0:
                await conn.delete(outcome.item)
    assert await conn.count() == 298


async def test_stop_on_error_ends_after_the_requests_in_flight(conn: Connection) -> None:
    """The outcomes of requests that were sent with the failed one are reported too."""
    await conn.create(flows.tcp(5))
    async with conn.create_many(map(flows.tcp, range(2000)), stop_on_error=True) as bulk:
        outcomes = [outcome async for outcome in bulk]
    assert [outcome.ok for outcome in outcomes[:7]] == [True] * 5 + [False, True]
    assert len(outcomes) <= 256
    assert await conn.count() == len(outcomes)


async def test_stop_on_error_stops_at_an_item_that_cannot_be_encoded(conn: Connection) -> None:
    bad = attrs.evolve(flows.tcp(1), mark=-1)
    new = [flows.tcp(0), bad, flows.tcp(2)]
    outcomes = await conn.create_many(new, stop_on_error=True)
    assert [outcome.item for outcome in outcomes] == new[:2]
    assert await conn.count() == 1
    outcomes = await conn.update_many(
        [flows.tcp(0), "not a flow", flows.tcp(9)],  # type: ignore[list-item]
        mark=1,
        stop_on_error=True,
    )
    assert [outcome.ok for outcome in outcomes] == [True, False]


async def test_the_exception_of_the_source_follows_the_outcomes_before_it(conn: Connection) -> None:
    """The exception is not wrapped, and iteration ends after it."""

    class Broken(Exception):
        pass

    def broken() -> Iterator[Flow]:
        yield from map(flows.tcp, range(700))
        raise Broken

    async def broken_async() -> AsyncIterator[Flow]:
        for number in range(700, 1400):
            yield flows.tcp(number)
        raise Broken

    sources: tuple[Iterator[Flow], AsyncIterator[Flow]] = (broken(), broken_async())
    for source in sources:
        seen: list[bool] = []
        bulk = conn.create_many(source)
        with pytest.raises(Broken):
            await collect(bulk, seen)
        assert seen == [True] * 700
        with pytest.raises(StopAsyncIteration):
            await anext(bulk)
    assert await conn.count() == 1400


async def collect(bulk: BulkOperation[Flow], seen: list[bool]) -> None:
    async for outcome in bulk:
        seen.append(outcome.ok)


async def test_invalid_arguments_are_refused(conn: Connection) -> None:
    with pytest.raises(TypeError):
        conn.create_many(flows.tcp())  # type: ignore[arg-type, type-var]
    with pytest.raises(ValueError, match="nowhere"):
        conn.create_many([], nat_src="nowhere")
    with pytest.raises(ValueError, match="nowhere"):
        NewFlow(flows.tcp(), nat_dst="nowhere")


async def test_delete_matching_deletes_only_matching_flows(conn: Connection) -> None:
    await conn.create_many(flows.tcp(number, mark=number % 3) for number in range(900))
    assert await conn.delete_matching(Match(mark=2)) == 300
    assert await marks(conn) == [0] * 300 + [1] * 300
    assert await conn.delete_matching(Match(mark=2)) == 0
