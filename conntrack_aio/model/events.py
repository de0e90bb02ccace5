"""What the event stream yields."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, cast

import attrs

from ..plain import as_int
from ..uapi.nfnetlink_conntrack import CTA
from .declare import U64, Access, attribute, inlined, is_message, message
from .enums import NamedEnum
from .flow import Flow, as_datetime
from .values import describe_value


class EventType(NamedEnum):
    """What happened to a flow."""

    NEW = "new"
    """It is confirmed: its first packet has passed, or a program made it."""
    UPDATE = "update"
    """Its state, status, mark, labels or the like changed. Never for its counters or timeout."""
    DESTROY = "destroy"
    """It is gone: deleted, expired or flushed."""


class Event(Protocol):
    """What every event has."""

    type: EventType
    port_id: int
    nsid: int | None
    netns: str | None
    time_received: int | None


def describe_event(event: Event, subject: object, timestamp: object = None) -> str:
    """Describe an event in one line: what happened, to what, where, through whom, and when.

    ``timestamp`` is the kernel's time. What is not known is left out, and what is none of a
    field's values is shown as it is. Never raises.
    """
    try:
        return _event(event, subject, timestamp)
    except Exception:
        return describe_value(event)


def _event(event: Event, subject: object, timestamp: object) -> str:
    kind = cast("object", event.type)
    what = kind.name if isinstance(kind, EventType) else describe_value(kind)
    about = str(subject) if is_message(type(subject)) else describe_value(subject)
    parts = [f"{what:<7} {about}"]
    if event.nsid is not None:
        netns: object = event.netns
        name = netns if type(netns) is str else None if netns is None else describe_value(netns)
        parts.append(f"in {name or f'namespace {describe_value(event.nsid)}'}")
    if type(event.port_id) is not int or event.port_id:
        parts.append(f"portid={describe_value(event.port_id)}")
    parts += _moment("time", timestamp)
    parts += _moment("received", event.time_received)
    return " ".join(parts)


def _moment(name: str, nanoseconds: object) -> list[str]:
    if nanoseconds is None:
        return []
    try:
        moment = as_datetime(as_int(nanoseconds))
    except Exception:
        return [f"{name}={describe_value(nanoseconds)}"]
    return [] if moment is None else [f"{name}={moment:%Y-%m-%dT%H:%M:%S.%f}Z"]


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
