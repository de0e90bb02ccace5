"""Objects as JSON, and back: derived, like everything, from the declarations.

This is the specification. It holds for every class of the model, and will not change but by
fields that are added.

- An **object** has the names of its fields, in their order. What is absent is left out; zero,
  ``""`` and no flags at all are not. To a reader ``null`` is absent too; what is never absent
  must be there, and a name that is no field's is an error.
- A **number** is an integer in the range of its attribute, up to 2^64: exact, so read it with
  something that does not make a float of it. ``true`` and ``1.0`` are no numbers.
- A **state** is its name in the kernel's enum, or its number where it has none: ``"ESTABLISHED"``.
- **Flags** are a list of their names in the kernel's enum; the bits without one are a number at
  its end: ``["SEEN_REPLY", "CONFIRMED", 65536]``.
- **Labels** are the list of those that are set: ``[0, 127]``.
- An **address** is text, of either family: ``"2001:db8::1"``.
- A **tuple** of IPv4-mapped IPv6 addresses (``::ffff:10.0.0.1``) is read as one of the IPv4
  addresses: dual-stack servers have such for their IPv4 peers. A tuple that the kernel itself has
  sent with such addresses, of an IPv6 entry that a program made, is written with ``"mapped": true``
  behind its fields, and read as it is written.
- **Bytes** are hexadecimal: ``"00ff"``.
- **Text** is text. A byte of it that is not UTF-8 is a lone surrogate, ``"\\udc80"`` to
  ``"\\udcff"``, as Python's surrogateescape has it: leave :func:`json.dumps` its ``ensure_ascii``.
- Where a field may hold objects of **several kinds**, they have a ``"kind"`` before their fields,
  the kernel's name of the attribute in small letters: the ``protoinfo`` of a flow is
  ``{"kind": "tcp", "state": "ESTABLISHED"}``, or of the kind ``sctp`` or ``dccp``. Where one
  attribute holds them all it is the name of what is inside: the ``timeouts`` of a policy are
  ``{"kind": "udp", "replied": 120}``, and of the kind ``generic`` for any other protocol.
- An :class:`~conntrack_aio.EventType` is its value: ``"destroy"``.
- What the library does not know is in ``unknown``, as
  ``{"path": [4, 1, 99], "payload": "00ff", "nested": false}``.

Reading makes the object that was written, equal in every field. It looks at each field by itself;
whether they go together, as an entry of the kernel's, is seen when a request is made of them.
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
from ..model.declare import INLINE, PLACES, At, Nest, normalized, raw
from ..model.tuples import Tuple
from ..model.values import describe_error, describe_value
from ..plain import as_str
from .json_values import JSON, Form, entries_of, form_of, is_text, items_of, plain_form_of, shown

C = TypeVar("C")
A = TypeVar("A")
B = TypeVar("B")

_KIND = "kind"
_MAPPED = "mapped"


def to_dict(obj: object) -> dict[str, JSON]:
    """An object of the model as what :func:`json.dumps` takes.

    Raises :exc:`EncodeError`, with the path of fields, for a value that its field can't hold, and
    :exc:`TypeError` for what is no object of the model.
    """
    fields = _fields_of(type(obj))
    obj = normalized(obj)
    written: dict[str, JSON] = {}
    for name, field in fields.items():
        value = getattr(obj, name)
        if (value is None and field.nullable) or (field.empty and _is_empty(value)):
            continue
        written[name] = _inside(name, EncodeError, field.form.write, value)
    if isinstance(obj, Tuple) and _is_mapped(obj.src, obj.dst):
        written[_MAPPED] = True
    return written


def from_dict(cls: type[C], data: JSON) -> C:
    """The object of the class ``cls`` that ``data`` was written of.

    Raises :exc:`DecodeError`, with the path of keys, for what is no such object, and
    :exc:`TypeError` if ``cls`` is no class of the model.
    """
    fields = _fields_of(cls)
    has_mapped = cls in (Tuple,)
    values: dict[str, object] = {}
    mapped = False
    for name, item in _mapping(data).items():
        if name == _MAPPED and has_mapped:
            mapped = _inside(name, DecodeError, _truth, item)
            continue
        field = fields.get(name)
        if field is None:
            raise DecodeError(f"{shown(name)} is no field of {cls.__name__}")
        if item is not None or not field.nullable:
            values[name] = _inside(name, DecodeError, field.form.read, item)
    for name, field in fields.items():
        if field.required and name not in values:
            if not field.nullable:
                raise DecodeError(f"{cls.__name__} is never without it", (name,))
            values[name] = None
    try:
        made = cls(**values)
    except EncodeError as error:  # of a tuple, whose fields must go together
        raise DecodeError(error.reason, error.path) from None
    if not mapped:
        return made
    if not _is_mapped(values["src"], values["dst"]):
        raise DecodeError("its addresses are not IPv4-mapped", (_MAPPED,))
    return raw(cls)(**values)


def to_json(obj: object, *, indent: int | None = None) -> str:
    """Return an object of the model as JSON text: :func:`to_dict` as text.

    The text is ASCII. Without ``indent`` it is a single line, as JSON Lines need it.

    :param indent: the spaces by which each level is indented.

    :raises EncodeError: for a value that its field can't hold, with the path of fields.
    :raises TypeError: for what is not an object of the model.
    """
    return json.dumps(to_dict(obj), indent=indent)


def from_json(cls: type[C], text: str | bytes) -> C:
    """Return the object of the class ``cls`` that JSON text describes.

    :param text: what :func:`to_json` returned; bytes are UTF-8, UTF-16 or UTF-32.

    :raises DecodeError: for text that is not JSON, and for JSON that is not such an object, with
        the path of keys.
    :raises TypeError: for what is neither text nor bytes, or a ``cls`` that is not a class of the
        model.
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
    """Whether all are IPv4-mapped IPv6 addresses."""
    return all(isinstance(each, IPv6Address) and each.ipv4_mapped for each in addresses)


