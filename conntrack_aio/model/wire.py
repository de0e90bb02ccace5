"""The encodings of attributes, and the places in a message where the value of a field can be.

:mod:`.declare` attaches them to the fields of a class.
"""

from __future__ import annotations

import enum
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Generic, Self, TypeVar, cast

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
I = TypeVar("I", bound=int)  # noqa: E741 - an integer's type
I_co = TypeVar("I_co", bound=int, covariant=True)

Path = int | tuple[int, ...]
"""The number of an attribute, or the numbers of its nests, outermost first, and its own."""


class Access(enum.Enum):
    """Whether the kernel or the program sends an attribute."""

    READ = "read"
    """The kernel sends it, and ignores or refuses it in requests."""
    WRITE = "write"
    """A program sends it. The kernel never does."""
    BOTH = "read, write"
    """Both send it. The kernel may only compare the program's value: a delete compares the id."""


class Declared:
    """A value that is compared by its type and its slots. It is never changed.

    The classes here are not attrs classes: making one takes as long as importing a module.
    """

    __slots__: tuple[str, ...] = ()

    def _values(self) -> tuple[object, ...]:
        return tuple([getattr(self, name) for name in self.__slots__])

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == cast("Self", other)._values()

    def __hash__(self) -> int:
        return hash((type(self), *self._values()))

    def __repr__(self) -> str:
        parts = [f"{name}={getattr(self, name)!r}" for name in self.__slots__]
        return f"{type(self).__name__}({', '.join(parts)})"


class Wire(Declared, Generic[T_co]):
    """The encoding of a value in an attribute's payload."""

    __slots__ = ()


class Integer(Wire[I_co]):
    """An integer of ``size`` bytes, in network byte order unless ``host_order``.

    Decoding returns a member of ``enum``, if given. A value that an :class:`enum.IntEnum` does not
    have stays an ``int``.
    """

    __slots__ = ("enum", "host_order", "signed", "size")

    def __init__(
        self,
        size: int,
        signed: bool = False,
        host_order: bool = False,
        enum: type[I_co] | None = None,
    ) -> None:
        self.size = size
        self.signed = signed
        self.host_order = host_order
        self.enum = enum


class Address(Wire[T_co]):
    """An IP address."""

    __slots__ = ("cls", "size")

    def __init__(self, cls: type[T_co], size: int) -> None:
        self.cls = cls
        self.size = size


class Text(Wire[str]):
    """A NUL-terminated string of at most ``maximum`` bytes, the NUL included."""

    __slots__ = ("maximum",)

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum


class Bytes(Wire[bytes]):
    """Opaque data of at most ``maximum`` bytes."""

    __slots__ = ("maximum",)

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum


class Bitmap(Wire[int]):
    """A bitmap of ``size`` bytes, decoded as one integer.

    Its words are ``unsigned long`` in host byte order. Bit n of the kernel's bitmap is bit n of
    the integer.
    """

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size


class MaskedFlags(Wire[I_co]):
    """A byte of flags and a byte that masks them: ``struct nf_ct_tcp_flags``.

    The kernel sends a mask of 0. Encoding sends a mask of 0xff: all flags.
    """

    __slots__ = ("enum",)

    def __init__(self, enum: type[I_co]) -> None:
        self.enum = enum


class Nest(Wire[T_co]):
    """A nest: attributes that are the fields of another object."""

    __slots__ = ("cls",)

    def __init__(self, cls: type[T_co]) -> None:
        self.cls = cls


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


class At(Declared, Generic[T_co]):
    """A place in the message where a field's value can be."""

    __slots__ = ("access", "path", "since", "until", "when", "wire")

    def __init__(
        self,
        path: tuple[int, ...],
        wire: Wire[T_co],
        when: tuple[str, int] | None = None,
        access: Access = Access.BOTH,
        since: str = "",
        until: str = "",
    ) -> None:
        self.path = path
        self.wire = wire
        self.when = when
        """Another field and its value: the value is encoded here only if that field has that value.

        Several places may be the same attribute, each for another value of one field, which then
        also determines how the attribute is decoded. That field is declared before this one, in the
        same nest.
        """
        self.access = access
        self.since = since
        """The first kernel that has the attribute, if later than 4.19."""
        self.until = until
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
    """Return a place for :func:`~.declare.variants` or :func:`~.declare.sequence`."""
    return At(path if isinstance(path, tuple) else (path,), wire, when, access, since, until)


class SequencePlaces(Declared, Generic[T_co]):
    """The places of a tuple's items and of the number of items."""

    __slots__ = ("count", "items")

    def __init__(self, items: tuple[At[T_co], ...], count: At[int]) -> None:
        self.items = items
        self.count = count


# The keys of a field's metadata

PLACES: Final = "conntrack_aio.places"
"""The places of the value: a tuple of :class:`At`."""
ALIKE: Final = "conntrack_aio.alike"
"""The name of another field. If the value of this field is at its n-th place, the value of the
other field must be at its n-th place, too."""
SEQUENCE: Final = "conntrack_aio.sequence"
"""The :class:`SequencePlaces` of a field that is a tuple."""
INLINE: Final = "conntrack_aio.inline"
"""The class of an object whose attributes are in the same nest as its owner's."""
