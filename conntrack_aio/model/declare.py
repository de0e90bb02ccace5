"""Declare an attribute beside the field that holds its value.

A class made by :func:`message` is an attrs class. Its fields declare, with :func:`attribute`,
:func:`variants` or :func:`sequence`, the place of their value in a message and its encoding.
Decoding, encoding and JSON are derived from these declarations, so that a new kernel attribute
takes one line::

    mark: int | None = attribute(CTA.MARK, U32, default=None)

The kernel always sends a field without a default. ``None`` means "absent", ``0`` means zero.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple, TypeVar, cast, dataclass_transform, overload

import attrs

from .lazy_fields import make_lazy
from .normalization import normalize_new_objects, register
from .wire import ALIKE, INLINE, PLACES, SEQUENCE, Access, At, Path, SequencePlaces, Wire, at

T = TypeVar("T")
U = TypeVar("U")
V = TypeVar("V")
C = TypeVar("C")


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

    :param path: the number of the attribute, or the numbers of its nests and its own.
    :param wire: the encoding of the value.
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

    :param places: the places, of which a value uses the first that fits it.
    :param default: ``None`` if the attributes may be absent.
    :param alike: an earlier field with the same number of places; both values must be at the place
        with the same index.
    """
    return _field(places, default, alike)


def sequence(*items: At[T], count: At[int], default: tuple[()]) -> tuple[T, ...]:
    """Declare a field that is a tuple, with one place for each item.

    :param items: the places of the items, in order.
    :param count: the place of the number of items.
    :param default: the empty tuple, which means "absent".
    """
    field: tuple[T, ...] = attrs.field(
        default=default, metadata={SEQUENCE: SequencePlaces(items, count)}
    )
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


class Lazy(NamedTuple):
    """The fields of a class with lazy fields that are not set last."""

    at_once: tuple[str, ...] = ()
    """The fields that are set when an object is decoded."""
    often_read: tuple[str, ...] = ()
    """The fields that are set together when one of them is read."""


@overload
def message(cls: type[C], /) -> type[C]: ...
@overload
def message(
    *, hashable: bool = False, shared: bool = False, lazy: Lazy | None = None
) -> Callable[[type[C]], type[C]]: ...
@dataclass_transform(
    kw_only_default=True, field_specifiers=(attribute, variants, sequence, inlined, attrs.field)
)
def message(
    cls: type[C] | None = None,
    /,
    *,
    hashable: bool = False,
    shared: bool = False,
    lazy: Lazy | None = None,
) -> type[C] | Callable[[type[C]], type[C]]:
    """Make a class with declared fields an attrs class, slotted and keyword-only.

    The constructor normalizes the values of declared fields (:mod:`.normalization`), unless the
    class defines ``__attrs_post_init__``. Assigning a field does not normalize: an attribute store
    that calls a function would make decoding take a third longer. So requests normalize again
    (:func:`~.normalization.normalized`).

    :param hashable: whether objects are hashable although fields can be assigned.
    :param shared: whether objects are immutable, so that flows can share them. This is for small
        objects with few distinct values, of which a table has many.
    :param lazy: when the fields of decoded objects get their values, if the class has
        :class:`~.lazy_fields.LazyFields` as its base.
    """

    def make(cls: type[C]) -> type[C]:
        cls.__repr__ = _repr  # type: ignore[method-assign]
        unsafe_hash = hashable or shared or None
        checked = "__attrs_post_init__" in vars(cls)
        if not checked:
            cls.__attrs_post_init__ = _nothing  # type: ignore[attr-defined]
        made = attrs.define(cls, kw_only=True, unsafe_hash=unsafe_hash, frozen=shared)
        register(made, shared=shared)
        if lazy is not None:
            make_lazy(made, lazy.at_once, lazy.often_read)
        if not checked:
            normalize_new_objects(made)
        return made

    return make(cls) if cls is not None else make


def _nothing(self: object) -> None:
    """Reserve the name of the function that :func:`.normalization.compile_normalizing` returns."""


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
