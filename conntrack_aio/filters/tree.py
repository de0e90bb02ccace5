"""Trees of conditions: how they are put together, and what can be told of them.

:func:`every`, :func:`some` and :func:`negate` put together what belongs together, and refuse what
excludes each other.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import partial, reduce
from typing import Final, TypeVar, cast

from ..errors import MatchError
from ..model.tuples import ICMP, ICMPV6, PORTED
from .fields import FAMILIES, FAMILY, FIELDS, PROTO, STATE, BitsField, Field, NumberField
from .intervals import Intervals, intersection, normalize, union
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
    Ranged,
    Texts,
    depth_of,
)
from .words import describe

DEEPEST: Final = 40
"""So deep may conditions be nested in each other; what stands side by side counts once."""

_KEPT: Final = 8
"""Of more parts than this, what putting them together has found out is kept for putting more to
them."""

V4: Final = ((0, (1 << 32) - 1),)
V6: Final = ((0, (1 << 128) - 1),)
_PORTED: Final = normalize((number, number) for number in PORTED)
_ICMP: Final = normalize(((ICMP, ICMP), (ICMPV6, ICMPV6)))

A = TypeVar("A", bound=Atom)

_DENIED: Final = {field: ("not", field) for field in FIELDS.values()}
"""What conditions on a field that are denied are found by."""


def atom(node: Atom) -> Node:
    """A condition as it is, or, where it says nothing, what is always true."""
    if isinstance(node, Bits) and not node.mask:
        return TRUE
    if isinstance(node, Addresses) and (node.v4, node.v6) == (V4, V6):
        return TRUE
    if isinstance(node, Numbers) and node.field.always and node.values == _all_of(node.field):
        return TRUE
    return node


def _all_of(field: NumberField) -> Intervals:
    return FAMILIES if field is FAMILY else ((0, field.maximum),)


def every(parts: Iterable[Node]) -> Node:
    """All of them. Raises :exc:`MatchError` for conditions that exclude each other, and for what
    is nested too deep."""
    given = list(parts)
    return FALSE if FALSE in given else _put_together(given, all_=True)


def some(parts: Iterable[Node]) -> Node:
    """Any of them. Raises :exc:`MatchError` for what is nested too deep."""
    given = list(parts)
    return TRUE if TRUE in given else _put_together(given, all_=False)


def negate(part: Node) -> Node:
    """The opposite. Raises :exc:`MatchError` for what is nested too deep."""
    if isinstance(part, Not):
        return part.part
    if part in (TRUE, FALSE):
        return FALSE if part == TRUE else TRUE
    return _checked(Not(part))


def _checked(node: Node) -> Node:
    if depth_of(node) > DEEPEST:
        raise MatchError(f"conditions are nested more than {DEEPEST} deep")
    return node


def _put_together(given: Sequence[Node], *, all_: bool) -> Node:
    kind = All if all_ else Any
    group = _Group(all_=all_)
    for node in given:
        if not isinstance(node, kind):
            group.add(node)
        elif not isinstance(node.group, _Group):
            for part in node.parts:
                group.add(part)
        elif group.slots:
            group.absorb(node.group)
        else:
            group = node.group.copy()
    group.finish()
    if group.settled:
        return TRUE
    found = tuple(group.slots.values())
    if len(found) == 1:
        return found[0]
    kept = group if len(found) > _KEPT else None
    return _checked(kind(found, depth=1 + group.depth, weight=group.weight, group=kept))


class _Group:
    """Conditions that stand side by side: all of them hold, or any of them.

    There is one condition on the values of each field, and one ``not`` of such a condition, instead
    of several. What is kept beside the conditions makes it cheap to put one more to thousands:
    nothing here looks at each of them.

    Where all hold, :exc:`MatchError` is raised for what can't hold together. Where any holds, the
    same is looked for in what is denied: then one of the denials always holds.
    """

    __slots__ = (
        *("_all", "_bits", "_fresh", "_pending", "_ranged"),
        *("depth", "settled", "slots", "weight"),
    )

    def __init__(self, *, all_: bool) -> None:
        self._all = all_
        self.slots: dict[object, Node] = {}
        """The conditions, in order, by what there is one of (:func:`_key`)."""
        self.depth = 0
        self.weight = 0
        self.settled = False
        """Whether any of them always holds."""
        self._ranged: dict[object, None] = {}
        """The keys of conditions on a field's values, and of their opposites: few."""
        self._bits: dict[BitsField, tuple[int, int]] = {}
        """Mask and value of all bits that hold; or else, of all that are denied."""
        self._fresh: list[Node] = []
        """Conditions made of several that were added since this was finished last."""
        self._pending: dict[object, list[Node]] = {}
        """Of these keys there are several conditions, still to be joined."""

    def copy(self) -> _Group:
        """The same, to be put more to. Only of one that is finished."""
        other = _Group(all_=self._all)
        other.slots = self.slots.copy()
        other.depth, other.weight = self.depth, self.weight
        other._ranged = self._ranged.copy()
        other._bits = self._bits.copy()
        return other

    def add(self, node: Node) -> None:
        """Put one more to them. Raises :exc:`MatchError`."""
        self.depth = max(self.depth, depth_of(node))
        self.weight += node.weight
        key = _key(node)
        if key is not node:
            if key in self.slots:
                self._pending.setdefault(key, [self.slots[key]]).append(node)
            else:
                self.slots[key] = node
                self._ranged[key] = None
        elif node not in self.slots:
            if _opposite(node) in self.slots:
                self._clash(node)
            part = node.part if isinstance(node, Not) else node
            if isinstance(part, Bits) and isinstance(node, Not) is not self._all:
                self._claim(part)
            if isinstance(part, All | Any):
                self._fresh.append(node)
            self.slots[node] = node

    def absorb(self, other: _Group) -> None:
        """Put those of a finished group to them. Raises :exc:`MatchError`."""
        small, large = (self, other) if len(self.slots) < len(other.slots) else (other, self)
        for node in small.slots.values():
            if _key(node) is node and _opposite(node) in large.slots:
                self._clash(node)
            if isinstance(node.part if isinstance(node, Not) else node, All | Any):
                self._fresh.append(node)
        for key in [key for key in self._ranged if key in other._ranged]:
            self._pending.setdefault(key, [self.slots[key]]).append(other.slots[key])
        for field, (mask, value) in other._bits.items():
            self._claim(Bits(field, mask, value))
        self.slots.update(other.slots)  # what is here already stays where it is
        self.depth = max(self.depth, other.depth)
        self.weight += other.weight
        self._ranged |= other._ranged

    def finish(self) -> None:
        """Join what belongs together. Raises :exc:`MatchError`."""
        for key, nodes in self._pending.items():
            self.slots[key] = self._joined(nodes)
        self._pending = {}
        for node in self._fresh:
            if not self.settled and self._is_excluded(node):
                self._clash(node)
        self._fresh = []
        if len(self._ranged) > 1 and not self.settled:
            self._compare()

    # -- what belongs together ----------------------------------------------------------------

    def _joined(self, nodes: list[Node]) -> Node:
        """One condition instead of several on one field, or instead of their opposites."""
        denied = isinstance(nodes[0], Not)
        ranged = [cast("Ranged", node.part if isinstance(node, Not) else node) for node in nodes]
        if self._all is denied:
            found = unite(ranged)
            if atom(found) == TRUE:
                self._never(f"every flow has one of these: {ranged[0].field.name}")
        else:
            found = reduce(_meet, ranged)
            if _is_void(found):
                self._never(_why_void(ranged))
        return Not(found) if denied else found

    def _claim(self, bits: Bits) -> None:
        """These bits are so, with those that are claimed already."""
        mask, value = self._bits.get(bits.field, (0, 0))
        if (value ^ bits.value) & mask & bits.mask:
            known = (each for each in self.slots.values() if isinstance(each, Bits))
            self._never(_pair(known, bits, _differ, f"a flow has one {bits.field.name}"))
        self._bits[bits.field] = mask | bits.mask, value | bits.value

    # -- what excludes each other -------------------------------------------------------------

    def _never(self, reason: str) -> None:
        """What is to hold, or what is denied, can't hold together."""
        if self._all:
            raise MatchError(f"never true: {reason}")
        self.settled = True

    def _clash(self, node: Node) -> None:
        part = node.part if isinstance(node, Not) else node
        self._never(f"{_quoted(part)} can't hold and not hold" if self._all else "")

    def _is_excluded(self, node: Node) -> bool:
        """Whether a condition made of several excludes those that stand beside it, or is their
        opposite where any holds: as ``not (a or b)`` beside ``a`` and ``b``."""
        if isinstance(node, Not):
            parts = _parts_of(node.part, all_=self._all)
        else:
            parts = tuple(map(_opposite, _parts_of(node, all_=not self._all)))
        return bool(parts) and all(map(self._has, parts))

    def _has(self, node: Node) -> bool:
        """Whether the condition is among them, or follows from one; or, where any holds, one
        follows from it."""
        key = _key(node)
        slot = self.slots.get(key)
        if slot is None or key is node:
            return slot is not None
        # Of denials, that of the wider condition says more.
        narrow, wide = (slot, node) if self._all is not isinstance(node, Not) else (node, slot)
        return _meet(_bare(narrow), _bare(wide)) == _bare(narrow)

    def _compare(self) -> None:
        """See what the conditions on the values of fields say of each other."""
        claims: list[Ranged] = []
        for key in self._ranged:
            node = self.slots[key]
            if isinstance(node, Not) is not self._all:
                claims.append(cast("Ranged", node.part if isinstance(node, Not) else node))
            if isinstance(key, Field) and _DENIED[key] in self._ranged:
                holds, denial = cast("Ranged", node), cast("Not", self.slots[_DENIED[key]])
                denied = cast("Ranged", denial.part)
                inner, outer = (holds, denied) if self._all else (denied, holds)
                if _meet(inner, outer) == inner:
                    self._clash(holds)
        self._compare_by(_families, claims, "these are of two families")
        self._compare_by(protocols_of, claims, "no protocol has both")

    def _compare_by(
        self, of: Callable[[Ranged], Intervals | None], claims: list[Ranged], why: str
    ) -> None:
        left: Intervals | None = None
        known: list[Ranged] = []
        for claim in claims:
            wanted = of(claim)
            if wanted is None:
                continue
            left = wanted if left is None or left == wanted else intersection(left, wanted)
            if not left:
                self._never(_pair(known, claim, partial(_apart, of), why))
                return
            known.append(claim)


