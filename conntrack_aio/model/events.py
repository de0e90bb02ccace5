"""Events of flows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs

from ..uapi.nfnetlink_conntrack import CTA
from .declare import Lazy, attribute, inlined, message
from .enums import EventType
from .flow import Flow
from .lazy_fields import LazyFields, text_if_unread
from .text import describe_event
from .times import as_datetime
from .wire import U64, Access

if TYPE_CHECKING:
    from datetime import datetime


class Event(Protocol):
    """The fields of every event."""

    type: EventType
    port_id: int
    nsid: int | None
    netns: str | None
    receive_timestamp: int | None


@message(lazy=Lazy(at_once=("type", "flow")))
class FlowEvent(LazyFields):
    """An event of a flow, as the kernel reports it.

    The flow is partial. It always has the tuples, id and status, and the zone unless it is 0. Other
    fields are present if they changed or if the kernel includes them in this type of event. An
    absent field is not a removed one.
    """

    type: EventType = attrs.field()
    """The type of the event."""
    flow: Flow = inlined(Flow)
    """The flow, with the fields that the event has."""
    port_id: int = attrs.field(default=0)
    """The port id of the program whose request caused the event; 0 for packets and timeouts."""
    nsid: int | None = attrs.field(default=None)
    """The id of the event's network namespace, in a stream of all namespaces. ``None`` is the
    connection's own namespace, which assigns the ids. The kernel may reuse an id once its namespace
    is gone."""
    netns: str | None = attrs.field(default=None)
    """The name of that namespace, if ``ip netns`` lists it. ``None`` if it has no name, or if the
    name is ambiguous because the id was reused while events were queued."""
    timestamp: int | None = attribute(
        CTA.TIMESTAMP_EVENT, U64, default=None, access=Access.READ, since="6.14"
    )
    """The kernel's time of the event, in nanoseconds since 1970: since Linux 6.14, if
    ``nf_conntrack_timestamp`` was on when the entry was created."""

    receive_timestamp: int | None = attrs.field(default=None)
    """The time at which this program received the event, in nanoseconds since 1970, from the
    program's clock: in a stream with ``receive_time``, on every kernel. An event that waited in the
    receive buffer happened earlier."""

    @property
    def time(self) -> datetime | None:
        """The value of :attr:`timestamp` as a datetime, rounded down to the microsecond."""
        return as_datetime(self.timestamp)

    @property
    def receive_time(self) -> datetime | None:
        """The value of :attr:`receive_timestamp` as a datetime, rounded down to the microsecond."""
        return as_datetime(self.receive_timestamp)

    def __str__(self) -> str:
        return text_if_unread(self) or describe_event(self, self.flow, self.timestamp)
