"""Trees of conditions: how they are put together, and what can be told of them.

:func:`every`, :func:`some` and :func:`negate` put together what belongs together, and refuse what
can never be true.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from itertools import chain, product
from typing import Final, cast

import attrs

from ..errors import MatchError
from ..model.tuples import ICMP, ICMPV6, PORTED
from .fields import FAMILY, PROTO, STATE, NumberField
from .intervals import Intervals, intersection, normalize
from .nodes import (
    FALSE,
    TRUE,
    Addresses,
    All,
    Any,
    Atom,
    Bits,
    Node,
    Not,
    Numbers,
    Texts,
    atoms,
    depth,
)
from .words import describe

DEEPEST: Final = 40
"""So deep may conditions be nested in each other; what stands side by side counts once."""

_MOST_TRIED: Final = 12
"""So many different conditions are tried in all combinations, to see whether one is false."""

_V4: Final = ((0, (1 << 32) - 1),)
_V6: Final = ((0, (1 << 128) - 1),)
_PORTED: Final = normalize((number, number) for number in PORTED)
_ICMP: Final = normalize(((ICMP, ICMP), (ICMPV6, ICMPV6)))


def atom(node: Atom) -> Node:
    """A condition as it is, or, where it says nothing, what is always true."""
    if isinstance(node, Bits) and not node.mask:
        return TRUE
    if isinstance(node, Addresses) and (node.v4, node.v6) == (_V4, _V6):
        return TRUE
    if isinstance(node, Numbers) and node.field.always and node.values == _all_of(node.field):
        return TRUE
    return node


def _all_of(field: NumberField) -> Intervals:
    if field is FAMILY:
        return normalize((number, number) for number in FAMILY.words.values())
    return ((0, field.maximum),)


def every(parts: Iterable[Node]) -> Node:
    """All of them. Raises :exc:`MatchError` for conditions that exclude each other, and for what
    is nested too deep."""
    flat = list(dict.fromkeys(_flatten(All, parts)))
    if FALSE in flat:
        return FALSE
    if reason := contradiction(flat):
        raise MatchError(f"never true: {reason}")
    flat = _together(flat, all_=True)
    for part in flat:
        if isinstance(part, Numbers | Addresses | Texts) and is_void(part):
            raise MatchError(f"never true: no {part.field.name} is in all of these sets")
    return _checked(flat[0] if len(flat) == 1 else All(tuple(flat)))


def some(parts: Iterable[Node]) -> Node:
    """Any of them. Raises :exc:`MatchError` for what is nested too deep."""
    flat = _together(list(dict.fromkeys(_flatten(Any, parts))), all_=False)
    # If what they deny can't be true together, one of the denials always holds.
    if TRUE in flat or contradiction([negate(part) for part in flat if isinstance(part, Not)]):
        return TRUE
    known = set(flat)
    if any(isinstance(part, Not) and part.part in known for part in flat):
        return TRUE
    return _checked(flat[0] if len(flat) == 1 else Any(tuple(flat)))


def negate(part: Node) -> Node:
    """The opposite. Raises :exc:`MatchError` for what is nested too deep."""
    if isinstance(part, Not):
        return part.part
    if part in (TRUE, FALSE):
        return FALSE if part == TRUE else TRUE
    return _checked(Not(part))


def _checked(node: Node) -> Node:
    if depth(node) > DEEPEST:
        raise MatchError(f"conditions are nested more than {DEEPEST} deep")
    return node


def _flatten(kind: type[All | Any], parts: Iterable[Node]) -> Iterator[Node]:
    for part in parts:
        if isinstance(part, kind):
            yield from part.parts
        else:
            yield part


def _together(parts: list[Node], *, all_: bool) -> list[Node]:
    """One condition on each field, where the first stood, instead of several."""
    found: dict[object, list[Node]] = {}
    for part in parts:
        key = (type(part), part.field) if isinstance(part, Numbers | Addresses | Texts) else part
        found.setdefault(key, []).append(part)
    joined = (same[0] if len(same) == 1 else _joined(same, all_=all_) for same in found.values())
    return list(dict.fromkeys(joined))


def _joined(same: Sequence[Node], *, all_: bool) -> Node:
    """Of one field: what all hold of, or any."""

    def of(values: Iterable[Intervals]) -> Intervals:
        return reduce(intersection, values) if all_ else normalize(chain.from_iterable(values))

    first = same[0]
    if isinstance(first, Numbers):
        numbers = cast("Sequence[Numbers]", same)
        return atom(attrs.evolve(first, values=of(each.values for each in numbers)))
    if isinstance(first, Addresses):
        nets = cast("Sequence[Addresses]", same)
        v4, v6 = of(each.v4 for each in nets), of(each.v6 for each in nets)
        return atom(attrs.evolve(first, v4=v4, v6=v6))
    assert isinstance(first, Texts)
    texts = [frozenset(each.values) for each in cast("Sequence[Texts]", same)]
    found = texts[0].intersection(*texts) if all_ else texts[0].union(*texts)
    return attrs.evolve(first, values=tuple(sorted(found)))


# -- what can't be ------------------------------------------------------------------------------


def contradiction(parts: list[Node]) -> str | None:
    """Why these can't hold together, where that is seen; ``None`` where it is not."""
    known = set(parts)
    for part in parts:
        if isinstance(part, Not) and part.part in known:
            return f"{describe(part.part)!r} can't hold and not hold"
    single = [part for part in parts if isinstance(part, Numbers | Addresses | Bits | Texts)]
    for number, one in enumerate(single):
        for other in single[:number]:
            if why := _excludes(other, one):
                return f"{describe(other)!r} and {describe(one)!r}: {why}"
    return None


