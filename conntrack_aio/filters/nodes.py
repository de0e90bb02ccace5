"""What a match is made of: conditions on fields, joined by and, or and not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from .fields import AddressField, BitsField, NumberField, TextField
from .intervals import Intervals


@attrs.frozen(cache_hash=True)
class Numbers:
    """The field has a value, and it is one of these."""

    field: NumberField
    values: Intervals

    @property
    def weight(self) -> int:
        """How much there is to look at: ranges, networks, names."""
        return len(self.values)


@attrs.frozen(cache_hash=True)
class Addresses:
    """The address is one of these."""

    field: AddressField
    v4: Intervals
    v6: Intervals

    @property
    def weight(self) -> int:
        return len(self.v4) + len(self.v6)


@attrs.frozen(cache_hash=True)
class Bits:
    """Of the bits in the mask, just those of the value are set.

    Of status, it is one bit, and that is set.
    """

    field: BitsField
    mask: int
    value: int

    @property
    def weight(self) -> int:
        return 1


@attrs.frozen(cache_hash=True)
class Texts:
    """The field has a value, and it is one of these."""

    field: TextField
    values: tuple[str, ...]

    @property
    def weight(self) -> int:
        return len(self.values)


@attrs.frozen(cache_hash=True)
class Not:
    """It does not hold."""

    part: Node

    @property
    def weight(self) -> int:
        return self.part.weight


def _depth(node: _Parts) -> int:
    return 1 + max(map(depth_of, node.parts), default=0)


def _weight(node: _Parts) -> int:
    return sum(part.weight for part in node.parts)


@attrs.frozen(cache_hash=True)
class _Parts:
    """Several conditions. How deep they are nested and how many they are is known to who puts one
    more to thousands, and worked out otherwise."""

    parts: tuple[Node, ...]
    depth: int = attrs.field(
        default=attrs.Factory(_depth, takes_self=True), eq=False, repr=False, kw_only=True
    )
    weight: int = attrs.field(
        default=attrs.Factory(_weight, takes_self=True), eq=False, repr=False, kw_only=True
    )
    group: object = attrs.field(default=None, eq=False, repr=False, kw_only=True)
    """What putting them together has found out, for putting more to them (:mod:`.tree`)."""

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.parts,)


@attrs.frozen(cache_hash=True)
class All(_Parts):
    """Each of them holds."""


@attrs.frozen(cache_hash=True)
class Any(_Parts):
    """Some of them hold."""


Ranged = Numbers | Addresses | Texts
"""Conditions that the value of a field is one of some."""

Atom = Ranged | Bits
Node = Atom | Not | All | Any


def depth_of(node: Node) -> int:
    """How deep it is nested; a condition alone is not."""
    depth = 0
    while isinstance(node, Not):
        node = node.part
        depth += 1
    return depth + node.depth if isinstance(node, _Parts) else depth


TRUE: Final = All(())
FALSE: Final = Any(())


def atoms(node: Node) -> Iterator[Atom]:
    """The single conditions that it is made of."""
    if isinstance(node, All | Any):
        for part in node.parts:
            yield from atoms(part)
    elif isinstance(node, Not):
        yield from atoms(node.part)
    else:
        yield node
