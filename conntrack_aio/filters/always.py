"""Whether a match is true of every flow.

:func:`is_always` looks for a flow that does not match: it assumes that the match is false, and
follows what that says of each field. Where every way to go on contradicts itself, there is no such
flow. What it assumes of flows is what the kernel's entries are like: they have one family, and
ports, ICMP types and states by their protocol.

The search is bounded. Where it ends without a result, the match counts as one that is not always
true: so that answer may be wrong for a match of very intricate form, and the other never is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from .fields import (
    FAMILIES,
    FAMILY,
    FIELDS,
    LABEL,
    PROTO,
    ZONE,
    ZONES,
    AddressField,
    BitsField,
    Field,
    NumberField,
)
from .intervals import Intervals, difference, intersection, normalize
from .nodes import FALSE, TRUE, Addresses, All, Any, Atom, Bits, Node, Not, Numbers, Texts, atoms
from .tree import V4, V6, protocols_of

_STEPS: Final = 20_000
"""How many ranges, networks and names are looked at, besides several times each of the match."""

_DEEPEST: Final = 100
"""How many assumptions may depend on each other."""

_Literal = tuple[Node, bool]
"""A condition, and whether it holds."""


def is_always(node: Node) -> bool:
    """Return whether every flow matches, as far as a bounded search finds out."""
    if node in (TRUE, FALSE):
        return node == TRUE
    if any(not _holds(node, flow) for flow in _samples(node)):
        return False
    try:
        return _Search(_STEPS + 12 * node.weight).is_impossible(_Known(), [(node, False)], [], 0)
    except _TooManySteps:
        return False


# -- flows that are tried first -----------------------------------------------------------------


def _samples(node: Node) -> Iterable[dict[Field, int | None]]:
    """Yield the values of flows of which few conditions hold: most matches are false of them."""
    for version in (4, 6):
        yield _flow(version, {})
    named: dict[Field, list[Numbers | Addresses]] = {}
    for each in atoms(node):
        if isinstance(each, Addresses) or each.field in (PROTO, ZONE, *ZONES):
            assert isinstance(each, Numbers | Addresses)
            named.setdefault(each.field, []).append(each)
    for version in (4, 6):
        yield _flow(version, named)


def _flow(
    version: int, named: Mapping[Field, Sequence[Numbers | Addresses]]
) -> dict[Field, int | None]:
    """The values of a flow that has none of those that are named, as far as there are others."""
    flow: dict[Field, int | None] = dict.fromkeys(FIELDS.values())
    flow[FAMILY] = FAMILIES[version == 6][0]
    for field in FIELDS.values():
        if isinstance(field, BitsField):
            flow[field] = 0
        elif isinstance(field, AddressField):
            all_ = V4 if version == 4 else V6
            nets = [each for each in named.get(field, ()) if isinstance(each, Addresses)]
            of = (each.v4 if version == 4 else each.v6 for each in nets)
            value = _outside(all_, (one for values in of for one in values))
            flow[field] = value if version == 4 else ~value
    flow[PROTO] = _outside(_all_of(PROTO), _values(named.get(PROTO, ())))
    zones = [each for field in (ZONE, *ZONES) for each in named.get(field, ())]
    zone = _outside(_all_of(ZONE), _values(zones))
    flow |= dict.fromkeys((ZONE, *ZONES), zone)
    return flow


def _values(nodes: Iterable[Numbers | Addresses]) -> Iterable[tuple[int, int]]:
    return (one for each in nodes if isinstance(each, Numbers) for one in each.values)


def _outside(all_: Intervals, values: Iterable[tuple[int, int]]) -> int:
    """Return a number that is not among the values, or any, if there is none."""
    left = difference(all_, normalize(values))
    return left[-1][1] if left else all_[-1][1]


def _holds(node: Node, flow: dict[Field, int | None]) -> bool:
    if isinstance(node, All | Any):
        decisive = isinstance(node, Any)
        for part in node.parts:  # not by all() and any(), which take longer
            if _holds(part, flow) is decisive:
                return decisive
        return not decisive
    if isinstance(node, Not):
        return not _holds(node.part, flow)
    value = flow[node.field]
    if value is None or isinstance(node, Texts):
        return False
    if isinstance(node, Bits):
        return value & node.mask == node.value
    if isinstance(node, Addresses):
        return _has(node.v4, value) if value >= 0 else _has(node.v6, ~value)
    return _has(node.values, value)


def _has(values: Intervals, number: int) -> bool:
    at = bisect_right(values, (number + 1,)) - 1
    return at >= 0 and values[at][0] <= number <= values[at][1]


def _all_of(field: NumberField) -> Intervals:
    return FAMILIES if field is FAMILY else ((0, field.maximum),)


# -- the search ---------------------------------------------------------------------------------


class _TooManySteps(Exception):
    pass


class _Search:
    def __init__(self, steps: int) -> None:
        self._steps = steps

    def is_impossible(
        self, known: _Known, claims: list[_Literal], choices: list[list[_Literal]], depth: int
    ) -> bool:
        """Return whether no flow can be as known, with all the claims, and one literal of each
        choice. Changes what is passed."""
        if depth > _DEEPEST:
            raise _TooManySteps
        while claims:
            if not self._claim(known, claims, choices):
                return True
            left: list[list[_Literal]] = []
            for choice in choices:
                found = self._open(known, choice)
                if found is None:
                    continue
                if not found:
                    return True
                if len(found) == 1:
                    claims += found
                else:
                    left.append(found)
            choices = left
        if not known.has_marks_left(self._take):
            return True
        if not choices:
            return False
        shortest = min(choices, key=len)
        choices = [choice for choice in choices if choice is not shortest]
        tried: list[_Literal] = []
        for node, holds in shortest:
            self._take(len(choices) + known.size)
            if not self.is_impossible(
                known.copy(), [(node, holds), *tried], choices.copy(), depth + 1
            ):
                return False
            tried.append((node, not holds))
        return True

    def _take(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise _TooManySteps

    def _claim(self, known: _Known, claims: list[_Literal], choices: list[list[_Literal]]) -> bool:
        """Add the claims to what is known; return ``False`` for a contradiction."""
        while claims:
            self._take(1)
            node, holds = claims.pop()
            if isinstance(node, Not):
                claims.append((node.part, not holds))
                continue
            before = known.nodes.get(node)
            if before is not None:
                if before is not holds:
                    return False
                continue
            known.nodes[node] = holds
            if isinstance(node, All | Any):
                parts = [(part, holds) for part in node.parts]
                if isinstance(node, All) is holds:
                    claims += parts
                else:
                    choices.append(parts)
            else:
                self._take(node.weight)
                if not known.learn(node, holds):
                    return False
        return True

    def _open(self, known: _Known, choice: list[_Literal]) -> list[_Literal] | None:
        """Return the literals that may hold; ``None``, if one is known to."""
        found: list[_Literal] = []
        for node, holds in choice:
            value = self._value(known, node)
            if value is holds:
                return None
            if value is None:
                found.append((node, holds))
        return found

    def _value(self, known: _Known, node: Node) -> bool | None:
        """Return whether it holds; ``None``, if that is open."""
        self._take(1)
        if isinstance(node, Not):
            value = self._value(known, node.part)
            return None if value is None else not value
        before = known.nodes.get(node)
        if before is not None:
            return before
        if not isinstance(node, All | Any):
            self._take(node.weight)
            return known.value(node)
        decisive = isinstance(node, Any)
        result: bool | None = not decisive
        for part in node.parts:
            value = self._value(known, part)
            if value is decisive:
                return value
            if value is None:
                result = None
        return result


class _Known:
    """What is known of the fields of a flow."""

    def __init__(self) -> None:
        self.nodes: dict[Node, bool] = {}
        """Conditions that hold, or do not."""
        self._versions = {4, 6}
        self._numbers: dict[NumberField, tuple[Intervals, bool]] = {}
        """The values that are possible, and whether none is."""
        self._addresses: dict[AddressField, tuple[Intervals, Intervals]] = {}
        self._texts: dict[Field, tuple[frozenset[str] | None, frozenset[str]]] = {}
        """The texts that are possible, if not all, and those that are not."""
        self._bits: dict[BitsField, tuple[int, int]] = {}
        """A mask of the bits that are known, and their values."""
        self._denied: dict[BitsField, list[tuple[int, int]]] = {}
        """Masks and values that the bits do not have."""

    @property
    def size(self) -> int:
        return len(self.nodes) // 16 + 1

    def copy(self) -> _Known:
        other = _Known()
        other.nodes = self.nodes.copy()
        other._versions = self._versions.copy()
        other._numbers = self._numbers.copy()
        other._addresses = self._addresses.copy()
        other._texts = self._texts.copy()
        other._bits = self._bits.copy()
        other._denied = {field: denied.copy() for field, denied in self._denied.items()}
        return other

    # -- whether a condition holds --------------------------------------------------------------

    def value(self, node: Atom) -> bool | None:
        """Return whether it holds; ``None``, if that is open."""
        if isinstance(node, Bits):
            mask, value = self._bits.get(node.field, (0, 0))
            if (value ^ node.value) & mask & node.mask:
                return False
            return None if node.mask & ~mask else True
        if isinstance(node, Texts):
            only, denied = self._texts.get(node.field, (None, frozenset()))
            possible = {*node.values} - denied if only is None else only & {*node.values}
            if not possible:
                return False
            return True if only is not None and only <= {*node.values} else None
        if isinstance(node, Addresses):
            v4, v6 = self._possible(node.field)
            met4, met6 = intersection(v4, node.v4), intersection(v6, node.v6)
            if not met4 and not met6:
                return False
            return True if (met4, met6) == (v4, v6) else None
        values, absent = self._range(node.field)
        met = intersection(values, node.values)
        if not met or not self._has_protocol(node):
            return False
        return None if absent or met != values else True

    def _possible(self, field: AddressField) -> tuple[Intervals, Intervals]:
        v4, v6 = self._addresses.get(field, (V4, V6))
        return v4 if 4 in self._versions else (), v6 if 6 in self._versions else ()

    def _range(self, field: NumberField) -> tuple[Intervals, bool]:
        if field is FAMILY:
            return tuple(FAMILIES[at] for at, v in enumerate((4, 6)) if v in self._versions), False
        return self._numbers.get(field) or (_all_of(field), not field.always)

    def _has_protocol(self, node: Numbers) -> bool:
        """Whether the protocol may be one that has the field."""
        wanted = None if node.field is PROTO else protocols_of(node)
        return wanted is None or bool(intersection(self._range(PROTO)[0], wanted))

    # -- what a condition says ------------------------------------------------------------------

    def learn(self, node: Atom, holds: bool) -> bool:
        """Add a condition that holds, or does not; return ``False`` for a contradiction."""
        value = self.value(node)
        if value is not None:
            if value is holds and isinstance(node, Numbers) and holds:
                return self._learn_protocol(node)
            return value is holds
        if isinstance(node, Bits):
            return self._learn_bits(node, holds)
        if isinstance(node, Texts):
            only, denied = self._texts.get(node.field, (None, frozenset()))
            texts = frozenset(node.values)
            if holds:
                only = texts - denied if only is None else only & texts
            else:
                only, denied = only if only is None else only - texts, denied | texts
            self._texts[node.field] = only, denied
            return only is None or bool(only)
        if isinstance(node, Addresses):
            return self._learn_addresses(node, holds)
        values, absent = self._range(node.field)
        if holds:
            values, absent = intersection(values, node.values), False
        else:
            values = difference(values, node.values)
        if not values and not absent:
            return False
        if node.field is FAMILY:
            self._versions = {4 if each == FAMILIES[0] else 6 for each in values}
            return self._settle_versions()
        self._numbers[node.field] = values, absent
        return not holds or self._learn_protocol(Numbers(node.field, values))

    def _learn_protocol(self, node: Numbers) -> bool:
        """Add what a number that is there says of other fields."""
        if node.field is ZONE:
            return all(self.learn(Numbers(side, node.values), True) for side in ZONES)
        wanted = None if node.field is PROTO else protocols_of(node)
        return wanted is None or self.learn(Numbers(PROTO, wanted), True)

    def _learn_addresses(self, node: Addresses, holds: bool) -> bool:
        v4, v6 = self._possible(node.field)
        change = intersection if holds else difference
        self._addresses[node.field] = change(v4, node.v4), change(v6, node.v6)
        return self._settle_versions()

    def _settle_versions(self) -> bool:
        for v4, v6 in self._addresses.values():
            self._versions -= {version for version, left in ((4, v4), (6, v6)) if not left}
        return bool(self._versions)

    def _learn_bits(self, node: Bits, holds: bool) -> bool:
        field = node.field
        denied = self._denied.setdefault(field, [])
        if not holds:
            denied.append((node.mask, node.value))
            mask, _ = self._bits.get(field, (0, 0))
            if (node.mask & ~mask).bit_count() > 1:
                return True
        else:
            mask, value = self._bits.get(field, (0, 0))
            self._bits[field] = mask | node.mask, value | node.value
        # Where one bit of a mask is left that can differ, it does.
        while True:
            mask, value = self._bits.get(field, (0, 0))
            left: list[tuple[int, int]] = []
            for each, bits in denied:
                open_ = each & ~mask
                if (bits ^ value) & each & mask:
                    continue
                if not open_:
                    return False
                if open_.bit_count() == 1:
                    mask, value = mask | open_, value | (~bits & open_)
                else:
                    left.append((each, bits))
            denied[:] = left
            if mask == self._bits.get(field, (0, 0))[0]:
                return True
            self._bits[field] = mask, value

    def has_marks_left(self, take: Callable[[int], None]) -> bool:
        """Return whether some value of each field of bits is not denied."""
        for field, denied in self._denied.items():
            mask, value = self._bits.get(field, (0, 0))
            if _is_covered(
                {
                    (each & ~mask, bits & ~mask)
                    for each, bits in denied
                    if not (bits ^ value) & each & mask
                },
                take,
            ):
                return False
        return True


def _is_covered(denied: set[tuple[int, int]], take: Callable[[int], None]) -> bool:
    """Return whether each value has, under one of these masks, the value that is denied."""
    take(len(denied))
    if any(not mask for mask, _ in denied):
        return True
    widest = max((mask.bit_count() for mask, _ in denied), default=0)
    if sum(1 << widest - mask.bit_count() for mask, _ in denied) < 1 << widest:
        return False  # together they have too few values
    if len({mask for mask, _ in denied}) == 1:
        return True  # and these are all different
    # Both halves have to be covered: those of a bit that the most masks have.
    bit = 1 << max(range(LABEL.width), key=lambda at: sum(mask >> at & 1 for mask, _ in denied))
    return all(
        _is_covered(
            {
                (mask & ~bit, value & ~bit)
                for mask, value in denied
                if not mask & bit or value & bit == wanted
            },
            take,
        )
        for wanted in (0, bit)
    )
