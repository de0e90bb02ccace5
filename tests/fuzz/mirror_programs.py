"""Fuzz the live table's mirror without I/O: run programs of operations and check its invariants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from random import Random

import attrs

from conntrack_aio import Flow
from conntrack_aio.model.enums import EventType
from conntrack_aio.model.table import Change, ChangeType
from conntrack_aio.table.changes import PendingChanges
from conntrack_aio.table.discrepancies import MAX_DISCREPANCIES
from conntrack_aio.table.dump_state import _MAX_ENDED_IDS
from conntrack_aio.table.entry_index import EntryIndex
from conntrack_aio.table.merging import changed_fields
from conntrack_aio.table.mirror import Mirror
from conntrack_aio.table.states import State
from conntrack_aio.table.tuple_keys import Keys, keys_of, orig_key, reply_is_inverse, reply_key

from .mirror_flows import FLOWS, SAME_ENTRY, SOURCES, FlowSource

# -- invariants -------------------------------------------------------------------------------


def _zone_of_orig(flow: Flow) -> int:
    return (flow.zone if flow.orig.zone is None else flow.orig.zone) or 0


def _zone_of_reply(flow: Flow) -> int:
    return (flow.zone if flow.reply.zone is None else flow.reply.zone) or 0


class SharedReplies:
    """The reply tuples that several entries have had at the same time.

    In a kernel no two entries share one. Here a look-up by such a tuple finds only one of them.
    """

    def __init__(self, entries: EntryIndex) -> None:
        self._counts = Counter(map(reply_key, entries.flows))
        self.shared = {number for number, count in self._counts.items() if count > 1}
        self._entries = entries
        self._add, self._remove = entries.add, entries.remove
        entries.add, entries.remove = self.add, self.remove  # type: ignore[method-assign]

    def add(self, keys: Keys, state: State) -> bool:
        if not self._add(keys, state):
            return False
        number = reply_key(self._entries.states.flow_of(state))
        self._counts[number] += 1
        if self._counts[number] > 1:
            self.shared.add(number)
        return True

    def remove(self, keys: Keys) -> None:
        state = self._entries.get(keys[0])
        assert state is not None
        assert self._entries.states.keys_of(state) == keys
        self._counts[reply_key(self._entries.states.flow_of(state))] -= 1
        self._remove(keys)


def check_mirror(mirror: Mirror, shared: Collection[bytes]) -> None:
    """Check that look-ups find each entry in every way, and that the indices have nothing else."""
    entries = mirror.entries
    states = entries.copy()
    flows = {key: mirror.states.flow_of(state) for key, state in states.items()}
    ids = plain = 0
    for key, state in states.items():
        flow = flows[key]
        assert mirror.states.keys_of(state) == keys_of(flow), f"wrong keys: {flow}"
        assert orig_key(flow) == key, f"a wrong key: {flow}"
        assert entries.by_orig(flow.orig, _zone_of_orig(flow)) is state, f"not by orig: {flow}"
        if reply_key(flow) not in shared:
            found = entries.by_reply(flow.reply, _zone_of_reply(flow))
            assert found is state, f"not by reply: {flow}"
        if flow.id is not None:
            ids += 1
            assert any(each is state for each in entries.by_id(flow.id)), f"not by id: {flow}"
        plain += reply_is_inverse(flow)
    by_id = entries._ids.values()
    assert sum(1 if isinstance(keys, bytes) else len(keys) for keys in by_id) == ids
    for number, key in entries._by_reply.items():
        assert reply_key(flows[key]) == number, "a reply tuple that its entry lacks"
    assert len(entries._by_reply) <= len(flows) - plain
    assert mirror.without_events.keys() <= flows.keys()
    flow_states = {key for key, state in states.items() if isinstance(state, Flow)}
    assert mirror._refreshed_at.keys() == flow_states
    assert len(mirror.discrepancies) <= MAX_DISCREPANCIES
    for reported in () if mirror._dump is None else mirror._dump.reported.values():
        assert len(reported.ended_ids) <= _MAX_ENDED_IDS


class ReplayedTable:
    """A table that results from applying changes, without access to the mirror."""

    def __init__(self) -> None:
        self._flows: dict[object, Flow] = {}

    def apply(self, change: Change) -> None:
        flow, before = change.flow, change.before
        key = flow.orig, flow.zone
        known = self._flows.get(key)
        if change.type is ChangeType.ADDED:
            assert known is before is None, change
            self._flows[key] = flow
            return
        assert known is not None, change
        assert before is not None, change
        assert not changed_fields(known, before), change
        if change.type is ChangeType.REMOVED:
            del self._flows[key]
            return
        assert change.fields, change
        assert change.fields == changed_fields(before, flow), change
        self._flows[key] = flow

    def check(self, entries: EntryIndex) -> None:
        """Check that it equals the mirror's table."""
        expected = {(flow.orig, flow.zone): flow for flow in entries.flows}
        assert self._flows.keys() == expected.keys()
        for key, flow in self._flows.items():
            assert not (differing := changed_fields(flow, expected[key])), differing


