"""The mirror, against a kernel that does everything at the worst moment."""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.effort import examples

from conntrack_aio import (
    Cause,
    Counters,
    EventType,
    Flow,
    FlowEvent,
    Helper,
    Status,
    TCPInfo,
    TCPState,
    Timestamp,
    UnknownAttribute,
)
from conntrack_aio.table.discrepancies import MAX_DISCREPANCIES
from conntrack_aio.table.keys import orig_key
from conntrack_aio.table.mirror import REMOVALS_PER_TURN, Mirror

KEYS = 3
"""Few tuples, so that all happens to the same ones."""


def flow(number: int, **fields: object) -> Flow:
    made = Flow.udp("10.0.0.1", number, "10.0.0.2", 53, timeout=30)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


class Replay:
    """Whoever does nothing but apply what a mirror's listener is told."""

    def __init__(self, mirror: Mirror) -> None:
        self.flows: dict[int, Flow] = {}
        self.causes: list[Cause] = []
        self._mirror = mirror
        mirror.listeners = (*mirror.listeners, self)

    def record_change(
        self, key: int, before: Flow | None, final: Flow | None, cause: Cause
    ) -> None:
        self.causes.append(cause)
        assert (key in self.flows) == (before is not None)
        if final is not None:
            del self.flows[key]
            return
        now = self._mirror.entries.get(key)
        assert now is not None
        self.flows[key] = now


@attrs.define
class Entry:
    """What the model kernel has."""

    id: int
    mark: int
    silent: bool


