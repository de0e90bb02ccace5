"""Derive the schema of a class from its declarations: a tree of attributes, like its messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Generic, TypeVar, cast

import attrs

from ..model.normalization import Normalization, normalization_of
from ..model.wire import ALIKE, INLINE, PLACES, SEQUENCE, At, Nest, SequencePlaces, Wire
from .scalars import Scalar, scalar_of

C = TypeVar("C")

# The classes here are not attrs classes: making one takes as long as importing a module, and a
# short command needs all of them. Their objects are not changed once the schema is derived.


class Leaf:
    """An attribute that holds a field's value."""

    __slots__ = ("name", "nest", "scalar", "slot", "when", "wire")

    name: str
    """The kernel's name of the attribute."""
    slot: int
    """The index of the value in the list of values of a :class:`~.skeleton.Skeleton`."""
    wire: Wire[object]
    """The declared type of the payload."""
    when: tuple[str, int] | None
    """The field that decides what the attribute means, and its value if the attribute is this one;
    ``None`` if the attribute always means the same."""
    scalar: Scalar | None
    """The codec of the value; ``None`` if the value is an object."""
    nest: Schema[object] | None
    """The schema of the object that is the value; ``None`` if there is a ``scalar``."""

    def __init__(
        self,
        name: str,
        slot: int,
        wire: Wire[object],
        when: tuple[str, int] | None,
        scalar: Scalar | None,
        nest: Schema[object] | None,
    ) -> None:
        self.name = name
        self.slot = slot
        self.wire = wire
        self.when = when
        self.scalar = scalar
        self.nest = nest

    @property
    def types(self) -> tuple[type, ...]:
        """The types of the values that this attribute can hold."""
        if self.scalar is not None:
            return self.scalar.types
        assert self.nest is not None
        return (self.nest.cls,)


class Fork:
    """An attribute whose meaning depends on the value of another attribute in the same nest."""

    __slots__ = ("by", "leaves", "name")

    name: str
    """The kernel's name of the attribute."""
    by: int
    """The number of the other attribute."""
    leaves: dict[int, Leaf]
    """The meanings, by the value of the other attribute."""

    def __init__(self, name: str, by: int) -> None:
        self.name = name
        self.by = by
        self.leaves = {}


class Branch:
    """A nest that only groups attributes and is not an object, or the message itself."""

    __slots__ = ("children", "name", "pads")

    name: str
    """The kernel's name of the nest, or the name of the class."""
    children: dict[int, Leaf | Fork | Branch]
    """What is in the nest, by the numbers of the attributes."""
    pads: set[int]
    """The numbers of the kernel's pad attributes in this nest. On architectures where the kernel
    aligns 64-bit values, it puts an empty pad attribute before each (``nla_put_64bit``)."""

    def __init__(self, name: str, pads: Iterable[int] = ()) -> None:
        self.name = name
        self.children = {}
        self.pads = set(pads)

    def name_of(self, number: int) -> str:
        """Return the kernel's name of an attribute in this nest, or its number."""
        child = self.children.get(number)
        return str(number) if child is None else child.name


class FieldSchema:
    """A field of the class: the attributes that may hold its value."""

    __slots__ = ("alike", "leaves", "name", "plain", "required", "slot")

    name: str
    slot: int
    required: bool
    """Whether the field is never absent."""
    leaves: tuple[Leaf, ...]
    plain: Normalization | None
    """How its values are normalized; ``None`` for objects."""
    alike: FieldSchema | None
    """Another field, whose value must be in the leaf with the same index: the source address is of
    the same family as the destination address."""

    def __init__(
        self,
        name: str,
        slot: int,
        required: bool,
        leaves: tuple[Leaf, ...],
        plain: Normalization | None,
        alike: FieldSchema | None,
    ) -> None:
        self.name = name
        self.slot = slot
        self.required = required
        self.leaves = leaves
        self.plain = plain
        self.alike = alike


class SequenceSchema:
    """A field that is a tuple, with an attribute for each item."""

    __slots__ = ("count", "leaves", "name")

    name: str
    leaves: tuple[Leaf, ...]
    """The attributes of the items, in order."""
    count: Leaf
    """The attribute that holds the number of items."""

    def __init__(self, name: str, leaves: tuple[Leaf, ...], count: Leaf) -> None:
        self.name = name
        self.leaves = leaves
        self.count = count


class InlineSchema:
    """A field that is an object, whose attributes are in the same nest as its owner's."""

    __slots__ = ("name", "offset", "schema")

    name: str
    schema: Schema[object]
    offset: int
    """The first slot of the object."""

    def __init__(self, name: str, schema: Schema[object], offset: int) -> None:
        self.name = name
        self.schema = schema
        self.offset = offset


class Schema(Generic[C]):
    """How objects of a class are read from attributes and written to them."""

    __slots__ = ("cls", "fields", "inlines", "keeps_unknown", "root", "sequences", "size")

    cls: type[C]
    root: Branch
    fields: tuple[FieldSchema, ...]
    sequences: tuple[SequenceSchema, ...]
    inlines: tuple[InlineSchema, ...]
    size: int
    """The number of slots, including those of inlined objects."""
    keeps_unknown: bool
    """Whether the class has a field ``unknown`` for the attributes that no field holds."""

    def __init__(
        self,
        cls: type[C],
        root: Branch,
        fields: tuple[FieldSchema, ...],
        sequences: tuple[SequenceSchema, ...],
        inlines: tuple[InlineSchema, ...],
        size: int,
        keeps_unknown: bool,
    ) -> None:
        self.cls = cls
        self.root = root
        self.fields = fields
        self.sequences = sequences
        self.inlines = inlines
        self.size = size
        self.keeps_unknown = keeps_unknown


