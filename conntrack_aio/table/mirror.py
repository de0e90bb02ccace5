"""The mirror, without I/O: what events and dumped entries do to it.

An event is older than the state that it is applied to if a dump, or a look-up, was ahead of it: the
kernel queues an event after the change. It does no harm, because every later change has an event
of its own, which still comes: applied in their order over what was read, events end in the state
of the last. That is what the window is for. While one dump is under way, it keeps, for each entry
that events tell of, the last that they said. An entry that the dump tells of is taken for as old
as the dump's beginning, and what events have said since is laid over it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import attrs

from ..model.events import EventType, FlowEvent
from ..model.flow import Flow, Status
from ..model.table import Cause
from .entries import Entries
from .keys import orig_key
from .merging import differences, duplicate, finish, lay_over, may_hide_labels, same_entry

_DYING: Final = int(Status.DYING)

_MOST_ENDS: Final = 64
"""Ids of ended entries with one tuple that are kept apart."""

SWEPT_AT_ONCE: Final = 2048
"""Entries, between two turns of the loop."""


class Listener(Protocol):
    """Who is told of changes."""

    def note(self, key: int, before: Flow | None, final: Flow | None, cause: Cause, /) -> None:
        """An entry that was ``before`` (``None``: not there) is another now; or, with its
        ``final`` state, it is there no more."""
        ...


@attrs.define
class _Told:
    """What events have said of the entries with one tuple since the dump under way began."""

    flow: Flow | None = None
    """The one that lives, as far as they told; ``None`` if it has ended."""
    whole: bool = False
    """Whether it is younger than the dump, or was looked up since, so that nothing which the dump
    finds can add to it."""
    ended: set[int | None] = attrs.field(factory=set[int | None])
    """The ids of those that ended; ``None`` for any."""

    def end(self, id: int | None) -> None:
        """The one that lived, and had this id, has ended."""
        self.flow, self.whole = None, False
        self.ended.add(id)
        if len(self.ended) > _MOST_ENDS:
            self.ended = {None}

    def begin(self, flow: Flow) -> None:
        """Another one lives, and this is all of it."""
        self.flow, self.whole = flow, True


class _Window:
    """A dump under way."""

    def __init__(self, known: dict[int, Flow]) -> None:
        self.unseen: Final = known
        """Entries from before it that it has not told of."""
        self.told: Final[defaultdict[int, _Told]] = defaultdict(_Told)
        self.puzzled = False
        """Whether updates told of entries that are not known, and that it may tell of yet."""


def _is_dying(flow: Flow) -> bool:
    """Whether it has ended, and its event was sent, but it is still in the kernel's table.

    Nobody will tell of its end again (``nf_ct_delete``: the event comes before the removal).
    """
    return flow.status is not None and bool(int(flow.status) & _DYING)


class Mirror:
    """A copy of the kernel's table, or of those entries of it that ``keep`` is true of.

    ``keep`` is asked of complete flows: of what an event tells of one that is not known, it can't
    be. Those are the :attr:`strangers`, to be looked up.
    """

    def __init__(self, keep: Callable[[Flow], bool] | None) -> None:
        self.entries: Final = Entries()
        self.listeners: tuple[Listener, ...] = ()
        """Another tuple takes its place when one comes or goes, which may be at any moment: when a
        reader is collected as garbage, while others are told."""
        self.unheard: Final[set[int]] = set()
        """Those that were read, and that no event has told of."""
        self.strangers: dict[int, Flow] = {}
        """What updates told of entries that are not known."""
        self.settled = False
        """Whether whatever events come now are younger than all that was read."""
        self.applied = 0
        self._keep = keep
        self._window: _Window | None = None

    @property
    def puzzled(self) -> bool:
        """Whether the dump under way, or look-ups after it, may be needed for what events told."""
        return bool(self.strangers) or (self._window is not None and self._window.puzzled)

    # -- events -----------------------------------------------------------------------------

    def apply(self, event: FlowEvent) -> None:
        """What an event tells. Its flow is the mirror's from now on."""
        self.applied += 1
        flow = event.flow
        key = orig_key(flow)
        if event.type is EventType.UPDATE:
            self._update(key, flow, by_program=event.port_id != 0)
        elif event.type is EventType.NEW:
            self._begin(key, flow)
        else:
            self._end(key, flow)

    def _begin(self, key: int, flow: Flow) -> None:
        self.strangers.pop(key, None)
        # Left out here, and here alone, where it is 0; whether a flow matches may depend on it.
        flow.mark = flow.mark or 0
        if self._window is not None:
            self._window.told[key].begin(duplicate(flow))
        stored = self.entries.get(key)
        if stored is None:
            self._add(key, flow, Cause.EVENT)
        elif not same_entry(stored, flow) or (self.settled and key in self.unheard):
            self._remove(key, stored, Cause.REPLACED)
            self._add(key, flow, Cause.EVENT)
        else:
            # It was read before its event came. Or it is told again: what the kernel could not
            # deliver to some program that insists, it tells all programs with the next event. Or
            # that was another one with its id, of which nothing may be left. What came after the
            # beginning has events of its own, or is told with it.
            self.unheard.discard(key)
            self._change(key, stored, flow, differences(stored, flow), Cause.EVENT)

    def _update(self, key: int, flow: Flow, *, by_program: bool) -> None:
        told = None if self._window is None else self._tell_window(self._window, key, flow)
        stored = self.entries.get(key)
        if stored is None:
            if self._window is None or told is None or told.flow is None:
                self.strangers[key] = flow
            elif told.whole:  # it was not one to keep; perhaps it is now
                self._add(key, duplicate(told.flow), Cause.EVENT)
            else:
                self._window.puzzled = True
        elif not same_entry(stored, flow):
            self.strangers[key] = flow
        else:
            self.unheard.discard(key)
            changed = lay_over(stored, flow)
            self._change(key, stored, flow, changed, Cause.EVENT)
            if may_hide_labels(stored, flow, changed, by_program):
                self.strangers[key] = flow

    def _end(self, key: int, flow: Flow) -> None:
        self.strangers.pop(key, None)
        if self._window is not None:
            self._window.told[key].end(flow.id)
        stored = self.entries.get(key)
        if stored is None:
            return
        if not same_entry(stored, flow):
            # It ended before the one that is known came: the event is an old one, which the kernel
            # could not deliver at the time, or was overtaken by what was read. Or the one that is
            # known was gone before, and nobody told.
            self.strangers[key] = stored
        else:
            final = finish(stored, flow) if self.listeners else stored
            self._remove(key, final, Cause.EVENT, before=stored)

    def _tell_window(self, window: _Window, key: int, flow: Flow) -> _Told | None:
        """Keep what an update tells; ``None`` if it can't be laid over what else is known."""
        told = window.told[key]
        if told.flow is None and not told.ended:
            told.flow = duplicate(flow)
        elif told.flow is not None and same_entry(told.flow, flow):
            flow = duplicate(flow)
            lay_over(told.flow, flow)
            told.flow = flow
        else:
            # A packet's update may be queued behind the end, by another processor. Or the
            # beginning of another entry was not told.
            return None
        return told

    # -- what is read -----------------------------------------------------------------------

    def open_window(self) -> None:
        """A dump begins."""
        self.settled = False
        self._window = _Window(self.entries.copy())

    def found(self, flow: Flow) -> None:
        """An entry that the dump tells of; the mirror's from now on."""
        window = self._window
        assert window is not None
        if _is_dying(flow):
            return
        key = orig_key(flow)
        told = window.told.get(key)
        if told is None:
            pass
        elif told.flow is None:
            if flow.id in told.ended or None in told.ended:
                return
        elif told.whole:
            return
        elif same_entry(told.flow, flow):
            later = duplicate(told.flow)
            lay_over(flow, later)
            if later.labels is not None:
                self.strangers[key] = later  # they may have been cleared since
            flow = later
        else:
            self.strangers[key] = flow
            return
        window.unseen.pop(key, None)
        if self._set(key, flow) and told is None:
            self.unheard.add(key)

    def sweep(self, *, certain: bool = True) -> Iterator[None]:
        """Remove what neither the dump nor events since its beginning know; some at a time.

        If it is not ``certain`` that the dump had all, they are strangers from now on.
        """
        window = self._window
        assert window is not None
        for number, key in enumerate(window.unseen):
            if number % SWEPT_AT_ONCE == SWEPT_AT_ONCE - 1:
                yield
            stored = self.entries.get(key)
            told = window.told.get(key)
            if stored is None or (told is not None and told.flow is not None):
                continue
            if certain:
                self._remove(key, stored, Cause.RECONCILED)
            else:
                self.strangers[key] = stored

    def close_window(self) -> None:
        """The dump has ended, be it halfway."""
        window, self._window = self._window, None
        assert window is not None
        for key, told in window.told.items():
            if told.flow is None or told.whole:
                continue
            if self.entries.get(key) is None:
                self.strangers[key] = told.flow

    def looked_up(self, key: int, flow: Flow | None) -> None:
        """What a stranger was found to be; the mirror's from now on."""
        self.settled = False
        # The kernel finds an entry by either tuple: this may be one of the other direction, which
        # has come into being since this one ended.
        if flow is not None and (_is_dying(flow) or orig_key(flow) != key):
            flow = None
        if self._window is not None:
            told = self._window.told[key]
            if flow is None:
                told.end(None)
            else:
                told.begin(duplicate(flow))
        if flow is not None:
            self._set(key, flow)
        elif (stored := self.entries.get(key)) is not None:
            self._remove(key, stored, Cause.RECONCILED)

    # -- changes ----------------------------------------------------------------------------

    def _set(self, key: int, flow: Flow) -> bool:
        """An entry is as it was read. Whether it was not there before, and is now."""
        stored = self.entries.get(key)
        if stored is not None and not same_entry(stored, flow):
            self._remove(key, stored, Cause.REPLACED)
            stored = None
        if stored is None:
            return self._add(key, flow, Cause.RECONCILED)
        flow.orig, flow.reply = stored.orig, stored.reply
        self._change(key, stored, flow, differences(stored, flow), Cause.RECONCILED)
        return False

    def _add(self, key: int, flow: Flow, cause: Cause) -> bool:
        """Whether it is one of those to keep."""
        if self._keep is not None and not self._keep(flow):
            return False
        self.entries.add(key, flow)
        for listener in self.listeners:
            listener.note(key, None, None, cause)
        return True

    def _change(
        self, key: int, before: Flow, flow: Flow, changed: tuple[str, ...], cause: Cause
    ) -> None:
        if self._keep is not None and not self._keep(flow):
            self._remove(key, flow, Cause.UNMATCHED, before=before)
            return
        self.entries.replace(key, flow)
        if changed:
            for listener in self.listeners:
                listener.note(key, before, None, cause)

    def _remove(self, key: int, final: Flow, cause: Cause, *, before: Flow | None = None) -> None:
        self.entries.remove(key)
        self.unheard.discard(key)
        for listener in self.listeners:
            listener.note(key, before or final, final, cause)