def _key(node: Node) -> object:
    """What there is one of in a group: a condition on a field's values, and its opposite, are found
    by the field, and everything else by itself."""
    if isinstance(node, Numbers | Addresses | Texts):
        return node.field
    if isinstance(node, Not) and isinstance(node.part, Numbers | Addresses | Texts):
        return _DENIED[node.part.field]
    return node


def _parts_of(node: Node, *, all_: bool) -> tuple[Node, ...]:
    """The parts of one that is of this kind."""
    return node.parts if isinstance(node, All if all_ else Any) else ()


def _bare(node: Node) -> Ranged:
    """A condition on the values of a field, without ``not``."""
    return cast("Ranged", node.part if isinstance(node, Not) else node)


def _opposite(node: Node) -> Node:
    return node.part if isinstance(node, Not) else Not(node)


def _meet(one: Ranged, other: Ranged) -> Ranged:
    """What both hold of; they are on one field."""
    if isinstance(one, Numbers) and isinstance(other, Numbers):
        return Numbers(one.field, intersection(one.values, other.values))
    if isinstance(one, Addresses) and isinstance(other, Addresses):
        v4, v6 = intersection(one.v4, other.v4), intersection(one.v6, other.v6)
        return Addresses(one.field, v4, v6)
    texts = {*cast("Texts", one).values} & {*cast("Texts", other).values}
    return Texts(cast("Texts", one).field, tuple(sorted(texts)))