def kernel_name(number: int) -> str:
    """Return the kernel's name of an attribute, such as ``CTA_TUPLE_ORIG``.

    For a number that is not a member of a uapi enum, return its digits.
    """
    if isinstance(number, IntEnum):
        name, prefix = number.name, type(number).__name__
        return name if name.startswith(prefix.split("_")[0] + "_") else f"{prefix}_{name}"
    return str(number)


_schemas: dict[type, Schema[object]] = {}


def schema_of(cls: type[C]) -> Schema[C]:
    """Return the schema of a class that :func:`~conntrack_aio.model.declare.message` declares."""
    known = _schemas.get(cls)
    if known is None:
        known = _schemas[cls] = _derive(cls)
    return cast("Schema[C]", known)


def _derive(cls: type[object]) -> Schema[object]:
    root = Branch(cls.__name__)
    fields: list[FieldSchema] = []
    sequences: list[SequenceSchema] = []
    inlines: list[InlineSchema] = []
    slots: dict[str, int] = {}
    size = 0
    keeps_unknown = False
    for attribute in attrs.fields(cls):  # type: ignore[arg-type]
        slots[attribute.name] = size
        if INLINE in attribute.metadata:
            inner = schema_of(attribute.metadata[INLINE])
            root.children.update(_with_slots_moved(inner.root, size).children)
            root.pads.update(inner.root.pads)
            inlines.append(InlineSchema(attribute.name, inner, size))
            size += inner.size
        elif SEQUENCE in attribute.metadata:
            declared: SequencePlaces[object] = attribute.metadata[SEQUENCE]
            count, *items = [
                _add_leaf(root, place, size + i, slots)
                for i, place in enumerate((declared.count, *declared.items))
            ]
            sequences.append(SequenceSchema(attribute.name, tuple(items), count))
            size += 1 + len(items)
        elif PLACES in attribute.metadata:
            places: tuple[At[object], ...] = attribute.metadata[PLACES]
            leaves = tuple(_add_leaf(root, place, size, slots) for place in places)
            required = attribute.default is attrs.NOTHING
            other = attribute.metadata[ALIKE]
            alike = next((field for field in fields if field.name == other), None)
            plain = normalization_of(places[0].wire)
            fields.append(FieldSchema(attribute.name, size, required, leaves, plain, alike))
            size += 1
        elif attribute.name == "unknown":
            keeps_unknown = True
    return Schema(cls, root, tuple(fields), tuple(sequences), tuple(inlines), size, keeps_unknown)


def _add_leaf(root: Branch, place: At[object], slot: int, slots: Mapping[str, int]) -> Leaf:
    """Add an attribute to the tree, with the nests around it, and return its leaf."""
    branch = root
    for number in place.path[:-1]:
        child = branch.children.setdefault(int(number), Branch(kernel_name(number)))
        assert isinstance(child, Branch), f"{kernel_name(number)} is a nest and a value"
        branch = child
    number = place.path[-1]
    pad = getattr(type(number), "PAD", None)
    if pad is not None:
        branch.pads.add(int(pad))
    nest = schema_of(place.wire.cls) if isinstance(place.wire, Nest) else None
    scalar = None if nest else scalar_of(place.wire)
    leaf = Leaf(kernel_name(number), slot, place.wire, place.when, scalar, nest)
    existing = branch.children.get(int(number))
    if existing is not None or leaf.when is not None:
        branch.children[int(number)] = _add_to_fork(existing, leaf, branch, slots)
    else:
        branch.children[int(number)] = leaf
    return leaf


def _add_to_fork(
    existing: Leaf | Fork | Branch | None, leaf: Leaf, branch: Branch, slots: Mapping[str, int]
) -> Fork:
    """Return the fork of the leaves at a number: those that exist, and one more.

    All of them must hold the same field, and depend on the same other field.
    """
    twice = f"{leaf.name} is declared twice"
    assert leaf.when is not None, twice
    name, value = leaf.when
    fork = existing
    if existing is None:
        fork = Fork(leaf.name, _number_in(branch, name, slots))
    assert isinstance(fork, Fork), twice
    assert fork.by == _number_in(branch, name, slots), twice
    assert value not in fork.leaves, twice
    assert all(other.slot == leaf.slot for other in fork.leaves.values()), twice
    fork.leaves[value] = leaf
    return fork


def _number_in(branch: Branch, name: str, slots: Mapping[str, int]) -> int:
    """Return the number of the attribute in a nest that holds a field."""
    for number, child in branch.children.items():
        if isinstance(child, Leaf) and child.slot == slots.get(name):
            return number
    raise AssertionError(f"{name} is not declared before, in {branch.name}")


def _with_slots_moved(branch: Branch, offset: int) -> Branch:
    """Return a copy of a tree whose slots are moved by an offset."""
    copy = Branch(branch.name, branch.pads)
    for number, child in branch.children.items():
        if isinstance(child, Branch):
            copy.children[number] = _with_slots_moved(child, offset)
        elif isinstance(child, Fork):
            fork = copy.children[number] = Fork(child.name, child.by)
            for value, leaf in child.leaves.items():
                fork.leaves[value] = _leaf_moved(leaf, offset)
        else:
            copy.children[number] = _leaf_moved(child, offset)
    return copy


def _leaf_moved(leaf: Leaf, offset: int) -> Leaf:
    return Leaf(leaf.name, leaf.slot + offset, leaf.wire, leaf.when, leaf.scalar, leaf.nest)
