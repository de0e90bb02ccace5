"""What the event stream yields."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import attrs

from ..uapi.nfnetlink_conntrack import CTA
from .declare import U64, Access, attribute, inlined, message
from .enums import EventType
from .flow import Flow
from .text import describe_event
from .times import as_datetime


class Event(Protocol):
    """The fields of every event."""

    type: EventType
    port_id: int
    nsid: int | None
    netns: str | None
    time_received: int | None


@message
class FlowEvent:
    """One event, as the kernel told it.

    The flow is partial: the tuples, id, zone and status always, of the rest what changed or what
    the kernel thought worth telling. Absence means "not told", not "removed".
    """

    type: EventType = attrs.field()
    flow: Flow = inlined(Flow)
    port_id: int = attrs.field(default=0)
    """The netlink port of the program whose request caused it; 0 for packets and timeouts."""
    nsid: int | None = attrs.field(default=None)
    """In a stream of all namespaces, the id of the one it happened in, as the connection's own
    has it; ``None`` is that one itself. The kernel gives an id to another namespace once its
    holder is gone."""
    netns: str | None = attrs.field(default=None)
    """The name of the namespace with this id, of those that ``ip netns`` knows here; ``None`` if
    it has none, or if it can't be told (the id was another's while events waited)."""
    timestamp: int | None = attribute(
        CTA.TIMESTAMP_EVENT, U64, default=None, access=Access.READ, since="6.14"
    )
    """When it happened, nanoseconds since 1970: since Linux 6.14, with ``nf_conntrack_timestamp``
    on when the entry was made."""

    time_received: int | None = attrs.field(default=None)
    """When this program received it, nanoseconds since 1970, by its own clock: in a stream with
    ``receive_time``, on every kernel. An event that waited in the receive buffer happened
    earlier."""

    @property
    def time(self) -> datetime | None:
        """:attr:`timestamp` to the microsecond."""
        return as_datetime(self.timestamp)

    @property
    def received_at(self) -> datetime | None:
        """:attr:`time_received` to the microsecond."""
        return as_datetime(self.time_received)

    def __str__(self) -> str:
        return describe_event(self, self.flow, self.timestamp)
