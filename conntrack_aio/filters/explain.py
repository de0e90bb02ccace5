"""Explain, in text, which part of a match the kernel applies and which part the library checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import attrs

from ..model.features import Features
from ..model.requests import Selection
from ..netlink.bpf import Program
from .address_values import address_condition
from .bit_values import bit_condition
from .compiled import CompiledMatch
from .describe import describe
from .dump import DumpFeatures, DumpFilter
from .fields import FAMILY, FIELDS, MARK, STATUS, ZONE, AddressField, MatchField, NumberField
from .nodes import Bits, Node, atoms
from .number_values import number_condition
from .program import EventFilter
from .tree import all_of, negate

_ALL_FEATURES: Final = DumpFeatures(
    tuple_filter=True, reply_filter=True, status_filter=True, zone_filter=True
)


class HasFeatures(Protocol):
    """An object that knows the features of the kernel: a :class:`~conntrack_aio.Connection`."""

    async def features(self) -> Features: ...


@attrs.frozen
class Explanation:
    """How the kernel and the library apply a match. Printed, it has a line for each use.

    ``print(explanation.event_program)`` lists a program, one instruction on each line.
    """

    match: str
    """The text of the match."""
    dump: str
    """How ``dump``, ``list`` and ``count`` select flows, and how ``update_matching`` and a
    ``table`` read them."""
    delete: str
    """How ``delete_matching`` deletes flows."""
    events: str
    """How ``events`` selects events."""
    table: str
    """Which events a ``table`` receives."""
    event_program: Program | None
    """The program that the kernel runs on each event before it queues the event; ``None`` if the
    kernel is to queue all events. If ``net.core.optmem_max`` leaves no room for it, the kernel runs
    a shorter one: see :attr:`EventStream.kernel_filter`."""
    table_program: Program | None
    """The program that the kernel runs on each event for a ``table``."""

    def __str__(self) -> str:
        names = ("match", "dump", "delete", "events", "table")
        return "\n".join(f"{name + ':':8} {getattr(self, name)}" for name in names)


def explain(match: CompiledMatch, features: Features) -> Explanation:
    """Explain how a kernel with these features, and the library, apply a match."""
    dump = match.dump_filter(DumpFeatures.of(features))
    events = match.program()
    table = match.program(constant_only=True)
    return Explanation(
        describe(match.node),
        _explain_dump(match, dump),
        _explain_delete(match, dump, features),
        _explain_events(match, events),
        _explain_table(match, table),
        events.program if events else None,
        table.program if table else None,
    )


# -- dumps and deletes --------------------------------------------------------------------------


_NEVER: Final = "no request, because no flow can match"


def _explain_dump(match: CompiledMatch, dump: DumpFilter) -> str:
    if match.always:
        return "all flows"
    if not dump.selections:
        return _NEVER
    if dump.selections == (Selection(),):
        text = "the kernel sends all flows; the library checks each"
    elif dump.exact:
        text = f"the kernel sends only flows that match: {_selected(dump)}"
    else:
        reason = _reason_to_check(match.node, dump)
        text = f"the kernel sends only flows that may match: {_selected(dump)}"
        text += f"; the library checks each {reason}"
    newest = match.dump_filter(_ALL_FEATURES)
    if newest.selections != dump.selections:
        text += f" (a newer kernel would send only: {_selected(newest)})"
    return text


def _explain_delete(match: CompiledMatch, dump: DumpFilter, features: Features) -> str:
    if match.always:
        return "refused, because every flow matches"
    if not dump.selections:
        return _NEVER
    if dump.exact and features.flush_filter and Selection() not in dump.selections:
        return "matches are counted, then deleted by one kernel request"
    return "matches are read by a dump, then deleted one by one, by tuple, zone and id"


def _selected(dump: DumpFilter) -> str:
    """Return the text of the match that the kernel applies."""
    nodes = _nodes(dump.selections[0])
    if len(dump.selections) == 1:
        return describe(all_of(nodes))
    node = all_of(node for node in nodes if FAMILY not in set(_fields(node)))
    return f"{describe(node)} (in two dumps, one for each family)"


def _nodes(selection: Selection) -> Iterator[Node]:
    """Yield the conditions that a filter of the kernel stands for."""
    if selection.family:
        yield number_condition(FAMILY, selection.family)
    for side, values in (("orig", selection.orig), ("reply", selection.reply)):
        for name, value in values.items():
            field = FIELDS[name if name == "proto" else f"{side}.{name}"]
            if isinstance(field, AddressField):
                yield address_condition(field, str(value))
            elif isinstance(field, NumberField):
                yield number_condition(field, str(value))
    if selection.zone is not None:
        yield number_condition(ZONE, selection.zone)
    if selection.mark is not None:
        yield Bits(MARK, selection.mark.mask, selection.mark.value)
    if selection.status is not None:
        for number in range(STATUS.width):
            if selection.status.mask >> number & 1:
                is_set = bit_condition(STATUS, number)
                yield is_set if selection.status.value >> number & 1 else negate(is_set)


def _reason_to_check(node: Node, dump: DumpFilter) -> str:
    """Return why the library checks what the kernel sends in a dump."""
    selected = {field for part in _nodes(dump.selections[0]) for field in _fields(part)}
    if dump.selections[0].zone:  # the kernel also sends flows with the zone in one direction only
        selected.discard(ZONE)
    return _for_fields(field for field in _fields(node) if field not in selected)


# -- events -------------------------------------------------------------------------------------


def _explain_events(match: CompiledMatch, events: EventFilter | None) -> str:
    if match.always:
        return "all events"
    if events is None:
        return "the kernel queues all events; the library checks each"
    program = f"by a program of {len(events.program)} instructions"
    if events.exact:
        return f"the kernel queues only events that match, {program}"
    incomplete = (
        field for field in _fields(match.node) if not field.constant and field is not MARK
    )
    return (
        f"the kernel queues only events that may match, {program}; "
        f"the library checks each {_for_fields(incomplete)}"
    )


def _explain_table(match: CompiledMatch, table: EventFilter | None) -> str:
    if match.always:
        return "all flows"
    checks = "the library checks each flow whenever it changes"
    if table is None:
        return f"the kernel queues all events; {checks}"
    return (
        "the kernel queues only events of flows that may match, "
        f"by a program of {len(table.program)} instructions on fields that never change; {checks}"
    )


# -- fields -------------------------------------------------------------------------------------


def _for_fields(fields: Iterable[MatchField]) -> str:
    """Return for which fields the library checks what the kernel sends."""
    names = ", ".join(dict.fromkeys(field.name for field in fields))
    return f"for {names}" if names else "because the kernel's filter is simplified"


def _fields(node: Node) -> list[MatchField]:
    """Return the fields of all conditions of a node."""
    return [condition.field for condition in atoms(node)]
