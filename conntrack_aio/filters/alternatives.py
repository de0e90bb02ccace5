"""Arrange the alternatives of a match so that a flow is not compared with each of them.

- Alternatives that need single values of the same fields go into a :class:`LookupTable`.
- Alternatives that differ only in the ranges of one field are joined into one.
- Alternatives that need ranges of the same field go into an :class:`IntervalTable`.
- Alternatives that are bits under the same mask become :class:`MaskedValues`.

Fewer than :data:`FEW` alternatives are left as they are. A value that is looked up is a number or
a text. An address is one number for both families: an IPv6 address is ``~number``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from math import prod
from typing import Final, NamedTuple

from .fields import MARK, AddressField, BitsField, Field
from .intervals import Intervals
from .nodes import TRUE, Addresses, All, Any, Atom, Bits, Node, Not, Numbers, Texts
from .tree import unite

FEW: Final = 4
"""Fewer alternatives than this are compared one by one."""

_MOST_SPREAD: Final = 8
"""How many alternatives inside an alternative may become alternatives beside it."""

_MOST_OVERLAPPING: Final = 16
"""How many alternatives each interval may have on average."""


class LookupTable:
    """Alternatives that need single values of the same fields."""

    def __init__(self, fields: tuple[Field, ...]) -> None:
        self.fields = fields
        self.alternatives: dict[object, list[Node]] = {}
        """What else each alternative needs, by the value of the field, or by a tuple of values."""

    def add(self, values: Sequence[Sequence[object]], rest: Node) -> None:
        """Add an alternative: the values of each field, and what else it needs."""
        keys: Iterable[object] = product(*values) if len(values) > 1 else values[0]
        for key in keys:
            self.alternatives.setdefault(key, []).append(rest)


class IntervalTable(NamedTuple):
    """Alternatives that need ranges of one field, by the intervals between the ranges' bounds."""

    field: Field
    starts: list[int]
    """Where each interval starts. No alternative takes a value before the first."""
    alternatives: list[tuple[Node, ...]]
    """What else the alternatives need: of the values before the first interval, then of each."""


class MaskedValues(NamedTuple):
    """Alternatives that need certain bits under one mask."""

    field: BitsField
    mask: int
    values: frozenset[int]


class Arrangement(NamedTuple):
    """Alternatives by how they are found. A flow matches if any of all these does."""

    lookups: list[LookupTable]
    intervals: list[IntervalTable]
    masks: list[MaskedValues]
    rest: list[Node]
    """The alternatives to compare one by one."""


def arrange(parts: Iterable[Node]) -> Arrangement:
    """Arrange alternatives by how they are found."""
    rest = list(_flattened(parts))
    if len(rest) < FEW:
        return Arrangement([], [], [], rest)
    lookups, rest = _take_lookups(rest)
    spread = [each for part in rest for each in _spread(part)]
    if len(spread) > len(rest):
        more, rest = _take_lookups(spread)
        lookups += more
    intervals, rest = _take_intervals(_joined(rest))
    masks, rest = _take_masks(rest)
    return Arrangement(lookups, intervals, masks, rest)


def any_of(parts: Sequence[Node]) -> Node:
    """Return a node that holds where any of the parts does."""
    different = tuple(dict.fromkeys(parts)) if len(parts) > 1 else tuple(parts)
    if TRUE in different:
        return TRUE
    return different[0] if len(different) == 1 else Any(different)


# -- the values of conditions -------------------------------------------------------------------


def count(values: Intervals) -> int:
    """Return how many numbers the intervals have."""
    return sum(last - first + 1 for first, last in values)


def count_addresses(node: Addresses) -> int:
    """Return how many addresses a condition takes."""
    return count(node.v4) + count(node.v6)


def numbers(values: Intervals) -> Iterable[int]:
    """Return the numbers that the intervals have."""
    return (number for first, last in values for number in range(first, last + 1))


def address_numbers(node: Addresses) -> Iterable[int]:
    """Return the addresses that a condition takes, as numbers."""
    yield from numbers(node.v4)
    yield from (~number for number in numbers(node.v6))


