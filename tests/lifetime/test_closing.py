"""Test closing at any time, also during garbage collection and while a task reads."""

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

Opener = Callable[[Connection], Coroutine[object, object, object]]


# -- outside of the loop ------------------------------------------------------------------------


async def _open_nothing(conn: Connection) -> object:
    return None


async def _open_stream(conn: Connection) -> object:
    return conn.events()


async def _await_event(conn: Connection) -> object:
    """Open a stream, and start a task that waits for the next event."""
    stream = conn.events()
    return stream, asyncio.ensure_future(_expect_closed(stream.__anext__))


async def _read_dump(conn: Connection) -> object:
    dump = conn.dump()
    await anext(dump)
    return dump


async def _iterate_bulk(conn: Connection) -> object:
    bulk = conn.create_many(map(flows.tcp, range(5000, 6000)))
    await anext(bulk)
    return bulk


async def _open_table(conn: Connection) -> object:
    table = conn.table()
    await table.__aenter__()
    return table


async def _await_change(conn: Connection) -> object:
    """Open a table, and start a task that waits for the next change."""
    table = conn.table()
    await table.__aenter__()
    changes = table.changes()
    for _ in range(299):
        await anext(changes)
    return table, changes, asyncio.ensure_future(_expect_closed(changes.__anext__))


async def _expect_closed(read: Callable[[], Coroutine[object, object, object]]) -> None:
    with pytest.raises(anyio.ClosedResourceError):
        await read()


OPENERS: dict[str, Opener] = {
    "nothing": _open_nothing,
    "a stream": _open_stream,
    "a stream that a task waits for": _await_event,
    "a dump": _read_dump,
    "a bulk operation": _iterate_bulk,
    "a table": _open_table,
    "changes that a task waits for": _await_change,
}


async def _cancel_all_tasks() -> None:
    """Cancel all other tasks and wait for them, as :func:`asyncio.run` does."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def wait_until_closed(files: OpenFiles) -> None:
    deadline = time.monotonic() + 10
    while files.new():
        assert time.monotonic() < deadline, files.new()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize(
    "loop_closed", [False, True], ids=["the loop is stopped", "the loop is closed"]
)
@pytest.mark.parametrize("name", OPENERS)
def test_close_works_while_the_loop_is_not_running(
    lab: Lab, name: str, loop_closed: bool, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """``close()`` closes everything while the loop is not running. Later the loop runs normally."""
    loop = new_loop()
    files = OpenFiles()

    async def main() -> tuple[Connection, object]:
        conn = await connect(netns=lab.netns)
        await flows.fill(conn, map(flows.tcp, range(1, 300)))
        objects = await OPENERS[name](conn)
        for _ in range(20):
            await asyncio.sleep(0)
        return conn, objects

    conn, objects = loop.run_until_complete(main())
    if loop_closed:
        loop.run_until_complete(_cancel_all_tasks())
        loop.close()
    conn.close()
    conn.close()
    with pytest.raises(anyio.ClosedResourceError):
        conn.dump()
    if not loop_closed:

        async def run_loop_after_close() -> None:
            await asyncio.wait_for(conn.aclose(), 5)
            waiting = asyncio.all_tasks() - {asyncio.current_task()}
            if waiting:
                done, pending = await asyncio.wait(waiting, timeout=5)
                assert not pending
                for task in done:
                    if not task.cancelled():
                        task.result()

        loop.run_until_complete(run_loop_after_close())
        loop.close()
    wait_until_closed(files)
    del objects


# -- when a coroutine is closed -----------------------------------------------------------------


RESOURCES: dict[str, Callable[[Connection], contextlib.AbstractAsyncContextManager[object]]] = {
    "a stream": lambda conn: conn.events(),
    "a dump": lambda conn: conn.dump(),
    "a bulk operation": lambda conn: conn.create_many(map(flows.tcp, range(5000, 6000))),
    "a table": lambda conn: conn.table(),
}


async def _wait_inside(conn: Connection, name: str, reached: anyio.Event) -> None:
    """Wait in the ``async with`` block of a connection and of something else."""
    async with conn, RESOURCES[name](conn) as resource:
        if isinstance(resource, AsyncIterator) and name != "a stream":
            await anext(resource, None)
        reached.set()
        await anyio.sleep_forever()


@pytest.mark.parametrize("in_loop", [True, False], ids=["in the loop", "after the loop"])
@pytest.mark.parametrize("name", RESOURCES)
def test_a_closed_coroutine_closes_what_it_uses_without_waiting(
    lab: Lab, name: str, in_loop: bool
) -> None:
    """Nothing may be awaited then. Otherwise another error would hide the reason."""
    files = OpenFiles()
    coroutines: list[Coroutine[object, object, None]] = []

    async def main() -> None:
        reached = anyio.Event()
        conn = await connect(netns=lab.netns)
        coroutines.append(_wait_inside(conn, name, reached))
        asyncio.ensure_future(_run(coroutines[0]))  # noqa: RUF006
        await reached.wait()
        if in_loop:
            coroutines[0].close()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    if not in_loop:
        coroutines[0].close()
    loop.run_until_complete(_cancel_all_tasks())
    loop.close()
    wait_until_closed(files)


async def _run(coroutine: Coroutine[object, object, None]) -> None:
    with contextlib.suppress(RuntimeError):  # it was closed while this waited for it
        await coroutine


# -- during garbage collection ------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # sockets are collected in any order
@pytest.mark.anyio
@pytest.mark.parametrize("what", ["statistics", "close"])
async def test_objects_may_be_collected_while_the_session_iterates_over_them(
    conn: Connection, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector may run at any allocation. Here it runs before each object is summed up."""
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
                cycle = Cycle()
                vars(cycle).update(itself=cycle, objects=(conn.events(), dump, bulk))
                if not drop:
                    kept.append(cycle)
                del cycle, dump, bulk
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


