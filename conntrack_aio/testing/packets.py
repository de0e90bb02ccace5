"""What packets and rules do to the table, without any request."""

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
from .tuples import Zone, normal

_TIMEOUT: Final = 600


def find(state: State, target: Flow | Tuple) -> Entry:
    """The entry of a flow, or of a tuple of either direction. Raises :exc:`LookupError`."""
    orig, zone = (target.orig, _zone(target)) if isinstance(target, Flow) else (target, None)
    zone = _tuple_zone(orig) if zone is None else zone
    entry = state.find(normal(orig, state.release), zone)
    if entry is None:
        raise LookupError(f"no entry of the table has the tuple {orig}")
    return entry


def _tuple_zone(tuple_: Tuple) -> Zone:
    return Zone(tuple_.zone or 0)


def _zone(flow: Flow) -> Zone:
    """The zone of both directions, or of the one whose tuple has it."""
    if flow.orig.zone:
        return Zone(flow.orig.zone, frozenset({ORIG}))
    if flow.reply.zone:
        return Zone(flow.reply.zone, frozenset({REPLY}))
    return Zone(flow.zone or 0)


def add(state: State, flow: Flow) -> Entry:
    """Insert a flow, and tell of it. Raises :exc:`ValueError`."""
    flow.validate()
    zone = _zone(flow)
    entry = Entry(
        normal(flow.orig, state.release), normal(flow.reply, state.release), zone, flow.orig.family
    )
    # One that has lost a race for its original tuple is there by its reply tuple alone.
    clashed = flow.status is not None and bool(flow.status & Status.UNTRACKED)
    for tuple_ in (entry.reply,) if clashed else (entry.orig, entry.reply):
        if state.table.taken(tuple_, zone):
            raise ValueError(f"an entry has the tuple {tuple_} already")
    state.extend(entry)
    entry.status = Status.CONFIRMED | (_status(entry) if flow.status is None else flow.status)
    if flow.master is not None:
        found = state.table.find(normal(flow.master, state.release), zone)
        if found is None:
            raise ValueError(f"its master {flow.master} is no entry")
        entry.master = found[0]
        entry.status |= Status.EXPECTED
    state.set_timeout(entry, _TIMEOUT if flow.timeout is None else flow.timeout)
    entry.unknown = tuple(kept for kept in flow.unknown if len(kept.path) == 1)
    _set(entry, {field: getattr(flow, field) for field in _CHANGES})
    state.insert(entry)
    if flow.timestamp is not None:
        entry.started = flow.timestamp.start or 0
    if flow.id is not None:
        entry.id = flow.id
    state.tell(entry, _began(entry))
    return entry


def _status(entry: Entry) -> Status:
    """What a translation shows."""
    status = Status(0)
    try:
        plain = entry.orig.inverse
    except EncodeError:
        return status
    answer = entry.reply
    done = Status.SRC_NAT_DONE | Status.DST_NAT_DONE
    if (answer.dst, answer.dport) != (plain.dst, plain.dport):
        status |= Status.SRC_NAT | done
    if (answer.src, answer.sport) != (plain.src, plain.sport):
        status |= Status.DST_NAT | done
    return status


def _began(entry: Entry) -> IPCT:
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
    """Change an entry, and tell what has changed, if anything that is told."""
    before = attrs.evolve(entry)
    if "timeout" in values:
        state.set_timeout(entry, cast("int", values["timeout"]))
    if "status" in values:
        entry.status = Status.CONFIRMED | cast("Status", values["status"])
    _set(entry, values)
    events = _changed(before, entry)
    if events:
        state.tell(entry, events)


def _changed(before: Entry, after: Entry) -> IPCT:
    events = IPCT(0)
    fresh = after.status & ~before.status
    if fresh & Status.SEEN_REPLY:
        events |= IPCT.REPLY
    if fresh & Status.ASSURED:
        events |= IPCT.ASSURED
    for name, event in _TOLD.items():
        if getattr(before, name) != getattr(after, name):
            events |= event
    return events


_TOLD: Final = {
    "protoinfo": IPCT.PROTOINFO,
    "helper": IPCT.HELPER,
    "mark": IPCT.MARK,
    "seqadj": IPCT.SEQADJ,
    "labels": IPCT.LABEL,
    "synproxy": IPCT.SYNPROXY,
}


def _set(entry: Entry, values: Mapping[str, object]) -> None:
    """Take over what is given, and not ``None``."""
    for name, set_it in _CHANGES.items():
        value = values.get(name)
        if value is not None:
            set_it(entry, value)


def _set_protoinfo(entry: Entry, value: object) -> None:
    """What of it is ``None`` stays; that of another protocol is no part of the entry."""
    info = entry.protoinfo
    if info is None or type(info) is not type(value):
        raise ValueError(f"{value!r} does not go with protocol {entry.orig.proto}")
    merged: dict[str, Any] = {}
    for field in schema_of(type(info)).fields:
        given = getattr(value, field.name)
        merged[field.name] = getattr(info, field.name) if given is None else given
    entry.protoinfo = type(info)(**merged)


def _set_counters(direction: int) -> Callable[[Entry, object], None]:
    def set_them(entry: Entry, value: object) -> None:
        counters = cast("Counters", value)
        if entry.counters is None:
            entry.counters = (Count(), Count())
        count = entry.counters[direction]
        count.packets = counters.packets or 0
        count.bytes = counters.bytes or 0

    return set_them


def _set_seqadj(direction: int) -> Callable[[Entry, object], None]:
    def set_it(entry: Entry, value: object) -> None:
        sides = list(entry.seqadj or (SeqAdj(), SeqAdj()))
        sides[direction] = cast("SeqAdj", value)
        entry.seqadj = (sides[ORIG], sides[REPLY])
        entry.status |= Status.SEQ_ADJUST

    return set_it


def _set_helper(entry: Entry, value: object) -> None:
    entry.helped, entry.helper = True, cast("Helper", value)


def _set_mark(entry: Entry, value: object) -> None:
    entry.mark = cast("int", value)


def _set_labels(entry: Entry, value: object) -> None:
    entry.labels = cast("int", value)


def _set_synproxy(entry: Entry, value: object) -> None:
    entry.synproxy = cast("SynProxy", value)


_CHANGES: Final[Mapping[str, Callable[[Entry, object], None]]] = {
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
