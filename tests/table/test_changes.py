"""Test that a reader of changes gets at most one change per entry, and ends up with the table."""

from __future__ import annotations

import gc

import anyio
import anyio.lowlevel
import attrs
import pytest

from conntrack_aio import Cause, Change, Changes, ChangeType, Flow, FlowEvent, Status
from conntrack_aio.model.enums import EventType
from conntrack_aio.netlink.owner import Owner
from conntrack_aio.table.changes import PendingChanges
from conntrack_aio.table.mirror import Mirror

pytestmark = pytest.mark.anyio
NEW, UPDATE, DESTROY = EventType


def flow(number: int, **fields: object) -> Flow:
    created = Flow.udp("10.0.0.1", number, "10.0.0.2", 53, timeout=30)
    created.id = number
    for name, value in fields.items():
        setattr(created, name, value)
    return created


class Table:
    """A live table without a kernel: a mirror and the readers of its changes."""

    def __init__(self) -> None:
        self.mirror = Mirror(None)
        self.mirror.caught_up = True
        self.failure: Exception | None = None
        self.closed: list[PendingChanges] = []

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def remove_reader(self, pending: PendingChanges) -> None:
        self.closed.append(pending)
        rest = (each for each in self.mirror.readers if each is not pending)
        self.mirror.readers = tuple(rest)

    def changes(self) -> Changes:
        pending = PendingChanges(self.mirror.entries)
        self.mirror.readers = (*self.mirror.readers, pending)
        return Changes(Owner(), pending, self.check, self.remove_reader)

    def apply(self, kind: EventType, number: int, **fields: object) -> None:
        self.mirror.apply(FlowEvent(type=kind, flow=flow(number, **fields)))


@pytest.fixture
def table() -> Table:
    return Table()


async def read(changes: Changes, count: int) -> list[Change]:
    with anyio.fail_after(5):
        return [await anext(changes) for _ in range(count)]


def summary(change: Change) -> tuple[ChangeType, int | None, Cause]:
    return change.type, change.flow.orig.sport, change.cause


async def has_nothing(changes: Changes) -> bool:
    """Return whether no change can be read at once."""
    with anyio.move_on_after(0.01):
        await anext(changes)
        return False
    return True


async def test_changes_start_with_the_present_entries(table: Table) -> None:
    for number in (1, 2):
        table.apply(NEW, number)
    present = await read(table.changes(), 2)
    assert {each.flow.orig.sport for each in present} == {1, 2}
    assert {(each.type, each.cause) for each in present} == {(ChangeType.ADDED, Cause.PRESENT)}


async def test_present_entries_may_change_and_end_before_they_are_read(table: Table) -> None:
    for number in (1, 2):
        table.apply(NEW, number)
    changes = table.changes()
    table.apply(UPDATE, 1, mark=7)
    table.apply(DESTROY, 2)
    (change,) = await read(changes, 1)
    assert summary(change) == (ChangeType.ADDED, 1, Cause.PRESENT)
    assert change.flow.mark == 7
    assert await has_nothing(changes)


async def test_changes_are_reported_one_after_the_other(table: Table) -> None:
    changes = table.changes()
    table.apply(NEW, 1, status=Status.CONFIRMED)
    (added,) = await read(changes, 1)
    table.apply(UPDATE, 1, mark=7, status=Status.ASSURED)
    (changed,) = await read(changes, 1)
    table.apply(DESTROY, 1, status=Status.DYING)
    (removed,) = await read(changes, 1)
    assert summary(added) == (ChangeType.ADDED, 1, Cause.EVENT)
    assert summary(changed) == (ChangeType.CHANGED, 1, Cause.EVENT)
    assert changed.fields == ("status", "mark")
    assert changed.before == added.flow
    assert summary(removed) == (ChangeType.REMOVED, 1, Cause.EVENT)
    assert removed.before == changed.flow
    assert removed.flow.status is Status.DYING
    assert removed.flow.mark == 7, "the destroy event has no mark"


async def test_several_updates_of_an_entry_become_one_change(table: Table) -> None:
    changes = table.changes()
    table.apply(NEW, 1)
    await read(changes, 1)
    for mark in range(1, 100):
        table.apply(UPDATE, 1, mark=mark, status=Status.ASSURED)
    assert changes.waiting == 1
    (changed,) = await read(changes, 1)
    assert (changed.flow.mark, changed.fields) == (99, ("status", "mark"))
    assert changed.before is not None
    assert changed.before.mark == 0


async def test_a_change_that_was_undone_is_not_reported(table: Table) -> None:
    changes = table.changes()
    table.apply(NEW, 1, mark=1)
    await read(changes, 1)
    table.apply(UPDATE, 1, mark=2)
    table.apply(UPDATE, 1, mark=1)
    assert await has_nothing(changes)


async def test_an_entry_that_was_added_and_removed_is_not_reported(table: Table) -> None:
    changes = table.changes()
    for number in range(100):
        table.apply(NEW, number)
        table.apply(DESTROY, number)
    assert changes.waiting == 0
    table.apply(NEW, 100)
    (change,) = await read(changes, 1)
    assert change.flow.orig.sport == 100