class ChangeReader:
    """A reader of changes and the table that it replays, without an event loop."""

    def __init__(self, mirror: Mirror, log: list[Change] | None = None) -> None:
        self._mirror = mirror
        self._log = [] if log is None else log
        self.replayed = ReplayedTable()
        self.pending = PendingChanges(mirror.entries)
        mirror.readers = (*mirror.readers, self.pending)

    def read(self, max_entries: int) -> None:
        """Apply the changes of at most this many entries."""
        while self.pending and max_entries > 0:
            max_entries -= 1
            for change in self.pending.take():
                self._log.append(change)
                self.replayed.apply(change)

    def close(self) -> None:
        self._mirror.readers = tuple(
            each for each in self._mirror.readers if each is not self.pending
        )

    def check(self) -> None:
        """Read all changes, and check that the replayed table equals the mirror's."""
        self.read(1 << 30)
        assert not self.pending
        self.replayed.check(self._mirror.entries)


# -- a program of operations ------------------------------------------------------------------


_FEW_FLOWS = 4
"""The number of flows that the operations of the smallest initial program use."""


def _keep(flow: Flow) -> bool:
    return flow.mark != 6


class _Player:
    """Runs operations on a mirror, as its synchronizer might. Three bytes encode an operation."""

    def __init__(self, keep: bool, source: FlowSource) -> None:
        self.mirror = Mirror(_keep if keep else None)
        self.replies = SharedReplies(self.mirror.entries)
        self.changes: list[Change] = []
        """What readers have read."""
        self.readers = [ChangeReader(self.mirror, self.changes)]
        self._source = source
        self._window = False
        self._sweep: Iterator[None] | None = None

    def play(self, operation: int, which: int, how: int) -> None:
        """Run an operation.

        :param which: the high byte of the index of a flow, or an argument of the operation.
        :param how: the low byte of the index of a flow, or an argument of the operation.
        """
        mirror = self.mirror
        number = (which << 8 | how) % len(FLOWS)
        match operation % 16:
            case 0 | 1 | 2:
                mirror.apply_all([self._source.event(number, EventType.NEW, 0)])
            case 3 | 4 | 5 | 6:
                port_id = operation >> 4 & 1
                mirror.apply(self._source.event(number, EventType.UPDATE, port_id))
            case 7 | 8:
                mirror.apply(self._source.event(number, EventType.DESTROY, 0))
            case 9 | 10:
                self.begin_dump(examine=bool(operation & 16))
                mirror.add_all_dumped([self._source.flow(number)])
            case 11:
                self.resolve(which, how)
            case 12:
                self.end_dump(remove=bool(operation & 16), complete=bool(which & 1))
            case 13:
                self.pass_time(which, how)
            case 14:
                self.readers[which % len(self.readers)].read(how)
            case _:
                self.add_or_remove_reader(which)

    def begin_dump(self, *, examine: bool = False) -> None:
        if not self._window:
            self.mirror.begin_dump(examine=examine)
            self._window = True

    def end_dump(self, *, remove: bool, complete: bool = True) -> None:
        if self._window:
            if remove:
                for _ in self.mirror.remove_not_dumped(complete=complete):
                    pass
            self.mirror.end_dump()
            self._window = False

    def resolve(self, which: int, how: int) -> None:
        """Resolve all unresolved entries, with the results of look-ups that are made now."""
        unresolved, self.mirror.unresolved = self.mirror.unresolved, {}
        for key in unresolved:
            self.mirror.resolve(key, self._look_up(key, which, how))

    def _look_up(self, key: bytes, which: int, how: int) -> Flow | None:
        """Return what the kernel returns for a look-up.

        It may be another entry: the kernel compares the tuples of both directions.
        """
        which, how = which + key[-2], how + sum(key)
        if not which % 4:
            return None
        candidates = range(len(FLOWS)) if how % 7 == 0 else SAME_ENTRY[key]
        return self._source.flow(candidates[how % len(candidates)])

    def pass_time(self, which: int, how: int) -> None:
        """Advance the clock: late events do not come any more, and some timeouts have expired."""
        mirror = self.mirror
        mirror.caught_up = not self._window
        mirror.older_entries_emit, mirror.new_entries_emit = bool(which & 1), bool(which & 2)
        mirror.now += how
        if which & 4:
            mirror.record_loss()
        for key, state in (mirror.missing_entries() or mirror.overdue(8)).items():
            mirror.apply_verification(key, state, self._look_up(key, which, how))
        before = len(mirror.entries)
        assert 0 <= mirror.evaluate_discrepancies(mirror.now - which % 8) <= MAX_DISCREPANCIES
        assert len(mirror.entries) <= before

    def add_or_remove_reader(self, which: int) -> None:
        if which & 1 and len(self.readers) > 1:
            self.readers.pop(which % len(self.readers)).close()
        elif len(self.readers) < 4:
            self.readers.append(ChangeReader(self.mirror, self.changes))

    def finish(self) -> None:
        """Check the end state, then let a dump remove everything, and check the empty mirror."""
        check_mirror(self.mirror, self.replies.shared)
        for reader in self.readers:
            reader.check()
        self.begin_dump()
        self.end_dump(remove=True)
        self.mirror.begin_dump()
        for _ in self.mirror.remove_not_dumped():
            pass
        self.mirror.end_dump()
        check_mirror(self.mirror, ())
        assert not len(self.mirror.entries)
        for reader in self.readers:
            reader.check()
            reader.close()

    def contents(self) -> list[object]:
        """Return everything that the mirror holds, as flows."""
        mirror, flow_of = self.mirror, self.mirror.states.flow_of
        held: list[object] = [{k: flow_of(state) for k, state in mirror.entries.copy().items()}]
        held.append({key: flow_of(state) for key, state in mirror.unresolved.items()})
        held += [mirror.without_events, mirror.needs_look_up]
        held.append({k: mirror._expiry.time_of(k, s) for k, s in mirror.entries.copy().items()})
        held.append(
            {
                key: attrs.evolve(each, state=flow_of(each.state))
                for key, each in mirror.discrepancies.items()
            }
        )
        if mirror._dump is not None:
            held.append(mirror._dump.not_dumped.keys())
            for reported in mirror._dump.reported.values():
                state = reported.state
                held.append(attrs.evolve(reported, state=state and flow_of(state)))
        return [*held, self.changes]


