"""What the live table tells: changes, and how far it can be trusted."""

from __future__ import annotations

import attrs

from .enums import NamedEnum
from .flow import Flow
from .statistics import StreamStatistics


class ChangeType(NamedEnum):
    """What happened to an entry of the live table."""

    ADDED = "added"
    """It is in the table now, and was not when this reader was last told of its tuple."""
    CHANGED = "changed"
    """Some of its fields are others; see :attr:`Change.fields`."""
    REMOVED = "removed"
    """It has ended, or matches no more."""


class Cause(NamedEnum):
    """How the table came to know of a change."""

    PRESENT = "present"
    """The entry was there when the reader came."""
    EVENT = "event"
    """The kernel told of it as it happened."""
    RECONCILED = "reconciled"
    """It was found by comparing with the kernel's table, or by looking the entry up: no event had
    come."""
    REPLACED = "replaced"
    """Another entry has its tuple: this one must have ended without an event."""
    UNMATCHED = "unmatched"
    """It lives on, but is not one of those that the table is to have."""


@attrs.frozen
class Change:
    """A change of one entry, since the reader was last told of it."""

    type: ChangeType
    flow: Flow
    """The entry as it is now; of one that vanished, as it was last known, with what its destroy
    event told: counters, the time of its end."""
    cause: Cause
    before: Flow | None = None
    """The entry as the reader was last told of it; ``None`` if it appeared. A comparison may have
    brought its timeout and counters up to date since, and tells of no change for that: don't
    subtract them."""
    fields: tuple[str, ...] = ()
    """If it changed: the names of the fields of :class:`Flow` in which it differs from
    :attr:`before`. ``timeout``, ``use``, ``timestamp`` and the counters are not counted: no event
    tells of them."""

    def __str__(self) -> str:
        names = f" ({', '.join(self.fields)})" if self.fields else ""
        return f"{self.type.name:<8} {self.flow}{names}"


class TableMode(NamedEnum):
    """How far a live table can be trusted between two comparisons with the kernel's.

    Rules can choose which events a flow emits: nftables' ``ct event set``, iptables' ``CT
    --ctevents``, and Open vSwitch, which does so with every flow. No message of the kernel shows
    that. So the mode does not show it either until a comparison, or the look-up of an entry whose
    timeout has run out, finds a change whose event never came.
    """

    FOLLOWED = "followed"
    """By the setting ``nf_conntrack_events`` every entry emits events, and nothing was found so far
    that an event should have reported."""
    PARTIAL = "partial"
    """Some entries may be silent; what happens to them is found by comparing. Either these are
    entries that are older than the table and were never heard of, because the setting is 2, or was
    not 1 when the table was opened; a table of flows that match can't tell when the last of them is
    gone, if flows can come to match. Or the setting can't be read. Or a change was found whose
    event never came (:attr:`FlowTableStatistics.unreported_changes`): then the table stays in this
    mode as long as it is open."""
    POLLED = "polled"
    """``nf_conntrack_events`` is 0, so that new entries are silent as well: all is found by
    comparing."""


@attrs.define(kw_only=True)
class FlowTableStatistics:
    """What a live table has done so far, and how large it is.

    All but the sizes, the duration and the error only grow.
    """

    entries: int = 0
    """Entries that it has; 0 once it is closed."""
    unheard: int = 0
    """Entries that were read, and that no event has told of since: perhaps silent ones."""
    events_applied: int = 0
    looked_up: int = 0
    """Entries that were asked for one by one: because an event told of one that was not known, or
    because their timeout had run out and no event had ended them."""
    comparisons: int = 0
    """Times that the kernel's table was read, or that it was tried, the first included."""
    resyncs: int = 0
    """Those of them that a loss made necessary."""
    failures: int = 0
    """Those of them that failed for something that may pass, and were tried again."""
    last_error: str | None = None
    """What the last of them failed for, as text; ``None`` if it did not fail. The error itself is
    :attr:`FlowTable.last_error`."""
    unreported_changes: int = 0
    """Changes that a comparison or a look-up found, and that no event reported although one should
    have. At most some hundreds of a comparison are examined."""
    last_comparison: int = 0
    """Nanoseconds that the last took."""
    readers: int = 0
    """Iterators of changes that are open."""
    changes_waiting: int = 0
    """Changes that wait for the slowest of them."""
    stream: StreamStatistics = attrs.field(factory=StreamStatistics)
    """Of the table's event stream: what was received, lost and forged, and what waits."""
