"""Build trees of conditions: join and negate them, simplify them, and reject contradictions.

- Every tree of several conditions is built by :func:`all_of`, :func:`any_of` and :func:`negate`.
- :func:`all_of` raises :exc:`MatchError` for conditions that exclude each other. :func:`any_of`
  returns :data:`TRUE` if it finds that at least one of the conditions holds for every flow.
- Joining one more condition to thousands is cheap: no step examines each of them
  (see :class:`_Group`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial, reduce
from typing import Final, TypeVar, cast

from ..errors import MatchError
from .describe import describe
from .fields import FIELDS, BitsField, MatchField
from .intervals import Intervals, intersection
from .memberships import families_of, intersect, is_empty, protocols_of, simplify_atom, unite
from .nodes import (
    FALSE,
    TRUE,
    Addresses,
    AllOf,
    AnyOf,
    Atom,
    Bits,
    Membership,
    Node,
    Not,
    Numbers,
    Texts,
    depth_of,
    opposite,
)

MAX_DEPTH: Final = 40
"""How many levels of nesting a match may have. Parts of one conjunction or disjunction are on the
same level."""

TOO_DEEP: Final = f"conditions can be nested at most {MAX_DEPTH} levels deep"

_MIN_KEPT: Final = 9
"""With at least this many parts, a node keeps its :class:`_Group`, so that more can be added."""

A = TypeVar("A", bound=Atom)

_NEGATED_KEYS: Final = {field: ("not", field) for field in FIELDS.values()}
"""The keys of negated conditions on the values of each field (see :func:`_key`)."""


def all_of(parts: Iterable[Node]) -> Node:
    """Return a node that holds where all parts hold.

    :raises MatchError: when conditions exclude each other, and when the nesting is too deep.
    """
    nodes = list(parts)
    return FALSE if FALSE in nodes else _join(nodes, all_=True)


def any_of(parts: Iterable[Node]) -> Node:
    """Return a node that holds where at least one part holds.

    :raises MatchError: when the nesting is too deep.
    """
    nodes = list(parts)
    return TRUE if TRUE in nodes else _join(nodes, all_=False)


def negate(part: Node) -> Node:
    """Return a node that holds where the part does not.

    :raises MatchError: when the nesting is too deep.
    """
    if part in (TRUE, FALSE):
        return FALSE if part == TRUE else TRUE
    return _check_depth(opposite(part))


def _check_depth(node: Node) -> Node:
    if depth_of(node) > MAX_DEPTH:
        raise MatchError(TOO_DEEP)
    return node


def _join(nodes: Sequence[Node], *, all_: bool) -> Node:
    kind = AllOf if all_ else AnyOf
    group = _Group(all_=all_)
    for node in nodes:
        if not isinstance(node, kind):
            group.add(node)
        elif not isinstance(node.group, _Group):
            for part in node.parts:
                group.add(part)
        elif group.slots:
            group.merge(node.group)
        else:
            group = node.group.copy()
    group.finish()
    if group.always_true:
        return TRUE
    parts = tuple(group.slots.values())
    if len(parts) == 1:
        return parts[0]
    kept = group if len(parts) >= _MIN_KEPT else None
    return _check_depth(kind(parts, depth=1 + group.depth, weight=group.weight, group=kept))


class _Group:
    """The parts of a conjunction or a disjunction, and indexes of them.

    - There is at most one condition on the values of each field, and at most one negated condition
      on them: several are joined.
    - A conjunction that can never hold raises :exc:`MatchError`.
    - A disjunction is checked in the same way, with all parts negated: if the negated parts
      exclude each other, at least one part holds for every flow.
    """

    __slots__ = (
        *("_all", "_bits", "_membership_keys", "_to_join", "_unchecked"),
        *("always_true", "depth", "slots", "weight"),
    )

    def __init__(self, *, all_: bool) -> None:
        self._all = all_
        """Whether this is a conjunction."""
        self.slots: dict[object, Node] = {}
        """The parts in order, by :func:`_key`."""
        self.depth = 0
        self.weight = 0
        self.always_true = False
        """Whether this is a disjunction of which at least one part holds for every flow."""
        self._membership_keys: dict[object, None] = {}
        """The keys of the conditions on the values of fields, negated or not: a few."""
        self._bits: dict[BitsField, tuple[int, int]] = {}
        """The mask and the value of all bits that a conjunction requires, or that the negated
        disjunction requires."""
        self._unchecked: list[Node] = []
        """Parts with parts of their own that were added since the last :meth:`finish`."""
        self._to_join: dict[object, list[Node]] = {}
        """The conditions of each key that has several, until :meth:`finish` joins them."""

    def copy(self) -> _Group:
        """Return a copy of a finished group, to which more parts can be added."""
        other = _Group(all_=self._all)
        other.slots = self.slots.copy()
        other.depth, other.weight = self.depth, self.weight
        other._membership_keys = self._membership_keys.copy()
        other._bits = self._bits.copy()
        return other

    def add(self, node: Node) -> None:
        """Add a part.

        :raises MatchError: when the part contradicts the others.
        """
        self.depth = max(self.depth, depth_of(node))
        self.weight += node.weight
        key = _key(node)
        if key is not node:
            if key in self.slots:
                self._to_join.setdefault(key, [self.slots[key]]).append(node)
            else:
                self.slots[key] = node
                self._membership_keys[key] = None
        elif node not in self.slots:
            if opposite(node) in self.slots:
                self._found_opposite(node)
            part = node.part if isinstance(node, Not) else node
            if isinstance(part, Bits) and isinstance(node, Not) is not self._all:
                self._require_bits(part)
            if isinstance(part, AllOf | AnyOf):
                self._unchecked.append(node)
            self.slots[node] = node

    def merge(self, other: _Group) -> None:
        """Add the parts of another group, which is finished.

        :raises MatchError: when the parts of the two groups contradict each other.
        """
        small, large = (self, other) if len(self.slots) < len(other.slots) else (other, self)
        for node in small.slots.values():
            if _key(node) is node and opposite(node) in large.slots:
                self._found_opposite(node)
            if isinstance(node.part if isinstance(node, Not) else node, AllOf | AnyOf):
                self._unchecked.append(node)
        for key in [key for key in self._membership_keys if key in other._membership_keys]:
            self._to_join.setdefault(key, [self.slots[key]]).append(other.slots[key])
        for field, (mask, value) in other._bits.items():
            self._require_bits(Bits(field, mask, value))
        self.slots.update(other.slots)  # parts of this group keep their position
        self.depth = max(self.depth, other.depth)
        self.weight += other.weight
        self._membership_keys |= other._membership_keys

    def finish(self) -> None:
        """Join the conditions on the same fields, and check all parts against each other.

        :raises MatchError: when the parts contradict each other.
        """
        for key, nodes in self._to_join.items():
            self.slots[key] = self._join_memberships(nodes)
        self._to_join = {}
        for node in self._unchecked:
            if not self.always_true and self._has_opposite(node):
                self._found_opposite(node)
        self._unchecked = []
        if len(self._membership_keys) > 1 and not self.always_true:
            self._check_memberships()

    # -- joining ------------------------------------------------------------------------------

    def _join_memberships(self, nodes: list[Node]) -> Node:
        """Return one condition for several on the same field, which are all negated or none is."""
        negated = isinstance(nodes[0], Not)
        members = list(map(_positive, nodes))
        if self._all is negated:
            joined = unite(members)
            if simplify_atom(joined) == TRUE:
                self._found_contradiction(f"all values of {members[0].field.name} are excluded")
        else:
            joined = reduce(intersect, members)
            if is_empty(joined):
                self._found_contradiction(_why_empty(members))
        return Not(joined) if negated else joined

    def _require_bits(self, bits: Bits) -> None:
        """Add bits to those that are required, and check that they can hold together."""
        mask, value = self._bits.get(bits.field, (0, 0))
        if (value ^ bits.value) & mask & bits.mask:
            known = (node for node in self.slots.values() if isinstance(node, Bits))
            self._found_contradiction(
                _why_excluded(known, bits, _bits_differ, f"a flow has one {bits.field.name}")
            )
        self._bits[bits.field] = mask | bits.mask, value | bits.value

    # -- contradictions -----------------------------------------------------------------------

    def _found_contradiction(self, reason: str) -> None:
        """Raise :exc:`MatchError` for a conjunction; note that a disjunction is always true."""
        if self._all:
            raise MatchError(f"never true: {reason}")
        self.always_true = True

    def _found_opposite(self, node: Node) -> None:
        part = node.part if isinstance(node, Not) else node
        self._found_contradiction(
            f"{_quote(part)} cannot be both true and false" if self._all else ""
        )

    def _has_opposite(self, node: Node) -> bool:
        """Return whether the group contains the opposite of a part, spread over several parts.

        For example, a disjunction of ``a``, ``b`` and ``not (a or b)`` does.
        """
        if isinstance(node, Not):
            parts = _parts_of(node.part, all_=self._all)
        else:
            parts = tuple(map(opposite, _parts_of(node, all_=not self._all)))
        return bool(parts) and all(map(self._contains, parts))

    def _contains(self, node: Node) -> bool:
        """Return whether adding a condition would change nothing.

        In a conjunction, this is a condition that follows from one of the parts. In a disjunction,
        it is a condition from which one of the parts follows.
        """
        key = _key(node)
        slot = self.slots.get(key)
        if slot is None or key is node:
            return slot is not None
        # The negation of a larger set is the stronger condition.
        subset, superset = (slot, node) if self._all is not isinstance(node, Not) else (node, slot)
        return intersect(_positive(subset), _positive(superset)) == _positive(subset)

    def _check_memberships(self) -> None:
        """Check the conditions on the values of different fields against each other."""
        required: list[Membership] = []
        for key in self._membership_keys:
            node = self.slots[key]
            if isinstance(node, Not) is not self._all:
                required.append(_positive(node))
            if isinstance(key, MatchField) and _NEGATED_KEYS[key] in self._membership_keys:
                positive, negated = _positive(node), _positive(self.slots[_NEGATED_KEYS[key]])
                subset, superset = (positive, negated) if self._all else (negated, positive)
                if intersect(subset, superset) == subset:
                    self._found_opposite(positive)
        self._check_common(families_of, required, "a flow has one family")
        self._check_common(protocols_of, required, "no protocol has both")

    def _check_common(
        self,
        implied: Callable[[Membership], Intervals | None],
        required: list[Membership],
        reason: str,
    ) -> None:
        """Check that one family, or one protocol, meets all required conditions.

        :param implied: returns the families or protocols of the flows that a condition can hold
            for; ``None`` if it can hold for all.
        :param required: the conditions.
        :param reason: why a flow cannot have two families or protocols, for the error.
        """
        common: Intervals | None = None
        known: list[Membership] = []
        for condition in required:
            values = implied(condition)
            if values is None:
                continue
            common = values if common is None or common == values else intersection(common, values)
            if not common:
                excludes = partial(_is_disjoint, implied)
                self._found_contradiction(_why_excluded(known, condition, excludes, reason))
                return
            known.append(condition)


def _key(node: Node) -> object:
    """Return the key of a part in its group, which has one part for each key.

    The key of a condition on the values of a field is the field. If the condition is negated, it is
    a key of :data:`_NEGATED_KEYS`. Any other node is its own key.
    """
    if isinstance(node, Numbers | Addresses | Texts):
        return node.field
    if isinstance(node, Not) and isinstance(node.part, Numbers | Addresses | Texts):
        return _NEGATED_KEYS[node.part.field]
    return node


def _parts_of(node: Node, *, all_: bool) -> tuple[Node, ...]:
    """Return the parts of a conjunction or of a disjunction; none of any other node."""
    return node.parts if isinstance(node, AllOf if all_ else AnyOf) else ()


def _positive(node: Node) -> Membership:
    """Return a condition on the values of a field without its ``not``."""
    return cast("Membership", node.part if isinstance(node, Not) else node)


# -- explanations of errors ---------------------------------------------------------------------


def _why_empty(members: Sequence[Membership]) -> str:
    """Return why several conditions on one field exclude each other."""
    common = members[0]
    for number, node in enumerate(members[1:], 1):
        common = intersect(common, node)
        if is_empty(common):
            name = node.field.name
            for other in members[:number]:
                if is_empty(intersect(other, node)):
                    return f"{_quote(other)} and {_quote(node)}: a flow has one {name}"
            return f"no {name} is in all of these sets"
    raise AssertionError  # the caller found that they have no value in common


def _why_excluded(
    known: Iterable[A], node: A, excludes: Callable[[A, A], bool], reason: str
) -> str:
    """Return the pair of conditions that exclude each other, and the reason."""
    for other in known:
        if excludes(other, node):
            return f"{_quote(other)} and {_quote(node)}: {reason}"
    return f"{_quote(node)} and the other conditions: {reason}"


def _bits_differ(one: Bits, other: Bits) -> bool:
    return one.field is other.field and bool((one.value ^ other.value) & one.mask & other.mask)


def _is_disjoint(
    implied: Callable[[Membership], Intervals | None], one: Membership, other: Membership
) -> bool:
    return not intersection(implied(one) or (), implied(other) or ())


def _quote(node: Node) -> str:
    """Return the text of a condition in quotation marks, shortened if it is long."""
    text = describe(node)
    return repr(text if len(text) <= 80 else f"{text[:60]}…")