def _truth(data: JSON) -> bool:
    if not isinstance(data, bool):
        raise DecodeError(f"{shown(data)} is neither true nor false")
    return data


def _inside(
    key: str,
    kind: type[DecodeError] | type[EncodeError],
    convert: Callable[[A], B],
    value: A,
) -> B:
    """Convert what stands under a key; an error is of this kind and knows the path."""
    try:
        return convert(value)
    except kind as error:
        raise kind(error.reason, (key, *error.path)) from None
    except ValueError as error:
        raise kind(str(error), (key,)) from None


def _mapping(data: JSON) -> dict[str, JSON]:
    if not isinstance(data, dict):
        raise DecodeError(f"{shown(data)} is not an object")
    return {as_str(name) if is_text(name) else name: item for name, item in entries_of(data)}


# What a class's fields look like


class _Field(NamedTuple):
    form: Form
    required: bool
    """Whether it has no default."""
    nullable: bool
    """Whether it may be ``None``."""
    empty: bool
    """Whether it is a tuple, and empty by default."""


_known: dict[type[object], Mapping[str, _Field]] = {}


def _fields_of(cls: type[object]) -> Mapping[str, _Field]:
    """Raises :exc:`TypeError` for what is no class of the model."""
    if not issubclass(type(cls), type) or not attrs.has(cls):  # pyright: ignore[reportUnnecessaryIsInstance]
        shown = describe_value(cls)
        raise TypeError(f"{shown} is no class of the model; only those have a form in JSON")
    known = _known.get(cls)
    if known is None:
        known = _known[cls] = _derive(cls)
    return known


def _derive(cls: type[object]) -> Mapping[str, _Field]:
    fields: dict[str, _Field] = {}
    hints: dict[str, object] | None = None
    of_attrs = cast("type[attrs.AttrsInstance]", cls)
    for field in cast("tuple[attrs.Attribute[object], ...]", attrs.fields(of_attrs)):
        if field.name.startswith("_"):
            shown = describe_value(cls)
            raise TypeError(f"{shown} has private fields, which have no form in JSON")
        required = field.default is attrs.NOTHING
        if PLACES in field.metadata:
            form = _of_places(cast("tuple[At[object], ...]", field.metadata[PLACES]))
            nullable = not required
        elif INLINE in field.metadata:
            form, nullable = _object(cast("type[object]", field.metadata[INLINE])), False
        else:
            hints = get_type_hints(cls) if hints is None else hints
            form, nullable = _of_hint(hints[field.name])
        fields[field.name] = _Field(form, required, nullable, field.default == ())
    return fields