# -- references after closing -------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("exhausted", [False, True])
async def test_a_closed_bulk_operation_releases_its_items(
    conn: Connection, exhausted: bool
) -> None:
    items = [flows.tcp(number) for number in range(600)]
    last = weakref.ref(items[-1])
    gc.disable()
    try:
        bulk = conn.create_many(items)
        del items
        if exhausted:
            async for _ in bulk:
                pass
            del _
        else:
            await bulk.aclose()
        assert last() is None
    finally:
        gc.enable()


@pytest.mark.anyio
async def test_a_stream_closed_during_a_read_is_in_no_reference_cycle(conn: Connection) -> None:
    gc.collect()
    gc.disable()
    try:
        stream = conn.events()
        reference = weakref.ref(stream)

        async def read(stream: EventStream[FlowEvent]) -> None:
            with contextlib.suppress(anyio.ClosedResourceError):
                await anext(stream)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, stream)
            await anyio.wait_all_tasks_blocked()
            await stream.aclose()
        del stream
        await anyio.lowlevel.checkpoint()
        assert reference() is None
    finally:
        gc.enable()


# -- bulk operations that were not started ------------------------------------------------------


async def _generate_flows() -> AsyncIterator[Flow]:
    yield flows.tcp(1)


BULKS: dict[str, Callable[[Connection], object]] = {
    "create_many": lambda conn: conn.create_many([flows.tcp(1)]),
    "update_many": lambda conn: conn.update_many([flows.tcp(1)], mark=1),
    "delete_many": lambda conn: conn.delete_many([flows.tcp(1)]),
    "an async iterable": lambda conn: conn.create_many(_generate_flows()),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", BULKS)
async def test_a_bulk_operation_that_was_never_started_warns(conn: Connection, name: str) -> None:
    with pytest.warns(RuntimeWarning, match="never awaited or iterated over: nothing was sent"):
        BULKS[name](conn)
    assert await conn.count() == 0


@pytest.mark.anyio
async def test_a_bulk_operation_that_was_started_or_closed_does_not_warn(conn: Connection) -> None:
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
