"""The reference codec: interprets a schema, message by message, in both directions.

For any bytes it returns an object or raises :exc:`DecodeError` with the path of the attribute, and
nothing else. How attributes are read: :mod:`.skeleton`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar, cast, runtime_checkable

from ..errors import DecodeError, EncodeError
from ..model.declare import UnknownAttribute, normalized, raw
from ..model.values import describe_value
from ..netlink.attributes import BytesLike, pack
from ..plain import as_bytes, as_int
from .schema import Branch, Field, Fork, Leaf, Schema, Sequence, kernel_name, schema_of
from .skeleton import Found, Skeleton, Survey, survey

C = TypeVar("C")


@runtime_checkable
class _Validated(Protocol):
    def validate(self) -> None: ...


def decode(cls: type[C], buffer: BytesLike, start: int, end: int, **plain: object) -> C:
    """Read an object of ``cls`` from the attributes between ``start`` and ``end``.

    ``plain`` are the values of fields that no attribute holds. Raises :exc:`DecodeError`.
    """
    return cast("C", decode_surveyed(survey(cls, buffer, start, end), buffer, plain))


def decode_surveyed(surveyed: Survey, buffer: BytesLike, plain: Mapping[str, object]) -> object:
    """As :func:`decode`, of a message whose skeleton is known. Raises :exc:`DecodeError`."""
    unknown = tuple(
        [
            UnknownAttribute(kept.path, bytes(buffer[kept.start : kept.end]), kept.nested)
            for kept in surveyed.kept
        ]
    )
    return _build(surveyed.skeleton.schema, surveyed.skeleton, 0, buffer, unknown, plain)


def decode_fields(cls: type[object], buffer: BytesLike, start: int, end: int) -> dict[str, object]:
    """The values of those of a class's fields that are there. Raises :exc:`DecodeError`."""
    skeleton = survey(cls, buffer, start, end).skeleton
    told = {field.name: skeleton.values[field.slot] for field in skeleton.schema.fields}
    return {name: _value(found, buffer) for name, found in told.items() if found is not None}


def _build(
    schema: Schema[object],
    skeleton: Skeleton,
    offset: int,
    buffer: BytesLike,
    unknown: tuple[UnknownAttribute, ...],
    plain: Mapping[str, object],
) -> object:
    """The object whose slots begin at ``offset``."""
    arguments = dict(plain)
    for field in schema.fields:
        found = skeleton.values[offset + field.slot]
        if found is None and field.required:
            raise DecodeError(f"{schema.cls.__name__}.{field.name} is missing")
        arguments[field.name] = None if found is None else _value(found, buffer)
    for sequence in schema.sequences:
        items = items_of(sequence, skeleton, offset)
        arguments[sequence.name] = tuple([_value(found, buffer) for found in items])
    for inline in schema.inlines:
        arguments[inline.name] = _build(
            inline.schema, skeleton, offset + inline.offset, buffer, unknown, {}
        )
    if schema.keeps_unknown:
        arguments["unknown"] = unknown
    return raw(schema.cls)(**arguments)


def _value(found: Found, buffer: BytesLike) -> object:
    try:
        if found.inside is not None:
            return _build(found.inside.schema, found.inside, 0, buffer, (), {})
        assert found.leaf.scalar is not None
        return found.leaf.scalar.decode(buffer, found.start, found.end)
    except DecodeError as error:
        raise found.error(error) from None


def items_of(sequence: Sequence, skeleton: Skeleton, offset: int) -> list[Found]:
    """Those that are there, whatever their number is said to be. Raises :exc:`DecodeError`."""
    items = [skeleton.values[offset + leaf.slot] for leaf in sequence.leaves]
    while items and items[-1] is None:
        items.pop()
    if None in items:
        raise DecodeError(f"{sequence.leaves[items.index(None)].name} is missing")
    return [found for found in items if found is not None]


def encode(obj: object) -> bytes:
    """The attributes of an object. Raises :exc:`EncodeError` with the field's path."""
    return _write_object(obj)


def encode_fields(cls: type[object], values: Mapping[str, object]) -> bytes:
    """The attributes of some of a class's fields. ``None`` is left out.

    Raises :exc:`EncodeError` with the field's path.
    """
    return _write(schema_of(cls), values, ())


