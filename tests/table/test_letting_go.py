"""What a table held is gone once it is closed, without the garbage collector."""

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
def uncollected() -> Iterator[None]:
    """As where a program switched the collector off, or had it pass over what is there
    (``gc.freeze()``)."""
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


def watch(table: FlowTable) -> list[weakref.ref[Flow]]:
    return [weakref.ref(flow) for flow in table]


def alive(refs: list[weakref.ref[Flow]]) -> int:
    return sum(ref() is not None for ref in refs)


async def settle() -> None:
    """Let tasks that were cancelled end."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def _aclose(kernel: FakeKernel, conn: Connection, table: FlowTable) -> None:
    await table.aclose()


async def _close(kernel: FakeKernel, conn: Connection, table: FlowTable) -> None:
    table.close()
    await settle()


async def _hang_up(kernel: FakeKernel, conn: Connection, table: FlowTable) -> None:
    conn.close()
    await settle()


async def _in_a_comparison(kernel: FakeKernel, conn: Connection, table: FlowTable) -> None:
    """With entries that were read and are not in the table yet."""
    for number in range(COUNT):
        kernel.change(flows.tcp(number), mark=number + 1)
    delayed = kernel.delay("dump")
    table._synchronizer._request_comparison()
    while delayed.asked is None:
        await anyio.lowlevel.checkpoint()
    await table.aclose()


async def _fail(kernel: FakeKernel, conn: Connection, table: FlowTable) -> None:
    kernel.refuse(errno.EPERM, "dump")
    with anyio.fail_after(5), contextlib.suppress(ConntrackError):
        await table.reconcile()
    await settle()


async def _fail_looking_up(kernel: FakeKernel, conn: Connection, table: FlowTable) -> None:
    kernel.refuse(errno.EPERM, "get")
    kernel.sysctls["nf_conntrack_events"] = 0
    kernel.add(flows.tcp(COUNT))
    for entry in kernel._state.table:
        entry.emits = True
    kernel.change(flows.tcp(COUNT), mark=9)
    with anyio.fail_after(5), contextlib.suppress(ConntrackError):
        await table.synced()
    await settle()


async def _short(kernel: FakeKernel, conn: Connection, table: FlowTable) -> None:
    """Closed while it tries again and again."""
    kernel.refuse(errno.ENOMEM, "dump", times=1000)
    with anyio.fail_after(5), contextlib.suppress(ConntrackError):
        await table.reconcile()
    assert table.last_error is not None
    await table.aclose()


WAYS = [_aclose, _close, _hang_up, _in_a_comparison, _fail, _fail_looking_up, _short]
ways = pytest.mark.parametrize("end", WAYS, ids=[each.__name__.strip("_") for each in WAYS])
Way = Callable[[FakeKernel, Connection, FlowTable], Awaitable[None]]


@ways
async def test_a_table_that_has_ended_holds_no_flows(
    kernel: FakeKernel, conn: Connection, end: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if it is held itself, as its statistics may be asked for."""
    monkeypatch.setattr("conntrack_aio.table.attempts._RETRY_DELAY", 0.001)
    table = await conn.table().__aenter__()
    refs = watch(table)
    assert alive(refs) == COUNT
    await end(kernel, conn, table)
    assert alive(refs) == 0
    statistics = table.statistics()
    assert statistics.comparisons >= 1
    assert (statistics.entries, statistics.unheard, statistics.changes_waiting) == (0, 0, 0)
    assert (statistics.readers, statistics.last_error) == (0, None)


@ways
async def test_one_that_is_dropped_is_gone_itself(
    kernel: FakeKernel, conn: Connection, end: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conntrack_aio.table.attempts._RETRY_DELAY", 0.001)
    table = await conn.table().__aenter__()
    ref = weakref.ref(table)
    await end(kernel, conn, table)
    await table.aclose()
    del table
    await settle()
    assert ref() is None


@ways
async def test_nor_do_those_who_read_its_changes(
    kernel: FakeKernel, conn: Connection, end: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever they have read of it, and however much they have not."""
    monkeypatch.setattr("conntrack_aio.table.attempts._RETRY_DELAY", 0.001)
    table = await conn.table().__aenter__()
    refs = watch(table)
    fresh, begun, followed = table.changes(), table.changes(), table.changes()
    await anext(begun)
    for _ in range(COUNT):
        await anext(followed)
    kernel.remove(flows.tcp(1).orig)
    kernel.add(flows.tcp(1, mark=5))
    await table.synced()
    halfway = await anext(followed)  # another change of that entry is to come
    assert followed.waiting == 1
    refs += watch(table)
    del halfway
    await end(kernel, conn, table)
    assert alive(refs) == 0
    for changes in (fresh, begun, followed):
        assert changes.waiting == 0
        with pytest.raises((anyio.ClosedResourceError, ConntrackError)):
            await anext(changes)


async def test_changes_that_are_closed_hold_nothing(kernel: FakeKernel, conn: Connection) -> None:
    """While the table goes on without the entries that there were."""
    async with conn.table() as table:
        changes: Changes = table.changes()
        refs = watch(table)
        await anext(changes)
        for flow in kernel.flows:
            kernel.remove(flow)
        await table.synced()
        await changes.aclose()
        assert alive(refs) == 0
        assert changes.waiting == 0
        assert len(changes._changes) == 0


async def test_an_opening_that_is_cancelled(kernel: FakeKernel, conn: Connection) -> None:
    """At each of its steps, what had been read by then is gone."""
    before = {id(each) for each in gc.get_objects() if isinstance(each, Flow)}
    for steps in range(30):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_after, scope, steps)
                async with conn.table():
                    pass
                tasks.cancel_scope.cancel()
    await settle()
    left = [each for each in gc.get_objects() if isinstance(each, Flow) and id(each) not in before]
    assert not left


async def _cancel_after(scope: anyio.CancelScope, steps: int) -> None:
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
    scope.cancel()


async def test_what_a_function_raises_holds_nothing(kernel: FakeKernel, conn: Connection) -> None:
    """Its error can be looked at as long as one likes, and shows where it was raised."""
    failing = False

    def match(flow: Flow) -> bool:
        if failing:
            error = KeyError("mine")
            raise error from error
        return True

    table = await conn.table(match).__aenter__()
    refs = watch(table)
    failing = True
    kernel.add(flows.tcp(COUNT))
    with pytest.raises(KeyError, match="mine") as raised:
        await table.synced()
    await settle()
    assert raised.traceback[-1].name == "match"
    assert alive(refs) == 0


async def test_one_that_was_never_entered(conn: Connection) -> None:
    table = conn.table()
    ref = weakref.ref(table)
    del table
    assert ref() is None


async def test_memory_does_not_grow_where_all_is_frozen(kernel: FakeKernel) -> None:
    """``gc.freeze()``, called while a table is open, keeps cycles for ever."""
    sizes: list[int] = []
    gc.unfreeze()
    others = len(_flows())
    async with kernel.connect() as conn:
        for _ in range(5):
            async with conn.table() as table:
                changes: list[Change] = [await anext(table.changes())]
                gc.freeze()
            await settle()
            del table, changes
            gc.unfreeze()
            sizes.append(len(_flows()) - others)
    gc.freeze()  # as it was before
    assert sizes == [0] * 5


def _flows() -> list[Flow]:
    return [each for each in gc.get_objects() if isinstance(each, Flow)]