class Kernel:
    """A table, the events that wait in a socket, and a walk that is somewhere in the table."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self.table: dict[int, Entry] = {}
        self.queue: deque[FlowEvent] = deque()
        self.full = self.lost = False
        self.only_heard = False
        """Whether nothing happens to silent entries any more."""
        self.walk: Iterator[None] | None = None
        self.ahead: deque[Flow] = deque()
        """What the walk has read, and the mirror was not told yet."""

    def told(self, number: int) -> Flow:
        entry = self.table[number]
        return flow(number, id=entry.id, mark=entry.mark, status=Status.CONFIRMED)

    def emit(self, kind: EventType, told: Flow, *, silent: bool) -> None:
        if silent:
            return
        if self.full:
            self.lost = True
        else:
            self.queue.append(FlowEvent(type=kind, flow=told))

    def create(self, number: int, id: int, silent: bool) -> None:
        if number not in self.table:
            self.table[number] = Entry(id, 0, silent)
            told = self.told(number)
            told.mark = None  # as the kernel leaves it out, if it is 0
            self.emit(EventType.NEW, told, silent=silent)

    def update(self, number: int, mark: int) -> None:
        entry = self.table.get(number)
        if entry is not None and not (entry.silent and self.only_heard):
            entry.mark = mark
            self.emit(EventType.UPDATE, self.told(number), silent=entry.silent)

    def delete(self, number: int) -> None:
        entry = self.table.get(number)
        if entry is not None and not (entry.silent and self.only_heard):
            told = self.told(number)
            told.mark = None
            del self.table[number]
            self.emit(EventType.DESTROY, told, silent=entry.silent)

    def read_event(self) -> None:
        if self.queue:
            self.mirror.apply(self.queue.popleft())
        else:
            self.full = False

    def look_up(self) -> None:
        strangers, self.mirror.unresolved = self.mirror.unresolved, {}
        for key, stranger in strangers.items():
            number = stranger.orig.sport
            assert number is not None
            found = self.told(number) if number in self.table else None
            self.mirror.resolve(key, found)

    def step(self) -> None:
        """One more entry of the walk; a new walk after its end."""
        if self.walk is None:
            self.walk = self._walking()
        if next(self.walk, self) is self:
            self.walk = None

    def _walking(self) -> Iterator[None]:
        self.mirror.begin_dump()
        yield
        for number in range(KEYS):
            if number in self.table:
                self.ahead.append(self.told(number))
            yield
        while self.ahead:
            self.find()
            yield
        for _ in self.mirror.remove_not_dumped():
            pass
        yield
        self.mirror.end_dump()

    def find(self) -> None:
        """The mirror is told of one entry that the walk has read."""
        if self.ahead:
            self.mirror.add_dumped(self.ahead.popleft())

    def come_to_rest(self) -> None:
        """No more happens; all that is left is read."""
        while self.walk is not None:
            self.step()
        while self.queue or self.full or self.mirror.unresolved:
            self.read_event()
            self.look_up()
        self.mirror.caught_up = True


numbers = st.integers(0, KEYS - 1)
ids = st.integers(1, 2)
"""Few of them: an entry that is made anew may have the id of the one before."""

Step = Callable[[Kernel], None]


def creating(number: int, id: int, silent: bool) -> Step:
    return lambda kernel: kernel.create(number, id, silent)


def updating(number: int, mark: int) -> Step:
    return lambda kernel: kernel.update(number, mark)


def deleting(number: int) -> Step:
    return lambda kernel: kernel.delete(number)


def steps(*, silent: st.SearchStrategy[bool]) -> st.SearchStrategy[list[Step]]:
    """What the kernel does, what its reader does, and how far the walk goes, in any order."""
    create = st.builds(creating, numbers, ids, silent)
    update = st.builds(updating, numbers, st.integers(0, 5))
    delete = st.builds(deleting, numbers)
    simple = st.sampled_from([Kernel.read_event, Kernel.step, Kernel.find, Kernel.look_up])
    return st.lists(st.one_of(create, update, delete, simple, simple), max_size=60)


def state(flows: dict[int, Flow]) -> dict[int, tuple[int | None, int]]:
    return {key: (flow.id, flow.mark or 0) for key, flow in flows.items()}


def drawn(rng: random.Random, *, silent: bool) -> list[Step]:
    """As :func:`steps`, of which a thousand are made while Hypothesis makes ten."""

    def some() -> Step:
        number, id = rng.randrange(KEYS), rng.randint(1, 2)
        kind = rng.randrange(9)
        if kind < 2:
            return creating(number, id, silent and rng.random() < 0.5)
        if kind == 2:
            return updating(number, rng.randrange(6))
        if kind == 3:
            return deleting(number)
        return rng.choice([Kernel.read_event, Kernel.step, Kernel.find, Kernel.look_up])

    return [some() for _ in range(rng.randrange(25))]


def check(kernel: Kernel, replay: Replay) -> None:
    mirror = kernel.mirror
    flows = {orig_key(flow(number)): kernel.told(number) for number in kernel.table}
    keep = mirror._predicate or bool
    expected = {key: each for key, each in flows.items() if keep(each)}
    assert state(mirror.entries.copy()) == state(expected)
    assert state(replay.flows) == state(expected)
    for told in expected.values():
        assert told.id is not None
        assert orig_key(told) in {orig_key(each) for each in mirror.entries.by_id(told.id)}
        found = mirror.entries.by_reply(told.reply, 0)
        assert found is not None
        assert found.id == told.id


@settings(max_examples=examples(150), deadline=None)
@given(steps(silent=st.just(False)))
def test_nothing_is_missed_in_any_order(done: list[Step]) -> None:
    """The kernel does, the walk goes and events are read in any order."""
    mirror = Mirror(None)
    kernel, replay = Kernel(mirror), Replay(mirror)
    kernel.step()
    for each in done:
        each(kernel)
    kernel.come_to_rest()
    check(kernel, replay)


@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(
        st.tuples(steps(silent=st.booleans()), st.booleans()),
        max_size=4,
    ),
    steps(silent=st.just(False)),
)
def test_losses_and_silent_flows_are_repaired(
    parts: list[tuple[list[Step], bool]], last: list[Step]
) -> None:
    """By one walk that begins when what was lost lies behind, whatever happens during it."""
    repair(parts, last)


def is_odd(flow: Flow) -> bool:
    return (flow.mark or 0) % 2 == 1


@pytest.mark.parametrize("keep", [None, is_odd])
@pytest.mark.parametrize("seed", range(3))
def test_so_are_many_more(seed: int, keep: Callable[[Flow], bool] | None) -> None:
    rng = random.Random(seed)
    for _ in range(2000):
        parts = [(drawn(rng, silent=True), rng.random() < 0.5) for _ in range(rng.randrange(5))]
        repair(parts, drawn(rng, silent=False), keep)


def repair(
    parts: list[tuple[list[Step], bool]],
    last: list[Step],
    keep: Callable[[Flow], bool] | None = None,
) -> None:
    mirror = Mirror(keep)
    kernel, replay = Kernel(mirror), Replay(mirror)
    kernel.step()
    for done, full in parts:
        kernel.full |= full
        for each in done:
            each(kernel)
    while kernel.queue or kernel.full or kernel.walk is not None:
        kernel.read_event()
        if kernel.walk is not None:
            kernel.step()
    kernel.only_heard = True
    kernel.step()
    for each in last:
        each(kernel)
    kernel.come_to_rest()
    check(kernel, replay)


# -- one by one -------------------------------------------------------------------------------


def mirror_of(*flows: Flow, keep: Callable[[Flow], bool] | None = None) -> tuple[Mirror, Replay]:
    """A mirror that has read these, and is settled."""
    mirror = Mirror(keep)
    replay = Replay(mirror)
    mirror.begin_dump()
    for each in flows:
        mirror.add_dumped(each)
    mirror.end_dump()
    mirror.caught_up = True
    replay.causes.clear()
    return mirror, replay


def tell(mirror: Mirror, kind: EventType, told: Flow, *, port_id: int = 0) -> None:
    mirror.apply(FlowEvent(type=kind, flow=told, port_id=port_id))


def test_a_flow_destroyed_during_the_walk_stays_away() -> None:
    mirror = Mirror(None)
    mirror.begin_dump()
    tell(mirror, EventType.DESTROY, flow(1, id=7))
    mirror.add_dumped(flow(1, id=7))
    mirror.end_dump()
    assert len(mirror.entries) == 0


def test_a_younger_flow_with_its_tuple_does_not() -> None:
    mirror = Mirror(None)
    mirror.begin_dump()
    tell(mirror, EventType.DESTROY, flow(1, id=7))
    mirror.add_dumped(flow(1, id=8))
    mirror.end_dump()
    assert [each.id for each in mirror.entries.flows] == [8]


def test_a_silent_flow_whose_tuple_and_id_are_used_again() -> None:
    """Nobody told of its end, but one that is new can't be the one that was there."""
    mirror, replay = mirror_of(flow(1, id=7, mark=5))
    assert mirror.unheard == mirror.entries.copy().keys()
    tell(mirror, EventType.NEW, flow(1, id=7))
    assert replay.causes == [Cause.REPLACED, Cause.EVENT]
    assert [each.mark for each in mirror.entries.flows] == [0]
    assert not mirror.unheard


