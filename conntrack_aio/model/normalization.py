"""Plain values: what the fields of a message object hold, whatever a program passes.

A program may pass a subclass of ``int`` or ``str``, or the number of a flag instead of the enum's
member. The encoding of a field determines the plain types of its values (:func:`normalization_of`).
Constructors normalize the values that they get (:func:`normalize_new_objects`), and requests
normalize whole objects (:func:`normalized`). The values of a decoded message are plain, so
decoding creates objects with :func:`raw`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, NamedTuple, TypeVar, cast

import attrs

from ..function_builder import FunctionBuilder
from ..plain import as_address, as_bytes, as_int, as_str
from .lazy_fields import has_lazy_fields, own_class
from .wire import INLINE, PLACES, Address, At, Bitmap, Bytes, Integer, MaskedFlags, Nest, Text, Wire

T = TypeVar("T")
C = TypeVar("C")

_messages: Final[set[type]] = set()
_shared: Final[set[type]] = set()


def register(cls: type, *, shared: bool) -> None:
    """Register a class that :func:`~conntrack_aio.model.declare.message` made.

    :param cls: the class.
    :param shared: whether equal objects of the class may be one shared object.
    """
    _messages.add(cls)
    if shared:
        _shared.add(cls)


def is_message_class(cls: type) -> bool:
    """Return whether a class was made by :func:`~conntrack_aio.model.declare.message`."""
    return cls in _messages or has_lazy_fields(cls)


def is_shared(cls: type) -> bool:
    """Return whether equal objects of a message class may be one shared object."""
    return cls in _shared


Normalizer = Callable[[object], object]
"""Returns the plain object for a value, or the value itself if the field does not accept it."""


def _plain_int(value: object) -> object:
    try:
        return as_int(value)
    except Exception:
        return value


def _plain_text(value: object) -> object:
    return as_str(value) if issubclass(type(value), str) else value


def _plain_bytes(value: object) -> object:
    try:
        return as_bytes(value)
    except Exception:
        return value


def _plain_address(value: object) -> object:
    try:
        return as_address(value)
    except Exception:
        return value


def _plain_member(enum: type[int], most: int) -> Normalizer:
    def plain(value: object) -> object:
        number = _plain_int(value)
        # A flag enum keeps an object in memory for each number that it is called with.
        if type(number) is not int or not 0 <= number <= most:
            return number
        try:
            return enum(number)
        except ValueError:
            return number

    return plain


class Normalization(NamedTuple):
    """How the values of a field are normalized."""

    types: tuple[type, ...]
    """The exact types of plain values."""
    normalize: Normalizer
    settled: bool = True
    """Whether a value of an exact type is always plain. An address is not: it may contain a number
    that is not plain."""


def normalization_of(wire: Wire[object]) -> Normalization | None:
    """Return how values of an encoding are normalized, and ``None`` for objects."""
    if isinstance(wire, Integer | MaskedFlags):
        enum = cast("Integer[int] | MaskedFlags[int]", wire).enum
        if enum is None:
            return Normalization((int,), _plain_int)
        most = 0xFF if isinstance(wire, MaskedFlags) else (1 << 8 * wire.size) - 1
        return Normalization((enum,), _plain_member(enum, most))
    if isinstance(wire, Bitmap):
        return Normalization((int,), _plain_int)
    if isinstance(wire, Address):
        return Normalization((IPv4Address, IPv6Address), _plain_address, settled=False)
    if isinstance(wire, Text):
        return Normalization((str,), _plain_text)
    return Normalization((bytes,), _plain_bytes) if isinstance(wire, Bytes) else None


@cache
def normalizers_of(cls: type) -> Mapping[str, Normalization]:
    """Return how the values of fields are normalized, by the names of the fields."""
    found: dict[str, Normalization] = {}
    for field in attrs.fields(cls):
        places: tuple[At[object], ...] = field.metadata.get(PLACES, ())
        plain = normalization_of(places[0].wire) if places else None
        if plain is not None:
            found[field.name] = plain
    return found


@cache
def _nests_of(cls: type) -> Mapping[str, tuple[type, ...]]:
    """Return the classes of the objects in fields, by the names of the fields."""
    found: dict[str, tuple[type, ...]] = {}
    for field in attrs.fields(cls):
        places: tuple[At[object], ...] = field.metadata.get(PLACES, ())
        wires = [place.wire for place in places if isinstance(place.wire, Nest)]
        nests: tuple[type, ...] = tuple([wire.cls for wire in wires])
        if INLINE in field.metadata:
            nests = (field.metadata[INLINE],)
        if nests:
            found[field.name] = nests
    return found


def normalize_new_objects(cls: type[Any]) -> None:
    """Make the constructor of an attrs class normalize the values of the fields.

    The function that does this is compiled when the first object is made: decoding calls no
    constructor.
    """

    def compile_and_call(self: object) -> None:
        cls.__attrs_post_init__ = normalize = compile_normalizing(cls)
        normalize(self)

    cls.__attrs_post_init__ = compile_and_call


def compile_normalizing(cls: type) -> Callable[[Any], None]:
    """Return the function that normalizes the values of a new object."""
    builder = FunctionBuilder("normalize", f"values of {cls.__name__}")
    self, value, kind = builder.parameter("self"), builder.local("value"), builder.local("kind")
    for name, plain in normalizers_of(cls).items():
        builder.line("{value} = {field}", value=value, field=builder.attribute(self, name))
        with builder.block("if {value} is not None", value=value):
            builder.line("{kind} = {type}({value})", kind=kind, type=type, value=value)
            others = [
                builder.expression("{kind} is not {cls}", kind=kind, cls=each)
                for each in plain.types
            ]
            with builder.block("if {other}", other=builder.join("and", others)):
                builder.line(
                    "{set}({self}, {plain}({value}))",
                    set=getattr(cls, name).__set__,
                    self=self,
                    plain=plain.normalize,
                    value=value,
                )
    return builder.build()


_makers: Final[dict[type, Callable[..., Any]]] = {}


def raw(cls: type[C]) -> Callable[..., C]:
    """Return a constructor that neither normalizes nor checks the values of the fields.

    It takes every field by name. The values come from the kernel or were normalized before.
    """
    known = _makers.get(cls)
    if known is None:
        known = _makers[cls] = _compile_maker(cls)
    return known


def _compile_maker(cls: type[object]) -> Callable[..., Any]:
    builder = FunctionBuilder("make", f"raw {cls.__name__}", keyword_only=True)
    fields: tuple[attrs.Attribute[object], ...] = attrs.fields(cls)  # type: ignore[arg-type]
    values = {
        field.name: builder.parameter(field.name)
        if field.default is attrs.NOTHING
        else builder.parameter(field.name, field.default)
        for field in fields
    }
    made = builder.let("made", "{new}({cls})", new=object.__new__, cls=cls)
    for name, value in values.items():
        if cls in _shared:
            set_ = getattr(cls, name).__set__
            builder.line("{set}({made}, {value})", set=set_, made=made, value=value)
        else:
            builder.set(made, name, value)
    builder.line("return {made}", made=made)
    return builder.build()


def normalized(obj: T) -> T:
    """Return a message object with plain values in every field, at any depth.

    An invalid value stays as it is; encoding raises the error. An exception from reading a field is
    passed on.

    :returns: the object itself if its values are plain or if it is not a message object; otherwise
        a copy.
    """
    cls = next((base for base in type(obj).__mro__ if base in _messages), None)
    if cls is None:
        return obj
    changed = cls is not own_class(obj)
    plain, nests = normalizers_of(cls), _nests_of(cls)
    values: dict[str, object] = {}
    for field in attrs.fields(cls):
        new = value = getattr(obj, field.name)
        if value is not None:
            if (known := plain.get(field.name)) is not None:
                if not (known.settled and type(value) in known.types):
                    new = known.normalize(value)
            elif issubclass(type(value), nests.get(field.name, ())):
                new = normalized(value)
        changed = changed or new is not value
        values[field.name] = new
    return cast("T", raw(cls)(**values)) if changed else obj
