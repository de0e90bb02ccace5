"""Define the tree of a match: conditions on single fields, joined by and, or and not.

- A condition on a field whose value the flow lacks does not hold. :mod:`.predicate` lists what
  counts as a value.
- Nodes are immutable and hashable. Two nodes are equal if they have the same form; different forms
  may mean the same.
- :mod:`.tree` builds nodes and simplifies them. Constructing a node directly simplifies nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from .fields import AddressField, BitsField, NumberField, TextField
from .intervals import Intervals


@attrs.frozen(cache_hash=True)
class Numbers:
    """The condition that a field has a value, and that this number is in a set."""

    field: NumberField
    values: Intervals

    @property
    def weight(self) -> int:
        """The cost of examining the condition: the number of its ranges."""
        return len(self.values)


@attrs.frozen(cache_hash=True)
class Addresses:
    """The condition that an address is in a set of its own family."""

    field: AddressField
    v4: Intervals
    v6: Intervals

    @property
    def weight(self) -> int:
        """The number of ranges."""
        return len(self.v4) + len(self.v6)


@attrs.frozen(cache_hash=True)
class Bits:
    """The condition that the bits in a mask equal a value.

    A condition on the status has a mask of one bit and the same bit as its value: it is set.
    """

    field: BitsField
    mask: int
    value: int

    @property
    def weight(self) -> int:
        """1: a mask is compared in one step."""
        return 1


@attrs.frozen(cache_hash=True)
class Texts:
    """The condition that a field has a value, and that this text is in a set."""

    field: TextField
    values: tuple[str, ...]
    """The texts in ascending order."""

    @property
    def weight(self) -> int:
        """The number of texts."""
        return len(self.values)


@attrs.frozen(cache_hash=True)
class Not:
    """The condition that another one does not hold."""

    part: Node

    @property
    def weight(self) -> int:
        """The weight of the negated condition."""
        return self.part.weight


def _depth(node: _Parts) -> int:
    return 1 + max(map(depth_of, node.parts), default=0)


def _weight(node: _Parts) -> int:
    return sum(part.weight for part in node.parts)


@attrs.frozen(cache_hash=True)
class _Parts:
    """Several conditions joined into one.

    Depth and weight are computed from the parts, unless the caller knows them already: a caller
    that adds one part to thousands need not examine them all again.
    """

    parts: tuple[Node, ...]
    depth: int = attrs.field(
        default=attrs.Factory(_depth, takes_self=True), eq=False, repr=False, kw_only=True
    )
    """The levels of nesting."""
    weight: int = attrs.field(
        default=attrs.Factory(_weight, takes_self=True), eq=False, repr=False, kw_only=True
    )
    """The sum of the weights of the parts."""
    group: object = attrs.field(default=None, eq=False, repr=False, kw_only=True)
    """Intermediate results of joining the parts, which make adding more cheap (:mod:`.tree`)."""

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.parts,)


@attrs.frozen(cache_hash=True)
class AllOf(_Parts):
    """The condition that all parts hold. Without parts it is always true."""


@attrs.frozen(cache_hash=True)
class AnyOf(_Parts):
    """The condition that at least one part holds. Without parts it is never true."""


Ranged = Numbers | Addresses
"""A condition whose set of values consists of ranges."""

Membership = Ranged | Texts
"""A condition that the value of a field is in a set."""

Atom = Membership | Bits
"""A condition on one field."""

Node = Atom | Not | AllOf | AnyOf


def depth_of(node: Node) -> int:
    """Return the levels of nesting of a node; 0 for a single condition."""
    depth = 0
    while isinstance(node, Not):
        node = node.part
        depth += 1
    return depth + node.depth if isinstance(node, _Parts) else depth


def opposite(node: Node) -> Node:
    """Return a node without its ``not``, or any other node with one.

    :func:`.tree.negate` is for users' matches: it also simplifies, and checks the depth.
    """
    return node.part if isinstance(node, Not) else Not(node)


TRUE: Final = AllOf(())
FALSE: Final = AnyOf(())


def atoms(node: Node) -> Iterator[Atom]:
    """Yield the conditions on single fields that a node consists of."""
    if isinstance(node, AllOf | AnyOf):
        for part in node.parts:
            yield from atoms(part)
    elif isinstance(node, Not):
        yield from atoms(node.part)
    else:
        yield node
