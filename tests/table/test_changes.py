"""What a reader of changes is told: at most one thing an entry, and in the end the table."""

from __future__ import annotations

import gc

import anyio
import anyio.lowlevel
import attrs
import pytest

from conntrack_aio import Cause, Change, Changes, ChangeType, Flow, FlowEvent, Status
from conntrack_aio.model.enums import EventType
from conntrack_aio.netlink.owner import Owner
from conntrack_aio.table.changes import Backlog
from conntrack_aio.table.mirror import Mirror

pytestmark = pytest.mark.anyio
NEW, UPDATE, DESTROY = EventType


def flow(number: int, **fields: object) -> Flow:
    made = Flow.udp("10.0.0.1", number, "10.0.0.2", 53, timeout=30)
    made.id = number
    for name, value in fields.items():
        setattr(made, name, value)
    return made


class Table:
    """What there is of a table without a kernel."""

    def __init__(self) -> None:
        self.mirror = Mirror(None)
        self.mirror.settled = True
        self.failure: Exception | None = None
        self.closed: list[Backlog] = []

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def forget(self, backlog: Backlog) -> None:
        self.closed.append(backlog)
        rest = (each for each in self.mirror.listeners if each is not backlog)
        self.mirror.listeners = tuple(rest)

    def changes(self) -> Changes:
        backlog = Backlog(self.mirror.entries)
        self.mirror.listeners = (*self.mirror.listeners, backlog)
        return Changes(Owner(), backlog, self.check, self.forget)

    def tell(self, kind: EventType, number: int, **fields: object) -> None:
        self.mirror.apply(FlowEvent(type=kind, flow=flow(number, **fields)))


@pytest.fixture
def table() -> Table:
    return Table()


async def read(changes: Changes, count: int) -> list[Change]:
    with anyio.fail_after(5):
        return [await anext(changes) for _ in range(count)]


def told(change: Change) -> tuple[ChangeType, int | None, Cause]:
    return change.type, change.flow.orig.sport, change.cause


async def is_silent(changes: Changes) -> bool:
    with anyio.move_on_after(0.01):
        await anext(changes)
        return False
    return True


async def test_it_opens_with_what_is_there(table: Table) -> None:
    for number in (1, 2):
        table.tell(NEW, number)
    opened = await read(table.changes(), 2)
    assert {each.flow.orig.sport for each in opened} == {1, 2}
    assert {(each.type, each.cause) for each in opened} == {(ChangeType.ADDED, Cause.PRESENT)}


async def test_what_was_there_and_is_not_told_yet_may_change_and_go(table: Table) -> None:
    for number in (1, 2):
        table.tell(NEW, number)
    changes = table.changes()
    table.tell(UPDATE, 1, mark=7)
    table.tell(DESTROY, 2)
    (change,) = await read(changes, 1)
    assert told(change) == (ChangeType.ADDED, 1, Cause.PRESENT)
    assert change.flow.mark == 7
    assert await is_silent(changes)


async def test_one_change_after_the_other(table: Table) -> None:
    changes = table.changes()
    table.tell(NEW, 1, status=Status.CONFIRMED)
    (appeared,) = await read(changes, 1)
    table.tell(UPDATE, 1, mark=7, status=Status.ASSURED)
    (changed,) = await read(changes, 1)
    table.tell(DESTROY, 1, status=Status.DYING)
    (vanished,) = await read(changes, 1)
    assert told(appeared) == (ChangeType.ADDED, 1, Cause.EVENT)
    assert told(changed) == (ChangeType.CHANGED, 1, Cause.EVENT)
    assert changed.fields == ("status", "mark")
    assert changed.before is appeared.flow
    assert told(vanished) == (ChangeType.REMOVED, 1, Cause.EVENT)
    assert vanished.before is changed.flow
    assert vanished.flow.status is Status.DYING
    assert vanished.flow.mark == 7, "the destroy event does not have it"


async def test_updates_become_one(table: Table) -> None:
    changes = table.changes()
    table.tell(NEW, 1)
    await read(changes, 1)
    for mark in range(1, 100):
        table.tell(UPDATE, 1, mark=mark, status=Status.ASSURED)
    assert changes.waiting == 1
    (changed,) = await read(changes, 1)
    assert (changed.flow.mark, changed.fields) == (99, ("status", "mark"))
    assert changed.before is not None
    assert changed.before.mark == 0