def _of_places(places: Iterable[At[object]]) -> Form:
    """Of a declared field: by the places where its value can stand."""
    kinds: dict[str, type[object]] = {}
    scalars: set[Form] = set()
    for place in places:
        if isinstance(place.wire, Nest):
            kinds[_name(place)] = place.wire.cls
        else:
            scalars.add(form_of(place.wire))
    if scalars:
        assert not kinds
        (form,) = scalars  # addresses of two families have one
        return form
    return _one_of(kinds) if len(kinds) > 1 else _object(*kinds.values())


def _name(place: At[object]) -> str:
    number = place.path[-1]
    assert isinstance(number, IntEnum), "an attribute without the kernel's name"
    if place.when is None:
        return number.name.lower()
    # CTA_TIMEOUT_UDP is the enum inside, CTA_TIMEOUT that of the attribute around it.
    first = attrs.fields(cast("Nest[attrs.AttrsInstance]", place.wire).cls)[0]
    (inner,) = cast("tuple[At[object], ...]", first.metadata[PLACES])
    return type(inner.path[-1]).__name__.removeprefix(f"{type(number).__name__}_").lower()


def _of_hint(hint: object) -> tuple[Form, bool]:
    """Of a field that no attribute holds: by its type, and whether that has ``None``."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    forms = {_of_type(option) for option in options if option is not NoneType}
    if len(forms) != 1:
        raise TypeError(f"{hint} has no form in JSON")
    return forms.pop(), NoneType in options


@cache
def _of_type(kind: object) -> Form:
    if get_origin(kind) is tuple and get_args(kind)[1:] == (Ellipsis,):
        return _items(_of_type(get_args(kind)[0]))
    form = None
    if isinstance(kind, type):
        known = cast("type[object]", kind)
        form = _object(known) if attrs.has(known) else plain_form_of(known)
    if form is None:
        raise TypeError(f"{kind} has no form in JSON")
    return form


def _object(cls: type[object]) -> Form:
    def write(value: object) -> JSON:
        if type(value) is not cls:
            raise EncodeError(f"{describe_value(value)} is not a {cls.__name__}")
        return cast("JSON", to_dict(value))

    def read(data: JSON) -> object:
        return from_dict(cls, data)

    return Form(write, read)


def _one_of(kinds: Mapping[str, type[object]]) -> Form:
    """Of objects that tell of which kind they are."""
    names = {cls: name for name, cls in kinds.items()}
    assert not any(_KIND in _fields_of(cls) for cls in names), "a field has the name of the kind"

    def write(value: object) -> JSON:
        name = names.get(type(value))
        if name is None:
            wanted = ", ".join(cls.__name__ for cls in names)
            raise EncodeError(f"{describe_value(value)} is none of {wanted}")
        written: dict[str, JSON] = {_KIND: name}
        return written | to_dict(value)

    def read(data: JSON) -> object:
        rest = dict(_mapping(data))
        name = rest.pop(_KIND, None)
        kind = kinds.get(as_str(name)) if is_text(name) else None
        if kind is None:
            raise DecodeError(f"{shown(name)} is none of {', '.join(kinds)}", (_KIND,))
        return from_dict(kind, rest)

    return Form(write, read)


def _items(item: Form) -> Form:
    """Of a tuple of any length."""

    def write(value: object) -> JSON:
        if not isinstance(value, tuple):
            raise EncodeError(f"{describe_value(value)} is not a tuple")
        items = cast("tuple[object, ...]", value)
        return [_inside(str(i), EncodeError, item.write, each) for i, each in enumerate(items)]

    def read(data: JSON) -> object:
        if not isinstance(data, list):
            raise DecodeError(f"{shown(data)} is not a list")
        items = enumerate(items_of(data))
        return tuple(_inside(str(i), DecodeError, item.read, each) for i, each in items)

    return Form(write, read)