def _excludes(one: Atom, other: Atom) -> str | None:
    """Why two conditions exclude each other, or ``None``."""
    if one.field is other.field and _is_empty(one, other):
        return f"a flow has one {one.field.name}"
    if not intersection(_families(one), _families(other)):
        return "these are of two families"
    if not intersection(_protocols(one), _protocols(other)):
        return "no protocol has both"
    return None


def _is_empty(one: Atom, other: Atom) -> bool:
    if isinstance(one, Bits) and isinstance(other, Bits):
        return bool((one.value ^ other.value) & one.mask & other.mask)
    joined = _joined((one, other), all_=True)
    return isinstance(joined, Numbers | Addresses | Texts) and is_void(joined)


def is_void(node: Numbers | Addresses | Texts) -> bool:
    """Whether it has no value that could be had."""
    return not (node.v4 or node.v6 if isinstance(node, Addresses) else node.values)


def _families(node: Atom) -> Intervals:
    """Of which families a flow may be."""
    if isinstance(node, Numbers) and node.field is FAMILY:
        return node.values
    if isinstance(node, Addresses):
        told = zip((node.v4, node.v6), FAMILY.words.values(), strict=True)
        return normalize((number, number) for values, number in told if values)
    return _all_of(FAMILY)


def _protocols(node: Atom) -> Intervals:
    """Of which protocols a flow may be."""
    if isinstance(node, Numbers):
        if node.field is PROTO:
            return node.values
        if node.field is STATE:
            return normalize((first >> 8, last >> 8) for first, last in node.values)
        if node.field.name.endswith("port"):
            return _PORTED
        if ".icmp_" in node.field.name:
            return _ICMP
    return _all_of(PROTO)


# -- what is always so --------------------------------------------------------------------------


def is_always(node: Node) -> bool:
    """Whether it is true of every flow, as far as its form tells.

    That is: whatever its conditions are, each for itself, it holds. With very many of them it is
    not looked at further.
    """
    if node == TRUE:
        return True
    found = list(dict.fromkeys(atoms(node)))
    if len(found) > _MOST_TRIED:
        return False
    tried = product((False, True), repeat=len(found))
    return all(_holds(node, dict(zip(found, values, strict=True))) for values in tried)


def _holds(node: Node, values: dict[Atom, bool]) -> bool:
    if isinstance(node, All):
        return all(_holds(part, values) for part in node.parts)
    if isinstance(node, Any):
        return any(_holds(part, values) for part in node.parts)
    return not _holds(node.part, values) if isinstance(node, Not) else values[node]
