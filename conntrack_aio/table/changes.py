"""Report the changes of a live table to readers, each at its own pace.

- At most one change per entry is pending for a reader.
- A change leads from the state that the reader got last to the present state of the entry.
- An entry that was added and removed between two reads is not reported.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

import anyio
import anyio.lowlevel
import attrs

from ..errors import ConntrackError
from ..eventloop import wake
from ..model.table import Cause, Change, ChangeType
from ..netlink.owner import Owner
from ..streams.iterators import ItemIterator
from .entry_index import EntryIndex
from .states import State
from .tuple_keys import Key

_BATCH_SIZE: Final = 40
"""Changes in a batch, at most."""

_ENTRIES_PER_TURN: Final = 256
"""Entries that are examined before other tasks get their turn."""


@attrs.define
class _PendingChange:
    """A change of one entry that its reader has not got yet."""

    before: State | None
    """The state that the reader got last; ``None`` if it got none."""
    cause: Cause
    final: State | None = None
    """The last state of the entry, if it was removed. Another entry may have its tuple by now."""
    ended_by: Cause | None = None
    """Why the table removed that entry."""


class PendingChanges:
    """The changes that are pending for one reader: at most one per entry."""

    def __init__(self, entries: EntryIndex) -> None:
        self._entries = entries
        self._initial = entries.copy()
        """Entries that existed when the reader started, and that it has not got yet."""
        # An OrderedDict: taking the first item of a dict again and again would scan the slots of
        # all items that were taken before.
        self._changes: OrderedDict[Key, _PendingChange] = OrderedDict()
        self._wake_up: anyio.Event | None = None
        self.undelivered: deque[Change | ConntrackError] = deque()
        """Changes that the iterator has taken and not handed out: the second change of an entry."""

    def __len__(self) -> int:
        """Return the number of entries with a pending change."""
        return len(self._initial) + len(self._changes)

    def clear(self) -> None:
        """Drop everything, because nothing will be read any more."""
        self._entries = EntryIndex()
        self._initial = {}
        self._changes.clear()
        self.undelivered.clear()

    def record_change(
        self, key: Key, before: State | None, final: State | None, cause: Cause, /
    ) -> None:
        """Record a change of an entry; see :meth:`.ChangeReader.record_change`."""
        if key in self._initial:
            if final is not None:
                del self._initial[key]
            return
        change = self._changes.get(key)
        if change is None:
            change = self._changes[key] = _PendingChange(before, cause)
        if final is None:
            change.cause = cause
        elif change.before is None:
            del self._changes[key]  # the entry was added and removed, and never reported
            return
        elif change.final is None:
            change.final, change.ended_by = final, cause
        self.wake()

    def wake(self) -> None:
        """Wake the reader, so that it checks again."""
        if self._wake_up is not None:
            wake(self._wake_up)

    async def wait(self) -> None:
        """Wait until :meth:`wake` is called."""
        self._wake_up = anyio.Event()
        try:
            await self._wake_up.wait()
        finally:
            self._wake_up = None

    def take(self) -> Iterator[Change]:
        """Remove the next entry, and yield its changes: none, one or two."""
        if not self._initial:
            yield from self._changes_of(*self._changes.popitem(last=False))
            return
        key, _ = self._initial.popitem()
        state = self._entries.get(key)
        assert state is not None
        yield Change(ChangeType.ADDED, self._entries.states.new_flow(state), Cause.PRESENT)

    def _changes_of(self, key: Key, change: _PendingChange) -> Iterator[Change]:
        states, before, state = self._entries.states, change.before, self._entries.get(key)
        known = None if before is None else states.new_flow(before)
        if change.final is not None:
            assert change.ended_by is not None
            final = states.new_flow(change.final)
            yield Change(ChangeType.REMOVED, final, change.ended_by, known)
            before = None
        if state is None:
            return
        if before is None:
            yield Change(ChangeType.ADDED, states.new_flow(state), change.cause)
        elif fields := states.changed_fields(before, state):
            flow = states.new_flow(state)
            yield Change(ChangeType.CHANGED, flow, change.cause, known, fields)


class Changes(ItemIterator[Change]):
    """An async iterator over the changes of a live table; see :meth:`FlowTable.changes`.

    It never ends by itself. Entries are reported in the order of their first pending change. What
    happens to one entry between two reads is combined:

    - Several changes become one, from the state that was reported last to the present state.
    - An entry that was added and removed is not reported at all.
    - If an entry was removed, and one with its tuple was added since, there are two changes:
      REMOVED, then ADDED.

    A cancellation loses no change: you can go on iterating. The iterator is closed by
    :meth:`aclose`, by its ``async with`` block, and when it is garbage collected.

    Iterating raises, besides the error that ended the table:

    :raises anyio.ClosedResourceError: when the iterator, the table or the connection is closed.
    :raises anyio.BusyResourceError: when another task iterates.
    :raises UsedElsewhere: when called in another process or event loop.
    """

    def __init__(
        self,
        owner: Owner,
        changes: PendingChanges,
        check_table: Callable[[], None],
        on_close: Callable[[PendingChanges], None],
    ) -> None:
        """Initialize the iterator.

        The table refers to ``changes`` only, not to the iterator. So an iterator that the program
        drops is garbage collected and closed.

        :param owner: the process and the event loop that may use it.
        :param changes: the changes that the table records for this iterator.
        :param check_table: raises an error if the table reports no more changes.
        :param on_close: removes ``changes`` from the table.
        """
        super().__init__(owner)
        self._changes = changes
        changes.undelivered = self._pending
        self._check_table = check_table
        self._on_close = on_close
        self._left = _ENTRIES_PER_TURN
        self._reading = False
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many entries have changes that wait to be read."""
        return len(self._changes) + len(self._pending)

    def _is_ready(self) -> bool:
        # Takes one entry at a time, so that later changes of the others are still combined.
        if self._reading:
            return False
        self._check()
        while self._left and self._changes and not self._pending:
            self._left -= 1
            self._pending.extend(self._changes.take())
        return bool(self._pending)

    async def _refill(self) -> bool:
        if self._reading:
            raise anyio.BusyResourceError("reading from")
        self._owner.check()
        self._check()
        self._reading = True
        try:
            await anyio.lowlevel.checkpoint()
            self._check()  # after the table has ended, nothing wakes this task
            if not self._changes:
                await self._changes.wait()
        finally:
            self._reading = False
        self._left = _ENTRIES_PER_TURN
        return True

    async def receive_batch(self) -> list[Change]:
        """Wait for the next change, and return it with others that are pending, 40 at most."""
        self._owner.check()
        batch = [await anext(self)]
        while len(batch) < _BATCH_SIZE and self._is_ready():
            item = self._pending.popleft()
            assert isinstance(item, Change)
            batch.append(item)
        return batch

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError("this iterator of changes is closed")
        self._check_table()

    async def aclose(self) -> None:
        """Close the iterator, and wake the task that iterates. Idempotent."""
        self.close()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close as :meth:`aclose` does, without a checkpoint.

        Call it in the event loop's thread.
        """
        if not self._closed:
            self._closed = True
            self._on_close(self._changes)
            self._changes.clear()
            self._changes.wake()

    def __del__(self) -> None:
        with suppress(AttributeError):  # an interrupt may have ended the constructor early
            self.close()
