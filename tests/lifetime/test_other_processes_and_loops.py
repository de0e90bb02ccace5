"""Test connections and their objects in another process or another event loop."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import time
import traceback
import warnings
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any, NamedTuple, cast

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import uvloop
from support import flows
from support.lab import Lab

from conntrack_aio import (
    Changes,
    Connection,
    Dump,
    EventsLost,
    EventStream,
    Flow,
    FlowTable,
    Match,
    UsedElsewhere,
    connect,
)
from conntrack_aio.bulk.outcomes import BulkOperation
from conntrack_aio.netlink.table_walks import table_walks

pytestmark = [pytest.mark.kernel]


class Opened(NamedTuple):
    """A connection, and one object of each kind that it can open, in use."""

    conn: Connection
    dump: Dump[Flow]
    stream: EventStream[Any]
    bulk: BulkOperation[Flow]
    table: FlowTable
    changes: Changes


FLOW = flows.tcp(1)
MATCH = Match(mark=77)

Use = Callable[[Opened], object]

CONNECTION_METHODS: dict[str, Callable[[Connection], object]] = {
    "add_labels": lambda conn: conn.add_labels(FLOW, 1),
    "arrow": lambda conn: conn.arrow(),
    "count": lambda conn: conn.count(),
    "cpu_statistics": lambda conn: conn.cpu_statistics(),
    "create": lambda conn: conn.create(flows.tcp(9000)),
    "create_many": lambda conn: conn.create_many([flows.tcp(9000)]),
    "delete": lambda conn: conn.delete(FLOW),
    "delete_many": lambda conn: conn.delete_many([FLOW]),
    "delete_matching": lambda conn: conn.delete_matching(MATCH),
    "dump": lambda conn: anext(conn.dump()),
    "dying": lambda conn: anext(conn.dying()),
    "events": lambda conn: anext(conn.events()),
    "features": lambda conn: conn.features(),
    "flush": lambda conn: conn.flush(),
    "get": lambda conn: conn.get(FLOW),
    "table_statistics": lambda conn: conn.table_statistics(),
    "list": lambda conn: conn.list(),
    "remove_labels": lambda conn: conn.remove_labels(FLOW, 1),
    "set_labels": lambda conn: conn.set_labels(FLOW, 1),
    "client_statistics": lambda conn: conn.client_statistics(),
    "table": lambda conn: conn.table().__aenter__(),
    "unconfirmed": lambda conn: anext(conn.unconfirmed()),
    "update": lambda conn: conn.update(FLOW, mark=1),
    "update_many": lambda conn: conn.update_many([FLOW], mark=1),
    "update_matching": lambda conn: conn.update_matching(MATCH, mark=1),
    "expectations": lambda conn: conn.expectations.list(),
    "timeouts": lambda conn: conn.timeouts.list(),
    "helpers": lambda conn: conn.helpers.list(),
    "sysctls": lambda conn: conn.sysctls.read(),
}


async def expect_no_items(items: AsyncIterable[object]) -> None:
    """Iterate. The iteration must be refused before it returns an item."""
    async for item in items:
        raise AssertionError(item)


OBJECT_METHODS: dict[str, Use] = {
    "a dump": lambda opened: expect_no_items(opened.dump),
    "a batch of a dump": lambda opened: opened.dump.receive_batch(),
    "columns of a dump": lambda opened: expect_no_items(opened.dump.columns()),
    "a stream": lambda opened: expect_no_items(opened.stream),
    "columns of a stream": lambda opened: expect_no_items(opened.stream.columns()),
    "a batch of a stream": lambda opened: opened.stream.receive_batch(),
    "a stream without waiting": lambda opened: opened.stream.receive_batch_nowait(),
    "a bulk operation": lambda opened: expect_no_items(opened.bulk),
    "a table, synced": lambda opened: opened.table.synced(),
    "a table, reconciled": lambda opened: opened.table.reconcile(),
    "changes": lambda opened: expect_no_items(opened.changes),
    "a batch of changes": lambda opened: opened.changes.receive_batch(),
}

NON_WAITING: dict[str, Use] = {
    "a position of a stream": lambda opened: opened.stream.position(),
    "a look-up": lambda opened: opened.table.get(FLOW.orig),
    "a table, iterated over": lambda opened: list(opened.table),
    "a table's size": lambda opened: len(opened.table),
    "a table's mode": lambda opened: opened.table.mode,
}
"""What does not wait: it can be used in another event loop, but not in another process."""

NOT_REFUSED = {"aclose", "close", "label_names"}


def test_each_method_of_connection_is_tested() -> None:
    methods = {
        name
        for name, _ in inspect.getmembers_static(Connection, callable)
        if not name.startswith("_")
    }
    attributes = {"expectations", "timeouts", "helpers", "sysctls"}
    assert methods - NOT_REFUSED == CONNECTION_METHODS.keys() - attributes


def all_uses(opened: Opened, *, non_waiting: bool) -> dict[str, Callable[[], object]]:
    uses: dict[str, Callable[[], object]] = {
        name: lambda use=use: use(opened.conn) for name, use in CONNECTION_METHODS.items()
    }
    uses |= {name: lambda use=use: use(opened) for name, use in OBJECT_METHODS.items()}
    if non_waiting:
        uses |= {name: lambda use=use: use(opened) for name, use in NON_WAITING.items()}
    else:
        del uses["client_statistics"]
    return uses


async def uses_not_refused(uses: dict[str, Callable[[], object]]) -> list[str]:
    """Return the uses that are not refused at once with a message of one line."""
    found: list[str] = []
    for name, use in uses.items():
        try:
            with anyio.fail_after(2):
                result = use()
                if isinstance(result, AsyncIterable):
                    result = anext(aiter(cast("AsyncIterable[object]", result)))
                if isinstance(result, Awaitable):
                    await result
        except UsedElsewhere as error:
            if "\n" in str(error) or "open" not in str(error):
                found.append(f"{name}: {error}")
        except Exception as error:
            found.append(f"{name}: {error!r}")
        else:
            found.append(name)
    return found


async def open_all(lab: Lab) -> Opened:
    conn = await connect(netns=lab.netns)
    await flows.fill(conn, map(flows.tcp, range(1, 1000)))
    table = conn.table(reconcile=None)
    await table.__aenter__()
    opened = Opened(
        conn,
        conn.dump(),
        conn.events(),
        conn.create_many(map(flows.tcp, range(5000, 6000))),
        table,
        table.changes(),
    )
    await anext(opened.dump)
    await anext(opened.changes)
    await anext(opened.bulk)
    await conn.update(FLOW, mark=9)
    await anext(opened.stream)
    return opened


async def close_all(opened: Opened) -> None:
    for resource in (opened.changes, opened.table, opened.bulk, opened.dump, opened.stream):
        await resource.aclose()
    await opened.conn.aclose()


async def drain(stream: EventStream[Any]) -> None:
    """Read all pending events. Without root the buffer is small, and some may be lost."""
    more = True
    while more:
        try:
            more = bool(stream.receive_batch_nowait())
        except EventsLost:
            pass
        await anyio.lowlevel.checkpoint()


async def check_usable(opened: Opened) -> None:
    """Check that the connection and all its objects continue where they were."""
    with anyio.fail_after(10):
        rest = {flow.orig async for flow in opened.dump}
        assert len(rest & {flows.tcp(number).orig for number in range(1, 1000)}) >= 998
        outcomes = [outcome async for outcome in opened.bulk]
        assert len(outcomes) == 999
        assert all(outcome.ok for outcome in outcomes)
        await drain(opened.stream)
        await opened.conn.update(FLOW, mark=10)
        while (await anext(opened.stream)).flow.mark != 10:
            pass
        await opened.table.synced()
        found = opened.table.get(FLOW.orig)
        assert found is not None
        assert found.mark == 10
        while (await anext(opened.changes)).flow.orig != FLOW.orig:
            pass
        await opened.table.reconcile()
        assert len(opened.table) == await opened.conn.count()


# -- another process ----------------------------------------------------------------------------


def run_in_child(work: Callable[[], list[str]]) -> list[str]:
    """Call ``work`` in a forked process, and return its result."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns about forking with threads
        child = os.fork()
    if not child:
        try:
            signal.alarm(60)
            signal.set_wakeup_fd(-1)  # the parent's event loop has set it
            text = "\n".join(work())
        except BaseException:
            text = traceback.format_exc()
        os.write(writer, text.encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with open(reader) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended by signal {status}"
    assert "Traceback" not in text, text
    return text.splitlines()


@pytest.mark.anyio
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_everything_is_refused_in_a_forked_process(lab: Lab, backend: str) -> None:
    """The child can close its copies. The parent's objects stay usable."""
    opened = await open_all(lab)

    def child() -> list[str]:
        found = uses_not_refused_in(backend, all_uses(opened, non_waiting=True))
        for resource in reversed(opened):
            resource.close()
        anyio.run(close_all, opened, backend=backend)
        gc.collect()
        return found

    assert await anyio.to_thread.run_sync(run_in_child, child) == []
    await check_usable(opened)
    await close_all(opened)


def uses_not_refused_in(backend: str, uses: dict[str, Callable[[], object]]) -> list[str]:
    return anyio.run(uses_not_refused, uses, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_child_of_the_main_thread_may_collect_its_copies(lab: Lab, backend: str) -> None:
    """The child collects its copies in any order. The parent's objects stay usable."""

    async def main() -> None:
        opened = await open_all(lab)
        holder = [opened]

        def child() -> list[str]:
            holder.clear()
            del main_frame["opened"]
            gc.collect()
            return []

        main_frame = {"opened": opened}
        assert run_in_child(child) == []
        await check_usable(opened)
        await close_all(opened)

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_child_that_runs_its_copy_of_the_loop_does_not_disturb_the_parent(
    lab: Lab, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """The copy shares the epoll instance of the parent's loop. The parent misses no event."""
    loop = new_loop()
    opened = loop.run_until_complete(open_all(lab))
    loop.run_until_complete(asyncio.sleep(0.01))  # the table's tasks wait

    async def count() -> list[str]:
        return await uses_not_refused({"count": opened.conn.count, "synced": opened.table.synced})

    def child() -> list[str]:
        found = loop.run_until_complete(count())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        gc.collect()
        return found

    assert run_in_child(child) == []
    loop.run_until_complete(check_usable(opened))
    loop.run_until_complete(close_all(opened))
    loop.close()


def test_a_child_forked_during_a_table_walk_counts_no_walk() -> None:
    """The child has no copy of the walking thread, so its requests need not run on threads."""
    with table_walks.count():
        assert run_in_child(lambda: ["active"] if table_walks.active else []) == []
        assert table_walks.active


@pytest.mark.anyio
async def test_a_child_forked_while_threads_run_can_close_its_copies(lab: Lab) -> None:
    """The child closes its copies and ends, whatever locks the threads held."""
    opened = await open_all(lab)
    conn = opened.conn
    done = False

    async def keep_threads_busy() -> None:
        while not done:
            await conn.list()
            await conn.create_many(map(flows.tcp, range(7000, 7400)))
            await conn.delete_many(map(flows.tcp, range(7000, 7400)))

    def child() -> list[str]:
        for resource in reversed(opened):
            resource.close()
        gc.collect()
        return []

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_threads_busy)
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            assert await anyio.to_thread.run_sync(run_in_child, child) == []
        done = True
    await check_usable(opened)
    await close_all(opened)


# -- another event loop -------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_everything_is_refused_in_another_event_loop(lab: Lab, backend: str) -> None:
    """The other loop runs in another thread. The connection's own loop continues."""
    opened = await open_all(lab)
    uses = all_uses(opened, non_waiting=False)
    assert await anyio.to_thread.run_sync(uses_not_refused_in, backend, uses) == []
    await check_usable(opened)
    await close_all(opened)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_in_a_loop_after_the_first_one_everything_is_refused_but_closing(
    lab: Lab, backend: str
) -> None:
    """The connection's own loop has ended. Its objects can still be closed."""
    opened = anyio.run(open_all, lab, backend=backend)
    uses = all_uses(opened, non_waiting=False)
    # The table was closed with its loop.
    closed = {"a table, synced", "a table, reconciled", "changes", "a batch of changes"}
    found = uses_not_refused_in(
        backend, {name: use for name, use in uses.items() if name not in closed}
    )
    assert found == []

    async def close() -> None:
        with anyio.fail_after(5):
            await close_all(opened)

    anyio.run(close, backend=backend)
