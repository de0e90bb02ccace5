"""Flows put together of what dumps and events tell of them.

Flows of the table are not changed once they are in it: who was handed one may keep it.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final, cast

import attrs

from ..model.declare import raw
from ..model.enums import Status
from ..model.flow import Flow
from ..model.protoinfo import ProtoInfo


def _names_of(cls: type) -> list[str]:
    return [field.name for field in attrs.fields(cls)]


_TUPLES: Final = ("orig", "reply")
_FIELDS: Final = tuple(name for name in _names_of(Flow) if name not in (*_TUPLES, "unknown"))
_values = cast("attrgetter[tuple[object, ...]]", attrgetter(*_FIELDS))

_all_names: Final = tuple(_names_of(Flow))
_all_values = attrgetter(*_all_names)
_make = raw(Flow)

UNTOLD: Final = frozenset({"timeout", "use", "timestamp", "counters_orig", "counters_reply"})
"""What no update event is for: these change all the time, and are as the kernel last told them."""


_REPORTED_BITS: Final = int(Status.SEEN_REPLY | Status.ASSURED)
"""Those whose change has an event of its own (``IPCT_REPLY``, ``IPCT_ASSURED``)."""
_OFFLOADED: Final = int(Status.OFFLOAD | Status.HW_OFFLOAD)
"""Set and cleared without events; meanwhile a flowtable handles the packets."""


def duplicate(flow: Flow) -> Flow:
    """Another flow with the same fields: :func:`copy.copy` takes three times as long."""
    return _make(**dict(zip(_all_names, _all_values(flow), strict=True)))


def may_be_same(one: Flow, other: Flow) -> bool:
    """Whether two flows with the same tuple are the same entry, as far as can be told.

    An entry that is made where an equal one was just deleted may have its very id; the time when
    it was made, where the kernel keeps that, still tells them apart.
    """
    if one.id != other.id and one.id is not None and other.id is not None:
        return False
    if one.zone != other.zone:  # where the tuple has a zone of its own, they have the same number
        return False
    if one.timestamp is None or other.timestamp is None:
        return True
    return one.timestamp.start == other.timestamp.start


def same_entry(one: Flow, other: Flow) -> bool:
    """The same, of two that the kernel told of.

    One that is made where an equal one was just deleted may be translated otherwise.
    """
    return may_be_same(one, other) and (one.reply is other.reply or one.reply == other.reply)


def lay_over(base: Flow, told: Flow) -> tuple[str, ...]:
    """Complete ``told``, which is fresh, by what ``base`` knows more; the names that differ.

    ``told`` is of an event, in which absence means "not told", but for the helper: that is told
    where there is one.
    """
    changed: list[str] = []
    told.orig, told.reply = base.orig, base.reply  # equal: it is the same entry
    if base.helper is not None and told.helper is None:
        changed.append("helper")
    for name, old, new in zip(_FIELDS, _values(base), _values(told), strict=True):
        if old is new:
            continue
        if new is None:
            if name != "helper":
                setattr(told, name, old)
        elif old == new:
            setattr(told, name, old)  # one object for both
        elif name not in UNTOLD and (old is not None or name != "mark" or new):
            changed.append(name)
    told.unknown = told.unknown or base.unknown
    if told.unknown != base.unknown:
        changed.append("unknown")
    return tuple(changed)


def finish(base: Flow, told: Flow) -> Flow:
    """Complete ``told``, of a destroy event, which has no helper and, of TCP, the state alone."""
    final, known = told.protoinfo, base.protoinfo
    lay_over(base, told)
    told.helper = base.helper
    if final is not None and known is not None and type(final) is type(known):
        told.protoinfo = _completed(final, known)
    return told


def _completed(final: ProtoInfo, known: ProtoInfo) -> ProtoInfo:
    if final.state == known.state:
        return known
    told = {name: getattr(final, name) for name in _names_of(type(final))}
    return type(final)(
        **{name: getattr(known, name) if value is None else value for name, value in told.items()}
    )


def differences(before: Flow, after: Flow) -> tuple[str, ...]:
    """The names of the fields in which two states of an entry differ, both of them complete."""
    if before is after:
        return ()
    changed = [
        name
        for name, old, new in zip(_FIELDS, _values(before), _values(after), strict=True)
        if old is not new and old != new and name not in UNTOLD
    ]
    if "mark" in changed and not before.mark and not after.mark:
        changed.remove("mark")  # a new event leaves a mark of 0 out, a dump does not
    if before.unknown != after.unknown:
        changed.append("unknown")
    return tuple(changed)


def may_hide_labels(before: Flow, told: Flow, changed: tuple[str, ...], by_program: bool) -> bool:
    """Whether an update, completed by now, may have cleared all labels, of which it has no word.

    Events have labels if they changed and some are set (``ctnetlink_dump_labels``). A program's
    request always tells of a change; packets that change nothing else have changed them.
    """
    # What the library does not know may be told with every event.
    silent = by_program or changed in ((), ("unknown",))
    return before.labels is not None and told.labels is before.labels and silent


def has_reported_change(before: Flow, after: Flow, changed: tuple[str, ...]) -> bool:
    """Whether one of the changed fields is one whose changes the kernel always reports.

    Only what is certain counts: the mark, labels that are set, the replied and assured bits, and
    the state of the protocol. The kernel sets the other bits, attaches a helper, and shifts
    sequence numbers without an event, or not always with one.
    """
    if "mark" in changed or ("labels" in changed and after.labels):
        return True
    old, new = int(before.status or 0), int(after.status or 0)
    if (old | new) & _OFFLOADED:
        return False
    if before.status is not None and after.status is not None and (old ^ new) & _REPORTED_BITS:
        return True
    known, found = before.protoinfo, after.protoinfo
    if type(known) is not type(found) or known is None or found is None:
        return False
    return None is not known.state != found.state is not None
