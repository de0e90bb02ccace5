"""The reference codec: interprets a schema, message by message, in both directions.

What it promises, for any bytes:

- It returns an object or raises :exc:`DecodeError` with the path of the attribute, and nothing
  else.
- The last of repeated attributes counts, as in the kernel.
- An empty attribute where a number is expected is padding; the kernel aligns with such on some
  architectures. A shorter one than expected is an error. A longer one is of a newer kernel: it is
  kept as it came, and the field is absent.
- What the schema does not know is kept, at any depth.
- What an attribute means may be said by another one, wherever in the same nest that stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar, cast, runtime_checkable

from ..errors import DecodeError, EncodeError
from ..model.declare import UnknownAttribute
from ..netlink.attributes import HEADER, Buffer, pack, walk
from .schema import Branch, Field, Fork, Leaf, Schema, Sequence, kernel_name, schema_of

C = TypeVar("C")
Unknown = list[UnknownAttribute]


@runtime_checkable
class _Validated(Protocol):
    def validate(self) -> None: ...


def decode(cls: type[C], buffer: Buffer, start: int, end: int, **plain: object) -> C:
    """Read an object of ``cls`` from the attributes between ``start`` and ``end``.

    ``plain`` are the values of fields that no attribute holds. Raises :exc:`DecodeError`.
    """
    unknown: Unknown = []
    return _read_object(schema_of(cls), buffer, start, end, (), unknown, True, plain)


def decode_fields(cls: type[object], buffer: Buffer, start: int, end: int) -> dict[str, object]:
    """The values of those of a class's fields that are there. Raises :exc:`DecodeError`."""
    schema = schema_of(cls)
    values: list[object] = [None] * schema.size
    _read(schema.root, buffer, start, end, (), values, [])
    told = {field.name: values[field.slot] for field in schema.fields}
    return {name: value for name, value in told.items() if value is not None}


def _read_object(
    schema: Schema[C],
    buffer: Buffer,
    start: int,
    end: int,
    prefix: tuple[int, ...],
    unknown: Unknown,
    outermost: bool = False,
    plain: Mapping[str, object] = {},
) -> C:
    values: list[object] = [None] * schema.size
    _read(schema.root, buffer, start, end, prefix, values, unknown)
    return _build(schema, values, 0, tuple(unknown) if outermost else (), plain)


def _read(
    branch: Branch,
    buffer: Buffer,
    start: int,
    end: int,
    prefix: tuple[int, ...],
    values: list[object],
    unknown: Unknown,
) -> None:
    children = branch.children
    forks: list[tuple[Fork, int, int, int]] = []
    for number, nested, first, last in walk(buffer, start, end, branch.name_of):
        child = children.get(number)
        if child is None:
            _keep(number, nested, buffer, first, last, prefix, unknown)
            continue
        try:
            if isinstance(child, Leaf):
                scalar = child.scalar
                if scalar is None:
                    assert child.nest is not None
                    values[child.slot] = _read_object(
                        child.nest, buffer, first, last, (*prefix, number), unknown
                    )
                elif last - first > scalar.maximum:
                    _keep(number, nested, buffer, first, last, prefix, unknown)
                elif scalar.size is None or scalar.size == last - first:
                    values[child.slot] = scalar.decode(buffer, first, last)
                elif last > first:
                    raise DecodeError(f"{last - first} bytes where {scalar.size} are expected")
            elif isinstance(child, Branch):
                _read(child, buffer, first, last, (*prefix, number), values, unknown)
            else:
                forks.append((child, number, first, last))
        except DecodeError as error:
            raise DecodeError(error.reason, (child.name, *error.path)) from None
    for fork, number, first, last in forks:
        leaf = fork.leaves.get(cast("int", values[cast("Leaf", children[fork.by]).slot]))
        meant = Branch(branch.name, {} if leaf is None else {number: leaf})
        _read(meant, buffer, first - HEADER.size, last, prefix, values, unknown)


def _keep(
    number: int,
    nested: bool,
    buffer: Buffer,
    first: int,
    last: int,
    prefix: tuple[int, ...],
    unknown: Unknown,
) -> None:
    unknown.append(UnknownAttribute((*prefix, number), bytes(buffer[first:last]), nested))