def test_a_beginning_that_is_told_again_is_none() -> None:
    """It could not be delivered to another program, which insists."""
    mirror, replay = mirror_of()
    mirror.caught_up = True
    tell(mirror, EventType.NEW, flow(1, id=7))
    tell(mirror, EventType.NEW, flow(1, id=7, mark=5))
    assert replay.causes == [Cause.EVENT, Cause.EVENT]
    assert [each.mark for each in mirror.entries.flows] == [5]
    assert [each.mark for each in replay.flows.values()] == [5]


def test_an_event_of_another_flow_is_no_word_of_a_silent_one() -> None:
    mirror, _ = mirror_of(flow(1, id=7))
    tell(mirror, EventType.UPDATE, flow(1, id=6))
    tell(mirror, EventType.DESTROY, flow(1, id=6))
    assert mirror.unheard == mirror.entries.copy().keys()
    tell(mirror, EventType.UPDATE, flow(1, id=7))
    assert not mirror.unheard


def test_the_time_of_its_making_tells_a_flow_from_one_with_its_id() -> None:
    mirror, replay = mirror_of(flow(1, id=7, timestamp=Timestamp(start=1)))
    mirror.begin_dump()
    mirror.add_dumped(flow(1, id=7, timestamp=Timestamp(start=2)))
    mirror.end_dump()
    assert replay.causes == [Cause.REPLACED, Cause.RECONCILED]


def test_an_end_that_was_told_late_does_not_end_the_next() -> None:
    """The kernel tries again, where a listener insists on it, until it can be delivered."""
    mirror, replay = mirror_of(flow(1, id=8))
    tell(mirror, EventType.DESTROY, flow(1, id=7))
    assert len(mirror.entries) == 1
    assert not replay.causes


def test_a_dying_flow_that_is_still_found_has_ended() -> None:
    """Its destroy event was sent before the kernel takes it out of its table."""
    dying = flow(1, id=7, status=Status.CONFIRMED | Status.DYING)
    mirror, _ = mirror_of(copy.copy(dying))
    assert len(mirror.entries) == 0
    tell(mirror, EventType.UPDATE, flow(1, id=7))
    ((key, _),) = mirror.unresolved.items()
    mirror.resolve(key, dying)
    assert len(mirror.entries) == 0


def test_events_are_laid_over_what_was_read_before_them() -> None:
    """Only what they told, not what was known before: that may be what was lost."""
    mirror, _ = mirror_of(flow(1, id=7, mark=1, status=Status(8)))
    mirror.begin_dump()
    tell(mirror, EventType.UPDATE, flow(1, id=7, status=Status(12)))
    mirror.add_dumped(flow(1, id=7, mark=2, status=Status(8)))
    mirror.end_dump()
    (merged,) = mirror.entries.flows
    assert (merged.mark, merged.status) == (2, Status(12))


def test_one_that_was_made_anew_behind_the_walk_is_not_swept() -> None:
    mirror, _ = mirror_of(flow(1, id=7))
    mirror.begin_dump()
    tell(mirror, EventType.DESTROY, flow(1, id=7))
    tell(mirror, EventType.NEW, flow(1, id=7))
    assert list(mirror.remove_not_dumped()) == []
    mirror.end_dump()
    assert len(mirror.entries) == 1


