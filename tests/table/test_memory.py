"""Test that an ended live table frees its flows without the garbage collector."""

from __future__ import annotations

import contextlib
import errno
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import anyio
import anyio.lowlevel
import pytest
from support import flows

from conntrack_aio import Change, Changes, Connection, ConntrackError, Flow, FlowTable
from conntrack_aio.testing import FakeKernel

pytestmark = pytest.mark.anyio

COUNT = 200


@pytest.fixture(autouse=True)
def no_garbage_collector() -> Iterator[None]:
    """Switch the garbage collector off, as some programs do. Others call ``gc.freeze()``."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def kernel() -> FakeKernel:
    table = [flows.tcp(n) for n in range(COUNT)]
    return FakeKernel(flows=table, sysctls={"nf_conntrack_events": 1})


@pytest.fixture
async def conn(kernel: FakeKernel) -> AsyncIterator[Connection]:
    async with kernel.connect() as conn:
        yield conn


@pytest.fixture(autouse=True)
def no_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tables store flows instead of records, to which there are no weak references."""
    monkeypatch.setattr("conntrack_aio.table.states._lazy", frozenset())


def weak_refs(table: FlowTable) -> list[weakref.ref[Flow]]:
    """Return weak references to the flows that a table stores."""
    states = table._entries.copy().values()
    return [weakref.ref(state) for state in states if isinstance(state, Flow)]


def alive(refs: list[weakref.ref[Flow]]) -> int:
    """Return how many of the flows still exist."""
    return sum(ref() is not None for ref in refs)


