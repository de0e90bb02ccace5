"""Declare an attribute beside the field that holds its value.

A class made by :func:`message` is an attrs class. Its fields declare, with :func:`attribute`,
:func:`variants` or :func:`sequence`, the place of their value in a message and its encoding.
Decoding, encoding and JSON are derived from these declarations, so that a new kernel attribute
takes one line::

    mark: int | None = attribute(CTA.MARK, U32, default=None)

The kernel always sends a field without a default. ``None`` means "absent", ``0`` means zero.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from operator import attrgetter
from typing import Any, Final, Generic, NamedTuple, TypeVar, cast, dataclass_transform, overload

import attrs

from ..function_builder import FunctionBuilder
from ..plain import as_address, as_bytes, as_int, as_str

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
U = TypeVar("U")
V = TypeVar("V")
I = TypeVar("I", bound=int)  # noqa: E741 - an integer's type
I_co = TypeVar("I_co", bound=int, covariant=True)
C = TypeVar("C")

Path = int | tuple[int, ...]
"""The number of an attribute, or the numbers of its nests, outermost first, and its own."""


class Access(enum.Enum):
    """Whether the kernel or the program sends an attribute."""

    READ = "read"
    """The kernel sends it. It ignores or refuses it in requests."""
    WRITE = "write"
    """A program sends it. The kernel never does."""
    BOTH = "read, write"
    """Both send it. The kernel may only compare the program's value: a delete compares the id."""


class Wire(Generic[T_co]):
    """The encoding of a value in an attribute's payload."""


@attrs.frozen
class Integer(Wire[I_co]):
    """An integer of ``size`` bytes, in network byte order unless ``host_order``.

    Decoding returns a member of ``enum``, if given. A value that an :class:`enum.IntEnum` does not
    have stays an ``int``.
    """

    size: int
    signed: bool = False
    host_order: bool = False
    enum: type[I_co] | None = None


@attrs.frozen
class Address(Wire[T_co]):
    """An IP address."""

    cls: type[T_co]
    size: int


@attrs.frozen
class Text(Wire[str]):
    """A NUL-terminated string of at most ``maximum`` bytes, the NUL included."""

    maximum: int


@attrs.frozen
class Bytes(Wire[bytes]):
    """Opaque data of at most ``maximum`` bytes."""

    maximum: int


@attrs.frozen
class Bitmap(Wire[int]):
    """A bitmap of ``size`` bytes, decoded as one integer.

    Its words are ``unsigned long`` in host byte order. Bit n of the kernel's bitmap is bit n of
    the integer.
    """

    size: int


@attrs.frozen
class MaskedFlags(Wire[I_co]):
    """A byte of flags and a byte that masks them: ``struct nf_ct_tcp_flags``.

    The kernel sends a mask of 0. Encoding sends a mask of 0xff: all flags.
    """

    enum: type[I_co]


@attrs.frozen
class Nest(Wire[T_co]):
    """A nest: attributes that are the fields of another object."""

    cls: type[T_co]


U8: Final = Integer[int](1)
U16: Final = Integer[int](2)
U32: Final = Integer[int](4)
S32: Final = Integer[int](4, signed=True)
U64: Final = Integer[int](8)
HOST_U32: Final = Integer[int](4, host_order=True)
IPV4: Final = Address(IPv4Address, 4)
IPV6: Final = Address(IPv6Address, 16)


def u8(enum: type[I]) -> Integer[I]:
    """Return the encoding of a member of ``enum`` in one byte."""
    return Integer(1, enum=enum)


def u32(enum: type[I]) -> Integer[I]:
    """Return the encoding of a member of ``enum`` in four bytes."""
    return Integer(4, enum=enum)


@attrs.frozen
class At(Generic[T_co]):
    """A place in the message where a field's value can be."""

    path: tuple[int, ...]
    wire: Wire[T_co]
    when: tuple[str, int] | None = None
    """Another field and its value: the value is encoded here only if that field has that value.

    Several places may be the same attribute, each for another value of one field, which then also
    determines how the attribute is decoded. That field is declared before this one, in the same
    nest.
    """
    access: Access = Access.BOTH
    since: str = ""
    """The first kernel that has the attribute, if later than 4.19."""
    until: str = ""
    """The last kernel that has the attribute."""