def test_the_end_of_another_one_does_not_keep_what_is_gone() -> None:
    """What is known may be older than what was lost."""
    mirror, _ = mirror_of(flow(1, id=7))
    mirror.begin_dump()
    tell(mirror, EventType.DESTROY, flow(1, id=8))
    assert list(mirror.remove_not_dumped()) == []
    mirror.end_dump()
    assert len(mirror.entries) == 0


def test_the_walk_is_no_younger_than_a_look_up() -> None:
    mirror, _ = mirror_of(flow(1, id=7))
    mirror.begin_dump()
    tell(mirror, EventType.UPDATE, flow(1, id=8))
    ((key, _),) = mirror.unresolved.items()
    mirror.resolve(key, None)
    mirror.add_dumped(flow(1, id=8))
    mirror.end_dump()
    assert len(mirror.entries) == 0


def test_an_update_of_what_the_walk_did_not_find_is_to_be_looked_up() -> None:
    mirror, _ = mirror_of()
    mirror.begin_dump()
    tell(mirror, EventType.UPDATE, flow(1, id=8))
    assert not mirror.unresolved
    mirror.end_dump()
    assert mirror.unresolved


def test_all_that_ended_during_the_walk_stay_away() -> None:
    """The walk may have read the first of them long ago."""
    mirror, _ = mirror_of(flow(1, id=7))
    mirror.begin_dump()
    tell(mirror, EventType.DESTROY, flow(1, id=7))
    tell(mirror, EventType.NEW, flow(1, id=8))
    tell(mirror, EventType.DESTROY, flow(1, id=8))
    mirror.add_dumped(flow(1, id=7))
    mirror.end_dump()
    assert len(mirror.entries) == 0


@pytest.mark.parametrize("ends", [10, 1000])
def test_however_many_they_are(ends: int) -> None:
    mirror, _ = mirror_of()
    mirror.begin_dump()
    for id in range(ends):
        tell(mirror, EventType.NEW, flow(1, id=id))
        tell(mirror, EventType.DESTROY, flow(1, id=id))
    for id in range(ends):
        mirror.add_dumped(flow(1, id=id))
    mirror.end_dump()
    assert len(mirror.entries) == 0


def test_one_made_anew_with_the_same_id_has_nothing_of_the_old_one() -> None:
    mirror, _ = mirror_of()
    mirror.begin_dump()
    tell(mirror, EventType.DESTROY, flow(1, id=7))
    tell(mirror, EventType.NEW, flow(1, id=7))
    mirror.add_dumped(flow(1, id=7, mark=5, labels=1, timestamp=Timestamp(start=1)))
    mirror.end_dump()
    (found,) = mirror.entries.flows
    assert (found.mark, found.labels, found.timestamp) == (0, None, None)
    assert not mirror.unresolved


def test_labels_that_went_during_the_walk_do_not_come_back() -> None:
    mirror, _ = mirror_of(flow(1, id=7, labels=1))
    mirror.begin_dump()
    tell(mirror, EventType.UPDATE, flow(1, id=7), port_id=77)
    ((key, _),) = mirror.unresolved.items()
    mirror.unresolved.clear()
    mirror.resolve(key, flow(1, id=7))
    mirror.add_dumped(flow(1, id=7, labels=1))
    mirror.end_dump()
    assert [each.labels for each in mirror.entries.flows] == [None]


def test_labels_that_an_update_may_have_cleared_are_looked_up() -> None:
    mirror, _ = mirror_of()
    mirror.begin_dump()
    tell(mirror, EventType.UPDATE, flow(1, id=7), port_id=77)
    mirror.add_dumped(flow(1, id=7, labels=1))
    assert mirror.unresolved


def test_an_update_that_comes_behind_the_end() -> None:
    """From another processor. The walk may find the entry all the same, if it was there before."""
    mirror = Mirror(None)
    mirror.begin_dump()
    tell(mirror, EventType.DESTROY, flow(1, id=7))
    tell(mirror, EventType.UPDATE, flow(1, id=7))
    ((key, _),) = mirror.unresolved.items()
    mirror.add_dumped(flow(1, id=7))
    mirror.resolve(key, None)
    mirror.end_dump()
    assert len(mirror.entries) == 0
    assert not mirror.unresolved or mirror.unresolved.keys() == {key}


def test_an_update_of_an_unknown_flow_is_to_be_looked_up() -> None:
    mirror, replay = mirror_of()
    tell(mirror, EventType.UPDATE, flow(1, id=7))
    ((key, _),) = mirror.unresolved.items()
    assert not replay.causes
    mirror.resolve(key, flow(1, id=7, mark=3))
    assert [each.mark for each in mirror.entries.flows] == [3]
    assert replay.causes == [Cause.RECONCILED]


def test_an_entry_whose_id_is_told_later() -> None:
    mirror, _ = mirror_of(flow(1))
    tell(mirror, EventType.UPDATE, flow(1, id=7))
    assert mirror.entries.by_id(7) == list(mirror.entries.flows)
    tell(mirror, EventType.DESTROY, flow(1))
    assert not mirror.entries.by_id(7)


