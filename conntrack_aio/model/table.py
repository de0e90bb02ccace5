"""Model the changes, the mode and the statistics of a live table."""

from __future__ import annotations

import attrs

from .client_statistics import StreamStatistics
from .enums import NamedEnum
from .flow import Flow


class ChangeType(NamedEnum):
    """What happened to an entry of the live table."""

    ADDED = "added"
    """The entry is in the table now. The reader had no entry with its tuple before."""
    CHANGED = "changed"
    """Some fields of the entry have changed; see :attr:`Change.fields`."""
    REMOVED = "removed"
    """The entry has ended, or no longer matches."""


class Cause(NamedEnum):
    """How the live table found a change."""

    PRESENT = "present"
    """The entry was in the table when the reader started."""
    EVENT = "event"
    """The kernel reported the change by an event."""
    RECONCILED = "reconciled"
    """A reconciliation or a look-up found the change. No event had reported it."""
    REPLACED = "replaced"
    """Another entry has the tuple, so this entry must have ended. No event had reported its end."""
    UNMATCHED = "unmatched"
    """The entry still exists, but no longer matches."""


@attrs.frozen
class Change:
    """A change of one entry since the state that the reader got last."""

    type: ChangeType
    flow: Flow
    """The present state of the entry. If it was removed: its last known state, with the counters
    and the stop time of its destroy event."""
    cause: Cause
    before: Flow | None = None
    """The state that the reader got last; ``None`` if the entry was added. Do not subtract its
    counters: a reconciliation may have updated its timeout and counters since, which is not
    reported as a change."""
    fields: tuple[str, ...] = ()
    """If the entry was changed: the names of the fields of :class:`Flow` that differ from
    :attr:`before`. ``timeout``, ``use``, ``timestamp`` and the counters are not included, because
    no event reports their changes."""

    def __str__(self) -> str:
        names = f" ({', '.join(self.fields)})" if self.fields else ""
        return f"{self.type.name:<8} {self.flow}{names}"


class TableMode(NamedEnum):
    """How reliable a live table is between two reconciliations.

    Rules can select the events that a flow emits: nftables' ``ct event set``, iptables' ``CT
    --ctevents``, and Open vSwitch, which does so for every flow. No message of the kernel shows
    this. The mode shows it only after a reconciliation, or the look-up of an entry whose timeout
    has expired, has found a change that no event reported.
    """

    FOLLOWED = "followed"
    """Every entry emits events according to ``nf_conntrack_events``, and the table has found no
    unreported change."""
    PARTIAL = "partial"
    """Some entries may be silent, which means that they emit no events. Reconciliations find their
    changes. The table has this mode:

    - while ``nf_conntrack_events`` is 2, or was not 1 when the table was opened, and the table has
      older entries that no event has reported yet. If flows can come to match, the table cannot
      know when the last silent entry has ended, and stays in this mode.
    - while this sysctl cannot be read.
    - after it found an unreported change (:attr:`FlowTableStatistics.unreported_changes`), until it
      is closed.
    """
    POLLED = "polled"
    """``nf_conntrack_events`` is 0, so new entries are silent, too. Reconciliations find all
    changes."""


@attrs.define(kw_only=True)
class FlowTableStatistics:
    """What a live table has done so far, and how large it is.

    Counters only grow. Gauges, which can also fall, are :attr:`entries`, :attr:`without_events`,
    :attr:`last_reconciliation_ns`, :attr:`readers` and :attr:`changes_waiting`.
    """

    entries: int = 0
    """Entries in the table; 0 when the table is closed."""
    without_events: int = 0
    """Entries that were read, and that no event has reported since. They may be silent."""
    events_applied: int = 0
    """Events that were applied."""
    looked_up: int = 0
    """Entries that were looked up one by one: because an event reported an unknown entry, or
    because their timeout expired and no event reported their end."""
    reconciliations: int = 0
    """Reconciliations, including the first dump and failed attempts. A reconciliation dumps the
    kernel's table and applies the differences to the live table."""
    resyncs: int = 0
    """Reconciliations that were attempted because events were lost, including failed ones."""
    failures: int = 0
    """Reconciliations that failed for a temporary reason, and were retried."""
    last_error: str | None = None
    """Why the last reconciliation failed, as text; ``None`` if it did not fail. The error itself is
    :attr:`FlowTable.last_error`."""
    unreported_changes: int = 0
    """Changes that a reconciliation or a look-up found, and that no event reported although one
    should have. Each reconciliation examines some hundred differences at most."""
    last_reconciliation_ns: int = 0
    """Duration of the last reconciliation in nanoseconds."""
    readers: int = 0
    """Open iterators of changes."""
    changes_waiting: int = 0
    """Changes that wait for the slowest reader."""
    stream: StreamStatistics = attrs.field(factory=StreamStatistics)
    """Statistics of the table's event stream: received, lost, forged and waiting events."""
