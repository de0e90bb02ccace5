"""Arrange the alternatives of a match so that a flow is not compared with each of them.

A match of a thousand services, each an address and a port joined by ``or``, should take one look-up
for each flow instead of a thousand comparisons. The predicate is compiled from this arrangement:

- Alternatives that require single values of the same fields go into a :class:`LookupTable`.
- Alternatives that differ only in the ranges of one field are joined into one.
- Alternatives that require ranges of the same field go into an :class:`IntervalTable`.
- Alternatives that compare bits under the same mask become :class:`MaskedValues`.
- Fewer than :data:`MIN_TABLE_SIZE` alternatives are not arranged.

A value that is looked up is a number or a text. Addresses of both families share one space of
numbers: an IPv6 address is ``~number``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from math import prod
from typing import Final, NamedTuple

from .fields import MARK, AddressField, BitsField, MatchField
from .intervals import Interval, Intervals
from .memberships import unite
from .nodes import (
    TRUE,
    Addresses,
    AllOf,
    AnyOf,
    Atom,
    Bits,
    Node,
    Not,
    Numbers,
    Ranged,
    Texts,
    opposite,
)

MIN_TABLE_SIZE: Final = 4
"""Fewer alternatives than this are compared one by one."""

_MAX_DISTRIBUTED: Final = 8
"""An alternative is replaced by at most this many (:func:`_distribute`)."""

_MAX_OVERLAP: Final = 16
"""How many alternatives an interval may have on average."""


class LookupTable:
    """Alternatives that require single values of the same fields."""

    def __init__(self, fields: tuple[MatchField, ...]) -> None:
        self.fields = fields
        self.alternatives: dict[object, list[Node]] = {}
        """What else the alternatives require, by the value of the field or a tuple of values."""

    def add(self, values: Sequence[Sequence[object]], rest: Node) -> None:
        """Add an alternative.

        :param values: the values of each field that it accepts.
        :param rest: what else it requires.
        """
        keys: Iterable[object] = product(*values) if len(values) > 1 else values[0]
        for key in keys:
            self.alternatives.setdefault(key, []).append(rest)


class IntervalTable(NamedTuple):
    """Alternatives that require ranges of one field, by the intervals that their bounds form."""

    field: MatchField
    starts: list[int]
    """Where each interval starts. No alternative accepts a value before the first."""
    alternatives: list[tuple[Node, ...]]
    """What else the alternatives require: for the values before the first interval, and for each
    interval."""


class MaskedValues(NamedTuple):
    """Alternatives that require certain bits under one mask."""

    field: BitsField
    mask: int
    values: frozenset[int]


class Arrangement(NamedTuple):
    """Alternatives, grouped by how they are found. A flow matches if any alternative does."""

    lookups: list[LookupTable]
    intervals: list[IntervalTable]
    masks: list[MaskedValues]
    rest: list[Node]
    """The alternatives to compare one by one."""


def arrange(parts: Iterable[Node]) -> Arrangement:
    """Group alternatives by how they are found."""
    rest = list(_flattened(parts))
    if len(rest) < MIN_TABLE_SIZE:
        return Arrangement([], [], [], rest)
    lookups, rest = _take_lookups(rest)
    distributed = [alternative for part in rest for alternative in _distribute(part)]
    if len(distributed) > len(rest):
        more, rest = _take_lookups(distributed)
        lookups += more
    intervals, rest = _take_intervals(_joined(rest))
    masks, rest = _take_masks(rest)
    return Arrangement(lookups, intervals, masks, rest)


def any_node(parts: Sequence[Node]) -> Node:
    """Return a node that holds where any part holds, without joining conditions."""
    different = tuple(dict.fromkeys(parts)) if len(parts) > 1 else tuple(parts)
    if TRUE in different:
        return TRUE
    return different[0] if len(different) == 1 else AnyOf(different)


# -- the values of conditions -------------------------------------------------------------------


def count_numbers(values: Intervals) -> int:
    """Return how many numbers are in the intervals."""
    return sum(last - first + 1 for first, last in values)


def count_addresses(node: Addresses) -> int:
    """Return how many addresses a condition accepts."""
    return count_numbers(node.v4) + count_numbers(node.v6)


def numbers_in(values: Intervals) -> Iterable[int]:
    """Return the numbers in the intervals."""
    return (number for first, last in values for number in range(first, last + 1))


def address_numbers(node: Addresses) -> Iterable[int]:
    """Return the addresses that a condition accepts, as numbers."""
    yield from numbers_in(node.v4)
    yield from (~number for number in numbers_in(node.v6))


def _count_values(node: Atom) -> int:
    """Return how many values a condition accepts; 0 if they are not looked up."""
    if isinstance(node, Numbers):
        return count_numbers(node.values)
    if isinstance(node, Addresses):
        return count_addresses(node)
    if isinstance(node, Texts):
        return len(node.values)
    return int(node.field is MARK and node.mask == (1 << MARK.width) - 1)


def _values(node: Atom) -> Iterable[object]:
    """Return the values that a condition accepts."""
    if isinstance(node, Numbers):
        return numbers_in(node.values)
    if isinstance(node, Addresses):
        return address_numbers(node)
    return node.values if isinstance(node, Texts) else (node.value,)


def _ranges(node: Ranged) -> Iterable[Interval]:
    """Return the ranges of values that a condition accepts."""
    if isinstance(node, Numbers):
        return node.values
    return (*node.v4, *((~last, ~first) for first, last in node.v6))


# -- the parts of alternatives ------------------------------------------------------------------


def _parts_of(node: Node) -> tuple[Node, ...]:
    return node.parts if isinstance(node, AllOf) else (node,)


def _without(part: Node, removed: Node) -> tuple[Node, ...]:
    """Return the parts of an alternative except one."""
    return tuple(inner for inner in _parts_of(part) if inner is not removed)


def _all_node(parts: tuple[Node, ...]) -> Node:
    if not parts:
        return TRUE
    return parts[0] if len(parts) == 1 else AllOf(parts)


def is_negated(part: Node) -> bool:
    """Return whether only the negation of a part can be looked up (see :func:`negation_of`)."""
    if isinstance(part, AnyOf):
        return bool(part.parts) and any(isinstance(inner, Not) for inner in part.parts)
    return isinstance(part, Not)


def negation_of(part: Node) -> Node:
    """Return the negation of a part. That of a disjunction is the conjunction of its negated parts.

    So the negation of ``not a or not b`` is ``a and b``, which can be looked up.
    """
    if isinstance(part, AnyOf):
        return AllOf(tuple(map(negation_of, part.parts)))
    return opposite(part)


def _flattened(parts: Iterable[Node]) -> Iterable[Node]:
    """Yield alternatives. A disjunction is replaced by its parts.

    ``not (a and b and …)`` is the disjunction ``not a or not b or …``. It is replaced only if it
    has at least :data:`MIN_TABLE_SIZE` parts.
    """
    for part in parts:
        if isinstance(part, AnyOf):
            yield from _flattened(part.parts)
        elif (
            isinstance(part, Not)
            and isinstance(part.part, AllOf)
            and len(part.part.parts) >= MIN_TABLE_SIZE
        ):
            yield from _flattened(map(negation_of, part.part.parts))
        else:
            yield part


def _distribute(part: Node) -> Sequence[Node]:
    """Return ``a and b`` and ``a and c`` for ``a and (b or c)``, if these can be looked up.

    Return other nodes unchanged.
    """
    if not isinstance(part, AllOf):
        return (part,)
    for disjunction in part.parts:
        if not isinstance(disjunction, AnyOf) or len(disjunction.parts) > _MAX_DISTRIBUTED:
            continue
        inner = [_parts_of(alternative) for alternative in disjunction.parts]
        if all(any(isinstance(node, Numbers | Addresses) for node in parts) for parts in inner):
            rest = _without(part, disjunction)
            return [AllOf((*parts, *rest)) for parts in inner]
    return (part,)


# -- look-up tables -----------------------------------------------------------------------------


def _take_lookups(parts: Sequence[Node]) -> tuple[list[LookupTable], list[Node]]:
    """Return tables of the alternatives that can be looked up, and the remaining alternatives."""
    found: dict[tuple[MatchField, ...], list[tuple[Node, dict[MatchField, Atom]]]] = {}
    rest: list[Node] = []
    for part in parts:
        single = _single_values(part)
        if single:
            found.setdefault(tuple(single), []).append((part, single))
        else:
            rest.append(part)
    tables: list[LookupTable] = []
    for fields, alternatives in found.items():
        if len(alternatives) < MIN_TABLE_SIZE:
            rest += [part for part, _ in alternatives]
            continue
        table = LookupTable(fields)
        for part, single in alternatives:
            looked_up = {id(atom) for atom in single.values()}
            rest_of_part = tuple(node for node in _parts_of(part) if id(node) not in looked_up)
            table.add([list(_values(atom)) for atom in single.values()], _all_node(rest_of_part))
        tables.append(table)
    return tables, rest


def _single_values(part: Node) -> dict[MatchField, Atom]:
    """Return the conditions of an alternative that accept few values, in a fixed order of fields.

    All combinations of the values become keys of a table. To bound their number, ranges and the
    largest sets are compared instead. Addresses come first, because they distinguish the most
    flows.
    """
    max_keys = 64 + 4 * part.weight
    found = {
        atom.field: atom
        for atom in _parts_of(part)
        if not isinstance(atom, AllOf | AnyOf | Not) and 0 < _count_values(atom) <= max_keys
    }
    fields = sorted(
        found, key=lambda field: (field.path[-1:] not in (("src",), ("dst",)), field.name)
    )
    while prod(_count_values(found[field]) for field in fields) > max_keys:
        fields.pop()
    return {field: found[field] for field in fields}


# -- interval tables ----------------------------------------------------------------------------


def _joined(parts: Sequence[Node]) -> list[Node]:
    """Return alternatives, and join those that differ only in the ranges of one field."""
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
            joined.append(AllOf((unite(atoms), *rest)) if rest else unite(atoms))
        found = joined
    return found


def _take_intervals(parts: Sequence[Node]) -> tuple[list[IntervalTable], list[Node]]:
    """Return tables of the alternatives that require ranges, and the remaining alternatives."""
    rest = list(parts)
    tables: list[IntervalTable] = []
    for field in _ranged_fields(rest):
        found = [(part, atom) for part in rest if (atom := _ranged(part, field)) is not None]
        if len(found) < MIN_TABLE_SIZE:
            continue
        table = _intervals(field, found)
        if table is not None:
            tables.append(table)
            in_table = {id(part) for part, _ in found}
            rest = [part for part in rest if id(part) not in in_table]
    return tables, rest


def _intervals(field: MatchField, found: Sequence[tuple[Node, Ranged]]) -> IntervalTable | None:
    """Return a table of alternatives; ``None`` if it would be large because many overlap.

    :param field: the field that the table is by.
    :param found: each alternative, and its condition on the field.
    """
    changes: dict[int, list[tuple[int, bool]]] = {}
    rests: list[Node] = []
    for number, (part, atom) in enumerate(found):
        rests.append(_all_node(_without(part, atom)))
        for first, last in _ranges(atom):
            changes.setdefault(first, []).append((number, True))
            changes.setdefault(last + 1, []).append((number, False))
    starts = sorted(changes)
    budget = _MAX_OVERLAP * (len(found) + len(starts))
    active: dict[int, None] = {}
    alternatives: list[tuple[Node, ...]] = [()]
    for start in starts:
        for number, begins in sorted(changes[start], key=_begins):
            if begins:
                active[number] = None
            else:
                del active[number]
        budget -= len(active)
        if budget < 0:
            return None
        alternatives.append(tuple(rests[number] for number in active))
    return IntervalTable(field, starts, alternatives)


def _begins(change: tuple[int, bool]) -> bool:
    return change[1]


def _ranged_fields(parts: Sequence[Node]) -> list[MatchField]:
    """Return the fields of which any alternative requires ranges, addresses first."""
    found = {
        atom.field: None
        for part in parts
        for atom in _parts_of(part)
        if isinstance(atom, Numbers | Addresses)
    }
    return sorted(found, key=lambda field: (not isinstance(field, AddressField), field.name))


def _ranged(part: Node, field: MatchField) -> Ranged | None:
    """Return the condition of an alternative on the ranges of a field, if it has one."""
    for atom in _parts_of(part):
        if isinstance(atom, Numbers | Addresses) and atom.field is field:
            return atom
    return None


# -- masked values ------------------------------------------------------------------------------


def _take_masks(parts: Sequence[Node]) -> tuple[list[MaskedValues], list[Node]]:
    """Return the alternatives that compare bits under the same mask, and the remaining ones."""
    groups: dict[tuple[BitsField, int], list[int]] = {}
    for part in parts:
        if isinstance(part, Bits):
            groups.setdefault((part.field, part.mask), []).append(part.value)
    many = {
        key: frozenset(values) for key, values in groups.items() if len(values) >= MIN_TABLE_SIZE
    }
    rest = [
        part for part in parts if not isinstance(part, Bits) or (part.field, part.mask) not in many
    ]
    return [MaskedValues(field, mask, values) for (field, mask), values in many.items()], rest