def at(
    path: Path,
    wire: Wire[T],
    *,
    when: tuple[str, int] | None = None,
    access: Access = Access.BOTH,
    since: str = "",
    until: str = "",
) -> At[T]:
    """Return a place for :func:`variants` or :func:`sequence`."""
    return At(path if isinstance(path, tuple) else (path,), wire, when, access, since, until)


PLACES: Final = "conntrack_aio.places"
ALIKE: Final = "conntrack_aio.alike"
SEQUENCE: Final = "conntrack_aio.sequence"
INLINE: Final = "conntrack_aio.inline"


@overload
def attribute(
    path: Path, wire: Wire[T], *, access: Access = Access.BOTH, since: str = "", until: str = ""
) -> T: ...
@overload
def attribute(
    path: Path,
    wire: Wire[T],
    *,
    default: None,
    access: Access = Access.BOTH,
    since: str = "",
    until: str = "",
) -> T | None: ...
def attribute(
    path: Path,
    wire: Wire[object],
    *,
    default: object = attrs.NOTHING,
    access: Access = Access.BOTH,
    since: str = "",
    until: str = "",
) -> object:
    """Declare a field whose value is the attribute at ``path``.

    :param default: ``None`` if the attribute may be absent.
    :param access: whether the kernel or the program sends it; used by the reference page, as are
        ``since`` and ``until``.
    :param since: the first kernel that has it, if later than 4.19.
    :param until: the last kernel that has it.
    """
    return _field((at(path, wire, access=access, since=since, until=until),), default)


@overload
def variants(first: At[T], second: At[U], /, *, alike: str = "") -> T | U: ...
@overload
def variants(first: At[T], second: At[U], /, *, default: None) -> T | U | None: ...
@overload
def variants(
    first: At[T], second: At[U], third: At[V], /, *, default: None
) -> T | U | V | None: ...
@overload
def variants(*places: At[T], default: None) -> T | None: ...
def variants(*places: At[object], default: object = attrs.NOTHING, alike: str = "") -> object:
    """Declare a field whose value is at one of several places.

    The type of the value, or another field, determines the place.

    :param alike: an earlier field with the same number of places; both values must be at the place
        with the same index.
    """
    return _field(places, default, alike)


@attrs.frozen
class Sequence(Generic[T_co]):
    """The places of a tuple's items and of the number of items."""

    items: tuple[At[T_co], ...]
    count: At[int]


def sequence(*items: At[T], count: At[int], default: tuple[()]) -> tuple[T, ...]:
    """Declare a field that is a tuple, with one place for each item.

    :param count: the place of the number of items.
    :param default: the empty tuple, which means "absent".
    """
    field: tuple[T, ...] = attrs.field(default=default, metadata={SEQUENCE: Sequence(items, count)})
    return field


def inlined(cls: type[T]) -> T:
    """Declare a field that is an object whose attributes are in the same nest as its owner's."""
    field: T = attrs.field(metadata={INLINE: cls})
    return field


def _field(places: tuple[At[object], ...], default: object, alike: str = "") -> object:
    field: object = attrs.field(default=default, metadata={PLACES: places, ALIKE: alike})
    return field


@attrs.frozen
class UnknownAttribute:
    """An attribute that this library does not know, or whose value is larger than expected.

    Encoding puts it back in its place.
    """

    path: tuple[int, ...]
    """The numbers of its nests, from the message inward, and its own number."""
    payload: bytes
    """The payload as received."""
    nested: bool = False
    """Whether its type has the flag ``NLA_F_NESTED``."""


def by_path(unknown: tuple[UnknownAttribute, ...]) -> tuple[UnknownAttribute, ...]:
    """Return unknown attributes in the order in which two messages are compared.

    Attributes mean the same in any order, except for repeated ones. Encoding does not preserve the
    order between nests.
    """
    return tuple(sorted(unknown, key=attrgetter("path"))) if len(unknown) > 1 else unknown


_shared: Final[set[type]] = set()


def is_shared(cls: type) -> bool:
    """Return whether equal objects of a message class may be one shared object."""
    return cls in _shared