def test_an_entry_made_anew_that_is_translated_otherwise() -> None:
    """With the same tuple, in the same place of memory, and so with the same id."""

    def translated(port: int) -> Flow:
        made = flow(1, id=7)
        made.reply = attrs.evolve(made.reply, dport=port)
        return made

    mirror, replay = mirror_of(translated(5000))
    tell(mirror, EventType.NEW, translated(5001))
    assert replay.causes == [Cause.REPLACED, Cause.EVENT]
    mirror.begin_dump()
    mirror.add_dumped(translated(5002))
    assert replay.causes[2:] == [Cause.REPLACED, Cause.RECONCILED]
    assert mirror.entries.by_reply(translated(5001).reply, 0) is None
    assert mirror.entries.by_reply(translated(5002).reply, 0) in mirror.entries.flows


def test_another_zone_is_another_entry() -> None:
    """Also where the original tuple has a zone of its own."""

    def told(**fields: object) -> Flow:
        made = flow(1, **fields)
        made.orig = attrs.evolve(made.orig, zone=3)
        made.reply = attrs.evolve(made.reply, dport=5000)
        return made

    mirror, replay = mirror_of(told(id=7, zone=1))
    tell(mirror, EventType.NEW, told(id=7, zone=2))
    assert replay.causes == [Cause.REPLACED, Cause.EVENT]
    tell(mirror, EventType.DESTROY, told(id=7, zone=2))
    assert mirror.entries.by_reply(told().reply, 1) is None


def test_what_the_library_does_not_know_changes_too() -> None:
    one, two = (UnknownAttribute((99,), payload) for payload in (b"1", b"2"))
    mirror, replay = mirror_of(flow(1, id=7, labels=1, unknown=(one,)))
    tell(mirror, EventType.UPDATE, flow(1, id=7, unknown=(two,)))
    assert replay.causes == [Cause.EVENT]
    assert mirror.unresolved, "labels may have been cleared besides"


def test_a_stranger_that_ended_is_not_looked_up() -> None:
    mirror, _ = mirror_of()
    tell(mirror, EventType.UPDATE, flow(1, id=7))
    tell(mirror, EventType.DESTROY, flow(1, id=7))
    assert not mirror.unresolved


def test_one_whose_tuple_is_the_answers_of_another_by_now() -> None:
    """The kernel finds an entry by either tuple."""
    mirror, replay = mirror_of()
    tell(mirror, EventType.UPDATE, flow(1, id=7))
    ((key, _),) = mirror.unresolved.items()
    backwards = Flow.udp("10.0.0.2", 53, "10.0.0.1", 1, timeout=30)
    backwards.id = 8
    mirror.resolve(key, backwards)
    assert len(mirror.entries) == 0
    assert replay.causes == []


def test_updates_are_laid_over_what_is_known() -> None:
    mirror, _ = mirror_of(flow(1, id=7, mark=3, labels=1, use=1))
    tell(mirror, EventType.UPDATE, flow(1, id=7, status=Status.ASSURED, labels=1))
    (merged,) = mirror.entries.flows
    assert (merged.mark, merged.labels, merged.status) == (3, 1, Status.ASSURED)


def test_labels_that_may_be_gone_are_looked_up() -> None:
    """An event has no word of labels that were all cleared."""
    mirror, _ = mirror_of(flow(1, id=7, labels=1, status=Status(8)))
    tell(mirror, EventType.UPDATE, flow(1, id=7, status=Status(12)))
    assert not mirror.unresolved, "packets changed the status"
    tell(mirror, EventType.UPDATE, flow(1, id=7, status=Status(12)))
    assert mirror.unresolved, "packets changed something that is not told"
    mirror.unresolved.clear()
    tell(mirror, EventType.UPDATE, flow(1, id=7, status=Status(14)), port_id=77)
    assert mirror.unresolved, "a program may have changed anything"


def test_a_helper_that_is_not_told_is_gone() -> None:
    mirror, _ = mirror_of(flow(1, id=7, helper=Helper(name="ftp")))
    tell(mirror, EventType.UPDATE, flow(1, id=7))
    (merged,) = mirror.entries.flows
    assert merged.helper is None


def test_what_was_handed_out_never_changes() -> None:
    mirror, replay = mirror_of(flow(1, id=7, mark=1))
    (held,) = mirror.entries.flows
    copied = copy.deepcopy(held)
    tell(mirror, EventType.UPDATE, flow(1, id=7, mark=2))
    tell(mirror, EventType.DESTROY, flow(1, id=7))
    assert held == copied
    assert replay.flows == {}


