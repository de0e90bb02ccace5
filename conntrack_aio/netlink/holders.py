"""Who holds which id of a namespace, and for which datagrams: the part without any I/O.

Datagrams and notices come by different queues, so that their order among each other is not
known. But a datagram that was read before a notice is older than it; and once a queue ran dry
after a notice, whatever comes is younger. What lies in between is in doubt.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

Identity = tuple[int, int]
"""The device and the number of a file: of all that live, one namespace has it."""


class Name(NamedTuple):
    """What the namespace with an id is called, or that it has no name."""

    name: str | None
    identity: Identity | None
    """Of the name's file: it is the same namespace's as long as it has this one."""
    state: object
    """Of the directory in which there was no name."""


class Holders:
    """The holders of ids that are known, and the ids of which it is not known who that was."""

    def __init__(self, backlog: int) -> None:
        """``backlog`` is how many datagrams can wait at a time."""
        self.known: dict[int, Name] = {}
        self._backlog = backlog
        self._passed = 0
        """Datagrams that were named so far."""
        self._horizon = backlog
        """A datagram that waits now is not beyond this one, counted so."""
        self._left: dict[int, int] = {}
        """Ids whose holder is gone, and up to which datagram it may have been theirs."""
        self._doubtful: dict[int, int] = {}
        """Ids that changed hands, and up to which datagram it may have been the former one's."""
        self._all_doubtful = 0

    # -- what happens -----------------------------------------------------------------------

    def freed(self, id: int) -> None:
        """Its holder is gone. What waits, and has the id, may yet be of that one."""
        self._left[id] = self._horizon

    def assigned(self, id: int) -> None:
        """It was given to a namespace; what waits may be of the one that had it before.

        The kernel may say so before it says that the former one is gone: the id is free first.
        """
        if id in self.known or id in self._left:
            self._doubtful[id] = self._horizon
        self.known.pop(id, None)
        self._left.pop(id, None)

    def doubt_all(self) -> None:
        """Notices were lost."""
        self.known.clear()
        self._left.clear()
        self._all_doubtful = self._horizon

    def learn(self, found: Mapping[int, Name], asked: Collection[int], state: object) -> None:
        """The names that were found, and those ids that were looked for."""
        self.known.update(found)
        for id in asked:
            if id not in found:
                self.known[id] = Name(None, None, state)

    def grow(self, backlog: int) -> None:
        """From now on so many datagrams can wait."""
        self._horizon += backlog - self._backlog
        self._backlog = backlog

    # -- what is read -----------------------------------------------------------------------

    def begin(self, count: int) -> None:
        """So many datagrams were read; what is heard from now on is younger."""
        self._horizon = self._passed + count + self._backlog

    def end(self, count: int, *, dry: bool) -> None:
        """They were named. ``dry`` says that no more waited when they had been read."""
        self._passed += count
        # What was heard before they were read: it is behind us if nothing was left, or if more
        # have been read since than could wait then.
        self._forget(self._horizon if dry else self._passed + 1)

    def idle(self) -> None:
        """Nothing waited, after all that was heard."""
        self._forget(self._horizon + 1)

    def _forget(self, limit: int) -> None:
        for id in [id for id, until in self._left.items() if until < limit]:
            del self._left[id]
            self.known.pop(id, None)
        for id in [id for id, until in self._doubtful.items() if until < limit]:
            del self._doubtful[id]
        if self._all_doubtful < limit:
            self._all_doubtful = 0

    # -- what is known ----------------------------------------------------------------------

    def is_settled(self, id: int) -> bool:
        """Whether there is nothing to find out: it is in doubt, or its holder is gone."""
        return bool(self._all_doubtful) or id in self._doubtful or id in self._left

    def name_of(self, id: int) -> str | None:
        """The name of the namespace that a datagram with this id is from, if that is certain."""
        if self._all_doubtful or id in self._doubtful:
            return None
        name = self.known.get(id)
        return None if name is None else name.name

    def by_name(self) -> dict[str, tuple[int, Name]]:
        """The names of those that live, as they were found."""
        return {
            name.name: (id, name)
            for id, name in self.known.items()
            if name.name is not None and id not in self._left
        }
