"""The objects of a kind that are open."""

from __future__ import annotations

from typing import Generic, TypeVar
from weakref import ref

T = TypeVar("T")


class Registry(Generic[T]):
    """Objects, which it does not keep alive.

    The garbage collector may run in any thread and at nearly any moment, and an object that it
    drops removes itself. So members are never iterated over in place.
    """

    def __init__(self) -> None:
        self._members: dict[int, ref[T]] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, member: T) -> bool:
        return id(member) in self._members

    def add(self, member: T) -> None:
        """Have a member until it is discarded, or dropped."""
        number = id(member)
        members = self._members

        def forget(dropped: ref[T]) -> None:
            # Another object may have its number by now.
            if members.get(number) is dropped:
                del members[number]

        members[number] = ref(member, forget)

    def discard(self, member: T) -> None:
        """Have it no more, if it was one. Its finalizer may call this."""
        self._members.pop(id(member), None)

    def members(self) -> list[T]:
        """Return the members of this moment."""
        # A copy of a dictionary is made in one step, which nothing interrupts.
        references = self._members.copy().values()
        return [member for each in references if (member := each()) is not None]
