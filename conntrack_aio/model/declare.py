"""Declaring an attribute beside the field that holds its value.

A class made by :func:`message` is an attrs class whose fields say, with :func:`attribute`,
:func:`variants` or :func:`sequence`, where in a message their value stands and what it looks like
there. That is all there is: decoding, encoding and JSON are derived from it, so that a new kernel
attribute is one line::

    mark: int | None = attribute(CTA.MARK, U32, default=None)

A field without a default is one that the kernel always sends. ``None`` is absent, ``0`` is zero.
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
"""An attribute's number, or those of the nests around it, outermost first, and its own."""


class Access(enum.Enum):
    """Who says an attribute to whom."""

    READ = "read"
    """The kernel tells it; what a program sends of it is ignored or refused."""
    WRITE = "write"
    """A program sends it; the kernel never does."""
    BOTH = "read, write"
    """Either tells it. Of a program's it may be only compared: an id, by a delete."""


class Wire(Generic[T_co]):
    """How a value stands in an attribute's payload."""


@attrs.frozen
class Integer(Wire[I_co]):
    """An integer of ``size`` bytes, in network byte order unless ``host_order``.

    ``enum`` is what it is read as; a value that an :class:`enum.IntEnum` does not know stays an
    ``int``.
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
    """A NUL-terminated string, of ``maximum`` bytes with the NUL."""

    maximum: int


@attrs.frozen
class Bytes(Wire[bytes]):
    """Bytes as they are, ``maximum`` of them at most."""

    maximum: int


@attrs.frozen
class Bitmap(Wire[int]):
    """``unsigned long`` words in host byte order, ``size`` bytes, read as one integer.

    Bit n of the kernel's bitmap is bit n of the integer.
    """

    size: int


@attrs.frozen
class MaskedFlags(Wire[I_co]):
    """``struct nf_ct_tcp_flags``: a byte of flags, and one that says which of them are meant.

    The kernel sends the second as 0; what is encoded means all of them (0xff).
    """

    enum: type[I_co]


@attrs.frozen
class Nest(Wire[T_co]):
    """Further attributes, which are an object of their own."""

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
    """A byte that is one of ``enum``."""
    return Integer(1, enum=enum)


def u32(enum: type[I]) -> Integer[I]:
    """Four bytes that are one of ``enum``."""
    return Integer(4, enum=enum)


@attrs.frozen
class At(Generic[T_co]):
    """One place where a field's value can stand."""

    path: tuple[int, ...]
    wire: Wire[T_co]
    when: tuple[str, int] | None = None
    """Encoded here only if this other field of the object has this value.

    Several places may be the same attribute, each for another value of one field: then that says
    as what it is decoded too. The field is declared before, and stands in the same nest.
    """
    access: Access = Access.BOTH
    since: str = ""
    """The kernel that had it first, where that is later than 4.19."""
    until: str = ""
    """The last kernel that had it."""


def at(
    path: Path,
    wire: Wire[T],
    *,
    when: tuple[str, int] | None = None,
    access: Access = Access.BOTH,
    since: str = "",
    until: str = "",
) -> At[T]:
    """One of the places given to :func:`variants`."""
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
    """A field whose value stands at ``path``. Without a default it is never absent.

    ``access``, ``since`` and ``until`` are for the reference page that is made from this.
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
    """A field whose value stands at one of several places, by its type or by another field.

    ``alike`` names a field before it, with as many places, that must stand at the same of them.
    """
    return _field(places, default, alike)


@attrs.frozen
class Sequence(Generic[T_co]):
    """The places of a tuple's items, and of their number."""

    items: tuple[At[T_co], ...]
    count: At[int]


def sequence(*items: At[T], count: At[int], default: tuple[()]) -> tuple[T, ...]:
    """A field that is a tuple: the first item stands at the first place, and so on.

    Their number stands at ``count``. An empty tuple is absent.
    """
    field: tuple[T, ...] = attrs.field(default=default, metadata={SEQUENCE: Sequence(items, count)})
    return field