def test_a_flow_that_matches_no_more_leaves() -> None:
    mirror, replay = mirror_of(
        flow(1, id=7, mark=1), flow(2, id=8, mark=2), keep=lambda each: each.mark == 1
    )
    assert len(mirror.entries) == 1
    tell(mirror, EventType.UPDATE, flow(1, id=7, mark=2))
    assert replay.causes == [Cause.UNMATCHED]
    assert len(mirror.entries) == 0
    tell(mirror, EventType.NEW, flow(3, id=9, mark=2))
    assert len(mirror.entries) == 0
    assert not mirror.unheard


def test_a_mark_that_a_beginning_does_not_tell_is_zero() -> None:
    mirror, replay = mirror_of(keep=lambda each: each.mark == 0)
    tell(mirror, EventType.NEW, flow(1, id=7))
    mirror.begin_dump()
    tell(mirror, EventType.NEW, flow(2, id=8, mark=1))
    tell(mirror, EventType.NEW, flow(2, id=9))
    assert [each.mark for each in mirror.entries.flows] == [0, 0]
    assert replay.causes == [Cause.EVENT] * 2


def test_one_that_comes_to_match_is_looked_up() -> None:
    mirror, _ = mirror_of(flow(1, id=7, mark=2), keep=lambda each: each.mark == 1)
    tell(mirror, EventType.UPDATE, flow(1, id=7, mark=1))
    ((key, _),) = mirror.unresolved.items()
    mirror.resolve(key, flow(1, id=7, mark=1))
    assert len(mirror.entries) == 1


def test_one_that_comes_to_match_during_a_walk_is_known() -> None:
    """All of it was told since the walk began, which may have passed it by."""
    mirror, replay = mirror_of(keep=lambda each: each.mark == 1)
    mirror.begin_dump()
    tell(mirror, EventType.NEW, flow(1, id=7))
    mirror.add_dumped(flow(1, id=7))
    tell(mirror, EventType.UPDATE, flow(1, id=7, mark=1))
    mirror.end_dump()
    assert [each.mark for each in mirror.entries.flows] == [1]
    assert replay.causes == [Cause.EVENT]


def test_sweeping_lets_others_run() -> None:
    mirror, replay = mirror_of(
        *(flow(number, id=number) for number in range(3 * REMOVALS_PER_TURN))
    )
    mirror.begin_dump()
    assert sum(1 for _ in mirror.remove_not_dumped()) == 3
    mirror.end_dump()
    assert len(mirror.entries) == 0
    assert set(replay.causes) == {Cause.RECONCILED}


# -- what no event reports --------------------------------------------------------------------


def examined(mirror: Mirror, *flows: Flow, certain: bool = True) -> None:
    """A comparison finds these, and no others."""
    mirror.begin_dump(examine=True)
    for each in flows:
        mirror.add_dumped(each)
    for _ in mirror.remove_not_dumped(complete=certain):
        pass
    mirror.end_dump()


def unreported(mirror: Mirror) -> int:
    """What is left of suspects when all events have come; those that are gone, look-ups confirm."""
    for key, each in mirror.missing_entries().items():
        mirror.apply_check(key, each, None)
    mirror.now += 10
    return mirror.evaluate_discrepancies(mirror.now)


def heard(*flows: Flow, keep: Callable[[Flow], bool] | None = None) -> Mirror:
    """A mirror that has heard of these, by their beginnings."""
    mirror, _ = mirror_of(keep=keep)
    mirror.new_entries_emit = True
    for each in flows:
        tell(mirror, EventType.NEW, each)
    return mirror


TCP = Flow.tcp("10.0.0.1", 1, "10.0.0.2", 80, timeout=30, status=Status.CONFIRMED)
TCP.id = 7


def tcp(**fields: object) -> Flow:
    made = copy.copy(TCP)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("found", "count"),
    [
        ([tcp()], 0),
        ([], 1),
        ([tcp(mark=5)], 1),
        ([tcp(mark=0)], 0),
        ([tcp(labels=1)], 1),
        ([tcp(labels=0)], 0),
        ([tcp(status=Status.CONFIRMED | Status.SEEN_REPLY)], 1),
        ([tcp(status=Status.CONFIRMED | Status.SEEN_REPLY | Status.ASSURED)], 1),
        ([tcp(status=Status.CONFIRMED | Status.HELPER)], 0),
        ([tcp(status=Status.CONFIRMED | Status.OFFLOAD | Status.SEEN_REPLY)], 0),
        ([tcp(status=None)], 0),
        ([tcp(protoinfo=TCPInfo(state=TCPState.CLOSE))], 1),
        ([tcp(protoinfo=TCPInfo(state=TCPState.ESTABLISHED, wscale_orig=7))], 0),
        ([tcp(protoinfo=None)], 0),
        ([tcp(timeout=7, use=3, counters_orig=Counters(packets=1))], 0),
        ([tcp(helper=Helper(name="ftp"))], 0),
        ([tcp(id=8)], 1),
        ([tcp(), flow(2, id=9)], 1),
    ],
)
def test_what_must_have_been_reported(found: list[Flow], count: int) -> None:
    """And what changes without an event: timeouts, counters, offloading, and the like."""
    mirror = heard(tcp())
    examined(mirror, *[copy.copy(each) for each in found])
    assert unreported(mirror) == count
    assert unreported(mirror) == 0


