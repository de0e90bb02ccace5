"""A connection, and all that came of it, in another process or another event loop."""

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
    """A connection, and one of everything that came of it, in use."""

    conn: Connection
    dump: Dump[Flow]
    stream: EventStream[Any]
    bulk: BulkOperation[Flow]
    table: FlowTable
    changes: Changes


FLOW = flows.tcp(1)
MATCH = Match(mark=77)

Use = Callable[[Opened], object]

CONNECTION: dict[str, Callable[[Connection], object]] = {
    "add_labels": lambda conn: conn.add_labels(FLOW, 1),
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


async def rest_of(items: AsyncIterable[object]) -> None:
    """``async for`` is refused before it gives anything away."""
    async for item in items:
        raise AssertionError(item)


OTHERS: dict[str, Use] = {
    "a dump": lambda opened: rest_of(opened.dump),
    "a batch of a dump": lambda opened: opened.dump.receive_batch(),
    "a stream": lambda opened: rest_of(opened.stream),
    "a batch of a stream": lambda opened: opened.stream.receive_batch(),
    "a stream without waiting": lambda opened: opened.stream.receive_batch_nowait(),
    "a bulk": lambda opened: rest_of(opened.bulk),
    "a table, synced": lambda opened: opened.table.synced(),
    "a table, reconciled": lambda opened: opened.table.reconcile(),
    "changes": lambda opened: rest_of(opened.changes),
    "a batch of changes": lambda opened: opened.changes.receive_batch(),
}

PLAIN: dict[str, Use] = {
    "a position of a stream": lambda opened: opened.stream.position(),
    "a look-up": lambda opened: opened.table.get(FLOW.orig),
    "a table, iterated over": lambda opened: list(opened.table),
    "a table's size": lambda opened: len(opened.table),
    "a table's mode": lambda opened: opened.table.mode,
}
"""What waits for nothing, and so can be called in another event loop; not in another process."""

NO_USE = {"aclose", "close", "label_names"}


def test_every_verb_is_here() -> None:
    verbs = {
        name
        for name, _ in inspect.getmembers_static(Connection, callable)
        if not name.startswith("_")
    }
    kinds = {"expectations", "timeouts", "helpers", "sysctls"}
    assert verbs - NO_USE == CONNECTION.keys() - kinds


def every_use(opened: Opened, *, plain: bool) -> dict[str, Callable[[], object]]:
    uses: dict[str, Callable[[], object]] = {
        name: lambda use=use: use(opened.conn) for name, use in CONNECTION.items()
    }
    uses |= {name: lambda use=use: use(opened) for name, use in OTHERS.items()}
    if plain:
        uses |= {name: lambda use=use: use(opened) for name, use in PLAIN.items()}
    else:
        del uses["client_statistics"]
    return uses


async def wrong(uses: dict[str, Callable[[], object]]) -> list[str]:
    """What is not refused, at once, with one sentence."""
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
    for each in (opened.changes, opened.table, opened.bulk, opened.dump, opened.stream):
        await each.aclose()
    await opened.conn.aclose()


async def drain(stream: EventStream[Any]) -> None:
    """Read what waits. Without root, there is room for few events, and some may be lost."""
    more = True
    while more:
        try:
            more = bool(stream.receive_batch_nowait())
        except EventsLost:
            pass
        await anyio.lowlevel.checkpoint()


async def works(opened: Opened) -> None:
    """All of it goes on where it was."""
    with anyio.fail_after(10):
        rest = {flow.orig async for flow in opened.dump}
        assert len(rest & {flows.tcp(n).orig for n in range(1, 1000)}) >= 998
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


def in_a_child(work: Callable[[], list[str]]) -> list[str]:
    """Call ``work`` in a forked process; what it returns."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 warns: there are threads
        child = os.fork()
    if not child:
        try:
            signal.alarm(60)
            signal.set_wakeup_fd(-1)  # of the loop of the other process
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
async def test_a_forked_process(lab: Lab, backend: str) -> None:
    """Everything is refused there, and closed without a trace; here, everything goes on."""
    opened = await open_all(lab)

    def child() -> list[str]:
        found = wrong_in(backend, every_use(opened, plain=True))
        for each in reversed(opened):
            each.close()
        anyio.run(close_all, opened, backend=backend)
        gc.collect()
        return found

    assert await anyio.to_thread.run_sync(in_a_child, child) == []
    await works(opened)
    await close_all(opened)


def wrong_in(backend: str, uses: dict[str, Callable[[], object]]) -> list[str]:
    return anyio.run(wrong, uses, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_fork_of_the_main_thread(lab: Lab, backend: str) -> None:
    """The child drops all that it has a copy of, in whatever order."""

    async def main() -> None:
        opened = await open_all(lab)
        holder = [opened]

        def child() -> list[str]:
            holder.clear()
            del main_frame["opened"]
            gc.collect()
            return []

        main_frame = {"opened": opened}
        assert in_a_child(child) == []
        await works(opened)
        await close_all(opened)

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_fork_that_runs_its_copy_of_the_loop(
    lab: Lab, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """The copy shares what the loop waits by: nothing that is waited for here gets lost."""
    loop = new_loop()
    opened = loop.run_until_complete(open_all(lab))
    loop.run_until_complete(asyncio.sleep(0.01))  # the table's tasks wait

    async def count() -> list[str]:
        return await wrong({"count": opened.conn.count, "synced": opened.table.synced})

    def child() -> list[str]:
        found = loop.run_until_complete(count())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        gc.collect()
        return found

    assert in_a_child(child) == []
    loop.run_until_complete(works(opened))
    loop.run_until_complete(close_all(opened))
    loop.close()


def test_a_fork_during_a_walk() -> None:
    """The thread that walks is not in the child: its requests need not run on threads."""
    with table_walks.count():
        assert in_a_child(lambda: ["active"] if table_walks.active else []) == []
        assert table_walks.active


@pytest.mark.anyio
async def test_a_fork_while_threads_are_at_work(lab: Lab) -> None:
    """Whatever locks they hold, the child closes its copies and ends."""
    opened = await open_all(lab)
    conn = opened.conn
    done = False

    async def busy() -> None:
        while not done:
            await conn.list()
            await conn.create_many(map(flows.tcp, range(7000, 7400)))
            await conn.delete_many(map(flows.tcp, range(7000, 7400)))

    def child() -> list[str]:
        for each in reversed(opened):
            each.close()
        gc.collect()
        return []

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(busy)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            assert await anyio.to_thread.run_sync(in_a_child, child) == []
        done = True
    await works(opened)
    await close_all(opened)


# -- another event loop -------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_another_event_loop(lab: Lab, backend: str) -> None:
    """In another thread, while the connection's own loop goes on."""
    opened = await open_all(lab)
    uses = every_use(opened, plain=False)
    assert await anyio.to_thread.run_sync(wrong_in, backend, uses) == []
    await works(opened)
    await close_all(opened)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_after_the_one_that_has_ended(lab: Lab, backend: str) -> None:
    """Closing works there, too."""
    opened = anyio.run(open_all, lab, backend=backend)
    uses = every_use(opened, plain=False)
    # The table has ended with its loop.
    closed = {"a table, synced", "a table, reconciled", "changes", "a batch of changes"}
    found = wrong_in(backend, {name: use for name, use in uses.items() if name not in closed})
    assert found == []

    async def close() -> None:
        with anyio.fail_after(5):
            await close_all(opened)

    anyio.run(close, backend=backend)
