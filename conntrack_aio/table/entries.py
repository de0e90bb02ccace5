"""The entries of the live table, by their original tuple, their reply tuple and their id."""

from __future__ import annotations

from collections.abc import Collection

from ..model.flow import Flow
from ..model.tuples import Tuple
from .keys import is_plain, key_of, reply_key


class Entries:
    """Flows by the number of their original tuple, which :func:`orig_key` tells.

    What a look-up costs does not depend on how many there are.
    """

    def __init__(self) -> None:
        self._flows: dict[int, Flow] = {}
        self._translated: dict[int, int] = {}
        """Of those whose reply tuple is not the plain inverse: by its number, the original's."""
        self._ids: dict[int, int | tuple[int, ...]] = {}
        """An id is a hash of 32 bits: of a million entries, some hundred share theirs."""

    def __len__(self) -> int:
        return len(self._flows)

    def copy(self) -> dict[int, Flow]:
        """All of them, by their keys: some 20 ms at a million. A set of the keys takes longer."""
        return self._flows.copy()

    def clear(self) -> None:
        """Let go of all of them."""
        self._flows.clear()
        self._translated.clear()
        self._ids.clear()

    @property
    def flows(self) -> Collection[Flow]:
        return self._flows.values()

    def get(self, key: int) -> Flow | None:
        return self._flows.get(key)

    def by_orig(self, tuple_: Tuple, zone: int) -> Flow | None:
        """The tuple is one that :func:`plain_tuple` returns."""
        return self._flows.get(key_of(tuple_, zone))

    def by_reply(self, tuple_: Tuple, zone: int) -> Flow | None:
        """The tuple is one that :func:`plain_tuple` returns."""
        key = self._translated.get(key_of(tuple_, zone))
        if key is not None:
            return self._flows[key]
        if tuple_.icmp_id is tuple_.icmp_type is tuple_.icmp_code is None:
            flow = self._flows.get(key_of(tuple_.inverse, zone))
            if flow is not None and is_plain(flow):
                return flow
        return None  # those of ICMP are all in the index

    def by_id(self, id: int) -> list[Flow]:
        keys = self._ids.get(id)
        if keys is None:
            return []
        return [self._flows[key] for key in ((keys,) if isinstance(keys, int) else keys)]

    def add(self, key: int, flow: Flow) -> None:
        """One whose key is not there yet."""
        self._flows[key] = flow
        if not is_plain(flow):
            self._translated[reply_key(flow)] = key
        if flow.id is not None:
            others = self._ids.setdefault(flow.id, key)
            if others != key:
                others = (others,) if isinstance(others, int) else others
                self._ids[flow.id] = (*others, key)

    def replace(self, key: int, flow: Flow) -> None:
        """The same entry in a later state, with the same tuples."""
        if self._flows[key].id == flow.id:
            self._flows[key] = flow
        else:  # the one state has no id
            self.remove(key)
            self.add(key, flow)

    def remove(self, key: int) -> None:
        """One that is there."""
        flow = self._flows.pop(key)
        if not is_plain(flow):
            number = reply_key(flow)
            if self._translated.get(number) == key:  # another may have its reply tuple by now
                del self._translated[number]
        if flow.id is None:
            return
        keys = self._ids.pop(flow.id)
        if isinstance(keys, tuple):
            first, *rest = (each for each in keys if each != key)
            self._ids[flow.id] = (first, *rest) if rest else first