@pytest.mark.parametrize("found", [[], [tcp(mark=5)], [tcp(id=8)], [tcp(), flow(2, id=9)]])
@pytest.mark.parametrize("kind", EventType)
def test_an_event_that_was_still_queued_reports_it(kind: EventType, found: list[Flow]) -> None:
    """Before the comparison, at any point of it, or after it."""
    for moment in ("begun", "found", "swept", "looked up"):
        mirror = heard(tcp())
        told = flow(2, id=9) if len(found) == 2 else tcp(mark=6)
        report = partial(tell, mirror, kind, told)
        mirror.begin_dump(examine=True)
        if moment == "begun":
            report()
        for each in found:
            mirror.add_dumped(copy.copy(each))
        if moment == "found":
            report()
        for _ in mirror.remove_not_dumped():
            pass
        mirror.end_dump()
        if moment == "swept":
            report()
        for key, each in mirror.missing_entries().items():
            mirror.apply_check(key, each, None)
        if moment == "looked up":
            report()
        assert unreported(mirror) == 0, moment


def test_nothing_is_judged_before_its_event_had_time() -> None:
    mirror = heard(tcp())
    mirror.now = 5.0
    examined(mirror, tcp(mark=5))
    assert mirror.evaluate_discrepancies(4.9) == 0
    assert mirror.evaluate_discrepancies(5.0) == 1


def test_a_loss_explains_everything() -> None:
    mirror = heard(tcp(), flow(2, id=9))
    examined(mirror, tcp(mark=5))
    mirror.record_loss()
    assert unreported(mirror) == 0
    mirror.begin_dump(examine=True)
    mirror.record_loss()
    mirror.add_dumped(tcp(mark=6))
    for _ in mirror.remove_not_dumped():
        pass
    mirror.end_dump()
    assert unreported(mirror) == 0


def test_what_a_dump_lacked_and_a_look_up_finds_is_there() -> None:
    """A dump leaves out what has expired; and a walk may miss something."""
    mirror = heard(tcp())
    examined(mirror)
    ((key, asked),) = mirror.missing_entries().items()
    mirror.apply_check(key, asked, tcp())
    assert len(mirror.entries) == 1
    assert unreported(mirror) == 0


def test_one_that_matches_no_more_may_not_have_been_reported() -> None:
    """The kernel leaves it out of a dump; its timeout may have changed, or its mark."""
    for fields, count in (({"timeout": 5}, 0), ({"mark": 7}, 1)):
        mirror = heard(tcp(), keep=lambda each: each.timeout == 30 and not each.mark)
        examined(mirror)
        ((key, asked),) = mirror.missing_entries().items()
        mirror.apply_check(key, asked, tcp(**fields))
        assert len(mirror.entries) == 0
        assert unreported(mirror) == count


def test_one_that_can_not_be_asked_for_is_not_asked_for_again() -> None:
    mirror = heard(tcp())
    examined(mirror)
    assert len(mirror.missing_entries()) == 1
    assert not mirror.missing_entries()
    assert unreported(mirror) == 0
    assert not mirror.discrepancies


def test_an_older_entry_may_be_silent_by_the_setting() -> None:
    for emit in (False, True):
        mirror, _ = mirror_of(tcp())
        mirror.older_entries_emit = emit
        examined(mirror)
        assert unreported(mirror) == emit


def test_a_new_entry_may_be_silent_by_the_setting() -> None:
    mirror = heard()
    mirror.new_entries_emit = False
    examined(mirror, tcp())
    assert unreported(mirror) == 0


def test_what_was_not_chosen_may_have_changed_unreported() -> None:
    """A function may look at a timeout, at which one comes to match."""
    mirror = heard(keep=lambda each: each.timeout == 30)
    examined(mirror, tcp())
    assert unreported(mirror) == 0
    examined(mirror, tcp(mark=5))
    assert unreported(mirror) == 0, "it was never heard of"
    tell(mirror, EventType.UPDATE, tcp(mark=6))
    examined(mirror, tcp(mark=7))
    assert unreported(mirror) == 1


def test_so_many_are_examined() -> None:
    mirror = heard(*(flow(number, id=number) for number in range(2 * MAX_DISCREPANCIES)))
    examined(mirror)
    assert len(mirror.discrepancies) == MAX_DISCREPANCIES
    assert unreported(mirror) == MAX_DISCREPANCIES