def run_program(data: bytes) -> None:
    """Run a program: the mirror must stay consistent, and its readers must have what it has.

    It runs twice: on flows, and on flows that are decoded from messages, of which the mirror stores
    records. Both must lead to the same contents and changes.

    The first byte is an option: whether a predicate selects flows, and how often to check.
    """
    option = data[0] if data else 0
    players = [_Player(bool(option & 1), source) for source in SOURCES]
    check_interval = 4 if option & 0x80 else 64
    for at in range(1, len(data) - 2, 3):
        for player in players:
            player.play(data[at], data[at + 1], data[at + 2])
        if at // 3 % check_interval == 0:
            _check(players)
    _check(players)
    for player in players:
        player.finish()


def _check(players: Sequence[_Player]) -> None:
    for player in players:
        check_mirror(player.mirror, player.replies.shared)
    expected, found = [player.contents() for player in players]
    for one, other in zip(expected, found, strict=True):
        assert one == other, "records and flows lead to different contents"


def initial_programs(random: Random) -> list[bytes]:
    """Return programs about few or many flows, with rare or frequent checks."""
    programs: list[bytes] = []
    for number in range(24):
        steps = bytearray([number & 1 | (0x80 if number % 3 == 0 else 0)])
        few = [random.randrange(len(FLOWS)) for _ in range(_FEW_FLOWS * (1 + number))]
        same = random.choice(list(SAME_ENTRY.values()))[:24]
        for _ in range(40 + 20 * number):
            chosen = random.choice(same if number & 2 else few)
            steps += bytes([random.randrange(32), chosen >> 8, chosen & 0xFF])
        programs.append(bytes(steps))
    return programs


def mutate(random: Random, data: bytes, other: bytes) -> bytes:
    """Change, move, duplicate and remove operations, and insert some of another program."""
    steps = [data[at : at + 3] for at in range(1, len(data) - 2, 3)]
    given = [other[at : at + 3] for at in range(1, len(other) - 2, 3)]
    for _ in range(random.choice((1, 2, 4, 16))):
        at = random.randint(0, len(steps))
        match random.randrange(6):
            case 0:
                del steps[at : at + random.choice((1, 1, 8))]
            case 1:
                steps[at:at] = steps[at : at + random.choice((1, 4))]
            case 2:
                start = random.randint(0, len(given))
                steps[at:at] = given[start : start + random.choice((1, 4, 16))]
            case 3:
                steps.insert(at, random.randbytes(3))
            case _:
                if at < len(steps):
                    changed = bytearray(steps[at])
                    changed[random.randrange(3)] = random.randrange(256)
                    steps[at] = bytes(changed)
    option = data[:1] if random.random() < 0.9 else random.randbytes(1)
    return (option or b"\0") + b"".join(steps[:1000])