def _build(
    schema: Schema[C],
    values: list[object],
    offset: int,
    unknown: tuple[UnknownAttribute, ...],
    plain: Mapping[str, object],
) -> C:
    arguments = dict(plain)
    for field in schema.fields:
        value = values[offset + field.slot]
        if value is None and field.required:
            raise DecodeError(f"{schema.cls.__name__}.{field.name} is missing")
        arguments[field.name] = value
    for sequence in schema.sequences:
        arguments[sequence.name] = _items(sequence, values, offset)
    for inline in schema.inlines:
        arguments[inline.name] = _build(inline.schema, values, offset + inline.offset, unknown, {})
    if schema.keeps_unknown:
        arguments["unknown"] = unknown
    return schema.cls(**arguments)


def _items(sequence: Sequence, values: list[object], offset: int) -> tuple[object, ...]:
    """Those that are there, whatever their number is said to be."""
    items = [values[offset + leaf.slot] for leaf in sequence.leaves]
    while items and items[-1] is None:
        items.pop()
    if None in items:
        raise DecodeError(f"{sequence.leaves[items.index(None)].name} is missing")
    return tuple(items)


def encode(obj: object) -> bytes:
    """The attributes of an object. Raises :exc:`EncodeError` with the field's path."""
    return _write_object(obj, getattr(obj, "unknown", ()))


def encode_fields(cls: type[object], values: Mapping[str, object]) -> bytes:
    """The attributes of some of a class's fields. ``None`` is left out.

    Raises :exc:`EncodeError` with the field's path.
    """
    return _write(schema_of(cls), values, ())


def _write_object(obj: object, unknown: tuple[UnknownAttribute, ...]) -> bytes:
    schema = schema_of(type(obj))
    if isinstance(obj, _Validated):
        obj.validate()
    parts = [
        _write_object(getattr(obj, inline.name), getattr(getattr(obj, inline.name), "unknown", ()))
        for inline in schema.inlines
    ]
    names = [field.name for field in schema.fields] + [row.name for row in schema.sequences]
    values = {name: getattr(obj, name) for name in names}
    for field in schema.fields:
        if field.required and values[field.name] is None:
            raise EncodeError("it is never absent", (field.name,))
    return b"".join([*parts, _write(schema, values, unknown)])


def _write(
    schema: Schema[C], values: Mapping[str, object], unknown: tuple[UnknownAttribute, ...]
) -> bytes:
    chosen: dict[Leaf, object] = {}
    for field in schema.fields:
        value = values.get(field.name)
        if value is not None:
            chosen[_place(field, value, values)] = value
    for sequence in schema.sequences:
        chosen.update(_spread(sequence, values.get(sequence.name)))
    if any(not kept.path for kept in unknown):
        raise EncodeError("an unknown attribute has a number", ("unknown",))
    return _assemble(schema.root, chosen, [(kept.path, kept) for kept in unknown], schema)


def _place(field: Field, value: object, values: Mapping[str, object]) -> Leaf:
    """Of the places where a field can stand, the one for this value."""
    misplaced = False
    for leaf in field.leaves:
        if not isinstance(value, leaf.types):
            continue
        if leaf.when is None or values.get(leaf.when[0]) == leaf.when[1]:
            return leaf
        misplaced = True
    if misplaced:
        names = {leaf.when[0] for leaf in field.leaves if leaf.when is not None}
        others = ", ".join(f"{name} {values.get(name)}" for name in sorted(names))
        raise EncodeError(f"it does not go with {others}", (field.name,))
    raise EncodeError(f"{value!r} is of the wrong type", (field.name,))


def _spread(sequence: Sequence, value: object) -> dict[Leaf, object]:
    """The items of a tuple, each in its place, and their number."""
    if value is None or value == ():
        return {}
    if not isinstance(value, tuple):
        raise EncodeError(f"{value!r} is not a tuple", (sequence.name,))
    items = cast("tuple[object, ...]", value)
    if len(items) > len(sequence.leaves):
        raise EncodeError(f"{len(items)} are more than {len(sequence.leaves)}", (sequence.name,))
    for index, (leaf, item) in enumerate(zip(sequence.leaves, items, strict=False)):
        if not isinstance(item, leaf.types):
            raise EncodeError(f"{item!r} is of the wrong type", (sequence.name, str(index)))
    return {sequence.count: len(items), **dict(zip(sequence.leaves, items, strict=False))}


