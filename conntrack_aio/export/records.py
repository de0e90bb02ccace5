"""The records that exports consist of.

Times are nanoseconds since 1970 (UTC). A value that the kernel did not report is ``None``, never 0:
counters exist only while ``nf_conntrack_acct`` is on, and the kernel's own times of a flow only if
``nf_conntrack_timestamp`` was on when it began.
"""

from __future__ import annotations

from enum import Enum

import attrs

from conntrack_aio import Flow, FlowEvent


class EndReason(Enum):
    """Why a flow record was written; the numbers are those of IPFIX (flowEndReason, 136)."""

    IDLE = 1
    """The entry's timeout expired: no packet passed for that long."""
    ACTIVE = 2
    """The flow lives on. The record has what passed since the record before."""
    END = 3
    """The connection was closed by its protocol: TCP, SCTP or DCCP."""
    FORCED = 4
    """A program deleted the entry."""
    UNKNOWN = 5
    """The entry is gone, and nothing shows why. The kernel may have needed its place (IPFIX: lack
    of resources), or it emitted no event."""


@attrs.frozen(kw_only=True)
class Traffic:
    """What passed in one direction of a flow."""

    packets: int
    """Packets."""
    bytes: int
    """Bytes, including the headers of the network layer."""


@attrs.frozen(kw_only=True)
class EventRecord:
    """An event of a flow, as the kernel reported it."""

    event: FlowEvent
    """The event."""
    time: int
    """When it happened: the kernel's time, or the time of receipt on kernels before 6.14 and for
    flows without times."""

    @property
    def is_kernel_time(self) -> bool:
        """Whether :attr:`time` is the kernel's."""
        return self.event.timestamp is not None


@attrs.frozen(kw_only=True)
class FlowRecord:
    """What passed in a flow: in all of its life, or since the record before.

    The sums over all records of a flow are exact if the flow emits events.
    """

    flow: Flow
    """The flow as it was last known: tuples, zone, status, mark, labels and helper. Its own
    counters are those since it began, if no program has reset them."""
    since: int | None
    """When the time that the record is about began: the start of the flow, or the record before.
    ``None`` if the flow is older than the export and the kernel did not report its start."""
    until: int
    """When that time ended: the end of the flow, or when it was read last."""
    orig: Traffic | None
    """What passed in the original direction in that time; ``None`` if it was not counted."""
    reply: Traffic | None
    """What passed in the reply direction in that time."""
    reason: EndReason
    """Why the record was written."""
    start: int | None
    """When the flow began, if that is known: the kernel's time, or the time of receipt of its first
    event."""
    exact: bool = True
    """Whether :attr:`orig` and :attr:`reply` include all packets. ``False`` for a flow that emitted
    no event when it ended: what passed after it was last read is not included."""

    @property
    def is_final(self) -> bool:
        """Whether the flow has ended."""
        return self.reason is not EndReason.ACTIVE

    @property
    def duration(self) -> int | None:
        """How long the flow has lasted, in nanoseconds, if its start is known."""
        return None if self.start is None else max(0, self.until - self.start)


@attrs.frozen(kw_only=True)
class LostRecord:
    """A gap: records are missing here.

    No destination gets a stream that hides one.
    """

    time: int
    """When the gap was noticed."""
    events: int | None = None
    """How many events the kernel dropped because the receive buffer was full; ``None`` if that is
    not known, or if the gap is of another kind."""
    records: int = 0
    """How many records were dropped because this destination was slow or absent."""


@attrs.frozen(kw_only=True)
class ResynchronizedRecord:
    """After a gap the kernel's table was read again: what follows is correct again."""

    time: int
    """When the table had been read."""
    flows: int
    """How many flows it had."""


@attrs.frozen(kw_only=True)
class SnapshotRecord:
    """A flow as it was in the table at a moment."""

    time: int
    """The moment."""
    flow: Flow
    """The flow."""


Record = EventRecord | FlowRecord | LostRecord | ResynchronizedRecord | SnapshotRecord
"""A record of any kind."""