async def test_a_removed_entry_and_its_successor_are_two_changes(table: Table) -> None:
    changes = table.changes()
    table.apply(NEW, 1, mark=1)
    await read(changes, 1)
    for mark in (2, 3, 4):
        table.apply(DESTROY, 1)
        table.apply(NEW, 1, mark=mark)
    assert changes.waiting == 1
    removed, added = await read(changes, 2)
    assert (removed.type, removed.flow.mark) == (ChangeType.REMOVED, 1)
    assert (added.type, added.flow.mark) == (ChangeType.ADDED, 4)
    table.apply(DESTROY, 1)
    (ended,) = await read(changes, 1)
    assert ended.before == added.flow


async def test_readers_are_independent(table: Table) -> None:
    slow, quick = table.changes(), table.changes()
    table.apply(NEW, 1)
    await read(quick, 1)
    table.apply(DESTROY, 1)
    (removed,) = await read(quick, 1)
    assert removed.type is ChangeType.REMOVED
    assert await has_nothing(slow)


async def test_a_waiting_reader_is_woken(table: Table) -> None:
    changes = table.changes()
    received: list[Change] = []

    async def wait() -> None:
        received.append(await anext(changes))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            table.apply(NEW, 1)
    assert received[0].flow.orig.sport == 1


async def test_a_cancelled_reader_loses_nothing(table: Table) -> None:
    changes = table.changes()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anext, changes)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
        table.apply(NEW, 1)
    (change,) = await read(changes, 1)
    assert change.flow.orig.sport == 1


async def test_reading_many_changes_lets_other_tasks_run(table: Table) -> None:
    for number in range(3000):
        table.apply(NEW, number)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count_turns)
        await read(table.changes(), 3000)
        assert turns >= 5
        tasks.cancel_scope.cancel()


async def test_skipping_undone_changes_lets_other_tasks_run(table: Table) -> None:
    changes = table.changes()
    for number in range(3000):
        table.apply(NEW, number, mark=1)
    await read(changes, 3000)
    for mark in (2, 1):
        for number in range(3000):
            table.apply(UPDATE, number, mark=mark)
    turns = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anext, changes)
        while changes.waiting:
            await anyio.lowlevel.checkpoint()
            turns += 1
        tasks.cancel_scope.cancel()
    assert turns >= 5


async def test_batches_have_every_change_once(table: Table) -> None:
    for number in range(100):
        table.apply(NEW, number)
    changes = table.changes()
    numbers: set[int | None] = set()
    async for batch in changes.batches():
        assert 1 <= len(batch) <= 64
        numbers |= {change.flow.orig.sport for change in batch}
        if len(numbers) == 100:
            break
    assert changes.waiting == 0


async def test_a_second_task_that_iterates_is_refused(table: Table) -> None:
    changes = table.changes()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anext, changes)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await anext(changes)
        table.apply(NEW, 1)
        with pytest.raises(anyio.BusyResourceError):
            await changes.receive_batch()


@pytest.mark.parametrize("waits", [False, True])
async def test_closing_wakes_the_reader(table: Table, waits: bool) -> None:
    changes = table.changes()
    if not waits:
        table.apply(NEW, 1)

    async def close_later() -> None:
        await anyio.wait_all_tasks_blocked()
        await changes.aclose()

    if not waits:
        await changes.aclose()
    async with anyio.create_task_group() as tasks:
        if waits:
            tasks.start_soon(close_later)
        with anyio.fail_after(5), pytest.raises(anyio.ClosedResourceError):
            await anext(changes)
    await changes.aclose()
    assert len(table.closed) == 1


async def test_a_dropped_iterator_is_removed_from_the_table(table: Table) -> None:
    table.apply(NEW, 1)
    async for _ in table.changes():
        break
    gc.collect()
    assert not table.mirror.readers


async def test_the_error_that_ended_the_table_is_raised(table: Table) -> None:
    changes = table.changes()
    table.apply(NEW, 1)
    table.failure = OSError("it failed")
    for _ in range(2):
        with pytest.raises(OSError, match="it failed"):
            await anext(changes)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (Change(ChangeType.ADDED, flow(1), Cause.EVENT), "ADDED    udp 10.0.0.1:1 -> "),
        (
            Change(ChangeType.CHANGED, flow(1), Cause.EVENT, flow(1), ("mark", "id")),
            "CHANGED  udp 10.0.0.1:1 -> 10.0.0.2:53 timeout=30 (mark, id)",
        ),
    ],
)
async def test_a_change_has_a_readable_text(change: Change, text: str) -> None:
    assert str(change).startswith(text)
    assert attrs.evolve(change) == change


async def test_entries_are_reported_in_the_order_of_their_first_change(table: Table) -> None:
    changes = table.changes()
    for number in (3, 1, 2):
        table.apply(NEW, number)
    table.apply(UPDATE, 3, mark=1)
    assert [change.flow.orig.sport for change in await read(changes, 3)] == [3, 1, 2]