def _write_object(obj: object, unknown: tuple[UnknownAttribute, ...] | None = None) -> bytes:
    """The attributes of an object; ``unknown`` are those inside of it that its owner keeps."""
    try:
        obj = normalized(obj)
    except Exception as error:
        raise EncodeError(f"it can't be read: {describe_value(error)}") from error
    schema = schema_of(type(obj))
    if isinstance(obj, _Validated):
        obj.validate()
    parts: list[bytes] = []
    for inline in schema.inlines:
        inner = getattr(obj, inline.name)
        if not isinstance(inner, inline.schema.cls):
            wanted = inline.schema.cls.__name__
            raise EncodeError(f"{describe_value(inner)} is not a {wanted}", (inline.name,))
        parts.append(_write_object(inner))
    names = [field.name for field in schema.fields] + [row.name for row in schema.sequences]
    values = {name: getattr(obj, name) for name in names}
    for field in schema.fields:
        if field.required and values[field.name] is None:
            raise EncodeError("it is never absent", (field.name,))
    if unknown is None:
        unknown = _plain_unknown(obj.unknown) if schema.keeps_unknown else ()  # type: ignore[attr-defined]
    return b"".join([*parts, _write(schema, values, unknown)])


def _plain_unknown(unknown: object) -> tuple[UnknownAttribute, ...]:
    """What an object keeps, with plain values. Raises :exc:`EncodeError`."""
    try:
        return tuple(
            [
                UnknownAttribute(
                    tuple(map(as_int, kept.path)), as_bytes(kept.payload), bool(kept.nested)
                )
                for kept in cast("tuple[UnknownAttribute, ...]", unknown)
            ]
        )
    except Exception:
        raise EncodeError("it is not a tuple of UnknownAttribute", ("unknown",)) from None


def _write(
    schema: Schema[C], values: Mapping[str, object], unknown: tuple[UnknownAttribute, ...]
) -> bytes:
    chosen: dict[Leaf, object] = {}
    values = {
        **values,
        **{
            field.name: field.plain.normalize(values[field.name])
            for field in schema.fields
            if field.plain is not None and values.get(field.name) is not None
        },
    }
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
        if not issubclass(type(value), leaf.types):
            continue
        if leaf.when is None or values.get(leaf.when[0]) == leaf.when[1]:
            return leaf
        misplaced = True
    if misplaced:
        names = {leaf.when[0] for leaf in field.leaves if leaf.when is not None}
        others = ", ".join(f"{name} {describe_value(values.get(name))}" for name in sorted(names))
        raise EncodeError(f"it does not go with {others}", (field.name,))
    raise EncodeError(_misfit(field.leaves[0], value), (field.name,))


def _misfit(leaf: Leaf, value: object) -> str:
    """What is wrong with a value of another type, and what is accepted."""
    types = leaf.types
    if types == (int,):
        return f"{describe_value(value)} is not an integer"
    names: dict[type, str] = {str: "text", bytes: "bytes"}
    wanted = names.get(types[0], "an address of the ipaddress module")
    if leaf.scalar is None:
        wanted = f"a {types[0].__name__}"
    return f"{describe_value(value)} is of the wrong type: it must be {wanted}"


def _spread(sequence: Sequence, value: object) -> dict[Leaf, object]:
    """The items of a tuple, each in its place, and their number."""
    if value is None:
        return {}
    if not isinstance(value, tuple):
        raise EncodeError(f"{describe_value(value)} is not a tuple", (sequence.name,))
    if not value:
        return {}
    items = cast("tuple[object, ...]", value)
    if len(items) > len(sequence.leaves):
        raise EncodeError(f"{len(items)} are more than {len(sequence.leaves)}", (sequence.name,))
    for index, (leaf, item) in enumerate(zip(sequence.leaves, items, strict=False)):
        if not issubclass(type(item), leaf.types):
            raise EncodeError(_misfit(leaf, item), (sequence.name, str(index)))
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
            pad = path[0] in branch.pads and path[0] not in branch.children
            parts.append(_kept(known.get(path[0]), path[0], kept, pad=pad))
        elif known.get(path[0]) is None:
            raise EncodeError(
                f"there is no nest {kernel_name(path[0])} in {branch.name}", ("unknown",)
            )
    return b"".join([*outdone, *parts])


def _kept(known: Leaf | Branch | None, number: int, kept: UnknownAttribute, *, pad: bool) -> bytes:
    """An unknown attribute again, unless it would be read as a known one, or as padding."""
    if pad and not kept.payload:
        raise EncodeError("an empty attribute of this number is padding", ("unknown",))
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