async def test_a_change_that_was_undone_is_none(table: Table) -> None:
    changes = table.changes()
    table.tell(NEW, 1, mark=1)
    await read(changes, 1)
    table.tell(UPDATE, 1, mark=2)
    table.tell(UPDATE, 1, mark=1)
    assert await is_silent(changes)


async def test_what_came_and_went_is_not_told(table: Table) -> None:
    changes = table.changes()
    for number in range(100):
        table.tell(NEW, number)
        table.tell(DESTROY, number)
    assert changes.waiting == 0
    table.tell(NEW, 100)
    (change,) = await read(changes, 1)
    assert change.flow.orig.sport == 100


async def test_what_vanished_and_came_again_are_two(table: Table) -> None:
    changes = table.changes()
    table.tell(NEW, 1, mark=1)
    await read(changes, 1)
    for mark in (2, 3, 4):
        table.tell(DESTROY, 1)
        table.tell(NEW, 1, mark=mark)
    assert changes.waiting == 1
    vanished, appeared = await read(changes, 2)
    assert (vanished.type, vanished.flow.mark) == (ChangeType.REMOVED, 1)
    assert (appeared.type, appeared.flow.mark) == (ChangeType.ADDED, 4)
    table.tell(DESTROY, 1)
    (gone,) = await read(changes, 1)
    assert gone.before is appeared.flow


async def test_readers_are_apart(table: Table) -> None:
    slow, quick = table.changes(), table.changes()
    table.tell(NEW, 1)
    await read(quick, 1)
    table.tell(DESTROY, 1)
    (vanished,) = await read(quick, 1)
    assert vanished.type is ChangeType.REMOVED
    assert await is_silent(slow)


async def test_a_waiting_reader_is_woken(table: Table) -> None:
    changes = table.changes()
    got: list[Change] = []

    async def wait() -> None:
        got.append(await anext(changes))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            table.tell(NEW, 1)
    assert got[0].flow.orig.sport == 1


async def test_cancelled_it_loses_nothing(table: Table) -> None:
    changes = table.changes()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anext, changes)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
        table.tell(NEW, 1)
    (change,) = await read(changes, 1)
    assert change.flow.orig.sport == 1


async def test_a_long_reading_lets_others_run(table: Table) -> None:
    for number in range(3000):
        table.tell(NEW, number)
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


async def test_changes_that_were_undone_let_others_run(table: Table) -> None:
    changes = table.changes()
    for number in range(3000):
        table.tell(NEW, number, mark=1)
    await read(changes, 3000)
    for mark in (2, 1):
        for number in range(3000):
            table.tell(UPDATE, number, mark=mark)
    turns = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anext, changes)
        while changes.waiting:
            await anyio.lowlevel.checkpoint()
            turns += 1
        tasks.cancel_scope.cancel()
    assert turns >= 5


async def test_batches(table: Table) -> None:
    for number in range(100):
        table.tell(NEW, number)
    changes = table.changes()
    numbers: set[int | None] = set()
    async for batch in changes.batches():
        assert 1 <= len(batch) <= 64
        numbers |= {change.flow.orig.sport for change in batch}
        if len(numbers) == 100:
            break
    assert changes.waiting == 0


async def test_a_second_reader_is_refused(table: Table) -> None:
    changes = table.changes()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anext, changes)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await anext(changes)
        table.tell(NEW, 1)
        with pytest.raises(anyio.BusyResourceError):
            await changes.receive_batch()


@pytest.mark.parametrize("waits", [False, True])
async def test_closing_wakes_the_reader(table: Table, waits: bool) -> None:
    changes = table.changes()
    if not waits:
        table.tell(NEW, 1)

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


async def test_one_that_is_dropped_is_not_written_for_any_more(table: Table) -> None:
    table.tell(NEW, 1)
    async for _ in table.changes():
        break
    gc.collect()
    assert not table.mirror.listeners


async def test_a_failure_of_the_table_is_raised(table: Table) -> None:
    changes = table.changes()
    table.tell(NEW, 1)
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
async def test_for_people(change: Change, text: str) -> None:
    assert str(change).startswith(text)
    assert attrs.evolve(change) == change


async def test_the_order_is_that_of_the_first_change(table: Table) -> None:
    changes = table.changes()
    for number in (3, 1, 2):
        table.tell(NEW, number)
    table.tell(UPDATE, 3, mark=1)
    assert [change.flow.orig.sport for change in await read(changes, 3)] == [3, 1, 2]