def overdue(mirror: Mirror, seconds: float) -> list[Flow]:
    mirror.now += seconds
    mirror._expiry.start_round()
    return list(mirror.overdue(10).values())


def test_timeouts_count_from_the_last_report() -> None:
    mirror = heard(flow(1, id=7, timeout=30), flow(2, id=8, timeout=90))
    assert overdue(mirror, 20) == []
    tell(mirror, EventType.UPDATE, flow(1, id=7, timeout=25))
    assert overdue(mirror, 20) == []
    assert [each.id for each in overdue(mirror, 20)] == [7]
    examined(mirror, flow(1, id=7, timeout=5), flow(2, id=8, timeout=30))
    assert overdue(mirror, 5) == []
    assert [each.id for each in overdue(mirror, 3)] == [7]
    mirror.apply_check(orig_key(flow(1)), *[flow(1, id=7, timeout=30)] * 2)
    assert overdue(mirror, 31) == [mirror.entries.by_id(8)[0]]


def test_one_without_a_timeout_is_looked_up_now_and_then() -> None:
    mirror = heard(flow(1, id=7, timeout=None))
    assert overdue(mirror, 500) == []
    assert len(overdue(mirror, 500)) == 1


def test_a_few_at_a_time() -> None:
    mirror = heard(*(flow(number, id=number, timeout=0) for number in range(100)))
    mirror.now += 10
    found = [mirror.overdue(30) for _ in range(4)]
    assert [len(each) for each in found] == [30, 30, 30, 10]
    assert len({key for each in found for key in each}) == 100


def test_an_entry_that_is_gone_goes_when_its_event_had_time() -> None:
    mirror = heard(flow(1, id=7), flow(2, id=8), flow(3, id=9))
    replay = Replay(mirror)
    replay.flows = mirror.entries.copy()
    for key, each in mirror.entries.copy().items():
        mirror.apply_check(key, each, None)
    assert len(mirror.entries) == 3
    tell(mirror, EventType.DESTROY, flow(1, id=7))
    tell(mirror, EventType.UPDATE, flow(2, id=8, timeout=90))
    assert replay.causes == [Cause.EVENT]
    assert unreported(mirror) == 1
    assert replay.causes == [Cause.EVENT, Cause.RECONCILED]
    assert [each.id for each in mirror.entries.flows] == [8]


def test_one_that_a_look_up_found_gone_does_not_come_back_by_an_older_walk() -> None:
    mirror = heard(flow(1, id=7))
    for key, each in mirror.entries.copy().items():
        mirror.apply_check(key, each, None)
    mirror.begin_dump()
    assert unreported(mirror) == 1
    mirror.add_dumped(flow(1, id=7))
    assert len(mirror.entries) == 0
    mirror.add_dumped(flow(1, id=8))
    assert [each.id for each in mirror.entries.flows] == [8]
    mirror.end_dump()


def test_a_look_up_shows_what_no_event_reported() -> None:
    mirror = heard(tcp())
    ((key, asked),) = mirror.entries.copy().items()
    mirror.apply_check(key, asked, tcp(mark=5))
    assert [each.mark for each in mirror.entries.flows] == [5]
    assert unreported(mirror) == 1


@pytest.mark.parametrize("ends", [64, 65, 640])
def test_ends_during_a_walk_are_kept_apart_up_to_a_number(ends: int) -> None:
    """Beyond it any end counts as that of each: what the walk finds is taken for gone, and is
    found by the next if it is not."""
    mirror, _ = mirror_of()
    mirror.begin_dump()
    for number in range(ends):
        tell(mirror, EventType.NEW, flow(1, id=number))
        tell(mirror, EventType.DESTROY, flow(1, id=number))
    assert mirror._dump is not None
    (told,) = mirror._dump.reported.values()
    assert len(told.ended_ids) <= 64
    mirror.add_dumped(flow(1, id=0))
    assert len(mirror.entries) == 0
    mirror.add_dumped(flow(1, id=ends))
    assert len(mirror.entries) == (ends == 64)
    mirror.end_dump()


def test_ids_are_shared_by_chance() -> None:
    mirror, _ = mirror_of(flow(1, id=7), flow(2, id=7), flow(3, id=7))
    assert [each.orig.sport for each in mirror.entries.by_id(7)] == [1, 2, 3]
    tell(mirror, EventType.DESTROY, flow(2, id=7))
    assert [each.orig.sport for each in mirror.entries.by_id(7)] == [1, 3]
    tell(mirror, EventType.DESTROY, flow(1, id=7))
    assert [each.orig.sport for each in mirror.entries.by_id(7)] == [3]
    tell(mirror, EventType.DESTROY, flow(3, id=7))
    assert mirror.entries.by_id(7) == []
