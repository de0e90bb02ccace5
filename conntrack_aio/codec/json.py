"""Convert the objects of the model to JSON and back, as their classes are declared.

This is the specification of the JSON. It holds for every class of the model. Later versions only
add fields.

- An **object** is a JSON object with the names of its fields, in the order of the fields. Absent
  values are left out; zero, ``""`` and empty flags are not. A reader takes ``null`` as absent, too.
  Fields that are never absent are required. An unknown name is an error.
- A **number** is an integer in the range of its attribute, up to 2^64. Use a JSON parser that does
  not convert integers to floats. ``true`` and ``1.0`` are not numbers.
- A **state** is its name in the kernel's enum, or its number if it has no name: ``"ESTABLISHED"``.
- **Flags** are a list of their names in the kernel's enum. The bits without a name are a number at
  the end of the list: ``["SEEN_REPLY", "CONFIRMED", 65536]``.
- **Labels** are a list of the numbers of the labels that are set: ``[0, 127]``.
- An **address** is text, for either family: ``"2001:db8::1"``.
- A **tuple** of IPv4-mapped IPv6 addresses (``::ffff:10.0.0.1``) is read as a tuple of the IPv4
  addresses, because dual-stack servers have such addresses for their IPv4 peers. If the kernel
  itself reported such addresses, of an IPv6 entry that a program created, the tuple is written with
  ``"mapped": true`` after its fields, and is read as it was written.
- **Bytes** are hexadecimal digits: ``"00ff"``.
- **Text** is text. A byte that is not valid UTF-8 is a lone surrogate from ``"\\udc80"`` to
  ``"\\udcff"``, as with Python's ``surrogateescape``. So do not turn off ``ensure_ascii`` of
  :func:`json.dumps`.
- A field that can hold objects of **several kinds** has a ``"kind"`` before their fields. It is the
  kernel's name of the attribute in lower case: the ``protoinfo`` of a flow is
  ``{"kind": "tcp", "state": "ESTABLISHED"}``, or of the kind ``sctp`` or ``dccp``. If one attribute
  holds all kinds, it is the name of what is inside: the ``timeouts`` of a policy are
  ``{"kind": "udp", "replied": 120}``, and of the kind ``generic`` for any other protocol.
- An :class:`~conntrack_aio.EventType` is its value: ``"destroy"``.
- Attributes that the library does not know are in ``unknown``, as
  ``{"path": [4, 1, 99], "payload": "00ff", "nested": false}``.

Reading returns an object that is equal to the written one in every field. It checks each field by
itself. Whether the fields are valid together is checked when a request is encoded from the object.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from functools import cache
from ipaddress import IPv6Address
from types import NoneType, UnionType
from typing import NamedTuple, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import attrs

from ..errors import DecodeError, EncodeError
from ..model.lazy_fields import own_class
from ..model.normalization import normalized, raw
from ..model.tuples import Tuple
from ..model.values import describe_error, describe_value
from ..model.wire import INLINE, PLACES, At, Nest
from ..plain import as_str
from ..suggestions import suggestion
from .json_values import (
    JSON,
    JSONCodec,
    describe_json,
    entries_of,
    is_text,
    items_of,
    json_codec,
    json_codec_of_type,
)

C = TypeVar("C")
A = TypeVar("A")
B = TypeVar("B")

KIND = "kind"
MAPPED = "mapped"


def to_dict(obj: object) -> dict[str, JSON]:
    """Return an object of the model as a dict that :func:`json.dumps` accepts.

    :param obj: the object, such as a :class:`Flow`.

    :raises EncodeError: when a field cannot hold its value; the error has the path of fields.
    :raises TypeError: when ``obj`` is not an object of the model.
    """
    fields = json_fields_of(own_class(obj))
    obj = normalized(obj)
    written: dict[str, JSON] = {}
    for name, field in fields.items():
        value = getattr(obj, name)
        if (value is None and field.nullable) or (field.empty and _is_empty(value)):
            continue
        written[name] = _convert(name, EncodeError, field.codec.write, value)
    if isinstance(obj, Tuple) and _is_mapped(obj.src, obj.dst):
        written[MAPPED] = True
    return written


def from_dict(cls: type[C], data: JSON) -> C:
    """Return the object of the class ``cls`` that a dict describes.

    :param cls: the class of the object, such as :class:`Flow`.
    :param data: what :func:`to_dict` returned.

    :raises DecodeError: when the data does not describe such an object; the error has the path of
        keys.
    :raises TypeError: when ``cls`` is not a class of the model.
    """
    fields = json_fields_of(cls)
    may_be_mapped = cls in (Tuple,)
    values: dict[str, object] = {}
    mapped = False
    for name, item in _mapping(data).items():
        if name == MAPPED and may_be_mapped:
            mapped = _convert(name, DecodeError, _boolean, item)
            continue
        field = fields.get(name)
        if field is None:
            hint = suggestion(name, fields) if is_text(name) else ""
            raise DecodeError(f"unknown field {describe_json(name)} of {cls.__name__}{hint}")
        if item is not None or not field.nullable:
            values[name] = _convert(name, DecodeError, field.codec.read, item)
    for name, field in fields.items():
        if field.required and name not in values:
            if not field.nullable:
                raise DecodeError(f"{cls.__name__} requires this field", (name,))
            values[name] = None
    try:
        result = cls(**values)
    except EncodeError as error:  # the fields of a tuple are not valid together
        raise DecodeError(error.reason, error.path) from None
    if not mapped:
        return result
    if not _is_mapped(values["src"], values["dst"]):
        raise DecodeError("both addresses must be IPv4-mapped", (MAPPED,))
    return raw(cls)(**values)


def from_json(cls: type[C], text: str | bytes) -> C:
    """Return the object of the class ``cls`` that JSON text describes.

    :param cls: the class of the object, such as :class:`Flow`.
    :param text: what :func:`~.json_lines.to_json` returned; bytes are UTF-8, UTF-16 or UTF-32.

    :raises DecodeError: when the text is not JSON, or does not describe such an object; the error
        has the path of keys.
    :raises TypeError: when ``text`` is neither text nor bytes, or when ``cls`` is not a class of
        the model.
    """
    if not issubclass(type(text), (str, bytes, bytearray)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"JSON must be text or bytes; got {describe_value(text)}")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"this is not JSON: {describe_error(error)}") from None
    return from_dict(cls, data)


def _is_empty(value: object) -> bool:
    return isinstance(value, tuple | list) and not value


def _is_mapped(*addresses: object) -> bool:
    """Return whether all are IPv4-mapped IPv6 addresses."""
    return all(isinstance(each, IPv6Address) and each.ipv4_mapped for each in addresses)


def _boolean(data: JSON) -> bool:
    if not isinstance(data, bool):
        raise DecodeError(f"must be true or false; got {describe_json(data)}")
    return data


def _convert(
    key: str,
    error_type: type[DecodeError] | type[EncodeError],
    convert: Callable[[A], B],
    value: A,
) -> B:
    """Convert the value of a key.

    :param key: the key, which the path of an error begins with.
    :param error_type: the class of the errors that ``convert`` raises and this raises.
    :param convert: converts the value.
    :param value: the value.

    :raises DecodeError: when the value cannot be converted and ``error_type`` is this class.
    :raises EncodeError: when the value cannot be converted and ``error_type`` is this class.
    """
    try:
        return convert(value)
    except error_type as error:
        raise error_type(error.reason, (key, *error.path)) from None
    except ValueError as error:
        raise error_type(str(error), (key,)) from None


def _mapping(data: JSON) -> dict[str, JSON]:
    if not isinstance(data, dict):
        raise DecodeError(f"must be an object; got {describe_json(data)}")
    return {as_str(name) if is_text(name) else name: item for name, item in entries_of(data)}


# The fields of a class


class JSONField(NamedTuple):
    """How a field is converted, and when it may be absent."""

    codec: JSONCodec
    required: bool
    """Whether the field has no default."""
    nullable: bool
    """Whether the field may be ``None``."""
    empty: bool
    """Whether the field is a tuple that is empty by default."""


_derived: dict[type[object], Mapping[str, JSONField]] = {}


def json_fields_of(cls: type[object]) -> Mapping[str, JSONField]:
    """Return the fields of a class by name.

    :raises TypeError: when ``cls`` is not a class of the model.
    """
    if not issubclass(type(cls), type) or not attrs.has(cls):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"expected a class of the model, such as Flow, or an object of one; "
            f"got {describe_value(cls)}"
        )
    known = _derived.get(cls)
    if known is None:
        known = _derived[cls] = _derive(cls)
    return known


def _derive(cls: type[object]) -> Mapping[str, JSONField]:
    fields: dict[str, JSONField] = {}
    annotations: dict[str, object] | None = None
    attrs_class = cast("type[attrs.AttrsInstance]", cls)
    for field in cast("tuple[attrs.Attribute[object], ...]", attrs.fields(attrs_class)):
        if field.name.startswith("_"):
            described = describe_value(cls)
            raise TypeError(f"{described} has private fields, which cannot be converted to JSON")
        required = field.default is attrs.NOTHING
        if PLACES in field.metadata:
            codec = _codec_of_places(cast("tuple[At[object], ...]", field.metadata[PLACES]))
            nullable = not required
        elif INLINE in field.metadata:
            codec, nullable = _object_codec(cast("type[object]", field.metadata[INLINE])), False
        else:
            annotations = get_type_hints(cls) if annotations is None else annotations
            codec, nullable = _codec_of_annotation(annotations[field.name])
        fields[field.name] = JSONField(codec, required, nullable, field.default == ())
    return fields


def _codec_of_places(places: Iterable[At[object]]) -> JSONCodec:
    """Return the conversions of a declared field, by the attributes that can hold its value."""
    kinds = kinds_of(places)
    if not kinds:
        # Addresses of both families have the same.
        (codec,) = {json_codec(place.wire) for place in places}
        return codec
    return _variant_codec(kinds) if len(kinds) > 1 else _object_codec(*kinds.values())


def kinds_of(places: Iterable[At[object]]) -> dict[str, type[object]]:
    """Return the classes of the objects that a field can hold, by their values of ``"kind"``.

    If there is only one, its objects have no ``"kind"``.
    """
    return {_kind_name(place): place.wire.cls for place in places if isinstance(place.wire, Nest)}


def _kind_name(place: At[object]) -> str:
    """Return the value of ``"kind"`` for the objects in an attribute."""
    number = place.path[-1]
    assert isinstance(number, IntEnum), "an attribute without the kernel's name"
    if place.when is None:
        return number.name.lower()
    # CTA_TIMEOUT_UDP is the enum of the attributes inside, and CTA_TIMEOUT that of the attribute
    # around them. The kind is "udp".
    first = attrs.fields(cast("Nest[attrs.AttrsInstance]", place.wire).cls)[0]
    (inner,) = cast("tuple[At[object], ...]", first.metadata[PLACES])
    return type(inner.path[-1]).__name__.removeprefix(f"{type(number).__name__}_").lower()


def _codec_of_annotation(annotation: object) -> tuple[JSONCodec, bool]:
    """Return the conversions of a field that no attribute holds, and whether it may be ``None``.

    :raises TypeError: when the type cannot be converted.
    """
    options = (
        get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    )
    codecs = {codec_of_type(option) for option in options if option is not NoneType}
    if len(codecs) != 1:
        raise TypeError(f"{annotation} cannot be converted to JSON")
    return codecs.pop(), NoneType in options


@cache
def codec_of_type(annotation: object) -> JSONCodec:
    """Return the conversions of values of a type.

    :raises TypeError: when the type cannot be converted.
    """
    if get_origin(annotation) is tuple and get_args(annotation)[1:] == (Ellipsis,):
        return _items_codec(codec_of_type(get_args(annotation)[0]))
    codec = None
    if isinstance(annotation, type):
        cls = cast("type[object]", annotation)
        codec = _object_codec(cls) if attrs.has(cls) else json_codec_of_type(cls)
    if codec is None:
        raise TypeError(f"{annotation} cannot be converted to JSON")
    return codec


def _object_codec(cls: type[object]) -> JSONCodec:
    """Return the conversions of objects of a class."""

    def write(value: object) -> JSON:
        if own_class(value) is not cls:
            raise EncodeError(f"must be of type {cls.__name__}; got {describe_value(value)}")
        return cast("JSON", to_dict(value))

    def read(data: JSON) -> object:
        return from_dict(cls, data)

    return JSONCodec(write, read)


def _variant_codec(kinds: Mapping[str, type[object]]) -> JSONCodec:
    """Return the conversions of objects of several classes, which have a ``"kind"`` in JSON."""
    names = {cls: name for name, cls in kinds.items()}
    assert not any(KIND in json_fields_of(cls) for cls in names), "a field is named kind"

    def write(value: object) -> JSON:
        name = names.get(type(value))
        if name is None:
            accepted = ", ".join(cls.__name__ for cls in names)
            raise EncodeError(f"must be one of {accepted}; got {describe_value(value)}")
        written: dict[str, JSON] = {KIND: name}
        return written | to_dict(value)

    def read(data: JSON) -> object:
        rest = dict(_mapping(data))
        name = rest.pop(KIND, None)
        cls = kinds.get(as_str(name)) if is_text(name) else None
        if cls is None:
            accepted = ", ".join(kinds)
            raise DecodeError(f"must be one of {accepted}; got {describe_json(name)}", (KIND,))
        return from_dict(cls, rest)

    return JSONCodec(write, read)


def _items_codec(item: JSONCodec) -> JSONCodec:
    """Return the conversions of a tuple of any length."""

    def write(value: object) -> JSON:
        if not isinstance(value, tuple):
            raise EncodeError(f"must be a tuple; got {describe_value(value)}")
        items = cast("tuple[object, ...]", value)
        return [_convert(str(i), EncodeError, item.write, each) for i, each in enumerate(items)]

    def read(data: JSON) -> object:
        if not isinstance(data, list):
            raise DecodeError(f"must be a list; got {describe_json(data)}")
        items = enumerate(items_of(data))
        return tuple(_convert(str(i), DecodeError, item.read, each) for i, each in items)

    return JSONCodec(write, read)
