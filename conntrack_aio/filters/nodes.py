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


@attrs.frozen(cache_hash=True)
class Addresses:
    """The address is one of these."""

    field: AddressField
    v4: Intervals
    v6: Intervals


@attrs.frozen(cache_hash=True)
class Bits:
    """Of the bits in the mask, just those of the value are set.

    Of status and labels, it is one bit, and that is set.
    """

    field: BitsField
    mask: int
    value: int


@attrs.frozen(cache_hash=True)
class Texts:
    """The field has a value, and it is one of these."""

    field: TextField
    values: tuple[str, ...]


@attrs.frozen(cache_hash=True)
class Not:
    """It does not hold."""

    part: Node


@attrs.frozen(cache_hash=True)
class All:
    """Each of them holds."""

    parts: tuple[Node, ...]


@attrs.frozen(cache_hash=True)
class Any:
    """Some of them hold."""

    parts: tuple[Node, ...]


Atom = Numbers | Addresses | Bits | Texts
Node = Atom | Not | All | Any

TRUE: Final = All(())
FALSE: Final = Any(())


def depth(node: Node) -> int:
    """How deep it is nested; a condition alone is not."""
    if isinstance(node, All | Any):
        return 1 + max((depth(part) for part in node.parts), default=0)
    return 1 + depth(node.part) if isinstance(node, Not) else 0


def atoms(node: Node) -> Iterator[Atom]:
    """The single conditions that it is made of."""
    if isinstance(node, All | Any):
        for part in node.parts:
            yield from atoms(part)
    elif isinstance(node, Not):
        yield from atoms(node.part)
    else:
        yield node
