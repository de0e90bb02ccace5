"""The mirror, without I/O: what events and dumped entries do to it.

An event is older than the state that it is applied to if a dump, or a look-up, was ahead of it: the
kernel queues an event after the change. It does no harm, because every later change has an event
of its own, which still comes: applied in their order over what was read, events end in the state
of the last. That is what the window is for. While one dump is under way, it keeps, for each entry
that events tell of, the last that they said. An entry that the dump tells of is taken for as old
as the dump's beginning, and what events have said since is laid over it.

Rules can silence some events of an entry (``ct event set``), and nothing in any message says so.
It shows only in what a dump or a look-up finds and no event reports. Such a difference is a
:class:`Suspect` first, since its event may still be queued; any event about the entry clears it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import attrs

from ..model.enums import EventType, Status
from ..model.events import FlowEvent
from ..model.flow import Flow
from ..model.table import Cause
from .entries import Entries
from .keys import orig_key
from .merging import (
    differences,
    duplicate,
    finish,
    has_reported_change,
    lay_over,
    may_hide_labels,
    same_entry,
)

_DYING: Final = int(Status.DYING)

_MOST_ENDS: Final = 64
"""Ids of ended entries with one tuple that are kept apart."""

SWEPT_AT_ONCE: Final = 2048
"""Entries, between two turns of the loop."""

MOST_SUSPECTS: Final = 256
"""Differences that are examined at a time; one is enough to show that events are missing."""

_EXAMINED_AT_ONCE: Final = 2048
"""Entries whose timeout is looked at by one call, in less than a millisecond."""

_WITHOUT_TIMEOUT: Final = 600
"""Seconds between two look-ups of an entry that has no timeout, as while it is offloaded."""

_ROUNDING: Final = 1.0
"""Seconds by which an entry may outlive the timeout that was reported: the kernel cuts it to whole
seconds."""

SPACING: Final = 8.0
"""Seconds by which the next look-up of an entry is put off that was found alive."""


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


@attrs.define
class Suspect:
    """A difference that was found, and that no event has reported yet."""

    flow: Flow
    """The entry as it is, or as it was last."""
    since: float
    """When it was found, by :attr:`Mirror.now`."""
    counts: bool
    """Whether its event should have come, by what is known of the setting."""
    gone: bool = False
    """Whether the entry is gone."""
    asked: bool = False
    """Whether it is being looked up, or was."""
    confirmed: bool = False
    """Whether a look-up found it gone. A dump also leaves out expired entries whose end the kernel
    has not reported yet (``ctnetlink_dump_table``); a look-up has it report that."""


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


def _is_of(key: int, flow: Flow) -> bool:
    """Whether it is a living entry with that key: the kernel finds an entry by either tuple."""
    return orig_key(flow) == key and not _is_dying(flow)


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
        self.now = 0.0
        """Seconds of a monotonic clock; set before events and entries are handed in."""
        self.suspects: Final[dict[int, Suspect]] = {}
        self.older_emit = False
        """Whether the entries that no event has told of should emit events, by the setting."""
        self.new_emit = False
        """Whether each entry that came into being since the last dump should have done so."""
        self._keep = keep
        self._window: _Window | None = None
        self._examining = False
        """Whether differences that the dump under way finds are suspects."""
        self._told_at: Final[dict[int, float]] = {}
        """When each entry was last read or reported. Its timeout counts from there."""
        self._round: list[int] = []
        """The entries whose timeout is still to be looked at in this round."""

    @property
    def puzzled(self) -> bool:
        """Whether the dump under way, or look-ups after it, may be needed for what events told."""
        return bool(self.strangers) or (self._window is not None and self._window.puzzled)

    def clear(self) -> None:
        """Let go of everything, and of the function that chooses. It can still be handed events,
        by who does not know yet; they are kept until the next call."""
        self.entries.clear()
        self.listeners = ()
        self.unheard.clear()
        self.strangers = {}
        self.suspects.clear()
        self._told_at.clear()
        self._round = []
        self._window = self._keep = None

    # -- events -----------------------------------------------------------------------------

    def apply(self, event: FlowEvent) -> None:
        """What an event tells. Its flow is the mirror's from now on."""
        self.applied += 1
        flow = event.flow
        key = orig_key(flow)
        if self.suspects:
            self.suspects.pop(key, None)
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
            self._told_at[key] = self.now
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
            self._told_at[key] = self.now
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

    def open_window(self, *, examining: bool = False) -> None:
        """A dump begins. ``examining`` says that no event was lost which explains differences."""
        self.settled = False
        self._examining = examining
        self._window = _Window(self.entries.copy())

    def found(self, flow: Flow) -> None:
        """An entry that the dump tells of; the mirror's from now on."""
        window = self._window
        if window is None or _is_dying(flow):  # without a window: it was cleared meanwhile
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
        if self._set(key, flow, examined=told is None and self._examining) and told is None:
            self.unheard.add(key)

    def sweep(self, *, certain: bool = True) -> Iterator[None]:
        """Remove what neither the dump nor events since its beginning know; some at a time.

        If it is not ``certain`` that the dump had all, they are strangers from now on.
        """
        window = self._window
        if window is None:
            return
        for number, key in enumerate(window.unseen):
            if number % SWEPT_AT_ONCE == SWEPT_AT_ONCE - 1:
                yield
            stored = self.entries.get(key)
            told = window.told.get(key)
            if stored is None or (told is not None and told.flow is not None):
                continue
            if certain:
                if told is None and self._examining:
                    self._suspect(key, stored, self._should_emit(key), gone=True)
                self._remove(key, stored, Cause.RECONCILED)
            else:
                self.strangers[key] = stored

    def close_window(self) -> None:
        """The dump has ended, be it halfway."""
        window, self._window = self._window, None
        self._examining = False
        if window is None:
            return
        for key, told in window.told.items():
            if told.flow is None or told.whole:
                continue
            if self.entries.get(key) is None:
                self.strangers[key] = told.flow

    def looked_up(self, key: int, flow: Flow | None) -> None:
        """What a stranger was found to be; the mirror's from now on."""
        self._put(key, flow if flow is not None and _is_of(key, flow) else None)

    def _put(self, key: int, flow: Flow | None, *, examined: bool = False) -> None:
        """The kernel has this in the place of an entry, or nothing."""
        self.settled = False
        if self._window is not None:
            told = self._window.told[key]
            if flow is None:
                told.end(None)
            else:
                told.begin(duplicate(flow))
        if flow is not None:
            self._set(key, flow, examined=examined)
        elif (stored := self.entries.get(key)) is not None:
            self._remove(key, stored, Cause.RECONCILED)

    # -- what no event reports --------------------------------------------------------------

    def lose(self) -> None:
        """Events were lost: no difference says anything about what was reported."""
        self.suspects.clear()
        self._examining = False

    def overdue(self, most: int) -> dict[int, Flow]:
        """Take some entries whose timeout has run out although no event has ended them.

        Each call looks at the next few entries of a round through all of them.
        """
        if not self._round:
            self._round = list(self._told_at)
        found: dict[int, Flow] = {}
        for _ in range(min(_EXAMINED_AT_ONCE, len(self._round))):
            key = self._round.pop()
            told_at = self._told_at.get(key)
            if told_at is None or key in self.suspects:
                continue
            flow = self.entries.get(key)
            assert flow is not None
            timeout = _WITHOUT_TIMEOUT if flow.timeout is None else flow.timeout
            if told_at + timeout + _ROUNDING < self.now:
                found[key] = flow
                if len(found) == most:
                    break
        return found

    def unconfirmed(self) -> dict[int, Flow]:
        """The suspects that are to be looked up: whether they are gone. Each is returned once."""
        found: dict[int, Flow] = {}
        for key, suspect in self.suspects.items():
            if suspect.gone and not (suspect.confirmed or suspect.asked):
                suspect.asked = True
                found[key] = suspect.flow
        return found

    def checked(self, key: int, asked: Flow, flow: Flow | None) -> None:
        """What was found in the place of one that is overdue, or unconfirmed."""
        suspect = self.suspects.get(key)
        if flow is not None and _is_of(key, flow):
            self._put(key, flow, examined=suspect is None)
            if suspect is not None:
                del self.suspects[key]
                # It may be there, and match no more.
                if same_entry(suspect.flow, flow) and has_reported_change(
                    suspect.flow, flow, differences(suspect.flow, flow)
                ):
                    self._suspect(key, flow, suspect.counts)
            if key in self._told_at:
                self._told_at[key] = self.now + SPACING
        elif suspect is not None:
            suspect.confirmed, suspect.since = True, self.now
        elif self.entries.get(key) is asked:
            counts = self._should_emit(key)
            self._suspect(key, asked, counts, gone=True, confirmed=True)

    def judge(self, before: float) -> int:
        """How many changes no event has reported, of those that were found before some time.

        By now, all events must have been applied that were queued up to then, and none may have
        been lost. Entries whose end was not reported are removed.
        """
        count = 0
        for key, suspect in tuple(self.suspects.items()):
            if suspect.since > before or (suspect.gone and not suspect.asked):
                continue
            del self.suspects[key]
            if suspect.gone and not suspect.confirmed:  # it could not be asked for
                continue
            stored = self.entries.get(key)
            if suspect.gone and stored is not None:
                if stored is not suspect.flow:  # another, or the same in a state read since
                    continue
                if self._window is not None:
                    self._window.told[key].end(stored.id)
                self._remove(key, stored, Cause.RECONCILED)
            count += suspect.counts
        return count

    def _should_emit(self, key: int) -> bool:
        return self.older_emit or key not in self.unheard

    def _suspect(
        self, key: int, flow: Flow, counts: bool, *, gone: bool = False, confirmed: bool = False
    ) -> None:
        if (counts or confirmed) and len(self.suspects) < MOST_SUSPECTS:
            self.suspects[key] = Suspect(
                flow, self.now, counts, gone, asked=confirmed, confirmed=confirmed
            )

    # -- changes ----------------------------------------------------------------------------

    def _set(self, key: int, flow: Flow, *, examined: bool = False) -> bool:
        """An entry is as it was read. Whether it was not there before, and is now.

        :param examined: whether an event should have reported each difference.
        """
        stored = self.entries.get(key)
        if stored is not None and not same_entry(stored, flow):
            if examined:
                self._suspect(key, flow, self._should_emit(key))
            self._remove(key, stored, Cause.REPLACED)
            stored = None
        elif stored is None and examined and self._keep is None and self.new_emit:
            # Of one that was not chosen, other things may have changed than events report.
            self._suspect(key, flow, True)
        if stored is None:
            return self._add(key, flow, Cause.RECONCILED)
        flow.orig, flow.reply = stored.orig, stored.reply
        changed = differences(stored, flow)
        if changed and examined and has_reported_change(stored, flow, changed):
            self._suspect(key, flow, self._should_emit(key))
        self._told_at[key] = self.now
        self._change(key, stored, flow, changed, Cause.RECONCILED)
        return False

    def _add(self, key: int, flow: Flow, cause: Cause) -> bool:
        """Whether it is one of those to keep."""
        if self._keep is not None and not self._keep(flow):
            return False
        self.entries.add(key, flow)
        self._told_at[key] = self.now
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
        del self._told_at[key]
        for listener in self.listeners:
            listener.note(key, before or final, final, cause)
