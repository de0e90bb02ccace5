"""Run the mirror against a model kernel in which anything happens at any moment."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.effort import examples
from support.mirror_builders import ChangeRecorder, flow, flows_by_id, flows_of

from conntrack_aio import EventType, Flow, FlowEvent, Status
from conntrack_aio.table.mirror import Mirror
from conntrack_aio.table.tuple_keys import Key, orig_key

KEYS = 3
"""The number of tuples. They are few, so that many things happen to the same tuple."""


@attrs.define
class Entry:
    """An entry of the model kernel."""

    id: int
    mark: int
    silent: bool
    """Whether it emits no events."""


class ModelKernel:
    """A table, the events in a socket's receive buffer, and a dump in progress."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self.table: dict[int, Entry] = {}
        self.queue: deque[FlowEvent] = deque()
        self.full = self.lost = False
        self.silent_entries_stay = False
        """Whether silent entries are not changed or deleted any more."""
        self.dump: Iterator[None] | None = None
        self.dumped: deque[Flow] = deque()
        """Flows that the dump has read, and that were not passed to the mirror yet."""

    def flow_of(self, number: int) -> Flow:
        entry = self.table[number]
        return flow(number, id=entry.id, mark=entry.mark, status=Status.CONFIRMED)

    def emit(self, kind: EventType, reported: Flow, *, silent: bool) -> None:
        if silent:
            return
        if self.full:
            self.lost = True
        else:
            self.queue.append(FlowEvent(type=kind, flow=reported))

    def create(self, number: int, id: int, silent: bool) -> None:
        if number not in self.table:
            self.table[number] = Entry(id, 0, silent)
            reported = self.flow_of(number)
            reported.mark = None  # a NEW event leaves out a mark of 0
            self.emit(EventType.NEW, reported, silent=silent)

    def update(self, number: int, mark: int) -> None:
        entry = self.table.get(number)
        if entry is not None and not (entry.silent and self.silent_entries_stay):
            entry.mark = mark
            self.emit(EventType.UPDATE, self.flow_of(number), silent=entry.silent)

    def delete(self, number: int) -> None:
        entry = self.table.get(number)
        if entry is not None and not (entry.silent and self.silent_entries_stay):
            reported = self.flow_of(number)
            reported.mark = None
            del self.table[number]
            self.emit(EventType.DESTROY, reported, silent=entry.silent)

    def read_event(self) -> None:
        if self.queue:
            self.mirror.apply(self.queue.popleft())
        else:
            self.full = False

    def look_up(self) -> None:
        unresolved, self.mirror.unresolved = self.mirror.unresolved, {}
        for key, incomplete in unresolved.items():
            number = self.mirror.states.flow_of(incomplete).orig.sport
            assert number is not None
            found = self.flow_of(number) if number in self.table else None
            self.mirror.resolve(key, found)

    def advance_dump(self) -> None:
        """Advance the dump by one entry, or start a new dump."""
        if self.dump is None:
            self.dump = self._dump()
        if next(self.dump, self) is self:
            self.dump = None

    def _dump(self) -> Iterator[None]:
        self.mirror.begin_dump()
        yield
        for number in range(KEYS):
            if number in self.table:
                self.dumped.append(self.flow_of(number))
            yield
        while self.dumped:
            self.add_dumped()
            yield
        for _ in self.mirror.remove_not_dumped():
            pass
        yield
        self.mirror.end_dump()

    def add_dumped(self) -> None:
        """Pass one entry that the dump has read to the mirror."""
        if self.dumped:
            self.mirror.add_dumped(self.dumped.popleft())

    def finish(self) -> None:
        """Let the mirror read everything that is left, while nothing more happens."""
        while self.dump is not None:
            self.advance_dump()
        while self.queue or self.full or self.mirror.unresolved:
            self.read_event()
            self.look_up()
        self.mirror.caught_up = True


numbers = st.integers(0, KEYS - 1)
ids = st.integers(1, 2)
"""Two ids only, so that an entry that is created again often has the id of the one before."""

Step = Callable[[ModelKernel], None]

READING = [
    ModelKernel.read_event,
    ModelKernel.advance_dump,
    ModelKernel.add_dumped,
    ModelKernel.look_up,
]
"""The steps of the program that updates the mirror."""


def creating(number: int, id: int, silent: bool) -> Step:
    return lambda kernel: kernel.create(number, id, silent)


def updating(number: int, mark: int) -> Step:
    return lambda kernel: kernel.update(number, mark)


def deleting(number: int) -> Step:
    return lambda kernel: kernel.delete(number)


