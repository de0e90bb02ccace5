"""Change the table as packets and rules do, without a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import attrs

from ..codec.schema import schema_of
from ..errors import EncodeError
from ..model.enums import Status
from ..model.flow import Counters, Flow, Helper, SeqAdj, SynProxy
from ..model.tuples import Tuple
from .events import IPCT
from .state import State
from .table import ORIG, REPLY, Count, Entry
from .tuples import Zone, normalize

_TIMEOUT: Final = 600
"""The timeout of a flow that has none, in seconds."""


def find(state: State, target: Flow | Tuple) -> Entry:
    """Return the entry of a flow, or the entry with a tuple in either direction.

    :raises LookupError: when there is no such entry.
    """
    orig, zone = (target.orig, _zone(target)) if isinstance(target, Flow) else (target, None)
    zone = _tuple_zone(orig) if zone is None else zone
    entry = state.find(normalize(orig, state.release), zone)
    if entry is None:
        raise LookupError(f"no entry has the tuple {orig}")
    return entry


def _tuple_zone(tuple_: Tuple) -> Zone:
    return Zone(tuple_.zone or 0)


def _zone(flow: Flow) -> Zone:
    """Return the zone of both directions, or of the one direction whose tuple has a zone."""
    if flow.orig.zone:
        return Zone(flow.orig.zone, frozenset({ORIG}))
    if flow.reply.zone:
        return Zone(flow.reply.zone, frozenset({REPLY}))
    return Zone(flow.zone or 0)


def add(state: State, flow: Flow) -> Entry:
    """Create the entry of a flow, and emit its event.

    :raises ValueError: when an entry has one of the tuples, the master is not in the table, or
        the protocol state is of another protocol.
    :raises EncodeError: when the flow is not valid.
    """
    flow.validate()
    zone = _zone(flow)
    entry = Entry(
        normalize(flow.orig, state.release),
        normalize(flow.reply, state.release),
        zone,
        flow.orig.family,
    )
    # An entry that lost a race for its original tuple is hashed only by its reply tuple; see
    # table._hashed_directions.
    clashed = flow.status is not None and bool(flow.status & Status.UNTRACKED)
    for tuple_ in (entry.reply,) if clashed else (entry.orig, entry.reply):
        if state.table.is_taken(tuple_, zone):
            raise ValueError(f"an entry already has the tuple {tuple_}")
    state.add_extensions(entry)
    entry.status = Status.CONFIRMED | (_nat_status(entry) if flow.status is None else flow.status)
    if flow.master is not None:
        found = state.table.find(normalize(flow.master, state.release), zone)
        if found is None:
            raise ValueError(
                f"no entry has the tuple of the master, {flow.master}; add the master first"
            )
        entry.master = found[0]
        entry.status |= Status.EXPECTED
    state.set_timeout(entry, _TIMEOUT if flow.timeout is None else flow.timeout)
    entry.unknown = tuple(attribute for attribute in flow.unknown if len(attribute.path) == 1)
    _set(entry, {field: getattr(flow, field) for field in _SETTERS})
    state.insert(entry)
    if flow.timestamp is not None:
        entry.start_time = flow.timestamp.start or 0
    if flow.id is not None:
        entry.id = flow.id
    state.emit(entry, _creation_events(entry))
    return entry


def _nat_status(entry: Entry) -> Status:
    """Return the status bits of the translation that the tuples show."""
    status = Status(0)
    try:
        plain = entry.orig.inverse
    except EncodeError:
        return status
    reply = entry.reply
    done = Status.SRC_NAT_DONE | Status.DST_NAT_DONE
    if (reply.dst, reply.dport) != (plain.dst, plain.dport):
        status |= Status.SRC_NAT | done
    if (reply.src, reply.sport) != (plain.src, plain.sport):
        status |= Status.DST_NAT | done
    return status


def _creation_events(entry: Entry) -> IPCT:
    events = IPCT.NEW if entry.master is None else IPCT.RELATED
    if entry.protoinfo is not None:
        events |= IPCT.PROTOINFO
    if entry.labels:
        events |= IPCT.LABEL
    if entry.synproxy is not None:
        events |= IPCT.SYNPROXY
    if entry.seqadj is not None:
        events |= IPCT.SEQADJ
    return events


def change(state: State, entry: Entry, values: Mapping[str, object]) -> None:
    """Change an entry, and emit an event if a field changed that events report."""
    before = attrs.evolve(entry)
    if "timeout" in values:
        state.set_timeout(entry, cast("int", values["timeout"]))
    if "status" in values:
        entry.status = Status.CONFIRMED | cast("Status", values["status"])
    _set(entry, values)
    events = _change_events(before, entry)
    if events:
        state.emit(entry, events)


def _change_events(before: Entry, after: Entry) -> IPCT:
    events = IPCT(0)
    new_bits = after.status & ~before.status
    if new_bits & Status.SEEN_REPLY:
        events |= IPCT.REPLY
    if new_bits & Status.ASSURED:
        events |= IPCT.ASSURED
    for name, event in _EVENT_FIELDS.items():
        if getattr(before, name) != getattr(after, name):
            events |= event
    return events


_EVENT_FIELDS: Final = {
    "protoinfo": IPCT.PROTOINFO,
    "helper": IPCT.HELPER,
    "mark": IPCT.MARK,
    "seqadj": IPCT.SEQADJ,
    "labels": IPCT.LABEL,
    "synproxy": IPCT.SYNPROXY,
}


def _set(entry: Entry, values: Mapping[str, object]) -> None:
    """Set the fields whose values are not ``None``."""
    for name, setter in _SETTERS.items():
        value = values.get(name)
        if value is not None:
            setter(entry, value)


def _set_protoinfo(entry: Entry, value: object) -> None:
    """Set the fields of the protocol state that are not ``None``.

    :raises ValueError: when the protocol state is of another protocol.
    """
    info = entry.protoinfo
    if info is None or type(info) is not type(value):
        raise ValueError(
            f"protoinfo must be that of protocol {entry.orig.proto}, the entry's own; got {value!r}"
        )
    merged: dict[str, Any] = {}
    for field in schema_of(type(info)).fields:
        new = getattr(value, field.name)
        merged[field.name] = getattr(info, field.name) if new is None else new
    entry.protoinfo = type(info)(**merged)


def _set_counters(direction: int) -> Callable[[Entry, object], None]:
    def setter(entry: Entry, value: object) -> None:
        counters = cast("Counters", value)
        if entry.counters is None:
            entry.counters = (Count(), Count())
        count = entry.counters[direction]
        count.packets = counters.packets or 0
        count.bytes = counters.bytes or 0

    return setter


def _set_seqadj(direction: int) -> Callable[[Entry, object], None]:
    def setter(entry: Entry, value: object) -> None:
        both = list(entry.seqadj or (SeqAdj(), SeqAdj()))
        both[direction] = cast("SeqAdj", value)
        entry.seqadj = (both[ORIG], both[REPLY])
        entry.status |= Status.SEQ_ADJUST

    return setter


def _set_helper(entry: Entry, value: object) -> None:
    entry.has_helper_extension, entry.helper = True, cast("Helper", value)


def _set_mark(entry: Entry, value: object) -> None:
    entry.mark = cast("int", value)


def _set_labels(entry: Entry, value: object) -> None:
    entry.labels = cast("int", value)


def _set_synproxy(entry: Entry, value: object) -> None:
    entry.synproxy = cast("SynProxy", value)


_SETTERS: Final[Mapping[str, Callable[[Entry, object], None]]] = {
    "protoinfo": _set_protoinfo,
    "mark": _set_mark,
    "labels": _set_labels,
    "helper": _set_helper,
    "counters_orig": _set_counters(ORIG),
    "counters_reply": _set_counters(REPLY),
    "seqadj_orig": _set_seqadj(ORIG),
    "seqadj_reply": _set_seqadj(REPLY),
    "synproxy": _set_synproxy,
}
