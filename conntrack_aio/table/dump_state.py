"""What the mirror records while a dump of the kernel's table is in progress."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import attrs

from .states import State
from .tuple_keys import Key

_MAX_ENDED_IDS: Final = 64
"""Ids of ended entries with one tuple that are recorded separately."""


@attrs.define
class ReportedState:
    """What events reported, since the dump began, about the entries with one original tuple."""

    state: State | None = None
    """The entry that exists according to the events; ``None`` if it has ended."""
    complete: bool = False
    """Whether :attr:`state` is newer than anything the dump can return: the entry was created, or
    looked up, after the dump began."""
    ended_ids: set[int | None] = attrs.field(factory=set[int | None])
    """The ids of the entries that ended. ``None`` stands for any id."""

    def record_end(self, id: int | None) -> None:
        """Record that the entry with this id has ended.

        Beyond 64 ids, every entry with this tuple that the dump returns counts as ended. The next
        dump corrects that.
        """
        self.state, self.complete = None, False
        self.ended_ids.add(id)
        if len(self.ended_ids) > _MAX_ENDED_IDS:
            self.ended_ids = {None}

    def record_complete(self, state: State) -> None:
        """Record an entry with all of its fields, as its NEW event or a look-up has it."""
        self.state, self.complete = state, True


class DumpState:
    """A dump in progress."""

    def __init__(self, known: dict[Key, State], *, examine: bool) -> None:
        """Initialize the state at the beginning of the dump.

        :param known: the entries of the mirror, by their keys. The dictionary is changed.
        :param examine: whether each difference must have been reported by an event.
        """
        self.not_dumped: Final = known
        """Entries that the mirror had before, and that the dump has not returned yet."""
        self.reported: Final[defaultdict[Key, ReportedState]] = defaultdict(ReportedState)
        """What events reported since the dump began, by the key of the original tuple."""
        self.needs_look_up = False
        """Whether an update of an unknown entry was received. If the dump does not return that
        entry, it is looked up."""
        self.examine = examine
        """Whether the differences that the dump finds are recorded as discrepancies."""

    @property
    def concerns_known(self) -> bool:
        """Whether something is known of entries that the dump may return."""
        return bool(self.not_dumped or self.reported or self.examine)
