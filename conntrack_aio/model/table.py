"""The changes of a live table, its mode and its counters."""

from __future__ import annotations

import attrs

from .enums import NamedEnum
from .flow import Flow
from .statistics import StreamStatistics


class ChangeType(NamedEnum):
    """The type of a change of an entry in the live table."""

    ADDED = "added"
    """The entry was added: it is in the table now, and was not at this reader's last change of
    it."""
    CHANGED = "changed"
    """Some fields of the entry changed; see :attr:`Change.fields`."""
    REMOVED = "removed"
    """The entry ended, or does not match any more."""


class Cause(NamedEnum):
    """How the table learned of a change."""

    PRESENT = "present"
    """The entry was in the table when the reader started."""
    EVENT = "event"
    """The kernel sent an event."""
    RECONCILED = "reconciled"
    """A comparison with the kernel's table, or a look-up of the entry, found the change; no event
    had reported it."""
    REPLACED = "replaced"
    """Another entry has its tuple, so this one must have ended without an event."""
    UNMATCHED = "unmatched"
    """The entry still exists, but does not match any more."""


@attrs.frozen
class Change:
    """A change of one entry since the reader's last change of that entry."""

    type: ChangeType
    """Whether the entry was added, changed or removed."""
    flow: Flow
    """The entry as it is now. A removed entry is as last known, with the fields of its destroy
    event: counters and the time of its end."""
    cause: Cause
    """How the table learned of the change."""
    before: Flow | None = None
    """The entry as of the reader's last change of it; ``None`` if it was added. A comparison may
    have updated its timeout and counters since, without a change: do not compute differences from
    them."""
    fields: tuple[str, ...] = ()
    """The names of the fields of :class:`Flow` that differ from :attr:`before`, if the entry
    changed. ``timeout``, ``use``, ``timestamp`` and the counters are not included: no event reports
    them."""

    def __str__(self) -> str:
        names = f" ({', '.join(self.fields)})" if self.fields else ""
        return f"{self.type.name:<8} {self.flow}{names}"


class TableMode(NamedEnum):
    """How reliable a live table is between two comparisons with the kernel's table.

    Rules can choose which events a flow emits: ``ct event set`` in nftables, ``CT --ctevents`` in
    iptables; Open vSwitch chooses them for every flow. No message of the kernel shows the choice.
    So the mode reflects it only once a change without its event is found: by a comparison, or by
    the look-up of an entry whose timeout has expired.
    """

    FOLLOWED = "followed"
    """Every entry emits events, by the sysctl ``nf_conntrack_events``, and no change without its
    event was found so far."""
    PARTIAL = "partial"
    """Some entries may emit no events. Comparisons find their changes.

    There are three possible reasons. First, entries are older than the table and had no event so
    far, and the sysctl is 2, or was not 1 when the table was opened; a table with a match cannot
    determine when the last of them is gone, if flows can come to match. Second, the sysctl cannot
    be read. Third, a change without its event was found
    (:attr:`FlowTableStatistics.unreported_changes`); then the table stays in this mode until it is
    closed.
    """
    POLLED = "polled"
    """``nf_conntrack_events`` is 0, so that new entries emit no events either. Comparisons find all
    changes."""


@attrs.define(kw_only=True)
class FlowTableStatistics:
    """The counters of a live table since it was opened, and its size.

    All only grow, except for the sizes, the duration and the error.
    """

    entries: int = 0
    """The entries in the table; 0 once it is closed."""
    unheard: int = 0
    """The entries that had no event since they were read. They may emit no events."""
    events_applied: int = 0
    """The events applied to the table."""
    looked_up: int = 0
    """The entries that were looked up one by one: because of an event of an unknown entry, or
    because the timeout of an entry expired without an event."""
    comparisons: int = 0
    """The reads of the kernel's table, including the first one and failed ones."""
    resyncs: int = 0
    """The comparisons that lost events made necessary."""
    failures: int = 0
    """The comparisons that failed for a temporary reason and were repeated."""
    last_error: str | None = None
    """The text of the last comparison's error; ``None`` if it succeeded. The exception is
    :attr:`FlowTable.last_error`."""
    unreported_changes: int = 0
    """The changes that a comparison or a look-up found although an event should have reported them.
    Of one comparison, a few hundred changes at most are examined."""
    last_comparison: int = 0
    """The duration of the last comparison, in nanoseconds."""
    readers: int = 0
    """The iterators of changes that are open."""
    changes_waiting: int = 0
    """The changes that are queued for the slowest iterator."""
    stream: StreamStatistics = attrs.field(factory=StreamStatistics)
    """The counters of the table's event stream: received, lost, forged and queued events."""