def inlined(cls: type[T]) -> T:
    """A field that is an object made of the attributes beside its owner's own."""
    field: T = attrs.field(metadata={INLINE: cls})
    return field


def _field(places: tuple[At[object], ...], default: object, alike: str = "") -> object:
    field: object = attrs.field(default=default, metadata={PLACES: places, ALIKE: alike})
    return field


@attrs.frozen
class UnknownAttribute:
    """An attribute that this library does not know, or whose value is larger than it knows.

    ``path`` counts from the message: the numbers of the nests around it, and its own. It is
    encoded again where it stood.
    """

    path: tuple[int, ...]
    payload: bytes
    """Its value, as it came."""
    nested: bool = False
    """Whether it bore the flag of a nest."""


def by_path(unknown: tuple[UnknownAttribute, ...]) -> tuple[UnknownAttribute, ...]:
    """What two messages compare by: attributes mean the same in any order, but for repeated ones.

    Encoding keeps no order between nests.
    """
    return tuple(sorted(unknown, key=attrgetter("path"))) if len(unknown) > 1 else unknown


_shared: Final[set[type]] = set()


def is_shared(cls: type) -> bool:
    """Whether equal objects of a message class may be one and the same."""
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
    """Make an attrs class, slotted and keyword-only, of a class with declared fields.

    ``shared`` is for small objects of few values, which tables repeat endlessly: they can't be
    changed, so that flows may have one between them.

    The constructor normalizes the values of declared fields (:func:`normalizers_of`), unless the
    class has an ``__attrs_post_init__`` of its own. Assigning a field does not: an attribute store
    that calls a function would cost decoding a third more time. So requests normalize again
    (:func:`normalized`).
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
    """Only what is there: of a flow's two dozen fields, most are absent."""
    fields: tuple[attrs.Attribute[object], ...] = attrs.fields(
        cast("type[attrs.AttrsInstance]", type(self))
    )
    values = [(field, getattr(self, field.name)) for field in fields]
    told = [
        f"{field.name}={value!r}"
        for field, value in values
        if value != field.default or value is attrs.NOTHING
    ]
    return f"{type(self).__name__}({', '.join(told)})"


# Plain values


def is_message(cls: type) -> bool:
    """Whether a class was made by :func:`message`."""
    return cls in _messages


Normalizer = Callable[[object], object]
"""Returns the plain object for a value, or the value itself where that can't be in the field."""

_messages: Final[set[type]] = set()


def _nothing(self: object) -> None:
    """Stand where the generated function will."""


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
        # Each number that a flag enum is asked for stays in its memory.
        if type(number) is not int or not 0 <= number <= most:
            return number
        try:
            return enum(number)
        except ValueError:
            return number

    return plain


class Plain(NamedTuple):
    """What a field's values are normalized to."""

    types: tuple[type, ...]
    """The exact types of values that are plain."""
    normalize: Normalizer
    settled: bool = True
    """Whether a value of an exact type has nothing else in it: an address may have been made of a
    number that is not plain."""


def plain_of(wire: Wire[object]) -> Plain | None:
    """Return what values of a wire type are normalized to; ``None`` for objects."""
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
    """Return, by their names, how values of the fields with attributes of their own are plain."""
    found: dict[str, Plain] = {}
    for field in attrs.fields(cls):
        places: tuple[At[object], ...] = field.metadata.get(PLACES, ())
        plain = plain_of(places[0].wire) if places else None
        if plain is not None:
            found[field.name] = plain
    return found


@cache
def _nests_of(cls: type) -> Mapping[str, tuple[type, ...]]:
    """Return, by their names, the classes of what stands in the fields that hold objects."""
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
    """Return the function that makes the values of a new object plain."""
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
    """Return a function that makes an object of fields as they are, by their names.

    The values are neither normalized nor checked: they are what the kernel sent, or have been
    normalized before.
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

    It is the object itself if they are, else a copy. Of what can't be in a field, encoding says so.
    Something that is no message object is returned as it is. What an object raises when its
    fields are read is raised.
    """
    cls = next((each for each in type(obj).__mro__ if each in _messages), None)
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
