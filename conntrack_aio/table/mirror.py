"""Apply events, dumped entries and look-ups to a copy of the kernel's table, without I/O.

- The kernel queues an event after the change. So an event may be older than the state that it is
  applied to, if a dump or a look-up was ahead of it. That does no harm: every later change has an
  event of its own, which still comes. Events that are applied in their order over what was read
  lead to the state of the last event.
- While a dump is in progress, :class:`~conntrack_aio.table.dump_state.DumpState` records the last
  state that events reported of each entry. An entry that the dump returns is treated as if it had
  been read when the dump began, and what events reported since then is merged over it.
- A difference that a dump or a look-up finds, and that no event reports, shows that rules suppress
  events; see :mod:`conntrack_aio.table.discrepancies`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ..model.enums import EventType
from ..model.events import FlowEvent
from ..model.flow import Flow
from ..model.table import Cause
from .discrepancies import Discrepancies
from .dump_state import DumpState, ReportedState
from .matching_entries import MatchingEntries
from .merging import may_have_cleared_labels
from .states import State
from .tuple_keys import Key, Keys

_NEW: Final = EventType.NEW
_UPDATE: Final = EventType.UPDATE

REMOVALS_PER_TURN: Final = 2048
"""Entries that are examined for removal before other tasks get their turn."""

RECHECK_DELAY: Final = 8.0
"""Seconds by which the next look-up of an entry is delayed if a look-up found that it exists."""


class Mirror(MatchingEntries):
    """A copy of the kernel's table, or of its entries that match a predicate.

    The predicate is applied to complete flows only. The flow of an update is incomplete if the
    entry is not known. Such entries are :attr:`unresolved`.
    """

    def __init__(self, predicate: Callable[[Flow], bool] | None) -> None:
        """Initialize an empty mirror.

        :param predicate: which flows to hold; ``None`` for all.
        """
        super().__init__(predicate)
        self.unresolved: dict[Key, State] = {}
        """States by key that must be looked up, because what is known of them may be wrong."""
        self.caught_up = False
        """Whether all events that come now are newer than everything that was read."""
        self.applied = 0
        """How many events were applied."""
        self.discrepancies: Final = Discrepancies()
        self.older_entries_emit = False
        """Whether entries that no event has reported should emit events, by the setting."""
        self.new_entries_emit = False
        """Whether each entry that was created since the last dump should have emitted events."""
        self._dump: DumpState | None = None
        """The dump in progress."""

    @property
    def dump_in_progress(self) -> bool:
        """Whether a dump has begun and not ended."""
        return self._dump is not None

    @property
    def needs_look_up(self) -> bool:
        """Whether received updates need the dump in progress, or look-ups, to be applied."""
        return bool(self.unresolved) or (self._dump is not None and self._dump.needs_look_up)

    def clear(self) -> None:
        super().clear()
        self.unresolved = {}
        self.discrepancies.clear()
        self._dump = None

    # -- events -----------------------------------------------------------------------------

    def apply_all(self, events: Iterable[FlowEvent]) -> None:
        """Apply events in their order. The caller must not use their flows afterwards."""
        if self._dump is not None or self._predicate is not None or self.readers:
            for event in events:
                self.apply(event)
            return
        # Most events are of new entries. What concerns nothing else takes the shortest way.
        add, read, new = self.entries.add, self.states.read_new, _NEW
        unresolved, discrepancies = self.unresolved, self.discrepancies
        for event in events:
            if event.type is not new or unresolved or discrepancies:
                self.apply(event)
                continue
            state, keys = read(event.flow)
            if not isinstance(state, bytes) or not add(keys, state):
                self._apply_new(keys, state)
            self.applied += 1

    def apply(self, event: FlowEvent) -> None:
        """Apply an event. The caller must not use its flow afterwards."""
        self.applied += 1
        kind = event.type
        states = self.states
        state, keys = (states.read_new if kind is _NEW else states.read)(event.flow)
        if self.discrepancies:
            self.discrepancies.pop(keys[0], None)
        if kind is _UPDATE:
            self._apply_update(keys, state, event)
        elif kind is _NEW:
            self._apply_new(keys, state)
        else:
            self._apply_destroy(keys, state)

    def _apply_new(self, keys: Keys, state: State) -> None:
        key = keys[0]
        if self.unresolved:
            self.unresolved.pop(key, None)
        if self._dump is not None:
            self._dump.reported[key].record_complete(state)
        stored = self.entries.get(key)
        if stored is None:
            self._add(keys, state, Cause.EVENT)
        elif (self.caught_up and key in self.without_events) or not self.states.same_entry(
            stored, state
        ):
            self._remove(key, stored, Cause.REPLACED)
            self._add(keys, state, Cause.EVENT)
        else:
            # One of three cases. The entry was read before its NEW event came. Or the event is
            # repeated: if the kernel could not deliver it to a reliable listener of some program,
            # it sends it to all programs again, with the next event. Or the stored entry was an
            # earlier one with the same id, of which nothing may remain. In each case this state is
            # right: changes after the creation have events of their own, or are in this event.
            self.without_events.pop(key, None)
            self._change(keys, stored, state, Cause.EVENT)

    def _apply_update(self, keys: Keys, state: State, event: FlowEvent) -> None:
        key, dump = keys[0], self._dump
        reported = None if dump is None else self._record_update(dump, key, state)
        stored = self.entries.get(key)
        if stored is None:
            if dump is None or reported is None or reported.state is None:
                self.unresolved[key] = state
            elif reported.complete:  # it did not match before, and may match now
                complete = self._at_present(reported.state)
                self._add(self.states.keys_of(complete), complete, Cause.EVENT)
            else:
                dump.needs_look_up = True
            return
        merged = self.states.merge(stored, state)
        if merged is None:
            self.unresolved[key] = state
            return
        self.without_events.pop(key, None)
        if keys[2] is None:  # the known state may have an id
            keys = self.states.keys_of(merged)
        self._change(keys, stored, merged, Cause.EVENT)
        if self._may_have_cleared_labels(stored, merged, event):
            self.unresolved[key] = merged

    def _may_have_cleared_labels(self, before: State, merged: State, event: FlowEvent) -> bool:
        """Return whether an update may have cleared all labels of an entry without reporting it.

        See :func:`.merging.may_have_cleared_labels`.
        """
        states = self.states
        if not states.has_labels(before):
            return False
        changed = states.changed_fields(before, merged)
        return may_have_cleared_labels(changed, by_program=event.port_id != 0)

    def _apply_destroy(self, keys: Keys, state: State) -> None:
        key, _, id = keys
        if self.unresolved:
            self.unresolved.pop(key, None)
        if self._dump is not None:
            self._dump.reported[key].record_end(id)
        stored = self.entries.get(key)
        if stored is None:
            return
        if not self.states.same_entry(stored, state):
            # The event is about another entry. Either that one ended before the stored entry was
            # created: the event is late because the kernel could not deliver it at first, or
            # because a dump or look-up was ahead of it. Or the stored entry ended before, without
            # an event.
            self.unresolved[key] = stored
        else:
            final = self.states.final_state(stored, state) if self.readers else stored
            # The reply tuple is the same, and so is the id, if both states have one.
            known = keys if self.states.has_id(stored) == (id is not None) else None
            self._remove(key, final, Cause.EVENT, before=stored, keys=known)

    def _record_update(self, dump: DumpState, key: Key, state: State) -> ReportedState | None:
        """Record an update for the dump in progress.

        :returns: what events reported of the entry. ``None`` if the events before it reported
            another entry, or the end of an entry with this tuple.
        """
        reported = dump.reported[key]
        if reported.state is None:
            if reported.ended_ids:
                return None
            reported.state = state
            return reported
        merged = self.states.merge(reported.state, state)
        if merged is None:
            # Either another processor queued a packet's update after the destroy event, or the
            # NEW event of another entry is missing.
            return None
        reported.state = merged
        return reported

    # -- dumps ------------------------------------------------------------------------------

    def begin_dump(self, *, examine: bool = False) -> None:
        """Begin a dump of the kernel's table.

        :param examine: whether each difference must have been reported by an event, because none
            was lost.
        """
        self.caught_up = False
        self._dump = DumpState(self.entries.copy(), examine=examine)

    def add_all_dumped(self, flows: Iterable[Flow]) -> None:
        """Apply entries that the dump returned. The caller must not use them afterwards."""
        dump, states = self._dump, self.states
        if dump is None:  # the mirror was cleared
            return
        if dump.concerns_known or self._predicate is not None or self.readers:
            for flow in flows:
                self._add_dumped(dump, *states.read(flow))
            return
        # Nothing is known yet. So entries take the shortest way.
        add, read, is_dying = self.entries.add, states.read, states.is_dying
        without_events = self.without_events
        for flow in flows:
            state, keys = read(flow)
            if isinstance(state, bytes) and not is_dying(state) and add(keys, state):
                without_events[keys[0]] = None
            else:
                self._add_dumped(dump, state, keys)

    def add_dumped(self, flow: Flow) -> None:
        """Apply an entry that the dump returned. The caller must not use the flow afterwards."""
        if self._dump is not None:
            self._add_dumped(self._dump, *self.states.read(flow))

    def _add_dumped(self, dump: DumpState, state: State, keys: Keys) -> None:
        states = self.states
        if states.is_dying(state):
            return
        key = keys[0]
        reported = dump.reported.get(key)
        if reported is None:
            pass
        elif reported.state is None:
            if keys[2] in reported.ended_ids or None in reported.ended_ids:
                return
        elif reported.complete:
            return
        else:
            later = states.merge(state, reported.state)
            if later is None:
                self.unresolved[key] = state
                return
            state = self._at_present(later)
            keys = states.keys_of(state)
            if states.has_labels(state):
                self.unresolved[key] = state  # the update may have cleared all labels
        if dump.not_dumped:
            dump.not_dumped.pop(key, None)
        added = self._set(keys, state, examine=reported is None and dump.examine)
        if added and reported is None:
            self.without_events[key] = None

    def _at_present(self, state: State) -> State:
        """Return a state that was reported earlier, with the present time."""
        return self.states.with_time(state, self.now) if isinstance(state, bytes) else state

    def remove_not_dumped(self, *, complete: bool = True) -> Iterator[None]:
        """Remove the entries that neither the dump nor events since its beginning reported.

        This is a generator: advance it until it ends, and let other tasks run in between.

        :param complete: whether the dump certainly returned all entries. If not, the entries stay
            and become unresolved.
        """
        dump = self._dump
        if dump is None:
            return
        for number, key in enumerate(dump.not_dumped):
            if number % REMOVALS_PER_TURN == REMOVALS_PER_TURN - 1:
                yield
            stored = self.entries.get(key)
            reported = dump.reported.get(key)
            if stored is None or (reported is not None and reported.state is not None):
                continue
            if complete:
                if reported is None and dump.examine:
                    self._record_discrepancy(key, stored, self._should_emit(key), missing=True)
                self._remove(key, stored, Cause.RECONCILED)
            else:
                self.unresolved[key] = stored

    def end_dump(self) -> None:
        """End the dump, whether or not it was complete."""
        dump, self._dump = self._dump, None
        if dump is None:
            return
        for key, reported in dump.reported.items():
            if reported.state is None or reported.complete:
                continue
            if self.entries.get(key) is None:
                self.unresolved[key] = reported.state

    # -- look-ups ---------------------------------------------------------------------------

    def resolve(self, key: Key, flow: Flow | None) -> None:
        """Apply the look-up of an unresolved entry.

        :param key: the key of the entry's original tuple.
        :param flow: what the kernel returned; ``None`` if there is no such entry. The caller must
            not use it afterwards.
        """
        self._store_looked_up(key, *self._read_live(key, flow))

    def apply_verification(self, key: Key, expected: State, flow: Flow | None) -> None:
        """Apply the look-up of an entry from :meth:`overdue` or :meth:`missing_entries`.

        :param key: the key of the entry's original tuple.
        :param expected: the state that was looked up.
        :param flow: what the kernel returned; ``None`` if there is no such entry. The caller must
            not use it afterwards.
        """
        discrepancy = self.discrepancies.get(key)
        keys, state = self._read_live(key, flow)
        if state is not None:
            self._store_looked_up(key, keys, state, examine=discrepancy is None)
            if discrepancy is not None:
                del self.discrepancies[key]
                # The entry exists, but the kernel's filter may have left it out of the dump.
                if self.states.same_entry(
                    discrepancy.state, state
                ) and self.states.has_reportable_change(discrepancy.state, state):
                    self._record_discrepancy(key, state, discrepancy.event_expected)
            self.set_time_of(key, self.now + RECHECK_DELAY)
        elif discrepancy is not None:
            discrepancy.confirmed, discrepancy.found_at = True, self.now
        elif self.entries.get(key) is expected:
            self._record_discrepancy(
                key, expected, self._should_emit(key), missing=True, confirmed=True
            )

    def _read_live(self, key: Key, flow: Flow | None) -> tuple[Keys, State | None]:
        """Return the keys and the state that a look-up found.

        The state is ``None`` if it is not of a live entry with this key. The kernel looks up
        entries by either tuple, so it may return another entry.
        """
        nothing = (key, None, None), None
        if flow is None:
            return nothing
        state, keys = self.states.read(flow)
        return (keys, state) if keys[0] == key and not self.states.is_dying(state) else nothing

    def _store_looked_up(
        self, key: Key, keys: Keys, state: State | None, *, examine: bool = False
    ) -> None:
        """Store the present state of an entry; ``None`` if it does not exist."""
        self.caught_up = False
        if self._dump is not None:
            reported = self._dump.reported[key]
            if state is None:
                reported.record_end(None)
            else:
                reported.record_complete(state)
        if state is not None:
            self._set(keys, state, examine=examine)
        elif (stored := self.entries.get(key)) is not None:
            self._remove(key, stored, Cause.RECONCILED)

    # -- changes without events -------------------------------------------------------------

    def record_loss(self) -> None:
        """Record that events were lost, so that no difference proves a suppressed event."""
        self.discrepancies.clear()
        if self._dump is not None:
            self._dump.examine = False

    def overdue(self, limit: int) -> dict[Key, State]:
        """Return some entries whose timeout has expired although no event reported their end.

        Each call examines the next few entries of a round through all entries.

        :param limit: how many entries to return at most.
        """
        return self._expiry.overdue(self.now, limit, self.discrepancies)

    def missing_entries(self) -> dict[Key, State]:
        """Return the entries that a dump lacked and that must be looked up, each only once."""
        return self.discrepancies.take_missing()

    def evaluate_discrepancies(self, found_before: float) -> int:
        """Count the discrepancies that no event has reported, and remove entries that have ended.

        Precondition: all events are applied that were queued by ``found_before``, and none was
        lost.

        :param found_before: evaluate the discrepancies that were found up to then, in the seconds
            of :attr:`now`.
        :returns: how many changes an event should have reported.
        """
        count = 0
        for key, discrepancy in tuple(self.discrepancies.items()):
            missing = discrepancy.missing
            if discrepancy.found_at > found_before or (missing and not discrepancy.handed_out):
                continue
            del self.discrepancies[key]
            if missing and not discrepancy.confirmed:  # the entry could not be looked up
                continue
            stored = self.entries.get(key)
            if missing and stored is not None:
                # Another entry, or a later state of this one, may have been read since.
                if stored is not discrepancy.state:
                    continue
                if self._dump is not None:
                    self._dump.reported[key].record_end(self.states.id_of(stored))
                self._remove(key, stored, Cause.RECONCILED)
            count += discrepancy.event_expected
        return count

    def _should_emit(self, key: Key) -> bool:
        """Return whether an entry should emit events, by the setting and by what was received."""
        return self.older_entries_emit or key not in self.without_events

    def _record_discrepancy(
        self,
        key: Key,
        state: State,
        event_expected: bool,
        *,
        missing: bool = False,
        confirmed: bool = False,
    ) -> None:
        self.discrepancies.record(
            key,
            state,
            self.now,
            event_expected=event_expected,
            missing=missing,
            confirmed=confirmed,
        )

    # -- entries that were read -------------------------------------------------------------

    def _set(self, keys: Keys, state: State, *, examine: bool = False) -> bool:
        """Store an entry as a dump or a look-up returned it.

        :param keys: its keys.
        :param state: its state.
        :param examine: whether an event should have reported each difference.
        :returns: whether the entry was added.
        """
        key = keys[0]
        stored = self.entries.get(key)
        if stored is not None and not self.states.same_entry(stored, state):
            if examine:
                self._record_discrepancy(key, state, self._should_emit(key))
            self._remove(key, stored, Cause.REPLACED)
            stored = None
        elif stored is None and examine and self._predicate is None and self.new_entries_emit:
            # Not with a predicate: an entry may come to match by a change that has no event.
            self._record_discrepancy(key, state, True)
        if stored is None:
            return self._add(keys, state, Cause.RECONCILED)
        if examine and self.states.has_reportable_change(stored, state):
            self._record_discrepancy(key, state, self._should_emit(key))
        self._change(keys, stored, state, Cause.RECONCILED)
        return False
