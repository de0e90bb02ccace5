"""Find the entries whose timeout has expired although no event reported their end."""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from .entry_index import EntryIndex
from .states import State
from .tuple_keys import Key

_ENTRIES_PER_SCAN: Final = 2048
"""Entries whose timeout one call examines, which takes less than a millisecond."""

_WITHOUT_TIMEOUT: Final = 600
"""Seconds between two look-ups of an entry without a timeout, for example while it is offloaded."""

_ROUNDING: Final = 1.0
"""Seconds that an entry may outlive its reported timeout: the kernel rounds down to seconds."""


class ExpiryScan:
    """Scans the entries in rounds, some at a time."""

    def __init__(self, entries: EntryIndex) -> None:
        self._entries = entries
        self.refreshed_at: Final[dict[Key, float]] = {}
        """When each entry whose state is a flow was last read or reported, in seconds. Its timeout
        counts from then. Records have this time themselves."""
        self._remaining: list[Key] = []
        """The keys of the entries that this round has not examined yet."""

    def clear(self) -> None:
        """Forget all entries."""
        self.refreshed_at.clear()
        self._remaining = []

    def start_round(self) -> None:
        """Start a new round with all entries."""
        self._remaining = list(self._entries.keys)

    def overdue(self, now: float, limit: int, excluded: Container[Key]) -> dict[Key, State]:
        """Examine the next entries of the round, and return those whose timeout has expired.

        :param now: the present time, in the seconds of :attr:`refreshed_at`.
        :param limit: how many entries to return at most.
        :param excluded: keys of entries to skip.
        """
        if not self._remaining:
            self.start_round()
        found: dict[Key, State] = {}
        states, get = self._entries.states, self._entries.get
        for _ in range(min(_ENTRIES_PER_SCAN, len(self._remaining))):
            key = self._remaining.pop()
            state = get(key)
            if state is None or key in excluded:
                continue
            timeout = states.timeout_of(state)
            lifetime = (_WITHOUT_TIMEOUT if timeout is None else timeout) + _ROUNDING
            if self.time_of(key, state) + lifetime < now:
                found[key] = state
                if len(found) == limit:
                    break
        return found

    def time_of(self, key: Key, state: State) -> float:
        """Return when an entry was last read or reported."""
        if isinstance(state, bytes):
            return self._entries.states.time_of(state)
        return self.refreshed_at[key]
