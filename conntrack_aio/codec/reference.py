"""The reference codec: reads and writes messages one by one, by interpreting their schema.

- For any bytes it returns an object or raises :exc:`DecodeError`, with the path of the attribute.
  It raises nothing else.
- The rules for reading attributes are those of :mod:`.skeleton`.
- Layouts and packers are faster, and must return what the reference returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar, cast, runtime_checkable

from ..errors import DecodeError, EncodeError
from ..model.declare import UnknownAttribute
from ..model.lazy_fields import own_class
from ..model.normalization import normalized, raw
from ..model.values import describe_value
from ..netlink.attributes import BytesLike, pack
from ..plain import as_bytes, as_int
from .schema import Branch, FieldSchema, Fork, Leaf, Schema, SequenceSchema, kernel_name, schema_of
from .skeleton import Found, Skeleton, Survey, survey

C = TypeVar("C")


@runtime_checkable
class _Validated(Protocol):
    def validate(self) -> None: ...


def decode(cls: type[C], buffer: BytesLike, start: int, end: int, **header_values: object) -> C:
    """Read an object of ``cls`` from the attributes between ``start`` and ``end``.

    :param cls: the class of the object.
    :param buffer: the bytes that contain the attributes.
    :param start: the offset of the first attribute.
    :param end: the offset after the last attribute.
    :param header_values: the values of the fields that no attribute holds.

    :raises DecodeError: when the attributes are not such an object.
    """
    return cast("C", decode_surveyed(survey(cls, buffer, start, end), buffer, header_values))


def decode_surveyed(
    surveyed: Survey, buffer: BytesLike, header_values: Mapping[str, object]
) -> object:
    """Read an object as :func:`decode` does, from a message that was surveyed.

    :raises DecodeError: when the attributes are not such an object.
    """
    unknown = tuple(
        [
            UnknownAttribute(found.path, bytes(buffer[found.start : found.end]), found.nested)
            for found in surveyed.unknown
        ]
    )
    return _build(surveyed.skeleton.schema, surveyed.skeleton, 0, buffer, unknown, header_values)


def decode_fields(cls: type[object], buffer: BytesLike, start: int, end: int) -> dict[str, object]:
    """Read the fields of a class that are present, and return their values by name.

    :raises DecodeError: when a value is not valid.
    """
    skeleton = survey(cls, buffer, start, end).skeleton
    present = {field.name: skeleton.values[field.slot] for field in skeleton.schema.fields}
    return {name: _value(found, buffer) for name, found in present.items() if found is not None}


def _build(
    schema: Schema[object],
    skeleton: Skeleton,
    offset: int,
    buffer: BytesLike,
    unknown: tuple[UnknownAttribute, ...],
    header_values: Mapping[str, object],
) -> object:
    """Return the object whose slots begin at ``offset``."""
    arguments = dict(header_values)
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


def items_of(sequence: SequenceSchema, skeleton: Skeleton, offset: int) -> list[Found]:
    """Return the items that are present. The attribute with their number is not checked.

    :raises DecodeError: when an item is missing before another one.
    """
    items = [skeleton.values[offset + leaf.slot] for leaf in sequence.leaves]
    while items and items[-1] is None:
        items.pop()
    if None in items:
        raise DecodeError(f"{sequence.leaves[items.index(None)].name} is missing")
    return [found for found in items if found is not None]


def encode(obj: object) -> bytes:
    """Return the attributes of an object.

    :raises EncodeError: when a value cannot be encoded; it has the path of the field.
    """
    return _write_object(obj)


def encode_fields(cls: type[object], values: Mapping[str, object]) -> bytes:
    """Return the attributes of some fields of a class. Those that are ``None`` are left out.

    :raises EncodeError: when a value cannot be encoded; it has the path of the field.
    """
    return _write(schema_of(cls), values, ())


def _write_object(obj: object, unknown: tuple[UnknownAttribute, ...] | None = None) -> bytes:
    """Return the attributes of an object.

    :param obj: the object.
    :param unknown: the unknown attributes inside the object that its owner keeps; ``None`` for an
        object that keeps its own.
    """
    try:
        obj = normalized(obj)
    except Exception as error:
        raise EncodeError(f"it cannot be read: {describe_value(error)}") from error
    schema = schema_of(own_class(obj))
    if isinstance(obj, _Validated):
        obj.validate()
    parts: list[bytes] = []
    for inline in schema.inlines:
        inner = getattr(obj, inline.name)
        if not isinstance(inner, inline.schema.cls):
            wanted = inline.schema.cls.__name__
            raise EncodeError(
                f"must be of type {wanted}; got {describe_value(inner)}", (inline.name,)
            )
        parts.append(_write_object(inner))
    names = [field.name for field in schema.fields] + [
        sequence.name for sequence in schema.sequences
    ]
    values = {name: getattr(obj, name) for name in names}
    for field in schema.fields:
        if field.required and values[field.name] is None:
            raise EncodeError("must not be absent", (field.name,))
    if unknown is None:
        unknown = _plain_unknown(obj.unknown) if schema.keeps_unknown else ()  # type: ignore[attr-defined]
    return b"".join([*parts, _write(schema, values, unknown)])


def _plain_unknown(unknown: object) -> tuple[UnknownAttribute, ...]:
    """Return the unknown attributes of an object with plain values.

    :raises EncodeError: when ``unknown`` is not a tuple of them.
    """
    try:
        return tuple(
            [
                UnknownAttribute(
                    tuple(map(as_int, attribute.path)),
                    as_bytes(attribute.payload),
                    bool(attribute.nested),
                )
                for attribute in cast("tuple[UnknownAttribute, ...]", unknown)
            ]
        )
    except Exception:
        raise EncodeError("must be a tuple of UnknownAttribute", ("unknown",)) from None


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
        chosen.update(_place_items(sequence, values.get(sequence.name)))
    if any(not attribute.path for attribute in unknown):
        raise EncodeError("the path of an unknown attribute must not be empty", ("unknown",))
    return _assemble(
        schema.root, chosen, [(attribute.path, attribute) for attribute in unknown], schema
    )


def _place(field: FieldSchema, value: object, values: Mapping[str, object]) -> Leaf:
    """Return the attribute that can hold the value of a field.

    :raises EncodeError: when none of its attributes can.
    """
    condition_fails = False
    for leaf in field.leaves:
        if not issubclass(type(value), leaf.types):
            continue
        if leaf.when is None or values.get(leaf.when[0]) == leaf.when[1]:
            return leaf
        condition_fails = True
    if condition_fails:
        names = {leaf.when[0] for leaf in field.leaves if leaf.when is not None}
        others = ", ".join(f"{name} {describe_value(values.get(name))}" for name in sorted(names))
        raise EncodeError(f"{type(value).__name__} does not go with {others}", (field.name,))
    raise EncodeError(_wrong_type(field.leaves[0], value), (field.name,))


def _wrong_type(leaf: Leaf, value: object) -> str:
    """Return the error text for a value of the wrong type: what is accepted."""
    types = leaf.types
    if types == (int,):
        return f"{describe_value(value)} is not an integer"
    names: dict[type, str] = {str: "text", bytes: "bytes"}
    wanted = names.get(types[0], "an address of the ipaddress module")
    if leaf.scalar is None:
        wanted = f"of type {types[0].__name__}"
    return f"must be {wanted}; got {describe_value(value)}"


def _place_items(sequence: SequenceSchema, value: object) -> dict[Leaf, object]:
    """Return the attributes of the items of a tuple, and of their number.

    :raises EncodeError: when the value is not a tuple, has too many items, or has an item of the
        wrong type.
    """
    if value is None:
        return {}
    if not isinstance(value, tuple):
        raise EncodeError(f"must be a tuple; got {describe_value(value)}", (sequence.name,))
    if not value:
        return {}
    items = cast("tuple[object, ...]", value)
    if len(items) > len(sequence.leaves):
        raise EncodeError(
            f"must have at most {len(sequence.leaves)} items; got {len(items)}", (sequence.name,)
        )
    for index, (leaf, item) in enumerate(zip(sequence.leaves, items, strict=False)):
        if not issubclass(type(item), leaf.types):
            raise EncodeError(_wrong_type(leaf, item), (sequence.name, str(index)))
    return {sequence.count: len(items), **dict(zip(sequence.leaves, items, strict=False))}


def _resolve(
    child: Leaf | Fork | Branch, branch: Branch, chosen: Mapping[Leaf, object]
) -> Leaf | Branch | None:
    """Return what an attribute means in this object; ``None`` if that is unknown."""
    if not isinstance(child, Fork):
        return child
    return child.leaves.get(cast("int", chosen.get(cast("Leaf", branch.children[child.by]))))


def _assemble(
    branch: Branch,
    chosen: Mapping[Leaf, object],
    unknown: list[tuple[tuple[int, ...], UnknownAttribute]],
    schema: Schema[C],
) -> bytes:
    """Return the attributes of a nest.

    :param branch: the attributes that the nest can have.
    :param chosen: the values, by their attributes.
    :param unknown: the unknown attributes, each with its path from this nest.
    :param schema: the schema of the object, for errors.
    """
    # Unknown attributes may be in a nest that a later one superseded, as the TCP and the SCTP nest
    # in CTA_PROTOINFO. Such a nest is written first, because the last one counts.
    superseded: list[bytes] = []
    parts: list[bytes] = []
    taken = {leaf.slot for leaf in chosen}
    known = {number: _resolve(child, branch, chosen) for number, child in branch.children.items()}
    for number, child in known.items():
        inside = [
            (path[1:], attribute) for path, attribute in unknown if path[0] == number and path[1:]
        ]
        if child is None:
            continue
        if isinstance(child, Branch):
            payload = _assemble(child, chosen, inside, schema)
            if payload:
                parts.append(_pack(number, payload, nested=True))
        elif inside and child.nest is None:
            raise EncodeError(f"{child.name} holds no attributes", ("unknown",))
        elif child in chosen:
            parts.append(_write_known(number, child, chosen[child], inside, schema))
        elif inside and child.nest is not None:
            if child.slot not in taken:
                raise EncodeError(f"{child.name}, which it is inside, is absent", ("unknown",))
            payload = _assemble(child.nest.root, {}, inside, child.nest)
            superseded.append(_pack(number, payload, nested=True))
    for path, attribute in unknown:
        if len(path) == 1:
            pad = path[0] in branch.pads and path[0] not in branch.children
            parts.append(_write_unknown(known.get(path[0]), path[0], attribute, pad=pad))
        elif known.get(path[0]) is None:
            raise EncodeError(
                f"there is no nest {kernel_name(path[0])} in {branch.name}", ("unknown",)
            )
    return b"".join([*superseded, *parts])


def _write_unknown(
    known: Leaf | Branch | None, number: int, attribute: UnknownAttribute, *, pad: bool
) -> bytes:
    """Return an unknown attribute as it was read.

    :raises EncodeError: when it would be read as a known attribute, or as padding.
    """
    if pad and not attribute.payload:
        raise EncodeError("an empty attribute of this number is padding", ("unknown",))
    if known is not None:
        scalar = known.scalar if isinstance(known, Leaf) else None
        if scalar is None or len(attribute.payload) <= scalar.maximum:
            raise EncodeError(f"{known.name} is known; set its field instead", ("unknown",))
    return _pack(number, attribute.payload, nested=attribute.nested)


def _pack(number: int, payload: bytes, *, nested: bool = False) -> bytes:
    """Pack an attribute.

    :raises EncodeError: when the payload is too long or the number is out of range, as only those
        of unknown attributes can be.
    """
    try:
        return pack(number, payload, nested=nested)
    except ValueError as error:
        raise EncodeError(str(error), ("unknown",)) from None


def _write_known(
    number: int,
    leaf: Leaf,
    value: object,
    inside: list[tuple[tuple[int, ...], UnknownAttribute]],
    schema: Schema[C],
) -> bytes:
    """Return the attribute that holds a value, with the unknown attributes inside it.

    :raises EncodeError: when a value cannot be encoded; it has the path of the field.
    """
    try:
        if leaf.scalar is not None:
            return _pack(number, leaf.scalar.encode(value))
        return _pack(number, _write_object(value, _without_owner(inside)), nested=True)
    except EncodeError as error:
        raise EncodeError(error.reason, (*_field_path(leaf, schema), *error.path)) from None


def _field_path(leaf: Leaf, schema: Schema[C]) -> tuple[str, ...]:
    """Return the path of the field whose value an attribute holds."""
    for sequence in schema.sequences:
        if leaf in sequence.leaves:
            return sequence.name, str(sequence.leaves.index(leaf))
    return (next(field.name for field in schema.fields if leaf in field.leaves),)


def _without_owner(
    unknown: list[tuple[tuple[int, ...], UnknownAttribute]],
) -> tuple[UnknownAttribute, ...]:
    """Return unknown attributes with their paths from the object that they are inside."""
    return tuple(
        UnknownAttribute(path, attribute.payload, attribute.nested) for path, attribute in unknown
    )
