"""Index the entries of the live table by original tuple, reply tuple and id."""

from __future__ import annotations

from collections.abc import Collection

from ..model.flow import Flow
from ..model.tuples import Tuple
from .tuple_keys import key_of, reply_is_inverse, reply_key


class EntryIndex:
    """Flows by the key of their original tuple; see :func:`.tuple_keys.orig_key`.

    The cost of a look-up does not depend on the number of entries.
    """

    def __init__(self) -> None:
        self._flows: dict[int, Flow] = {}
        self._by_reply: dict[int, int] = {}
        """Original keys by reply key, of entries for which :func:`.reply_is_inverse` is false."""
        self._ids: dict[int, int | tuple[int, ...]] = {}
        """Original keys by id. An id is a hash of 32 bits: of a million entries, some hundred share
        theirs with another."""

    def __len__(self) -> int:
        return len(self._flows)

    def copy(self) -> dict[int, Flow]:
        """Return all flows by their keys.

        This takes about 20 ms for a million entries. A set of the keys would take longer.
        """
        return self._flows.copy()

    def clear(self) -> None:
        """Remove all entries."""
        self._flows.clear()
        self._by_reply.clear()
        self._ids.clear()

    @property
    def flows(self) -> Collection[Flow]:
        """A view of all flows."""
        return self._flows.values()

    def get(self, key: int) -> Flow | None:
        """Return the flow with this key, or ``None``."""
        return self._flows.get(key)

    def by_orig(self, tuple_: Tuple, zone: int) -> Flow | None:
        """Return the flow with this original tuple, or ``None``.

        :param tuple_: a tuple as :func:`.plain_tuple` returns it.
        :param zone: the zone of that direction.
        """
        return self._flows.get(key_of(tuple_, zone))

    def by_reply(self, tuple_: Tuple, zone: int) -> Flow | None:
        """Return the flow with this reply tuple, or ``None``.

        :param tuple_: a tuple as :func:`.plain_tuple` returns it.
        :param zone: the zone of that direction.
        """
        key = self._by_reply.get(key_of(tuple_, zone))
        if key is not None:
            return self._flows[key]
        # The dictionary has all ICMP entries, so only other tuples are looked up by their inverse.
        if tuple_.icmp_id is tuple_.icmp_type is tuple_.icmp_code is None:
            flow = self._flows.get(key_of(tuple_.inverse, zone))
            if flow is not None and reply_is_inverse(flow):
                return flow
        return None

    def by_id(self, id: int) -> list[Flow]:
        """Return the flows with this id."""
        keys = self._ids.get(id)
        if keys is None:
            return []
        return [self._flows[key] for key in ((keys,) if isinstance(keys, int) else keys)]

    def add(self, key: int, flow: Flow) -> None:
        """Add a flow. Its key must not be present."""
        self._flows[key] = flow
        if not reply_is_inverse(flow):
            self._by_reply[reply_key(flow)] = key
        if flow.id is not None:
            others = self._ids.setdefault(flow.id, key)
            if others != key:
                others = (others,) if isinstance(others, int) else others
                self._ids[flow.id] = (*others, key)

    def replace(self, key: int, flow: Flow) -> None:
        """Store a later state of an entry. The key must be present, and the tuples the same."""
        if self._flows[key].id == flow.id:
            self._flows[key] = flow
        else:  # one of the two states has no id
            self.remove(key)
            self.add(key, flow)

    def remove(self, key: int) -> None:
        """Remove the flow with this key, which must be present."""
        flow = self._flows.pop(key)
        if not reply_is_inverse(flow):
            number = reply_key(flow)
            # Another entry may have got the reply tuple in the meantime.
            if self._by_reply.get(number) == key:
                del self._by_reply[number]
        if flow.id is None:
            return
        keys = self._ids.pop(flow.id)
        if isinstance(keys, tuple):
            first, *rest = (each for each in keys if each != key)
            self._ids[flow.id] = (first, *rest) if rest else first
