"""Test opening and closing a connection, and the tasks that wait meanwhile."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Awaitable, Callable

import anyio
import pytest
from support import flows
from support.lab import Lab
from support.open_files import OpenFiles

from conntrack_aio import Connection, EventType, Match, connect

pytestmark = [pytest.mark.anyio, pytest.mark.kernel]


class BodyError(Exception):
    """An exception that the body of a connection raises."""


async def test_connect_can_be_entered_or_awaited(lab: Lab) -> None:
    async with connect(netns=lab.netns) as conn:
        assert await conn.count() == 0
    conn = await connect(netns=lab.netns)
    assert await conn.count() == 0
    await conn.aclose()
    async with await connect(netns=lab.netns) as conn:
        assert await conn.count() == 0


async def test_an_exception_leaves_the_body_unwrapped(lab: Lab) -> None:
    with pytest.raises(BodyError) as caught:  # noqa: PT012
        async with (
            connect(netns=lab.netns) as conn,
            conn.events(),
            conn.dump() as dump,
        ):
            await anext(dump, None)
            raise BodyError
    assert caught.value.__context__ is None or not isinstance(
        caught.value.__context__, BaseExceptionGroup
    )


async def test_a_task_may_close_a_connection_that_another_opened(lab: Lab) -> None:
    opened: list[Connection] = []

    async def open_connection() -> None:
        opened.append(await connect(netns=lab.netns))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(open_connection)
    conn = opened[0]
    stream = conn.events()
    await conn.create(flows.tcp())
    assert (await anext(stream)).type is EventType.NEW

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(conn.aclose)


async def test_closing_a_connection_closes_its_dumps_and_streams(lab: Lab) -> None:
    files = OpenFiles()
    async with connect(netns=lab.netns) as conn:
        for number in range(300):
            await conn.create(flows.tcp(number))
        dump, stream = conn.dump(), conn.events()
        await anext(dump)
        assert len(files.new()) > 2
    await files.closed()
    for read in (dump.__anext__, stream.__anext__):
        with pytest.raises(anyio.ClosedResourceError):
            await read()
    await conn.aclose()


METHODS: dict[str, Callable[[Connection], Awaitable[object]]] = {
    "get": lambda conn: conn.get(flows.tcp()),
    "create": lambda conn: conn.create(flows.tcp()),
    "update": lambda conn: conn.update(flows.tcp(), mark=1),
    "delete": lambda conn: conn.delete(flows.tcp()),
    "delete_matching": lambda conn: conn.delete_matching(Match(mark=1)),
    "flush": lambda conn: conn.flush(),
    "count": lambda conn: conn.count(),
    "list": lambda conn: conn.list(),
}


@pytest.mark.parametrize("name", METHODS)
async def test_methods_of_a_closed_connection_raise_closed_resource_error(
    lab: Lab, name: str
) -> None:
    async with connect(netns=lab.netns) as conn:
        pass
    with pytest.raises(anyio.ClosedResourceError):
        await METHODS[name](conn)
    with pytest.raises(anyio.ClosedResourceError):
        conn.events()
    with pytest.raises(anyio.ClosedResourceError):
        conn.dump()


@pytest.mark.parametrize("what", ["stream", "connection"])
async def test_closing_wakes_a_waiting_reader(lab: Lab, what: str) -> None:
    conn = await connect(netns=lab.netns)
    stream = conn.events()
    closed = anyio.Event()

    async def read() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await anext(stream)
        closed.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        await (stream if what == "stream" else conn).aclose()
        with anyio.fail_after(5):
            await closed.wait()
    await conn.aclose()


async def test_a_second_concurrent_reader_gets_busy_resource_error(conn: Connection) -> None:
    async with conn.events() as stream, anyio.create_task_group() as tasks:
        tasks.start_soon(anext, stream)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await anext(stream)
        tasks.cancel_scope.cancel()


async def test_a_garbage_collected_iterator_closes_its_socket(conn: Connection) -> None:
    await conn.create(flows.tcp(1))
    files = OpenFiles()

    async def first_event() -> None:
        async for _ in conn.events():
            break

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first_event)
        await anyio.wait_all_tasks_blocked()
        await conn.create(flows.tcp(2))
    async for _ in conn.dump():
        break
    gc.collect()
    await files.closed()  # a thread may still be prefetching


async def test_a_garbage_collected_connection_warns_and_closes_its_socket(lab: Lab) -> None:
    files = OpenFiles()
    conn = await connect(netns=lab.netns)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del conn
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning]
    assert not files.new()


async def test_a_connection_holds_only_sockets_of_its_namespace(lab: Lab) -> None:
    """The connection holds the request socket and no descriptor of the namespace."""
    files = OpenFiles()
    async with connect(netns=lab.netns) as conn:
        assert len(files.new()) == 1
        async with conn.events():
            assert len(files.new()) == 2
        assert len(files.new()) == 1
