"""Dumps, on this machine's kernel."""

from __future__ import annotations

from socket import AF_INET, AF_INET6

import anyio
import anyio.lowlevel
import pytest
from support import flows
from support.polling import wait_until

from conntrack_aio import Connection, Flow, Match
from conntrack_aio.netlink.dump_receiver import CHUNKS_PER_CALL, PREFETCHED_CHUNKS

pytestmark = [pytest.mark.kernels, pytest.mark.anyio, pytest.mark.kernel]


async def fill(conn: Connection, count: int) -> list[Flow]:
    """So many IPv4 flows of marks 0 and 1, and half as many IPv6 ones of mark 2."""
    await flows.fill(conn, (flows.tcp(number, mark=number % 2) for number in range(count)))
    await flows.fill(conn, (flows.udp6(number, mark=2) for number in range(count // 2)))
    return await conn.list()


async def test_every_flow_once(conn: Connection) -> None:
    expected = {flows.tcp(number).orig for number in range(1000)}
    expected |= {flows.udp6(number).orig for number in range(500)}
    made = {flow.key for flow in await fill(conn, 1000)}
    assert {orig for orig, _, _ in made} == expected
    dumped = [flow.key async for flow in conn.dump()]
    assert len(dumped) == len(made) == 1500
    assert set(dumped) == made
    assert {flow.key for flow in await conn.list()} == made


async def test_an_empty_table(conn: Connection) -> None:
    assert await conn.list() == []
    assert [flow async for flow in conn.dump()] == []


async def test_batch_by_batch(conn: Connection) -> None:
    made = {flow.key for flow in await fill(conn, 1000)}
    batches = [batch async for batch in conn.dump().batches()]
    assert {flow.key for batch in batches for flow in batch} == made
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
async def test_what_matches(conn: Connection, match: Match) -> None:
    made = await fill(conn, 40)
    expected = {flow.id for flow in made if match(flow)}
    assert {flow.id for flow in await conn.list(match)} == expected
    assert {flow.id async for flow in conn.dump(match)} == expected


async def test_leaving_early_closes_the_socket(conn: Connection) -> None:
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


async def test_dumps_and_requests_side_by_side(conn: Connection) -> None:
    made = await fill(conn, 1000)
    counts: list[int] = []

    async def dump() -> None:
        counts.append(len([flow async for flow in conn.dump()]))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(dump)
        for flow in made[:200]:
            assert (await conn.get(flow)).id == flow.id
    assert counts == [1500] * 4


async def test_a_second_reader_is_told(conn: Connection) -> None:
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


async def test_a_dump_that_is_used_up_stays_at_its_end(conn: Connection) -> None:
    dump = conn.dump()
    assert [flow async for flow in dump] == []
    assert [flow async for flow in dump] == []


@pytest.mark.long
async def test_constant_memory(conn: Connection) -> None:
    """However slowly a dump is read, some chunks wait at most: what else there is, the kernel
    has not been asked for.
    """
    await fill(conn, 4000)
    dump = conn.dump()
    for _ in range(300):
        await anext(dump)
    (socket,) = dump._receiver.sockets

    def received() -> int:
        return socket.datagrams_received

    await wait_until(lambda: received() >= PREFETCHED_CHUNKS)
    for _ in range(100):  # were it to go on, it would now
        await anyio.lowlevel.checkpoint()
    most = 3 + PREFETCHED_CHUNKS + CHUNKS_PER_CALL - 1  # three of which were handed out
    assert received() <= most
    assert len([flow async for flow in dump]) == 5700
    assert received() > most