@overload
def message(cls: type[C], /) -> type[C]: ...
@overload
def message(*, hashable: bool = False, shared: bool = False) -> Callable[[type[C]], type[C]]: ...
@dataclass_transform(
    kw_only_default=True, field_specifiers=(attribute, variants, sequence, inlined, attrs.field)
)
def message(
    cls: type[C] | None = None, /, *, hashable: bool = False, shared: bool = False
) -> type[C] | Callable[[type[C]], type[C]]:
    """Make a class with declared fields an attrs class, slotted and keyword-only.

    The constructor normalizes the values of declared fields (:func:`normalizers_of`), unless the
    class defines ``__attrs_post_init__``. Assigning a field does not normalize: an attribute store
    that calls a function would make decoding take a third longer. So requests normalize again
    (:func:`normalized`).

    :param hashable: whether objects are hashable although fields can be assigned.
    :param shared: whether objects are immutable, so that flows can share them. This is for small
        objects with few distinct values, of which a table has many.
    """

    def make(cls: type[C]) -> type[C]:
        cls.__repr__ = _repr  # type: ignore[method-assign]
        unsafe_hash = hashable or shared or None
        checked = "__attrs_post_init__" in vars(cls)
        if not checked:
            cls.__attrs_post_init__ = _nothing  # type: ignore[attr-defined]
        made = attrs.define(cls, kw_only=True, unsafe_hash=unsafe_hash, frozen=shared)
        if shared:
            _shared.add(made)
        _messages.add(made)
        if not checked:
            made.__attrs_post_init__ = _compile_normalizing(made)  # type: ignore[attr-defined]
        return made

    return make(cls) if cls is not None else make


def _repr(self: object) -> str:
    """Return the fields that differ from their defaults: most of a flow's fields are absent."""
    fields: tuple[attrs.Attribute[object], ...] = attrs.fields(
        cast("type[attrs.AttrsInstance]", type(self))
    )
    values = [(field, getattr(self, field.name)) for field in fields]
    parts = [
        f"{field.name}={value!r}"
        for field, value in values
        if value != field.default or value is attrs.NOTHING
    ]
    return f"{type(self).__name__}({', '.join(parts)})"


# Plain values


def is_message(cls: type) -> bool:
    """Return whether a class was made by :func:`message`."""
    return cls in _messages


Normalizer = Callable[[object], object]
"""Returns the plain object for a value, or the value itself if the field does not accept it."""

_messages: Final[set[type]] = set()


def _nothing(self: object) -> None:
    """Reserve the name of the function that :func:`_compile_normalizing` returns."""


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


class Plain(NamedTuple):
    """How the values of a field are normalized."""

    types: tuple[type, ...]
    """The exact types of plain values."""
    normalize: Normalizer
    settled: bool = True
    """Whether a value of an exact type is always plain. An address is not: it may contain a number
    that is not plain."""


def plain_of(wire: Wire[object]) -> Plain | None:
    """Return how values of an encoding are normalized, and ``None`` for objects."""
    if isinstance(wire, Integer | MaskedFlags):
        enum = cast("Integer[int] | MaskedFlags[int]", wire).enum
        if enum is None:
            return Plain((int,), _plain_int)
        most = 0xFF if isinstance(wire, MaskedFlags) else (1 << 8 * wire.size) - 1
        return Plain((enum,), _plain_member(enum, most))
    if isinstance(wire, Bitmap):
        return Plain((int,), _plain_int)
    if isinstance(wire, Address):
        return Plain((IPv4Address, IPv6Address), _plain_address, settled=False)
    if isinstance(wire, Text):
        return Plain((str,), _plain_text)
    return Plain((bytes,), _plain_bytes) if isinstance(wire, Bytes) else None


@cache
def normalizers_of(cls: type) -> Mapping[str, Plain]:
    """Return how the values of fields are normalized, by the names of the fields."""
    found: dict[str, Plain] = {}
    for field in attrs.fields(cls):
        places: tuple[At[object], ...] = field.metadata.get(PLACES, ())
        plain = plain_of(places[0].wire) if places else None
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


def _compile_normalizing(cls: type) -> Callable[[Any], None]:
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
    changed = cls is not type(obj)
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
