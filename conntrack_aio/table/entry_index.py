"""Index the entries of the live table by original tuple, reply tuple and id."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final

from ..model.flow import Flow
from ..model.tuples import Tuple
from .states import State, States
from .tuple_keys import Key, Keys, inverse_key_of, key_of


class EntryIndex:
    """States of entries by the key of their original tuple; see :func:`.tuple_keys.orig_key`.

    The cost of a look-up does not depend on the number of entries.
    """

    def __init__(self, states: States | None = None) -> None:
        """Initialize without entries.

        :param states: the formats of the states; by default new ones.
        """
        self.states = States() if states is None else states
        self._entries: dict[Key, State] = {}
        self.get: Final[Callable[[Key], State | None]] = self._entries.get
        """Returns the state with a key, or ``None``."""
        self._by_reply: dict[Key, Key] = {}
        """Original keys by reply key, of entries whose reply tuple is not the inverse of the
        original tuple."""
        self._ids: dict[int, Key | tuple[Key, ...]] = {}
        """Original keys by id. An id is a hash of 32 bits: of a million entries, some hundred share
        theirs with another."""

    def __len__(self) -> int:
        return len(self._entries)

    def copy(self) -> dict[Key, State]:
        """Return all states by their keys.

        This takes about 20 ms for a million entries. A set of the keys would take longer.
        """
        return self._entries.copy()

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()
        self._by_reply.clear()
        self._ids.clear()

    @property
    def keys(self) -> Collection[Key]:
        """A view of all keys."""
        return self._entries.keys()

    @property
    def flows(self) -> Iterator[Flow]:
        """An iterator over new flows of a snapshot of the entries."""
        return map(self.states.new_flow, tuple(self._entries.values()))

    def by_orig(self, tuple_: Tuple, zone: int) -> State | None:
        """Return the state with this original tuple, or ``None``.

        :param tuple_: a tuple as :func:`.plain_tuple` returns it.
        :param zone: the zone of that direction.
        """
        return self._entries.get(key_of(tuple_, zone))

    def by_reply(self, tuple_: Tuple, zone: int) -> State | None:
        """Return the state with this reply tuple, or ``None``.

        :param tuple_: a tuple as :func:`.plain_tuple` returns it.
        :param zone: the zone of that direction.
        """
        key = self._by_reply.get(key_of(tuple_, zone))
        if key is not None:
            return self._entries[key]
        inverse = inverse_key_of(tuple_, zone)
        state = None if inverse is None else self._entries.get(inverse)
        if state is not None and self.states.keys_of(state)[1] is None:
            return state
        return None

    def by_id(self, id: int) -> list[State]:
        """Return the states with this id."""
        keys = self._ids.get(id)
        if keys is None:
            return []
        return [self._entries[key] for key in ((keys,) if isinstance(keys, bytes) else keys)]

    def add(self, keys: Keys, state: State) -> bool:
        """Add a state unless there is one with the same original tuple.

        :param keys: its keys.
        :param state: the state, which must not have been added before.
        :returns: whether it was added.
        """
        key, reply_key, id = keys
        if self._entries.setdefault(key, state) is not state:
            return False
        if reply_key is not None:
            self._by_reply[reply_key] = key
        if id is not None:
            others = self._ids.setdefault(id, key)
            if others != key:
                others = (others,) if isinstance(others, bytes) else others
                self._ids[id] = (*others, key)
        return True

    def replace(self, keys: Keys, state: State) -> None:
        """Store a later state of an entry.

        :param keys: its keys. That of the original tuple must be present.
        :param state: the state. Its tuples are the same, and so is its id, if both states have one.
        """
        key, _, id = keys
        if self.states.has_id(self._entries[key]) == (id is not None):
            self._entries[key] = state
        else:
            self.remove(self.states.keys_of(self._entries[key]))
            self.add(keys, state)

    def remove(self, keys: Keys) -> None:
        """Remove an entry, which must be present.

        :param keys: its keys.
        """
        key, reply_key, id = keys
        del self._entries[key]
        # Another entry may have got the reply tuple in the meantime.
        if reply_key is not None and self._by_reply.get(reply_key) == key:
            del self._by_reply[reply_key]
        if id is None:
            return
        others = self._ids.pop(id)
        if isinstance(others, tuple):
            first, *rest = (each for each in others if each != key)
            self._ids[id] = (first, *rest) if rest else first