def unite(ranged: Sequence[Ranged]) -> Ranged:
    """What any of them holds of; they are on one field."""
    first = ranged[0]
    if isinstance(first, Numbers):
        numbers = cast("Sequence[Numbers]", ranged)
        return Numbers(first.field, union([each.values for each in numbers]))
    if isinstance(first, Addresses):
        nets = cast("Sequence[Addresses]", ranged)
        v4, v6 = union([each.v4 for each in nets]), union([each.v6 for each in nets])
        return Addresses(first.field, v4, v6)
    texts = cast("Sequence[Texts]", ranged)
    if len(texts) == 2:
        small, large = sorted((each.values for each in texts), key=len)
        if len(small) == 1:  # sorting again, step by step, would take as long as all the steps
            at = bisect_left(large, small[0])
            return Texts(
                first.field,
                large if large[at : at + 1] == small else large[:at] + small + large[at:],
            )
    return Texts(first.field, tuple(sorted({text for each in texts for text in each.values})))


def _is_void(node: Ranged) -> bool:
    """Whether it has no value that could be had."""
    return not (node.v4 or node.v6 if isinstance(node, Addresses) else node.values)


# -- why not ------------------------------------------------------------------------------------


def _why_void(ranged: Sequence[Ranged]) -> str:
    """Why conditions on one field can't hold together."""
    left = ranged[0]
    for number, each in enumerate(ranged[1:], 1):
        left = _meet(left, each)
        if _is_void(left):
            name = each.field.name
            for other in ranged[:number]:
                if _is_void(_meet(other, each)):
                    return f"{_quoted(other)} and {_quoted(each)}: a flow has one {name}"
            return f"no {name} is in all of these sets"
    raise AssertionError  # something is in all of them


def _pair(known: Iterable[A], one: A, excludes: Callable[[A, A], bool], why: str) -> str:
    """Which two conditions exclude each other, and why."""
    for other in known:
        if excludes(other, one):
            return f"{_quoted(other)} and {_quoted(one)}: {why}"
    return f"{_quoted(one)} and what stands with it: {why}"


def _differ(one: Bits, other: Bits) -> bool:
    return one.field is other.field and bool((one.value ^ other.value) & one.mask & other.mask)


def _apart(of: Callable[[Ranged], Intervals | None], one: Ranged, other: Ranged) -> bool:
    return not intersection(of(one) or (), of(other) or ())


def _quoted(node: Node) -> str:
    """The text of a condition, or its beginning."""
    text = describe(node)
    return repr(text if len(text) <= 80 else f"{text[:60]}…")


def _families(node: Ranged) -> Intervals | None:
    """Of which families a flow may be; ``None``, of any."""
    if isinstance(node, Numbers) and node.field is FAMILY:
        return node.values
    if isinstance(node, Addresses) and not (node.v4 and node.v6):
        return FAMILIES[:1] if node.v4 else FAMILIES[1:]
    return None


def protocols_of(node: Ranged) -> Intervals | None:
    """Of which protocols a flow may be; ``None``, of any."""
    if isinstance(node, Numbers):
        if node.field is PROTO:
            return node.values
        if node.field is STATE:
            return normalize((first >> 8, last >> 8) for first, last in node.values)
        if node.field.name.endswith("port"):
            return _PORTED
        if ".icmp_" in node.field.name:
            return _ICMP
    return None
