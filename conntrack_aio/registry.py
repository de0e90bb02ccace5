"""Keep weak references to open objects, such as dumps and streams, each with a detail."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar
from weakref import ref

T = TypeVar("T")
D = TypeVar("D")


class _Record(NamedTuple, Generic[T, D]):
    """The reference to a member, and the detail about it."""

    reference: ref[T]
    detail: D


class Registry(Generic[T, D]):
    """A set of objects with a detail about each, which does not keep the objects alive.

    - A member is an object, not a value: two equal objects are two members.
    - A member that the garbage collector frees is removed. The collector may run in any thread and
      between any two instructions, so the methods never iterate over the set itself, but over a
      copy.
    """

    def __init__(self) -> None:
        self._members: dict[int, _Record[T, D]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, member: T) -> bool:
        return id(member) in self._members

    def add(self, member: T, detail: D) -> None:
        """Add an object, until it is discarded or freed.

        :param member: the object. It must support weak references.
        :param detail: the detail. The registry keeps it alive, so it must not refer to the member.
        """
        key = id(member)
        members = self._members

        def remove(freed: ref[T]) -> None:
            # A new object at the same address may have this key already.
            record = members.get(key)
            if record is not None and record.reference is freed:
                del members[key]

        members[key] = _Record(ref(member, remove), detail)

    def discard(self, member: T) -> None:
        """Remove an object if it is a member. The object's finalizer may call this method."""
        self._members.pop(id(member), None)

    def members(self) -> list[tuple[T, D]]:
        """Return the current members with their details."""
        # dict.copy() is atomic: the garbage collector cannot remove a member in the middle of it.
        records = self._members.copy().values()
        return [
            (member, record.detail)
            for record in records
            if (member := record.reference()) is not None
        ]
