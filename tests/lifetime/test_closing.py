"""Closing, whenever and wherever; and what closes, or is dropped, while something looks on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine

import anyio
import anyio.lowlevel
import pytest
import uvloop
from support import flows
from support.lab import Lab
from support.open_files import OpenFiles

from conntrack_aio import Connection, EventStream, Flow, FlowEvent, Match, connect, session

pytestmark = [pytest.mark.kernel]

Use = Callable[[Connection], Coroutine[object, object, object]]


# -- outside of the loop ------------------------------------------------------------------------


async def _nothing(conn: Connection) -> object:
    return None


async def _stream(conn: Connection) -> object:
    return conn.events()


async def _waited_for(conn: Connection) -> object:
    """A task waits for the next event."""
    stream = conn.events()
    return stream, asyncio.ensure_future(_closed(stream.__anext__))


async def _dump(conn: Connection) -> object:
    dump = conn.dump()
    await anext(dump)
    return dump


async def _bulk(conn: Connection) -> object:
    bulk = conn.create_many(map(flows.tcp, range(5000, 6000)))
    await anext(bulk)
    return bulk


async def _table(conn: Connection) -> object:
    table = conn.table()
    await table.__aenter__()
    return table


async def _changes(conn: Connection) -> object:
    """A task waits for the next change."""
    table = conn.table()
    await table.__aenter__()
    changes = table.changes()
    for _ in range(299):
        await anext(changes)
    return table, changes, asyncio.ensure_future(_closed(changes.__anext__))


async def _closed(read: Callable[[], Coroutine[object, object, object]]) -> None:
    with pytest.raises(anyio.ClosedResourceError):
        await read()


OPENED: dict[str, Use] = {
    "nothing": _nothing,
    "a stream": _stream,
    "a stream that is waited for": _waited_for,
    "a dump": _dump,
    "a bulk": _bulk,
    "a table": _table,
    "changes that are waited for": _changes,
}


async def _end() -> None:
    """As :func:`asyncio.run` does."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def closed(files: OpenFiles) -> None:
    deadline = time.monotonic() + 10
    while files.new():
        assert time.monotonic() < deadline, files.new()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("ended", [False, True], ids=["the loop stands", "the loop is closed"])
@pytest.mark.parametrize("name", OPENED)
def test_outside_of_the_loop(
    lab: Lab, name: str, ended: bool, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """``close()`` closes everything, and the loop goes on as if it had happened inside."""
    loop = new_loop()
    files = OpenFiles()

    async def main() -> tuple[Connection, object]:
        conn = await connect(netns=lab.netns)
        await flows.fill(conn, map(flows.tcp, range(1, 300)))
        opened = await OPENED[name](conn)
        for _ in range(20):
            await asyncio.sleep(0)
        return conn, opened

    conn, opened = loop.run_until_complete(main())
    if ended:
        loop.run_until_complete(_end())
        loop.close()
    conn.close()
    conn.close()
    with pytest.raises(anyio.ClosedResourceError):
        conn.dump()
    if not ended:

        async def after() -> None:
            await asyncio.wait_for(conn.aclose(), 5)
            waiting = asyncio.all_tasks() - {asyncio.current_task()}
            if waiting:
                done, late = await asyncio.wait(waiting, timeout=5)
                assert not late
                for task in done:
                    if not task.cancelled():
                        task.result()

        loop.run_until_complete(after())
        loop.close()
    closed(files)
    del opened


# -- while something is collected ---------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of sockets, dropped in any order
@pytest.mark.anyio
@pytest.mark.parametrize("what", ["statistics", "close"])
async def test_the_collector_drops_what_is_looked_at(
    conn: Connection, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may run at any allocation: here, it does so at each member."""
    await flows.fill(conn, map(flows.tcp, range(1, 300)))

    class Cycle:
        pass

    kept: list[object] = []
    gc.disable()
    try:
        for _ in range(3):
            for drop in (False, True):
                dump, bulk = conn.dump(), conn.create_many([flows.tcp(5000)])
                await anext(dump)
                await anext(bulk, None)
                holder = Cycle()
                vars(holder).update(holder=holder, held=(conn.events(), dump, bulk))
                if not drop:
                    kept.append(holder)
                del holder, dump, bulk
        for name in ("_add_stream", "_add_dump", "_add_requests"):
            original = getattr(session, name)

            def add(*arguments: object, original: Callable[..., None] = original) -> None:
                gc.collect()
                original(*arguments)

            monkeypatch.setattr(session, name, add)
        if what == "statistics":
            assert conn.client_statistics().open_streams >= 3
            assert conn.client_statistics().open_streams == 3
        else:
            conn.close()
            assert conn.client_statistics().open_streams == 0
    finally:
        gc.enable()


# -- what is let go of --------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("ended", [False, True])
async def test_a_closed_bulk_lets_go_of_its_source(conn: Connection, ended: bool) -> None:
    items = [flows.tcp(number) for number in range(600)]
    last = weakref.ref(items[-1])
    gc.disable()
    try:
        bulk = conn.create_many(items)
        del items
        if ended:
            async for _ in bulk:
                pass
            del _
        else:
            await bulk.aclose()
        assert last() is None
    finally:
        gc.enable()


@pytest.mark.anyio
async def test_a_stream_closed_under_its_reader_is_no_cycle(conn: Connection) -> None:
    gc.collect()
    gc.disable()
    try:
        stream = conn.events()
        dropped = weakref.ref(stream)

        async def read(stream: EventStream[FlowEvent]) -> None:
            with contextlib.suppress(anyio.ClosedResourceError):
                await anext(stream)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, stream)
            await anyio.wait_all_tasks_blocked()
            await stream.aclose()
        del stream
        await anyio.lowlevel.checkpoint()
        assert dropped() is None
    finally:
        gc.enable()


# -- bulks that nobody started ------------------------------------------------------------------


async def _flows() -> AsyncIterator[Flow]:
    yield flows.tcp(1)


BULKS: dict[str, Callable[[Connection], object]] = {
    "create_many": lambda conn: conn.create_many([flows.tcp(1)]),
    "update_many": lambda conn: conn.update_many([flows.tcp(1)], mark=1),
    "delete_many": lambda conn: conn.delete_many([flows.tcp(1)]),
    "an async iterable": lambda conn: conn.create_many(_flows()),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", BULKS)
async def test_a_bulk_that_was_never_started_warns(conn: Connection, name: str) -> None:
    with pytest.warns(RuntimeWarning, match="never awaited or iterated over: nothing was sent"):
        BULKS[name](conn)
    assert await conn.count() == 0


@pytest.mark.anyio
async def test_a_bulk_that_was_started_or_closed_does_not_warn(conn: Connection) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await conn.create_many([flows.tcp(1)])
        async for _ in conn.create_many([flows.tcp(2)]):
            pass
        async for _ in conn.create_many([flows.tcp(3)]).batches():
            pass
        async with conn.create_many([flows.tcp(4)]):
            pass
        await conn.create_many([flows.tcp(5)]).aclose()
        conn.create_many([flows.tcp(6)]).close()
        await conn.delete_matching(Match(mark=1))
    assert await conn.count() == 3
