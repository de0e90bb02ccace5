"""Skeletons: which value is where in a message, and which bytes determine that.

Messages with the same skeleton are read in the same way, byte for byte; only their values differ.
A skeleton depends on the headers of the attributes and, where the meaning of one attribute depends
on the value of another, on that value. These rules hold for reading:

- If an attribute is repeated, the last one counts, as in the kernel.
- Where a number is expected, an empty attribute is padding: the kernel aligns with such attributes
  on some architectures. A payload that is too short is an error. A payload that is too long comes
  from a newer kernel: it is kept as an unknown attribute, and the field is absent.
- An empty attribute with the pad number of its nest (``CTA_COUNTERS_PAD``) is padding, too. At the
  top level, the kernel's pad numbers are also the numbers of other attributes:
  ``CTA_TIMESTAMP_PAD`` is ``CTA_STATUS``.
- Any other attribute that the schema does not have is kept as an unknown attribute, at any depth.
  So is an empty one, which may be a flag (``NLA_FLAG``).
- The attribute that decides what another one means may come before or after it in the same nest.
- An address of one family together with one of the other family is an error. The kernel has no such
  tuples.
"""

from __future__ import annotations

from typing import NamedTuple, cast

from ..errors import DecodeError
from ..netlink.attributes import HEADER, BytesLike, walk
from .schema import Branch, FieldSchema, Fork, Leaf, Schema, schema_of


class Found:
    """A value of an object, and where its payload is."""

    __slots__ = ("branches", "end", "inside", "leaf", "start")

    leaf: Leaf
    start: int
    end: int
    branches: tuple[str, ...]
    """The names of the nests between the object and the value, for errors."""
    inside: Skeleton | None
    """The skeleton of the value, if it is an object."""

    def __init__(self, leaf: Leaf, start: int, end: int, branches: tuple[str, ...]) -> None:
        self.leaf = leaf
        self.start = start
        self.end = end
        self.branches = branches
        self.inside = None

    def error(self, error: DecodeError) -> DecodeError:
        """Return an error in this value with the path to it."""
        return DecodeError(error.reason, (*self.branches, self.leaf.name, *error.path))


class FoundUnknown(NamedTuple):
    """An attribute that no field holds, and where its payload is.

    The schema does not have it, or a newer kernel sent a longer payload.
    """

    path: tuple[int, ...]
    nested: bool
    start: int
    end: int


class Skeleton:
    """Where the values of one object are."""

    __slots__ = ("schema", "values")

    schema: Schema[object]
    values: list[Found | None]
    """The values, by the slots of the schema; ``None`` for absent values."""

    def __init__(self, schema: Schema[object], values: list[Found | None]) -> None:
        self.schema = schema
        self.values = values


def named_values(
    skeleton: Skeleton, schema: Schema[object] | None = None, offset: int = 0
) -> dict[str, Found]:
    """Return the values of an object that are present, by the names of their fields.

    :param skeleton: the skeleton that has the values.
    :param schema: the schema of an object that is inlined there; that of the skeleton by default.
    :param offset: the first of the object's slots among the skeleton's.
    """
    fields = (schema or skeleton.schema).fields
    found = {field.name: skeleton.values[offset + field.slot] for field in fields}
    return {name: value for name, value in found.items() if value is not None}


class Survey:
    """Where the values and the unknown attributes of a message are."""

    __slots__ = ("fixed", "skeleton", "start", "unknown")

    skeleton: Skeleton
    """The skeleton of the object that the message holds."""
    unknown: list[FoundUnknown]
    """The unknown attributes of the message, at any depth."""
    fixed: list[tuple[int, int]]
    """The start and end of each range of bytes that determines the skeleton."""
    start: int
    """The offset of the first attribute."""

    def __init__(
        self,
        skeleton: Skeleton,
        unknown: list[FoundUnknown],
        fixed: list[tuple[int, int]],
        start: int,
    ) -> None:
        self.skeleton = skeleton
        self.unknown = unknown
        self.fixed = fixed
        self.start = start


