"""Track which network namespace holds each id, and for which datagrams. There is no I/O here.

Datagrams and notifications arrive in different queues, so their relative order is unknown. But a
datagram that was read before a notification is older than it. And once the datagrams' queue was
found empty after a notification, every later datagram is newer. Datagrams in between may be from
either holder of an id that was reassigned.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from .namespaces import Identity


class NamespaceName(NamedTuple):
    """The name of the namespace with an id, or the fact that it has no name."""

    name: str | None
    identity: Identity | None
    """The identity of the name's file: the name is valid as long as its file has this identity."""
    directory_state: object
    """The state of the directory in which there was no name."""


class NsidCache:
    """The names of the namespaces with known ids, and the ids whose holder is uncertain."""

    def __init__(self, capacity: int) -> None:
        """Start without any names.

        :param capacity: the number of datagrams that can wait in the queue at a time.
        """
        self.known: dict[int, NamespaceName] = {}
        self._capacity = capacity
        self._resolved = 0
        """Datagrams that were resolved so far."""
        self._horizon = capacity
        """The number of the last datagram that can be waiting now. All datagrams are numbered from
        1 on, in the order in which they are resolved."""
        self._freed: dict[int, int] = {}
        """Ids whose holder is gone, and the number of the last datagram that may be from it."""
        self._reassigned: dict[int, int] = {}
        """Ids with a new holder, and the number of the last datagram that may be from the old."""
        self._all_uncertain_until = 0
        """The number of the last datagram that may be older than a loss of notifications, or 0."""

    # -- notifications ----------------------------------------------------------------------

    def id_freed(self, id: int) -> None:
        """Note that an id's holder is gone. Datagrams that wait may still be from it."""
        self._freed[id] = self._horizon

    def id_assigned(self, id: int) -> None:
        """Note that an id has a new holder. Datagrams that wait may be from the previous one.

        The kernel may send this before the notification that the previous holder is gone, because
        it frees the id first.
        """
        if id in self.known or id in self._freed:
            self._reassigned[id] = self._horizon
        self.known.pop(id, None)
        self._freed.pop(id, None)

    def invalidate_all(self) -> None:
        """Forget all names, because notifications were lost."""
        self.known.clear()
        self._freed.clear()
        self._all_uncertain_until = self._horizon

    def store(
        self,
        found: Mapping[int, NamespaceName],
        requested: Collection[int],
        directory_state: object,
    ) -> None:
        """Store the names that were found; the other requested ids have no name."""
        self.known.update(found)
        for id in requested:
            if id not in found:
                self.known[id] = NamespaceName(None, None, directory_state)

    def set_capacity(self, capacity: int) -> None:
        """Note that from now on ``capacity`` datagrams can wait in the queue."""
        self._horizon += capacity - self._capacity
        self._capacity = capacity

    # -- datagrams --------------------------------------------------------------------------

    def begin_batch(self, count: int) -> None:
        """Note that ``count`` datagrams were read; notifications from now on are newer."""
        self._horizon = self._resolved + count + self._capacity

    def end_batch(self, count: int, *, drained: bool) -> None:
        """Note that the datagrams of a batch were resolved.

        :param count: the number of datagrams.
        :param drained: whether the queue was empty after they had been read.
        """
        self._resolved += count
        # A notification from before the batch no longer matters if the queue was empty, or if more
        # datagrams have been read since than could wait at that time.
        self._forget(self._horizon if drained else self._resolved + 1)

    def note_drained(self) -> None:
        """Note that the queue was found empty after all notifications so far."""
        self._forget(self._horizon + 1)

    def _forget(self, limit: int) -> None:
        """Drop the uncertainty about datagrams before number ``limit``."""
        for id in [id for id, until in self._freed.items() if until < limit]:
            del self._freed[id]
            self.known.pop(id, None)
        for id in [id for id, until in self._reassigned.items() if until < limit]:
            del self._reassigned[id]
        if self._all_uncertain_until < limit:
            self._all_uncertain_until = 0

    # -- names ------------------------------------------------------------------------------

    def is_final(self, id: int) -> bool:
        """Return whether a look-up is useless: the id's holder is gone or uncertain."""
        return bool(self._all_uncertain_until) or id in self._reassigned or id in self._freed

    def name_of(self, id: int) -> str | None:
        """Return the name of the namespace that sent a datagram with this id, if it is certain."""
        if self._all_uncertain_until or id in self._reassigned:
            return None
        name = self.known.get(id)
        return None if name is None else name.name

    def by_name(self) -> dict[str, tuple[int, NamespaceName]]:
        """Return the ids of all living namespaces with a name, by that name."""
        return {
            name.name: (id, name)
            for id, name in self.known.items()
            if name.name is not None and id not in self._freed
        }