def _meant(
    child: Leaf | Fork | Branch, branch: Branch, chosen: Mapping[Leaf, object]
) -> Leaf | Branch | None:
    """What an attribute is in this object; ``None`` if nobody knows."""
    if not isinstance(child, Fork):
        return child
    return child.leaves.get(cast("int", chosen.get(cast("Leaf", branch.children[child.by]))))


def _assemble(
    branch: Branch,
    chosen: Mapping[Leaf, object],
    unknown: list[tuple[tuple[int, ...], UnknownAttribute]],
    schema: Schema[C],
) -> bytes:
    # What belongs to a nest that another has taken the place of comes first: the last one counts.
    outdone: list[bytes] = []
    parts: list[bytes] = []
    taken = {leaf.slot for leaf in chosen}
    known = {number: _meant(child, branch, chosen) for number, child in branch.children.items()}
    for number, child in known.items():
        inside = [(path[1:], kept) for path, kept in unknown if path[0] == number and path[1:]]
        if child is None:
            continue
        if isinstance(child, Branch):
            payload = _assemble(child, chosen, inside, schema)
            if payload:
                parts.append(_pack(number, payload, nested=True))
        elif inside and child.nest is None:
            raise EncodeError(f"{child.name} holds no attributes", ("unknown",))
        elif child in chosen:
            parts.append(_attribute(number, child, chosen[child], inside, schema))
        elif inside and child.nest is not None:
            if child.slot not in taken:
                raise EncodeError(f"{child.name}, in which it stands, is absent", ("unknown",))
            payload = _assemble(child.nest.root, {}, inside, child.nest)
            outdone.append(_pack(number, payload, nested=True))
    for path, kept in unknown:
        if len(path) == 1:
            parts.append(_kept(known.get(path[0]), path[0], kept))
        elif known.get(path[0]) is None:
            raise EncodeError(
                f"there is no nest {kernel_name(path[0])} in {branch.name}", ("unknown",)
            )
    return b"".join([*outdone, *parts])


def _kept(known: Leaf | Branch | None, number: int, kept: UnknownAttribute) -> bytes:
    """An unknown attribute again, unless it would be read as a known one."""
    if known is not None:
        scalar = known.scalar if isinstance(known, Leaf) else None
        if scalar is None or len(kept.payload) <= scalar.maximum:
            raise EncodeError(f"{known.name} is known, its value is a field's", ("unknown",))
    return _pack(number, kept.payload, nested=kept.nested)


def _pack(number: int, payload: bytes, *, nested: bool = False) -> bytes:
    """Only what nobody knows can be too long, or have a number that can't be."""
    try:
        return pack(number, payload, nested=nested)
    except ValueError as error:
        raise EncodeError(str(error), ("unknown",)) from None


def _attribute(
    number: int,
    leaf: Leaf,
    value: object,
    inside: list[tuple[tuple[int, ...], UnknownAttribute]],
    schema: Schema[C],
) -> bytes:
    try:
        if leaf.scalar is not None:
            return _pack(number, leaf.scalar.encode(value))
        return _pack(number, _write_object(value, _rebased(inside)), nested=True)
    except EncodeError as error:
        raise EncodeError(error.reason, (*_path(leaf, schema), *error.path)) from None


def _path(leaf: Leaf, schema: Schema[C]) -> tuple[str, ...]:
    """Of the field whose value a leaf is."""
    for sequence in schema.sequences:
        if leaf in sequence.leaves:
            return sequence.name, str(sequence.leaves.index(leaf))
    return (next(field.name for field in schema.fields if leaf in field.leaves),)


def _rebased(
    unknown: list[tuple[tuple[int, ...], UnknownAttribute]],
) -> tuple[UnknownAttribute, ...]:
    return tuple(UnknownAttribute(path, kept.payload, kept.nested) for path, kept in unknown)
