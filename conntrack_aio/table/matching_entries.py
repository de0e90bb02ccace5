"""Store the entries that match a predicate, and pass each change to readers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from ..model.flow import Flow
from ..model.table import Cause
from .entry_index import EntryIndex
from .expiry import ExpiryScan
from .states import State
from .tuple_keys import Key, Keys


class ChangeReader(Protocol):
    """Receives the changes of a mirror for one reader."""

    def record_change(
        self, key: Key, before: State | None, final: State | None, cause: Cause, /
    ) -> None:
        """Record that an entry was added, changed or removed.

        :param key: the key of its original tuple.
        :param before: its state before; ``None`` if it was added.
        :param final: its last state if it was removed, otherwise ``None``.
        :param cause: how the mirror found the change.
        """
        ...


class MatchingEntries:
    """The entries that match. The base class of :class:`.Mirror`, which decides what to store."""

    def __init__(self, predicate: Callable[[Flow], bool] | None) -> None:
        """Initialize without entries.

        :param predicate: which flows to hold; ``None`` for all.
        """
        self.entries: Final = EntryIndex()
        self.states: Final = self.entries.states
        self.readers: tuple[ChangeReader, ...] = ()
        """Replaced by another tuple when a reader starts or ends. The garbage collector may close a
        reader at any moment, even while other readers are called."""
        self.without_events: Final[dict[Key, None]] = {}
        """Keys of the entries that were read, and that no event has reported since. The garbage
        collector skips a dictionary that has no object to examine, but never a set."""
        self._now = 0.0
        self._predicate = predicate
        self._expiry: Final = ExpiryScan(self.entries)
        self._refreshed_at: Final = self._expiry.refreshed_at

    @property
    def now(self) -> float:
        """Seconds of a monotonic clock. The caller sets it before it passes events or entries."""
        return self._now

    @now.setter
    def now(self, seconds: float) -> None:
        self._now = seconds
        self.states.set_time(seconds)

    def clear(self) -> None:
        """Remove all entries, and drop the predicate.

        Tasks that have not noticed the end of the table may still pass events. The entries of these
        events stay until this is called again.
        """
        self.entries.clear()
        self.readers = ()
        self.without_events.clear()
        self._expiry.clear()
        self._predicate = None

    def _add(self, keys: Keys, state: State, cause: Cause) -> bool:
        """Add an entry if it matches; return whether it does."""
        if self._predicate is not None and not self._matches(state):
            return False
        self.entries.add(keys, state)
        key = keys[0]
        if self._refreshed_at or not isinstance(state, bytes):
            self._note_time(key, state)
        for reader in self.readers:
            reader.record_change(key, None, None, cause)
        return True

    def _change(self, keys: Keys, before: State, state: State, cause: Cause) -> None:
        """Store a later state of an entry, or remove the entry if it no longer matches."""
        key = keys[0]
        if self._predicate is not None and not self._matches(state):
            self._remove(key, state, Cause.UNMATCHED, before=before)
            return
        self.entries.replace(keys, state)
        if self._refreshed_at or not isinstance(state, bytes):
            self._note_time(key, state)
        if self.readers and self.states.changed_fields(before, state):
            for reader in self.readers:
                reader.record_change(key, before, None, cause)

    def _note_time(self, key: Key, state: State) -> None:
        """Store the present time for an entry, unless its state is a record, which has a time."""
        if isinstance(state, bytes):
            self._refreshed_at.pop(key, None)
        else:
            self._refreshed_at[key] = self._now

    def set_time_of(self, key: Key, seconds: float) -> None:
        """Make the timeout of an entry count from another time."""
        state = self.entries.get(key)
        if isinstance(state, bytes):
            keys = self.states.keys_of(state)
            self.entries.replace(keys, self.states.with_time(state, seconds))
        elif state is not None:
            self._refreshed_at[key] = seconds

    def _matches(self, state: State) -> bool:
        assert self._predicate is not None
        return self._predicate(self.states.flow_of(state))

    def _remove(
        self,
        key: Key,
        final: State,
        cause: Cause,
        *,
        before: State | None = None,
        keys: Keys | None = None,
    ) -> None:
        """Remove an entry, and report its final state.

        :param key: the key of its original tuple.
        :param final: its final state.
        :param cause: why it is removed.
        :param before: the stored state, if that is another one.
        :param keys: all keys of the stored state, if they are known.
        """
        if keys is None:
            keys = self.states.keys_of(final if before is None else before)
        self.entries.remove(keys)
        self.without_events.pop(key, None)
        if self._refreshed_at:
            self._refreshed_at.pop(key, None)
        for reader in self.readers:
            reader.record_change(key, before or final, final, cause)
