"""What is done of a match where, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import attrs

from ..model.features import Features
from ..model.requests import Selection
from ..netlink.bpf import Program
from .compiled import Compiled
from .dump import DumpFilter
from .fields import FAMILY, FIELDS, MARK, STATUS, ZONE, AddressField, Field, NumberField
from .nodes import Bits, Node, atoms
from .program import EventFilter
from .tree import every, negate
from .values import addresses, bit, numbers
from .words import describe

_NEWEST: Final = Features(**dict.fromkeys((field.name for field in attrs.fields(Features)), True))


class Kernel(Protocol):
    """Who knows what the kernel at hand can do: a connection."""

    async def features(self) -> Features: ...


@attrs.frozen
class Explanation:
    """What is done of a match where: in the kernel, or here. Printed, a line for each verb.

    ``print(explanation.event_program)`` lists a program, an instruction a line.
    """

    match: str
    """Its text."""
    dump: str
    """``dump``, ``list`` and ``count``; and what ``update_matching`` and a ``table`` read."""
    delete: str
    """``delete_matching``."""
    events: str
    """``events``."""
    table: str
    """What a ``table`` hears of."""
    event_program: Program | None
    """What the kernel runs on each event before it is queued, where it has room for that
    (``net.core.optmem_max``; else a shorter one, of which :attr:`EventStream.kernel_filter` tells);
    ``None``, if it is to queue them all."""
    table_program: Program | None
    """The same of a table."""

    def __str__(self) -> str:
        names = ("match", "dump", "delete", "events", "table")
        return "\n".join(f"{name + ':':8} {getattr(self, name)}" for name in names)


def explain(match: Compiled, features: Features) -> Explanation:
    """What a kernel that has these features does of it, and what is left."""
    dump = match.dump(features)
    events = match.program()
    table = match.program(constant=True)
    return Explanation(
        describe(match.node),
        _of_dump(match, dump),
        _of_delete(match, dump, features),
        _of_events(match, events),
        _of_table(match, table),
        events.program if events else None,
        table.program if table else None,
    )


# -- dumps and deletes --------------------------------------------------------------------------


_NOTHING: Final = "nothing: no flow can match"


def _of_dump(match: Compiled, dump: DumpFilter) -> str:
    node = match.node
    if match.always:
        return "all flows"
    if not dump.selections:
        return _NOTHING
    if dump.selections == (Selection(),):
        told = "the kernel sends all flows, and each is checked here"
    else:
        told = f"the kernel sends those of: {_selected(dump)}"
        told += ", and no others" if dump.exact else f"; each is checked here, {_for(node, dump)}"
    best = match.dump(_NEWEST)
    if best.selections != dump.selections:
        told += f" (a newer kernel would send those of: {_selected(best)})"
    return told


def _of_delete(match: Compiled, dump: DumpFilter, features: Features) -> str:
    if match.always:
        return "refused, because all flows match"
    if not dump.selections:
        return _NOTHING
    if dump.exact and features.flush_filter and Selection() not in dump.selections:
        return "the kernel deletes what matches, asked once it is counted"
    return "flows are read as by a dump, and each that matches is deleted by tuple, zone and id"


def _selected(dump: DumpFilter) -> str:
    """The text of the match that the kernel selects by."""
    nodes = _nodes(dump.selections[0])
    if len(dump.selections) == 1:
        return describe(every(nodes))
    node = every(each for each in nodes if FAMILY not in set(_fields(each)))
    return f"{describe(node)} (in two dumps, one for each family)"


def _nodes(selection: Selection) -> Iterator[Node]:
    if selection.family:
        yield numbers(FAMILY, selection.family)
    for side, values in (("orig", selection.orig), ("reply", selection.reply)):
        for name, value in values.items():
            field = FIELDS[name if name == "proto" else f"{side}.{name}"]
            if isinstance(field, AddressField):
                yield addresses(field, str(value))
            elif isinstance(field, NumberField):
                yield numbers(field, str(value))
    if selection.zone is not None:
        yield numbers(ZONE, selection.zone)
    if selection.mark is not None:
        yield Bits(MARK, selection.mark.mask, selection.mark.value)
    if selection.status is not None:
        for number in range(STATUS.width):
            if selection.status.mask >> number & 1:
                wanted = bit(STATUS, number)
                yield wanted if selection.status.value >> number & 1 else negate(wanted)


def _for(node: Node, dump: DumpFilter) -> str:
    selected = {field for part in _nodes(dump.selections[0]) for field in _fields(part)}
    if dump.selections[0].zone:  # which may be that of one direction alone
        selected.discard(ZONE)
    return _names(each for each in _fields(node) if each not in selected)


# -- events -------------------------------------------------------------------------------------


def _of_events(match: Compiled, events: EventFilter | None) -> str:
    if match.always:
        return "all events"
    if events is None:
        return "the kernel queues all events, and each is checked here"
    told = f"the kernel queues those that a program of {len(events.program)} instructions takes"
    if events.exact:
        return f"{told}, and no others"
    unknown = (each for each in _fields(match.node) if not each.constant and each is not MARK)
    return f"{told}; each is checked here, {_names(unknown)}"


def _of_table(match: Compiled, table: EventFilter | None) -> str:
    if match.always:
        return "all flows"
    if table is None:
        told = "the kernel queues all events"
    else:
        told = f"the kernel queues events by what never changes: {len(table.program)} instructions"
    return f"{told}; each flow is checked here whenever it changes"


# -- what a match is about ----------------------------------------------------------------------


def _names(fields: Iterable[Field]) -> str:
    """Why there is something to check."""
    names = ", ".join(dict.fromkeys(field.name for field in fields))
    return f"for {names}" if names else "because it is simplified for the kernel"


def _fields(node: Node) -> list[Field]:
    """What its conditions are on."""
    return [each.field for each in atoms(node)]