async def let_tasks_end() -> None:
    """Give cancelled tasks the time to end."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def _aclose(kernel: FakeKernel, conn: Connection, table: FlowTable) -> None:
    await table.aclose()


async def _close(kernel: FakeKernel, conn: Connection, table: FlowTable) -> None:
    table.close()
    await let_tasks_end()


async def _close_connection(kernel: FakeKernel, conn: Connection, table: FlowTable) -> None:
    conn.close()
    await let_tasks_end()


async def _during_a_reconciliation(kernel: FakeKernel, conn: Connection, table: FlowTable) -> None:
    """Close while entries were read that are not in the table yet."""
    for number in range(COUNT):
        kernel.change(flows.tcp(number), mark=number + 1)
    delayed = kernel.delay("dump")
    table._synchronizer._requests.request()
    while delayed.request is None:
        await anyio.lowlevel.checkpoint()
    await table.aclose()


async def _fail(kernel: FakeKernel, conn: Connection, table: FlowTable) -> None:
    kernel.refuse(errno.EPERM, "dump")
    with anyio.fail_after(5), contextlib.suppress(ConntrackError):
        await table.reconcile()
    await let_tasks_end()


async def _fail_looking_up(kernel: FakeKernel, conn: Connection, table: FlowTable) -> None:
    kernel.refuse(errno.EPERM, "get")
    kernel.sysctls["nf_conntrack_events"] = 0
    kernel.add(flows.tcp(COUNT))
    for entry in kernel._state.table:
        entry.has_event_cache = True
    kernel.change(flows.tcp(COUNT), mark=9)
    with anyio.fail_after(5), contextlib.suppress(ConntrackError):
        await table.synced()
    await let_tasks_end()


async def _during_a_shortage(kernel: FakeKernel, conn: Connection, table: FlowTable) -> None:
    """Close while the table retries a reconciliation."""
    kernel.refuse(errno.ENOMEM, "dump", times=1000)
    with anyio.fail_after(5), contextlib.suppress(ConntrackError):
        await table.reconcile()
    assert table.last_error is not None
    await table.aclose()


ENDS = [
    _aclose,
    _close,
    _close_connection,
    _during_a_reconciliation,
    _fail,
    _fail_looking_up,
    _during_a_shortage,
]
ends = pytest.mark.parametrize("end", ENDS, ids=[each.__name__.strip("_") for each in ENDS])
End = Callable[[FakeKernel, Connection, FlowTable], Awaitable[None]]


@ends
@pytest.mark.usefixtures("short_retries")
async def test_an_ended_table_holds_no_flows(
    kernel: FakeKernel, conn: Connection, end: End
) -> None:
    """The program may hold the table, for example to read its statistics."""
    table = await conn.table().__aenter__()
    refs = weak_refs(table)
    assert alive(refs) == COUNT
    await end(kernel, conn, table)
    assert alive(refs) == 0
    statistics = table.statistics()
    assert statistics.reconciliations >= 1
    assert (statistics.entries, statistics.without_events, statistics.changes_waiting) == (0, 0, 0)
    assert (statistics.readers, statistics.last_error) == (0, None)


@ends
@pytest.mark.usefixtures("short_retries")
async def test_an_ended_table_that_is_dropped_is_freed(
    kernel: FakeKernel, conn: Connection, end: End
) -> None:
    table = await conn.table().__aenter__()
    ref = weakref.ref(table)
    await end(kernel, conn, table)
    await table.aclose()
    del table
    await let_tasks_end()
    assert ref() is None


@ends
@pytest.mark.usefixtures("short_retries")
async def test_iterators_of_changes_of_an_ended_table_hold_no_flows(
    kernel: FakeKernel, conn: Connection, end: End
) -> None:
    """It does not matter how much of the changes was read."""
    table = await conn.table().__aenter__()
    refs = weak_refs(table)
    unread, started, followed = table.changes(), table.changes(), table.changes()
    await anext(started)
    for _ in range(COUNT):
        await anext(followed)
    kernel.remove(flows.tcp(1).orig)
    kernel.add(flows.tcp(1, mark=5))
    await table.synced()
    first = await anext(followed)  # a second change of that entry is pending
    assert followed.waiting == 1
    refs += weak_refs(table)
    del first
    await end(kernel, conn, table)
    assert alive(refs) == 0
    for changes in (unread, started, followed):
        assert changes.waiting == 0
        with pytest.raises((anyio.ClosedResourceError, ConntrackError)):
            await anext(changes)


async def test_a_closed_iterator_of_changes_holds_no_flows(
    kernel: FakeKernel, conn: Connection
) -> None:
    """The table stays open, and the entries have ended."""
    async with conn.table() as table:
        changes: Changes = table.changes()
        refs = weak_refs(table)
        await anext(changes)
        for flow in kernel.flows:
            kernel.remove(flow)
        await table.synced()
        await changes.aclose()
        assert alive(refs) == 0
        assert changes.waiting == 0
        assert len(changes._changes) == 0


async def test_a_table_whose_opening_was_cancelled_holds_no_flows(
    kernel: FakeKernel, conn: Connection
) -> None:
    """The opening is cancelled at each of its steps."""
    before = {id(each) for each in gc.get_objects() if isinstance(each, Flow)}
    for steps in range(30):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_after, scope, steps)
                async with conn.table():
                    pass
                tasks.cancel_scope.cancel()
    await let_tasks_end()
    left = [each for each in gc.get_objects() if isinstance(each, Flow) and id(each) not in before]
    assert not left


async def _cancel_after(scope: anyio.CancelScope, steps: int) -> None:
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
    scope.cancel()


async def test_an_error_of_the_match_function_holds_no_flows(
    kernel: FakeKernel, conn: Connection
) -> None:
    """The error still shows where it was raised."""
    failing = False

    def match(flow: Flow) -> bool:
        if failing:
            error = KeyError("mine")
            raise error from error
        return True

    table = await conn.table(match).__aenter__()
    refs = weak_refs(table)
    failing = True
    kernel.add(flows.tcp(COUNT))
    with pytest.raises(KeyError, match="mine") as raised:
        await table.synced()
    await let_tasks_end()
    assert raised.traceback[-1].name == "match"
    assert alive(refs) == 0


async def test_a_table_that_was_never_entered_is_freed(conn: Connection) -> None:
    table = conn.table()
    ref = weakref.ref(table)
    del table
    assert ref() is None


async def test_memory_does_not_grow_after_gc_freeze(kernel: FakeKernel) -> None:
    """If ``gc.freeze()`` is called while a table is open, reference cycles are never freed."""
    sizes: list[int] = []
    gc.unfreeze()
    others = len(_flows())
    async with kernel.connect() as conn:
        for _ in range(5):
            async with conn.table() as table:
                changes: list[Change] = [await anext(table.changes())]
                gc.freeze()
            await let_tasks_end()
            del table, changes
            gc.unfreeze()
            sizes.append(len(_flows()) - others)
    gc.freeze()  # as it was before the test
    assert sizes == [0] * 5


def _flows() -> list[Flow]:
    return [each for each in gc.get_objects() if isinstance(each, Flow)]