def survey(cls: type[object], buffer: BytesLike, start: int, end: int) -> Survey:
    """Find the values of a class in the attributes between two offsets.

    :raises DecodeError: when the attributes are not valid.
    """
    surveyor = _Surveyor(buffer)
    skeleton = surveyor.object(schema_of(cls), start, end, ())
    return Survey(skeleton, surveyor.unknown, surveyor.fixed, start)


def _check_alike(
    field: FieldSchema, found: Found | None, other: FieldSchema, other_found: Found | None
) -> None:
    """Check that two values are in attributes with the same index.

    :raises DecodeError: when they are not.
    """
    if found is None or other_found is None:
        return
    if field.leaves.index(found.leaf) != other.leaves.index(other_found.leaf):
        raise DecodeError(f"{other_found.leaf.name} does not go with {found.leaf.name}")


class _Surveyor:
    """Walks through the attributes of a message, and records what it finds."""

    def __init__(self, buffer: BytesLike) -> None:
        self.unknown: list[FoundUnknown] = []
        self.fixed: list[tuple[int, int]] = []
        self._buffer = buffer

    def object(
        self, schema: Schema[object], start: int, end: int, prefix: tuple[int, ...]
    ) -> Skeleton:
        """Return the skeleton of an object.

        :param schema: the schema of the object.
        :param start: the offset of its first attribute.
        :param end: the offset after its last attribute.
        :param prefix: the numbers of the nests around the object.
        """
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
        """Find the values in a nest.

        :param branch: the attributes that the nest can have.
        :param start: the offset of its first attribute.
        :param end: the offset after its last attribute.
        :param prefix: the numbers of the nests around its attributes.
        :param names: the names of the nests between the object and its attributes.
        :param values: the list that the values are stored in.
        """
        forks: list[tuple[Fork, int, int, int]] = []
        for number, nested, first, last in walk(self._buffer, start, end, branch.name_of):
            self.fixed.append((first - HEADER.size, first))
            child = branch.children.get(number)
            path = (*prefix, number)
            if child is None:
                if first == last and number in branch.pads:
                    continue
                self.unknown.append(FoundUnknown(path, nested, first, last))
                continue
            try:
                if isinstance(child, Leaf):
                    if self._is_value(child, first, last):
                        found = values[child.slot] = Found(child, first, last, names)
                        if child.nest is not None:
                            found.inside = self.object(child.nest, first, last, path)
                    elif last > first:
                        self.unknown.append(FoundUnknown(path, nested, first, last))
                elif isinstance(child, Branch):
                    self._branch(child, first, last, path, (*names, child.name), values)
                else:
                    forks.append((child, number, first, last))
            except DecodeError as error:
                raise DecodeError(error.reason, (child.name, *error.path)) from None
        for fork, number, first, last in forks:
            deciding = cast("Leaf", branch.children[fork.by])
            leaf = fork.leaves.get(self._deciding_value(values[deciding.slot]))
            resolved = Branch(branch.name, branch.pads)
            if leaf is not None:
                resolved.children[number] = leaf
            self._branch(resolved, first - HEADER.size, last, prefix, names, values)

    def _is_value(self, leaf: Leaf, first: int, last: int) -> bool:
        """Return whether a payload is a value; otherwise it is padding, or too long.

        :raises DecodeError: when the payload is too short.
        """
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

    def _deciding_value(self, found: Found | None) -> int:
        """Return the value that decides what another attribute means, ``-1`` if it is absent.

        Its bytes are a part of the skeleton.
        """
        if found is None:
            return -1  # no such attribute holds a negative number
        self.fixed.append((found.start, found.end))
        assert found.leaf.scalar is not None
        return cast("int", found.leaf.scalar.decode(self._buffer, found.start, found.end))
