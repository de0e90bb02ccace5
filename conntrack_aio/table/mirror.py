"""The mirror, without I/O: what events and dumped entries do to it.

An event is older than the state that it is applied to if a dump, or a look-up, was ahead of it: the
kernel queues an event after the change. It does no harm, because every later change has an event
of its own, which still comes: applied in their order over what was read, events end in the state
of the last. That is what the window is for. While one dump is under way, it keeps, for each entry
that events tell of, the last that they said. An entry that the dump tells of is taken for as old
as the dump's beginning, and what events have said since is laid over it.
"""

from __future__ import annotations

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
    """What events have said of one entry since the dump under way began."""

    flow: Flow | None
    """``None`` once it has ended."""
    id: int | None
    """Of one that has ended; ``None`` for whatever was there."""
    whole: bool
    """Whether they told of its beginning, so that it may be younger than what the dump finds."""


class _Window:
    """A dump under way."""

    def __init__(self, known: dict[int, Flow]) -> None:
        self.unseen: Final = known
        """Entries from before it that it has not told of."""
        self.told: Final[dict[int, _Told]] = {}


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
        self.listeners: Final[list[Listener]] = []
        self.unheard: Final[set[int]] = set()
        """Those that were read, and that no event has told of."""
        self.strangers: dict[int, Flow] = {}
        """What updates told of entries that are not known."""
        self.settled = False
        """Whether whatever events come now are younger than all that was read."""
        self.applied = 0
        self._keep = keep
        self._window: _Window | None = None

    # -- events -----------------------------------------------------------------------------

    def apply(self, event: FlowEvent) -> None:
        """What an event tells. Its flow is the mirror's from now on."""
        self.applied += 1
        flow = event.flow
        key = orig_key(flow)
        self.unheard.discard(key)
        if event.type is EventType.UPDATE:
            self._update(key, flow, by_program=event.port_id != 0)
        elif event.type is EventType.NEW:
            self._begin(key, flow)
        else:
            self._end(key, flow)

    def _begin(self, key: int, flow: Flow) -> None:
        self.strangers.pop(key, None)
        if self._window is not None:
            self._window.told[key] = _Told(duplicate(flow), None, whole=True)
        stored = self.entries.get(key)
        if stored is None:
            self._add(key, flow, Cause.EVENT)
        elif self.settled or not same_entry(stored, flow):
            self._remove(key, stored, Cause.REPLACED)
            self._add(key, flow, Cause.EVENT)
        else:  # it was read, before its event came
            changed = lay_over(stored, flow)
            self._change(key, stored, flow, changed, Cause.EVENT)

    def _update(self, key: int, flow: Flow, *, by_program: bool) -> None:
        known = self._window is not None and self._tell_window(self._window, key, flow)
        stored = self.entries.get(key)
        if stored is None:
            if not known:
                self.strangers[key] = flow
        elif not same_entry(stored, flow):
            self.strangers[key] = flow
        else:
            changed = lay_over(stored, flow)
            self._change(key, stored, flow, changed, Cause.EVENT)
            if may_hide_labels(stored, flow, changed, by_program):
                self.strangers[key] = flow

    def _end(self, key: int, flow: Flow) -> None:
        self.strangers.pop(key, None)
        if self._window is not None:
            self._window.told[key] = _Told(None, flow.id, whole=True)
        stored = self.entries.get(key)
        # With another id it is one that ended before this one came: the event is an old one, which
        # the kernel could not deliver at the time, or was overtaken by what was read.
        if stored is not None and same_entry(stored, flow):
            final = finish(stored, flow) if self.listeners else stored
            self._remove(key, final, Cause.EVENT, before=stored)

    def _tell_window(self, window: _Window, key: int, flow: Flow) -> bool:
        """Keep what an update tells. Whether that can be laid over what the dump will find."""
        told = window.told.get(key)
        if told is None:
            window.told[key] = _Told(duplicate(flow), None, whole=False)
        elif told.flow is None:
            # A packet's update may be queued behind the end, by another processor. Or an entry that
            # is made anew was not told of.
            return False
        elif not same_entry(told.flow, flow):
            return False
        else:
            flow = duplicate(flow)
            lay_over(told.flow, flow)
            told.flow = flow
        return True

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
        window.unseen.pop(key, None)
        told = window.told.get(key)
        if told is None:
            pass
        elif told.flow is None:
            if told.id is None or told.id == flow.id:
                return
        elif same_entry(told.flow, flow):
            later = duplicate(told.flow)
            lay_over(flow, later)
            flow = later
        else:
            if not told.whole:
                self.strangers[key] = flow
            return
        if self._set(key, flow) and told is None:
            self.unheard.add(key)

    def sweep(self) -> Iterator[None]:
        """Remove what neither the dump nor events since its beginning know; some at a time."""
        window = self._window
        assert window is not None
        for number, key in enumerate(window.unseen):
            if number % SWEPT_AT_ONCE == SWEPT_AT_ONCE - 1:
                yield
            stored = self.entries.get(key)
            if stored is not None and key not in window.told:
                self._remove(key, stored, Cause.RECONCILED)

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
        # The kernel looks in both directions: it may have found another by its reply tuple.
        if flow is not None and (_is_dying(flow) or orig_key(flow) != key):
            flow = None
        if self._window is not None:
            kept = None if flow is None else duplicate(flow)
            self._window.told[key] = _Told(kept, None, whole=True)
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
