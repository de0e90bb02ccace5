"""The declarations of a class, arranged the way a message is: a tree of attribute numbers."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Generic, TypeVar, cast

import attrs

from ..model import declare
from ..model.declare import ALIKE, INLINE, PLACES, SEQUENCE, At, Nest, Plain, Wire, plain_of
from .scalars import Scalar, scalar_of

C = TypeVar("C")


@attrs.frozen(eq=False)
class Leaf:
    """An attribute that holds a field's value."""

    name: str
    """The kernel's name of the attribute."""
    slot: int
    """Where the value goes in the list that a decoder fills."""
    wire: Wire[object]
    when: tuple[str, int] | None
    scalar: Scalar | None
    nest: Schema[object] | None
    """The schema of the object that the value is; else there is a ``scalar``."""

    @property
    def types(self) -> tuple[type, ...]:
        """What a value must be an instance of to be written here."""
        if self.scalar is not None:
            return self.scalar.types
        assert self.nest is not None
        return (self.nest.cls,)


@attrs.frozen(eq=False)
class Fork:
    """An attribute that is one thing or another, as another one in the same nest says."""

    name: str
    by: int
    """The number of that other one."""
    leaves: dict[int, Leaf] = attrs.field(factory=dict[int, Leaf])
    """By its value."""


@attrs.frozen(eq=False)
class Branch:
    """A nest that groups attributes and is no object of its own, or the message itself."""

    name: str
    children: dict[int, Leaf | Fork | Branch] = attrs.field(
        factory=dict[int, "Leaf | Fork | Branch"]
    )

    pads: set[int] = attrs.field(factory=set[int])
    """The numbers of the kernel's pad attributes in here: where it aligns 64-bit values, an empty
    one stands before each (``nla_put_64bit``)."""

    def name_of(self, number: int) -> str:
        """The kernel's name of an attribute in here, or its number."""
        child = self.children.get(number)
        return str(number) if child is None else child.name


@attrs.frozen(eq=False)
class Field:
    """A field of the class: its places in the tree, and whether it may be absent."""

    name: str
    slot: int
    required: bool
    leaves: tuple[Leaf, ...]
    plain: Plain | None
    """What its values are normalized to; ``None`` for objects."""
    alike: Field | None = None
    """Another field, of which the value stands at the leaf with the same number."""


@attrs.frozen(eq=False)
class Sequence:
    """A field that is a tuple, the places of its items in order, and that of their number."""

    name: str
    leaves: tuple[Leaf, ...]
    count: Leaf


@attrs.frozen(eq=False)
class Inline:
    """A field that is an object, made of attributes that stand beside its owner's own."""

    name: str
    schema: Schema[object]
    offset: int
    """Its first slot."""


@attrs.frozen(eq=False)
class Schema(Generic[C]):
    """How a class is read from attributes and written to them."""

    cls: type[C]
    root: Branch
    fields: tuple[Field, ...]
    sequences: tuple[Sequence, ...]
    inlines: tuple[Inline, ...]
    size: int
    """The number of slots, those of inlined objects included."""
    keeps_unknown: bool


def kernel_name(number: int) -> str:
    """``CTA_TUPLE_ORIG`` for a member of the uapi enums, the number for a bare one."""
    if isinstance(number, IntEnum):
        name, prefix = number.name, type(number).__name__
        return name if name.startswith(prefix.split("_")[0] + "_") else f"{prefix}_{name}"
    return str(number)


_schemas: dict[type, Schema[object]] = {}


def schema_of(cls: type[C]) -> Schema[C]:
    """The schema of a class made by :func:`~conntrack_aio.model.declare.message`."""
    known = _schemas.get(cls)
    if known is None:
        known = _schemas[cls] = _derive(cls)
    return cast("Schema[C]", known)


def _derive(cls: type[object]) -> Schema[object]:
    root = Branch(cls.__name__)
    fields: list[Field] = []
    sequences: list[Sequence] = []
    inlines: list[Inline] = []
    slots: dict[str, int] = {}
    size = 0
    keeps_unknown = False
    for attribute in attrs.fields(cls):  # type: ignore[arg-type]
        slots[attribute.name] = size
        if INLINE in attribute.metadata:
            inner = schema_of(attribute.metadata[INLINE])
            root.children.update(_shifted(inner.root, size).children)
            root.pads.update(inner.root.pads)
            inlines.append(Inline(attribute.name, inner, size))
            size += inner.size
        elif SEQUENCE in attribute.metadata:
            declared: declare.Sequence[object] = attribute.metadata[SEQUENCE]
            planted = [
                _plant(root, place, size + i, slots)
                for i, place in enumerate((declared.count, *declared.items))
            ]
            sequences.append(Sequence(attribute.name, tuple(planted[1:]), planted[0]))
            size += len(planted)
        elif PLACES in attribute.metadata:
            places: tuple[At[object], ...] = attribute.metadata[PLACES]
            leaves = tuple(_plant(root, place, size, slots) for place in places)
            required = attribute.default is attrs.NOTHING
            other = attribute.metadata[ALIKE]
            alike = next((field for field in fields if field.name == other), None)
            plain = plain_of(places[0].wire)
            fields.append(Field(attribute.name, size, required, leaves, plain, alike))
            size += 1
        elif attribute.name == "unknown":
            keeps_unknown = True
    return Schema(cls, root, tuple(fields), tuple(sequences), tuple(inlines), size, keeps_unknown)


def _plant(root: Branch, place: At[object], slot: int, slots: Mapping[str, int]) -> Leaf:
    """Add the attribute to the tree, with the nests around it."""
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
    there = branch.children.get(int(number))
    branch.children[int(number)] = leaf if there is None else _forked(there, leaf, branch, slots)
    return leaf


def _forked(
    there: Leaf | Fork | Branch, leaf: Leaf, branch: Branch, slots: Mapping[str, int]
) -> Fork:
    """A place that is taken, shared with one more that depends on the same field."""
    twice = f"{leaf.name} is declared twice"
    fork = there
    if isinstance(there, Leaf) and there.when is not None and there.slot == leaf.slot:
        name, value = there.when
        fork = Fork(there.name, _number_in(branch, name, slots), {value: there})
    assert isinstance(fork, Fork), twice
    assert leaf.when is not None, twice
    name, value = leaf.when
    assert fork.by == _number_in(branch, name, slots), twice
    assert value not in fork.leaves, twice
    fork.leaves[value] = leaf
    return fork


def _number_in(branch: Branch, name: str, slots: Mapping[str, int]) -> int:
    """The attribute that holds a field, in the nest where another depends on it."""
    for number, child in branch.children.items():
        if isinstance(child, Leaf) and child.slot == slots.get(name):
            return number
    raise AssertionError(f"{name} is not declared before, in {branch.name}")


def _shifted(branch: Branch, offset: int) -> Branch:
    """The same tree with its slots moved."""
    copy = Branch(branch.name, pads=branch.pads)
    for number, child in branch.children.items():
        if isinstance(child, Branch):
            copy.children[number] = _shifted(child, offset)
        elif isinstance(child, Fork):
            leaves = {value: _moved(leaf, offset) for value, leaf in child.leaves.items()}
            copy.children[number] = Fork(child.name, child.by, leaves)
        else:
            copy.children[number] = _moved(child, offset)
    return copy


def _moved(leaf: Leaf, offset: int) -> Leaf:
    return attrs.evolve(leaf, slot=leaf.slot + offset)
