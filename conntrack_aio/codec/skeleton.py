"""The skeleton of a message: which value stands where, and which bytes say so.

Two messages of one skeleton are read alike, byte for byte; only their values differ. What a
skeleton depends on is the attributes' headers and, where one says what another one means, that
one's value. The rules of reading hold here:

- The last of repeated attributes counts, as in the kernel.
- An empty attribute where a number is expected is padding; the kernel aligns with such on some
  architectures. A shorter one than expected is an error. A longer one is of a newer kernel: it is
  kept as it came, and the field is absent.
- An empty attribute with the number that the nest's enum has for padding (``CTA_COUNTERS_PAD``)
  is dropped, too. Where a message is padded at its top level, the kernel uses a number that is
  another attribute's there: ``CTA_TIMESTAMP_PAD`` is ``CTA_STATUS``.
- Anything else that the schema does not know is kept, at any depth, even if it is empty: it may
  be a flag (``NLA_FLAG``).
- What an attribute means may be said by another one, wherever in the same nest that stands.
- An address of one family beside one of another is an error; the kernel has no such tuples.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import attrs

from ..errors import DecodeError
from ..netlink.attributes import HEADER, BytesLike, walk
from .schema import Branch, Field, Fork, Leaf, Schema, schema_of


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


@attrs.define(eq=False)
class Survey:
    """Of a whole message."""

    skeleton: Skeleton
    kept: list[Kept]
    fixed: list[tuple[int, int]]
    """From where to where stand the bytes that make the skeleton what it is."""


def survey(cls: type[object], buffer: BytesLike, start: int, end: int) -> Survey:
    """Find the values of a class in the attributes from start to end. Raises :exc:`DecodeError`."""
    walk = _Walk(buffer)
    return Survey(walk.object(schema_of(cls), start, end, ()), walk.kept, walk.fixed)


def _check_alike(field: Field, found: Found | None, other: Field, beside: Found | None) -> None:
    """Raises :exc:`DecodeError`."""
    if found is None or beside is None:
        return
    if field.leaves.index(found.leaf) != other.leaves.index(beside.leaf):
        raise DecodeError(f"{beside.leaf.name} beside {found.leaf.name}")


class _Walk:
    """Through the attributes of a message."""

    def __init__(self, buffer: BytesLike) -> None:
        self.kept: list[Kept] = []
        self.fixed: list[tuple[int, int]] = []
        self._buffer = buffer

    def object(
        self, schema: Schema[object], start: int, end: int, prefix: tuple[int, ...]
    ) -> Skeleton:
        values: list[Found | None] = [None] * schema.size
        self._branch(schema.root, start, end, prefix, (), values)
        for field in schema.fields:
            if field.alike is not None:
                _check_alike(field, values[field.slot], field.alike, values[field.alike.slot])
        return Skeleton(schema, values)

    def _branch(
        self,
        branch: Branch,
        start: int,
        end: int,
        prefix: tuple[int, ...],
        names: tuple[str, ...],
        values: list[Found | None],
    ) -> None:
        forks: list[tuple[Fork, int, int, int]] = []
        for number, nested, first, last in walk(self._buffer, start, end, branch.name_of):
            self.fixed.append((first - HEADER.size, first))
            child = branch.children.get(number)
            path = (*prefix, number)
            if child is None:
                if first == last and number in branch.pads:
                    continue
                self.kept.append(Kept(path, nested, first, last))
                continue
            try:
                if isinstance(child, Leaf):
                    if self._is_read(child, first, last):
                        found = values[child.slot] = Found(child, first, last, names)
                        if child.nest is not None:
                            found.inside = self.object(child.nest, first, last, path)
                    elif last > first:
                        self.kept.append(Kept(path, nested, first, last))
                elif isinstance(child, Branch):
                    self._branch(child, first, last, path, (*names, child.name), values)
                else:
                    forks.append((child, number, first, last))
            except DecodeError as error:
                raise DecodeError(error.reason, (child.name, *error.path)) from None
        for fork, number, first, last in forks:
            leaf = fork.leaves.get(self._told(values[cast("Leaf", branch.children[fork.by]).slot]))
            meant = Branch(branch.name, {} if leaf is None else {number: leaf}, branch.pads)
            self._branch(meant, first - HEADER.size, last, prefix, names, values)

    def _is_read(self, leaf: Leaf, first: int, last: int) -> bool:
        """Whether its value is; else it is padding, or kept. Raises :exc:`DecodeError`."""
        scalar, size = leaf.scalar, last - first
        if scalar is None:
            return True
        if size > scalar.maximum:
            return False
        if scalar.size is None or scalar.size == size:
            return True
        if size:
            raise DecodeError(f"{size} bytes where {scalar.size} are expected")
        return False

    def _told(self, found: Found | None) -> int:
        """The value that another attribute depends on: so it is a part of the skeleton."""
        if found is None:
            return -1  # which no number on the wire is
        self.fixed.append((found.start, found.end))
        assert found.leaf.scalar is not None
        return cast("int", found.leaf.scalar.decode(self._buffer, found.start, found.end))
