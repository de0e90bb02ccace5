"""Weak references to the objects of a kind that are open, each with a detail about it."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar
from weakref import ref

T = TypeVar("T")
D = TypeVar("D")


class _Entry(NamedTuple, Generic[T, D]):
    reference: ref[T]
    detail: D


class Registry(Generic[T, D]):
    """A set of objects that it does not keep alive, each with a detail.

    The garbage collector may run in any thread and at nearly any moment, and an object that it
    drops removes itself. So members are never iterated over in place.
    """

    def __init__(self) -> None:
        self._members: dict[int, _Entry[T, D]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, member: T) -> bool:
        return id(member) in self._members

    def add(self, member: T, detail: D) -> None:
        """Add a member, until it is discarded or dropped.

        :param detail: an object that must not refer to the member: it is kept alive.
        """
        number = id(member)
        members = self._members

        def forget(dropped: ref[T]) -> None:
            # By now another object may have this number.
            entry = members.get(number)
            if entry is not None and entry.reference is dropped:
                del members[number]

        members[number] = _Entry(ref(member, forget), detail)

    def discard(self, member: T) -> None:
        """Remove a member, if the object is one. Its finalizer may call this."""
        self._members.pop(id(member), None)

    def members(self) -> list[tuple[T, D]]:
        """Return the members of this moment with their details."""
        # A dictionary is copied in one step, which nothing interrupts.
        entries = self._members.copy().values()
        return [
            (member, entry.detail) for entry in entries if (member := entry.reference()) is not None
        ]
