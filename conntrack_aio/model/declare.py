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
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from operator import attrgetter
from typing import Final, Generic, TypeVar, cast, dataclass_transform, overload

import attrs

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
    """

    def make(cls: type[C]) -> type[C]:
        cls.__repr__ = _repr  # type: ignore[method-assign]
        unsafe_hash = hashable or shared or None
        made = attrs.define(cls, kw_only=True, unsafe_hash=unsafe_hash, frozen=shared)
        if shared:
            _shared.add(made)
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