def _count_values(node: Atom) -> int:
    """Return how many values a condition takes; 0 if they are not looked up."""
    if isinstance(node, Numbers):
        return count(node.values)
    if isinstance(node, Addresses):
        return count_addresses(node)
    if isinstance(node, Texts):
        return len(node.values)
    return int(node.field is MARK and node.mask == (1 << MARK.width) - 1)


def _values(node: Atom) -> Iterable[object]:
    """Return the values that a condition takes."""
    if isinstance(node, Numbers):
        return numbers(node.values)
    if isinstance(node, Addresses):
        return address_numbers(node)
    return node.values if isinstance(node, Texts) else (node.value,)


def _ranges(node: Numbers | Addresses) -> Iterable[tuple[int, int]]:
    """Return the ranges of values that a condition takes."""
    if isinstance(node, Numbers):
        return node.values
    return (*node.v4, *((~last, ~first) for first, last in node.v6))


# -- the parts of alternatives ------------------------------------------------------------------


def _parts_of(node: Node) -> tuple[Node, ...]:
    return node.parts if isinstance(node, All) else (node,)


def _without(part: Node, removed: Node) -> tuple[Node, ...]:
    """Return the parts of an alternative except one."""
    return tuple(each for each in _parts_of(part) if each is not removed)


def _all_of(parts: tuple[Node, ...]) -> Node:
    if not parts:
        return TRUE
    return parts[0] if len(parts) == 1 else All(parts)


def is_negated(part: Node) -> bool:
    """Return whether the opposite of a condition can be looked up, but not the condition."""
    if isinstance(part, Any):
        return bool(part.parts) and any(isinstance(each, Not) for each in part.parts)
    return isinstance(part, Not)


def opposite(part: Node) -> Node:
    """Return a node that holds where the part does not."""
    if isinstance(part, Any):
        return All(tuple(map(opposite, part.parts)))
    return part.part if isinstance(part, Not) else Not(part)


def _flattened(parts: Iterable[Node]) -> Iterable[Node]:
    """Return alternatives, with the alternatives inside of them in their place."""
    for part in parts:
        if isinstance(part, Any):
            yield from _flattened(part.parts)
        elif isinstance(part, Not) and isinstance(part.part, All) and len(part.part.parts) >= FEW:
            yield from _flattened(map(opposite, part.part.parts))
        else:
            yield part


def _spread(part: Node) -> Sequence[Node]:
    """Return ``a and b``, ``a and c`` for ``a and (b or c)``, if these can be found by values."""
    if not isinstance(part, All):
        return (part,)
    for each in part.parts:
        if not isinstance(each, Any) or len(each.parts) > _MOST_SPREAD:
            continue
        inner = [_parts_of(one) for one in each.parts]
        if all(any(isinstance(one, Numbers | Addresses) for one in ones) for ones in inner):
            rest = _without(part, each)
            return [All((*ones, *rest)) for ones in inner]
    return (part,)


# -- look-up tables -----------------------------------------------------------------------------


def _take_lookups(parts: Sequence[Node]) -> tuple[list[LookupTable], list[Node]]:
    """Return tables of the alternatives that can be looked up, and the other alternatives."""
    found: dict[tuple[Field, ...], list[tuple[Node, dict[Field, Atom]]]] = {}
    rest: list[Node] = []
    for part in parts:
        single = _single_values(part)
        if single:
            found.setdefault(tuple(single), []).append((part, single))
        else:
            rest.append(part)
    tables: list[LookupTable] = []
    for fields, alternatives in found.items():
        if len(alternatives) < FEW:
            rest += [part for part, _ in alternatives]
            continue
        table = LookupTable(fields)
        for part, single in alternatives:
            known = {id(each) for each in single.values()}
            left = tuple(each for each in _parts_of(part) if id(each) not in known)
            table.add([list(_values(each)) for each in single.values()], _all_of(left))
        tables.append(table)
    return tables, rest


def _single_values(part: Node) -> dict[Field, Atom]:
    """Return the conditions of an alternative that take few values, in a fixed order of fields.

    All combinations of the values become keys. To bound their number, ranges and the largest sets
    are left to be compared. Addresses come first: they distinguish the most flows.
    """
    most = 64 + 4 * part.weight
    found = {
        each.field: each
        for each in _parts_of(part)
        if not isinstance(each, All | Any | Not) and 0 < _count_values(each) <= most
    }
    fields = sorted(
        found, key=lambda field: (field.path[-1:] not in (("src",), ("dst",)), field.name)
    )
    while prod(_count_values(found[field]) for field in fields) > most:
        fields.pop()
    return {field: found[field] for field in fields}


