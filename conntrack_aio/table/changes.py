"""The changes of a live table, as one reader has them told."""

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
from ..model.flow import Flow
from ..model.table import Cause, Change, ChangeType
from ..netlink.owner import Owner
from ..streams.iterators import ItemIterator
from .entries import Entries
from .merging import differences

_AT_ONCE: Final = 40
"""Changes in a batch."""

_TURN: Final = 256
"""Entries looked at before other tasks have their turn."""


@attrs.define
class _Note:
    """What is to be told of one entry: it was ``before`` when the reader was last told of it."""

    before: Flow | None
    cause: Cause
    final: Flow | None = None
    """The state in which that one ended. Another may be there by now."""
    ended_by: Cause | None = None


class Backlog:
    """What waits for one reader: at most one change an entry."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._unopened = entries.copy()
        """The entries that were there at first, and that the reader was not told of yet."""
        # A dict of which the first is taken again and again looks through all that were taken.
        self._notes: OrderedDict[int, _Note] = OrderedDict()
        self._news: anyio.Event | None = None
        self.pending: deque[Change | ConntrackError] = deque()
        """What the reader has taken and not handed out: the second change of an entry."""

    def __len__(self) -> int:
        """How many entries there is something to tell of."""
        return len(self._unopened) + len(self._notes)

    def clear(self) -> None:
        """Let go of everything: nothing is read any more."""
        self._entries = Entries()
        self._unopened = {}
        self._notes.clear()
        self.pending.clear()

    def note(self, key: int, before: Flow | None, final: Flow | None, cause: Cause, /) -> None:
        """See :class:`~conntrack_aio.table.mirror.Listener`."""
        if key in self._unopened:
            if final is not None:
                del self._unopened[key]
            return
        note = self._notes.get(key)
        if note is None:
            note = self._notes[key] = _Note(before, cause)
        if final is None:
            note.cause = cause
        elif note.before is None:
            del self._notes[key]  # it came and went, and nobody was told
            return
        elif note.final is None:
            note.final, note.ended_by = final, cause
        self.wake()

    def wake(self) -> None:
        """Have the reader look again."""
        if self._news is not None:
            wake(self._news)

    async def wait(self) -> None:
        """Return when the reader is to look again."""
        self._news = anyio.Event()
        try:
            await self._news.wait()
        finally:
            self._news = None

    def take(self) -> Iterator[Change]:
        """What there is to tell of the next entry, which may be nothing."""
        if not self._unopened:
            yield from self._tell(*self._notes.popitem(last=False))
            return
        key, _ = self._unopened.popitem()
        flow = self._entries.get(key)
        assert flow is not None
        yield Change(ChangeType.ADDED, flow, Cause.PRESENT)

    def _tell(self, key: int, note: _Note) -> Iterator[Change]:
        before, flow = note.before, self._entries.get(key)
        if note.final is not None:
            assert note.ended_by is not None
            yield Change(ChangeType.REMOVED, note.final, note.ended_by, before)
            before = None
        if flow is None:
            return
        if before is None:
            yield Change(ChangeType.ADDED, flow, note.cause)
        elif fields := differences(before, flow):
            yield Change(ChangeType.CHANGED, flow, note.cause, before, fields)


class Changes(ItemIterator[Change]):
    """Changes of a live table: an async iterator that never ends by itself; see
    :meth:`FlowTable.changes`.

    At most one change an entry waits to be read: what happens to an entry meanwhile becomes one,
    from the state that was told last to the present one. (An entry that ended and whose tuple
    another has by now makes two.) Entries are told in the order in which they first changed. It is
    closed when it is dropped.

    Iterating raises what the table failed for; :exc:`anyio.ClosedResourceError` once it, the table
    or the connection is closed; and :exc:`anyio.BusyResourceError` while another task iterates.
    """

    def __init__(
        self,
        owner: Owner,
        backlog: Backlog,
        check: Callable[[], None],
        on_close: Callable[[Backlog], None],
    ) -> None:
        """``check`` raises why there will be no more changes. Only the backlog is known to the
        table, so that who drops the iterator is not written for any more."""
        super().__init__(owner)
        self._backlog = backlog
        backlog.pending = self._pending
        self._check_table = check
        self._on_close = on_close
        self._left = _TURN
        self._reading = False
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many entries there is something to tell of."""
        return len(self._backlog) + len(self._pending)

    def _is_ready(self) -> bool:
        """One entry at a time, so that what is not read yet may still change."""
        if self._reading:
            return False
        self._check()
        while self._left and self._backlog and not self._pending:
            self._left -= 1
            self._pending.extend(self._backlog.take())
        return bool(self._pending)

    async def _refill(self) -> bool:
        if self._reading:
            raise anyio.BusyResourceError("reading from")
        self._owner.check()
        self._check()
        self._reading = True
        try:
            await anyio.lowlevel.checkpoint()
            self._check()  # once it has ended, nobody wakes this task
            if not self._backlog:
                await self._backlog.wait()
        finally:
            self._reading = False
        self._left = _TURN
        return True

    async def receive_batch(self) -> list[Change]:
        self._owner.check()
        batch = [await anext(self)]
        while len(batch) < _AT_ONCE and self._is_ready():
            item = self._pending.popleft()
            assert isinstance(item, Change)
            batch.append(item)
        return batch

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError("these changes of the table are closed")
        self._check_table()

    async def aclose(self) -> None:
        """End it. Idempotent; a task that iterates is woken."""
        self.close()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """As :meth:`aclose`, without a checkpoint. To be called in the event loop's thread."""
        if not self._closed:
            self._closed = True
            self._on_close(self._backlog)
            self._backlog.clear()
            self._backlog.wake()

    def __del__(self) -> None:
        with suppress(AttributeError):  # an interrupt may have cut its making short
            self.close()
