"""The skeleton of a message: which value stands where, and which bytes say so.

Two messages of one skeleton are read alike, byte for byte; only their values differ. What a
skeleton depends on is the attributes' headers and, where one says what another one means, that
one's value. The rules of reading hold here:

- The last of repeated attributes counts, as in the kernel.
- An empty attribute where a number is expected is padding; the kernel aligns with such on some
  architectures. A shorter one than expected is an error. A longer one is of a newer kernel: it is
  kept as it came, and the field is absent.
- What the schema does not know is kept, at any depth.
- What an attribute means may be said by another one, wherever in the same nest that stands.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import attrs

from ..errors import DecodeError
from ..netlink.attributes import HEADER, Buffer, walk
from .schema import Branch, Fork, Leaf, Schema, schema_of


@attrs.define(eq=False)
class Found:
    """A value, and where its payload lies."""

    leaf: Leaf
    start: int
    end: int
    branches: tuple[str, ...]
    """The names of the nests between the object and the value, for errors."""
    inside: Skeleton | None = None
    """Of the object that the value is, if it is one."""

    def error(self, error: DecodeError) -> DecodeError:
        """An error in it, with the path to it."""
        return DecodeError(error.reason, (*self.branches, self.leaf.name, *error.path))


class Kept(NamedTuple):
    """An attribute that is unknown, or of a newer kernel."""

    path: tuple[int, ...]
    nested: bool
    start: int
    end: int


@attrs.define(eq=False)
class Skeleton:
    """Of one object."""

    schema: Schema[object]
    values: list[Found | None]
    """By the schema's slots."""
    fixed: list[tuple[int, int]]
    """From where to where stand the bytes that make it what it is."""


class Survey(NamedTuple):
    """Of a whole message."""

    skeleton: Skeleton
    kept: list[Kept]


def survey(cls: type[object], buffer: Buffer, start: int, end: int) -> Survey:
    """Find the values of a class in the attributes from start to end. Raises :exc:`DecodeError`."""
    kept: list[Kept] = []
    return Survey(_object(schema_of(cls), buffer, start, end, (), kept), kept)


def _object(
    schema: Schema[object],
    buffer: Buffer,
    start: int,
    end: int,
    prefix: tuple[int, ...],
    kept: list[Kept],
) -> Skeleton:
    skeleton = Skeleton(schema, [None] * schema.size, [])
    _Walk(buffer, skeleton, kept).branch(schema.root, start, end, prefix, ())
    return skeleton


class _Walk:
    """Through the attributes of one object, and of those in it."""

    def __init__(self, buffer: Buffer, skeleton: Skeleton, kept: list[Kept]) -> None:
        self._buffer = buffer
        self._skeleton = skeleton
        self._kept = kept

    def branch(
        self, branch: Branch, start: int, end: int, prefix: tuple[int, ...], names: tuple[str, ...]
    ) -> None:
        forks: list[tuple[Fork, int, int, int]] = []
        for number, nested, first, last in walk(self._buffer, start, end, branch.name_of):
            self._skeleton.fixed.append((first - HEADER.size, first))
            child = branch.children.get(number)
            if child is None:
                self._kept.append(Kept((*prefix, number), nested, first, last))
                continue
            try:
                if isinstance(child, Leaf):
                    self._leaf(child, nested, first, last, (*prefix, number), names)
                elif isinstance(child, Branch):
                    self.branch(child, first, last, (*prefix, number), (*names, child.name))
                else:
                    forks.append((child, number, first, last))
            except DecodeError as error:
                raise DecodeError(error.reason, (child.name, *error.path)) from None
        for fork, number, first, last in forks:
            leaf = fork.leaves.get(self._told(cast("Leaf", branch.children[fork.by])))
            meant = Branch(branch.name, {} if leaf is None else {number: leaf})
            self.branch(meant, first - HEADER.size, last, prefix, names)

    def _leaf(
        self,
        leaf: Leaf,
        nested: bool,
        first: int,
        last: int,
        path: tuple[int, ...],
        names: tuple[str, ...],
    ) -> None:
        scalar = leaf.scalar
        if scalar is None:
            assert leaf.nest is not None
            inside = _object(leaf.nest, self._buffer, first, last, path, self._kept)
            self._skeleton.values[leaf.slot] = Found(leaf, first, last, names, inside)
        elif last - first > scalar.maximum:
            self._kept.append(Kept(path, nested, first, last))
        elif scalar.size is None or scalar.size == last - first:
            self._skeleton.values[leaf.slot] = Found(leaf, first, last, names)
        elif last > first:
            raise DecodeError(f"{last - first} bytes where {scalar.size} are expected")

    def _told(self, leaf: Leaf) -> int:
        """The value that another attribute depends on: so it is a part of the skeleton."""
        found = self._skeleton.values[leaf.slot]
        if found is None:
            return -1  # which no number on the wire is
        self._skeleton.fixed.append((found.start, found.end))
        assert leaf.scalar is not None
        return cast("int", leaf.scalar.decode(self._buffer, found.start, found.end))