# -- interval tables ----------------------------------------------------------------------------


def _joined(parts: Sequence[Node]) -> list[Node]:
    """Join alternatives that differ only in the ranges of one field."""
    found = list(dict.fromkeys(parts))
    for field in _ranged_fields(found):
        groups: dict[object, list[Node]] = {}
        for part in found:
            atom = _ranged(part, field)
            key = part if atom is None else (frozenset(_without(part, atom)),)
            groups.setdefault(key, []).append(part)
        if len(groups) == len(found):
            continue
        joined: list[Node] = []
        for same in groups.values():
            atoms = [atom for part in same if (atom := _ranged(part, field)) is not None]
            if len(atoms) < 2:
                joined += same
                continue
            rest = _without(same[0], atoms[0])
            joined.append(All((unite(atoms), *rest)) if rest else unite(atoms))
        found = joined
    return found


def _take_intervals(parts: Sequence[Node]) -> tuple[list[IntervalTable], list[Node]]:
    """Return tables of the alternatives that need ranges, and the other alternatives."""
    rest = list(parts)
    tables: list[IntervalTable] = []
    for field in _ranged_fields(rest):
        found = [(part, atom) for part in rest if (atom := _ranged(part, field)) is not None]
        if len(found) < FEW:
            continue
        table = _intervals(field, found)
        if table is not None:
            tables.append(table)
            known = {id(part) for part, _ in found}
            rest = [part for part in rest if id(part) not in known]
    return tables, rest


def _intervals(
    field: Field, found: Sequence[tuple[Node, Numbers | Addresses]]
) -> IntervalTable | None:
    """Return the table of alternatives; ``None`` if it would be large because many overlap."""
    changes: dict[int, list[tuple[int, bool]]] = {}
    rests: list[Node] = []
    for number, (part, atom) in enumerate(found):
        rests.append(_all_of(_without(part, atom)))
        for first, last in _ranges(atom):
            changes.setdefault(first, []).append((number, True))
            changes.setdefault(last + 1, []).append((number, False))
    starts = sorted(changes)
    left = _MOST_OVERLAPPING * (len(found) + len(starts))
    now: dict[int, None] = {}
    alternatives: list[tuple[Node, ...]] = [()]
    for start in starts:
        for number, begins in sorted(changes[start], key=_begins):
            if begins:
                now[number] = None
            else:
                del now[number]
        left -= len(now)
        if left < 0:
            return None
        alternatives.append(tuple(rests[number] for number in now))
    return IntervalTable(field, starts, alternatives)


def _begins(change: tuple[int, bool]) -> bool:
    return change[1]


def _ranged_fields(parts: Sequence[Node]) -> list[Field]:
    """Return the fields of which any alternative needs ranges, addresses first."""
    found = {
        each.field: None
        for part in parts
        for each in _parts_of(part)
        if isinstance(each, Numbers | Addresses)
    }
    return sorted(found, key=lambda field: (not isinstance(field, AddressField), field.name))


def _ranged(part: Node, field: Field) -> Numbers | Addresses | None:
    """Return the condition of an alternative on the ranges of a field."""
    for each in _parts_of(part):
        if isinstance(each, Numbers | Addresses) and each.field is field:
            return each
    return None


# -- masked values ------------------------------------------------------------------------------


def _take_masks(parts: Sequence[Node]) -> tuple[list[MaskedValues], list[Node]]:
    """Return the alternatives that are bits under the same mask, and the other alternatives."""
    groups: dict[tuple[BitsField, int], list[int]] = {}
    for part in parts:
        if isinstance(part, Bits):
            groups.setdefault((part.field, part.mask), []).append(part.value)
    many = {key: frozenset(values) for key, values in groups.items() if len(values) >= FEW}
    rest = [
        part for part in parts if not isinstance(part, Bits) or (part.field, part.mask) not in many
    ]
    return [MaskedValues(field, mask, values) for (field, mask), values in many.items()], rest