def steps(*, silent: st.SearchStrategy[bool]) -> st.SearchStrategy[list[Step]]:
    """Return a strategy of steps of the kernel and of the mirror's reader, in any order."""
    create = st.builds(creating, numbers, ids, silent)
    update = st.builds(updating, numbers, st.integers(0, 5))
    delete = st.builds(deleting, numbers)
    reading = st.sampled_from(READING)
    return st.lists(st.one_of(create, update, delete, reading, reading), max_size=60)


def random_steps(rng: random.Random, *, silent: bool) -> list[Step]:
    """Return random steps. This makes a thousand while :func:`steps` makes ten."""

    def step() -> Step:
        number, id = rng.randrange(KEYS), rng.randint(1, 2)
        kind = rng.randrange(9)
        if kind < 2:
            return creating(number, id, silent and rng.random() < 0.5)
        if kind == 2:
            return updating(number, rng.randrange(6))
        if kind == 3:
            return deleting(number)
        return rng.choice(READING)

    return [step() for _ in range(rng.randrange(25))]


def ids_and_marks(flows: dict[Key, Flow]) -> dict[Key, tuple[int | None, int]]:
    return {key: (flow.id, flow.mark or 0) for key, flow in flows.items()}


def check(kernel: ModelKernel, recorder: ChangeRecorder) -> None:
    """Check that the mirror and the recorder have the kernel's table, and that look-ups work."""
    mirror = kernel.mirror
    flows = {orig_key(flow(number)): kernel.flow_of(number) for number in kernel.table}
    predicate = mirror._predicate or bool
    expected = {key: each for key, each in flows.items() if predicate(each)}
    assert ids_and_marks(flows_of(mirror)) == ids_and_marks(expected)
    assert ids_and_marks(recorder.flows) == ids_and_marks(expected)
    for each in expected.values():
        assert each.id is not None
        assert orig_key(each) in {orig_key(found) for found in flows_by_id(mirror, each.id)}
        found = mirror.entries.by_reply(each.reply, 0)
        assert found is not None
        assert mirror.states.id_of(found) == each.id


@settings(max_examples=examples(150), deadline=None)
@given(steps(silent=st.just(False)))
def test_the_mirror_converges_whatever_the_order(executed: list[Step]) -> None:
    """The order is that of changes in the kernel, the progress of the dump, and reading events."""
    mirror = Mirror(None)
    kernel, recorder = ModelKernel(mirror), ChangeRecorder(mirror)
    kernel.advance_dump()
    for step in executed:
        step(kernel)
    kernel.finish()
    check(kernel, recorder)


@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(
        st.tuples(steps(silent=st.booleans()), st.booleans()),
        max_size=4,
    ),
    steps(silent=st.just(False)),
)
def test_one_dump_repairs_losses_and_silent_changes(
    parts: list[tuple[list[Step], bool]], last: list[Step]
) -> None:
    """The dump begins after the losses. Anything may happen during it."""
    lose_and_repair(parts, last)


def is_odd(flow: Flow) -> bool:
    return (flow.mark or 0) % 2 == 1


@pytest.mark.parametrize("predicate", [None, is_odd])
@pytest.mark.parametrize("seed", range(3))
def test_one_dump_repairs_many_random_losses(
    seed: int, predicate: Callable[[Flow], bool] | None
) -> None:
    rng = random.Random(seed)
    for _ in range(2000):
        parts = [
            (random_steps(rng, silent=True), rng.random() < 0.5) for _ in range(rng.randrange(5))
        ]
        lose_and_repair(parts, random_steps(rng, silent=False), predicate)


def lose_and_repair(
    parts: list[tuple[list[Step], bool]],
    last: list[Step],
    predicate: Callable[[Flow], bool] | None = None,
) -> None:
    """Execute steps with losses, then dump once, and check the result.

    :param parts: lists of steps, each with whether the receive buffer is full at its beginning.
    :param last: the steps during the dump that repairs the losses.
    """
    mirror = Mirror(predicate)
    kernel, recorder = ModelKernel(mirror), ChangeRecorder(mirror)
    kernel.advance_dump()
    for executed, full in parts:
        kernel.full |= full
        for step in executed:
            step(kernel)
    while kernel.queue or kernel.full or kernel.dump is not None:
        kernel.read_event()
        if kernel.dump is not None:
            kernel.advance_dump()
    kernel.silent_entries_stay = True
    kernel.advance_dump()
    for step in last:
        step(kernel)
    kernel.finish()
    check(kernel, recorder)
