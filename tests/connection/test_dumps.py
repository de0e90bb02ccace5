"""Test dumps of the table, on this machine's kernel."""

from __future__ import annotations

from socket import AF_INET, AF_INET6

import anyio
import anyio.lowlevel
import pytest
from support import flows
from support.polling import wait_until

from conntrack_aio import Connection, Flow, Match
from conntrack_aio.netlink.prefetching import PREFETCHED_CHUNKS, PrefetchThread

pytestmark = [pytest.mark.kernels, pytest.mark.anyio, pytest.mark.kernel]


async def fill(conn: Connection, count: int) -> list[Flow]:
    """Create ``count`` IPv4 flows of marks 0 and 1, and half as many IPv6 flows of mark 2."""
    await flows.fill(conn, (flows.tcp(number, mark=number % 2) for number in range(count)))
    await flows.fill(conn, (flows.udp6(number, mark=2) for number in range(count // 2)))
    return await conn.list()


async def test_a_dump_returns_each_flow_once(conn: Connection) -> None:
    expected = {flows.tcp(number).orig for number in range(1000)}
    expected |= {flows.udp6(number).orig for number in range(500)}
    created = {flow.key for flow in await fill(conn, 1000)}
    assert {orig for orig, _, _ in created} == expected
    dumped = [flow.key async for flow in conn.dump()]
    assert len(dumped) == len(created) == 1500
    assert set(dumped) == created
    assert {flow.key for flow in await conn.list()} == created


async def test_a_dump_of_an_empty_table_returns_nothing(conn: Connection) -> None:
    assert await conn.list() == []
    assert [flow async for flow in conn.dump()] == []


async def test_batches_together_contain_each_flow(conn: Connection) -> None:
    created = {flow.key for flow in await fill(conn, 1000)}
    batches = [batch async for batch in conn.dump().batches()]
    assert {flow.key for batch in batches for flow in batch} == created
    assert 5 < len(batches) < 100


@pytest.mark.parametrize(
    "match",
    [
        Match(),
        Match(mark=0),
        Match(mark=1),
        Match(mark=2, mark_mask=6),
        Match(family=AF_INET),
        Match(family=AF_INET6, mark=2),
        Match(family=AF_INET6, mark=1),
    ],
)
async def test_a_dump_returns_exactly_the_flows_that_match(conn: Connection, match: Match) -> None:
    created = await fill(conn, 40)
    expected = {flow.id for flow in created if match(flow)}
    assert {flow.id for flow in await conn.list(match)} == expected
    assert {flow.id async for flow in conn.dump(match)} == expected


async def test_leaving_a_dump_early_closes_its_socket(conn: Connection) -> None:
    await fill(conn, 1000)
    async for _ in conn.dump():
        break
    assert conn.client_statistics().open_dumps == 0
    async with conn.dump() as dump:
        await anext(dump)
        assert conn.client_statistics().open_dumps == 1
    assert conn.client_statistics().open_dumps == 0
    with pytest.raises(anyio.ClosedResourceError):
        await anext(dump)


async def test_dumps_and_requests_run_concurrently(conn: Connection) -> None:
    created = await fill(conn, 1000)
    counts: list[int] = []

    async def dump() -> None:
        counts.append(len([flow async for flow in conn.dump()]))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(dump)
        for flow in created[:200]:
            assert (await conn.get(flow)).id == flow.id
    assert counts == [1500] * 4


async def test_a_second_concurrent_reader_gets_busy_resource_error(conn: Connection) -> None:
    await fill(conn, 200)
    dump = conn.dump()
    errors: list[Exception] = []

    async def read() -> None:
        try:
            await anext(dump)
        except anyio.BusyResourceError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        tasks.start_soon(read)
    assert len(errors) == 1
    await dump.aclose()


async def test_an_exhausted_dump_stays_exhausted(conn: Connection) -> None:
    dump = conn.dump()
    assert [flow async for flow in dump] == []
    assert [flow async for flow in dump] == []


@pytest.mark.long
async def test_a_slow_reader_holds_only_a_few_chunks_in_memory(conn: Connection) -> None:
    """The library prefetches a few chunks and does not request more until they are read."""
    created = {flow.key for flow in await fill(conn, 16000)}
    dump = conn.dump()
    first = [await anext(dump) for _ in range(300)]
    prefetcher = dump._receiver._chunks
    assert isinstance(prefetcher, PrefetchThread)
    await wait_until(lambda: not prefetcher._active)
    for _ in range(100):  # if it prefetched more, it would do so now
        await anyio.lowlevel.checkpoint()
    waiting = sum(received.filled for received in prefetcher._received)
    assert 0 < waiting <= PREFETCHED_CHUNKS
    dumped = [flow.key for flow in [*first, *[flow async for flow in dump]]]
    assert len(dumped) == len(created) == 24000
    assert set(dumped) == created
    (socket,) = dump._receiver.sockets
    assert socket.datagrams_received > PREFETCHED_CHUNKS
