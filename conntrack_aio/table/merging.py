"""Merge what dumps and events report of an entry into one flow, and compare two states of an entry.

- A flow is not changed once it is in the live table. Programs may keep the flows that they got.
- :mod:`.states` does the same with the bytes of most entries, without creating flows.
- An event has only some attributes of an entry. An absent attribute means "not reported", except
  the helper: ctnetlink reports the helper in every update of an entry that has one.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final, cast

import attrs

from ..model.enums import Status
from ..model.flow import Flow
from ..model.normalization import raw
from ..model.protoinfo import ProtoInfo


def _names_of(cls: type) -> list[str]:
    return [field.name for field in attrs.fields(cls)]


_TUPLES: Final = ("orig", "reply")
_FIELDS: Final = tuple(name for name in _names_of(Flow) if name not in (*_TUPLES, "unknown"))
_values = cast("attrgetter[tuple[object, ...]]", attrgetter(*_FIELDS))

_all_names: Final = tuple(_names_of(Flow))
_all_values = attrgetter(*_all_names)
_make = raw(Flow)

UNREPORTED_FIELDS: Final = frozenset(
    {"timeout", "use", "timestamp", "counters_orig", "counters_reply"}
)
"""Fields that change all the time without an event. They are as the kernel last reported them."""


_REPORTED_BITS: Final = int(Status.SEEN_REPLY | Status.ASSURED)
"""Status bits whose change has an event of its own (``IPCT_REPLY``, ``IPCT_ASSURED``)."""
_OFFLOADED: Final = int(Status.OFFLOAD | Status.HW_OFFLOAD)
"""Status bits of an entry whose packets a flowtable handles. The kernel sets and clears these bits
without events."""


def duplicate(flow: Flow) -> Flow:
    """Return another flow with the same fields. :func:`copy.copy` takes three times as long."""
    return _make(**dict(zip(_all_names, _all_values(flow), strict=True)))


def may_be_same_entry(one: Flow, other: Flow) -> bool:
    """Return whether two flows with the same original tuple may be states of one entry.

    The ids are compared if both are known. A new entry with the tuple of one that was just deleted
    may have the same id. The start times then distinguish them, if the kernel records these
    (``nf_conntrack_timestamp``).
    """
    if one.id != other.id and one.id is not None and other.id is not None:
        return False
    # A zone of both directions, and one of the original direction only, give the same key.
    if one.zone != other.zone:
        return False
    if one.timestamp is None or other.timestamp is None:
        return True
    return one.timestamp.start == other.timestamp.start


def same_entry(one: Flow, other: Flow) -> bool:
    """Return whether two flows that the kernel reported with one original tuple are one entry.

    The reply tuples are compared, too: a new entry with the tuple and id of a deleted one may have
    another translation.
    """
    return may_be_same_entry(one, other) and (one.reply is other.reply or one.reply == other.reply)


def merge_update(known: Flow, update: Flow) -> None:
    """Complete the flow of an update by the known state of the entry.

    :param known: the state before the update. It is not changed.
    :param update: the flow of the event, which no other code refers to yet. Each field that it
        lacks is set from ``known``, except the helper.
    """
    # The tuples are equal, because it is the same entry. One object for both saves memory.
    update.orig, update.reply = known.orig, known.reply
    for name, old, new in zip(_FIELDS, _values(known), _values(update), strict=True):
        if old is not new and ((new is None and name != "helper") or old == new):
            setattr(update, name, old)  # one object for both
    update.unknown = update.unknown or known.unknown


def merge_destroy(known: Flow, final: Flow) -> Flow:
    """Complete the flow of a destroy event by the last known state of the entry, and return it.

    A destroy event has no helper and, of a TCP entry, only the state.

    :param known: the last known state. It is not changed.
    :param final: the flow of the event, which no other code refers to yet.
    """
    reported, earlier = final.protoinfo, known.protoinfo
    merge_update(known, final)
    final.helper = known.helper
    if reported is not None and earlier is not None and type(reported) is type(earlier):
        final.protoinfo = _merge_protoinfo(reported, earlier)
    return final


def _merge_protoinfo(reported: ProtoInfo, earlier: ProtoInfo) -> ProtoInfo:
    """Return the reported protocol state, completed by an earlier one of the same protocol."""
    if reported.state == earlier.state:
        return earlier
    values = {name: getattr(reported, name) for name in _names_of(type(reported))}
    return type(reported)(
        **{
            name: getattr(earlier, name) if value is None else value
            for name, value in values.items()
        }
    )


def changed_fields(before: Flow, after: Flow) -> tuple[str, ...]:
    """Return the names of the fields in which two complete states of an entry differ.

    :data:`UNREPORTED_FIELDS` are not compared.
    """
    if before is after:
        return ()
    changed = [
        name
        for name, old, new in zip(_FIELDS, _values(before), _values(after), strict=True)
        if old is not new and old != new and name not in UNREPORTED_FIELDS
    ]
    if "mark" in changed and not before.mark and not after.mark:
        changed.remove("mark")  # a NEW event leaves out a mark of 0, a dump does not
    if before.unknown != after.unknown:
        changed.append("unknown")
    return tuple(changed)


def may_have_cleared_labels(changed: tuple[str, ...], *, by_program: bool) -> bool:
    """Return whether an update may have cleared all labels of an entry without reporting it.

    An event has labels only if they changed and some are set (``ctnetlink_dump_labels``). A request
    of a program always emits an update. So does a packet that changes only the labels.

    Precondition: the entry had labels before.

    :param changed: what :func:`changed_fields` returned for the states before and after the update.
    :param by_program: whether a request of a program caused the update, rather than a packet.
    """
    # Attributes that the library does not know may be in every event, so they explain nothing.
    return "labels" not in changed and (by_program or changed in ((), ("unknown",)))


def has_reportable_change(before: Flow, after: Flow, changed: tuple[str, ...]) -> bool:
    """Return whether one of the changed fields is one whose changes the kernel always reports.

    These are the mark, labels that are set, the SEEN_REPLY and ASSURED bits, and the state of the
    protocol. The kernel does not always send an event when it sets another status bit, attaches a
    helper or shifts sequence numbers.

    :param before: the earlier state.
    :param after: the later state.
    :param changed: what :func:`changed_fields` returned for these two states.
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
    if known.state is None or found.state is None:
        return False
    return known.state != found.state
