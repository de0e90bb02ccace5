"""What of a flow a condition can be on: each field declared once, for all that is made of a match.

A field's value is what the predicate reads of a flow, and what stands in the attributes of an
event: at the places that the model declares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum, IntFlag
from functools import cache
from socket import AF_INET, AF_INET6
from types import MappingProxyType
from typing import Final, cast

import attrs

from ..model.declare import PLACES, At, Nest, Wire
from ..model.enums import DCCPState, SCTPState, Status, TCPState
from ..model.flow import LABELS, Flow
from ..model.protocols import PROTOCOL_ALIASES, PROTOCOL_NUMBERS
from ..model.tuples import TCP

U16: Final = 0xFFFF
U32: Final = 0xFFFFFFFF
U64: Final = 0xFFFFFFFFFFFFFFFF
SCTP: Final = 132
DCCP: Final = 33


@attrs.frozen(kw_only=True, eq=False)
class Field:
    """What a condition is on."""

    name: str
    """As it stands in the text of a match."""
    path: tuple[str, ...]
    """The names of the attributes that lead to it from a :class:`Flow`; empty, if it is no single
    one of them."""
    constant: bool = False
    """Whether it never changes while a flow lives, and every event tells it."""

    @property
    def keyword(self) -> str:
        """As it is called among the parameters of :class:`Match`."""
        return self.name.replace(".", "_")

    def __reduce__(self) -> tuple[object, ...]:
        return _named, (self.name,)  # each is there once


@attrs.frozen(kw_only=True, eq=False)
class NumberField(Field):
    """Numbers, which lie in ranges."""

    maximum: int
    always: bool = False
    """Whether every flow has it."""
    words: Mapping[str, int] = MappingProxyType({})
    """Names that numbers have, as they are printed."""
    aliases: Mapping[str, int] = MappingProxyType({})
    """Further names, that are read."""

    @property
    def size(self) -> int:
        """Of its value, in bytes."""
        return (self.maximum.bit_length() + 7) // 8


@attrs.frozen(kw_only=True, eq=False)
class AddressField(Field):
    """Addresses, which lie in networks and ranges. Every flow has them."""


@attrs.frozen(kw_only=True, eq=False)
class BitsField(Field):
    """Bits. A flow that does not tell them has none."""

    width: int
    words: Mapping[str, int] = MappingProxyType({})
    """Names that single bits have, by number."""


@attrs.frozen(kw_only=True, eq=False)
class TextField(Field):
    """Texts, which are one of some."""

    longest: int


def _names(enum: type[IntEnum]) -> dict[str, int]:
    return {name.lower(): each.value for name, each in enum.__members__.items()}


def _bits(enum: type[IntFlag]) -> dict[str, int]:
    return {member.name.lower(): member.value.bit_length() - 1 for member in enum if member.name}


STATES: Final[Mapping[int, Mapping[str, int]]] = MappingProxyType(
    {
        TCP: MappingProxyType(_names(TCPState)),
        SCTP: MappingProxyType(_names(SCTPState)),
        DCCP: MappingProxyType(_names(DCCPState)),
    }
)
"""The names of the states that connections of a protocol can be in."""


def state_number(proto: int, state: int) -> int:
    """One number for the state of any protocol."""
    return proto << 8 | state


FAMILY: Final = NumberField(
    name="family",
    path=(),
    constant=True,
    maximum=0xFF,
    always=True,
    words=MappingProxyType({"ipv4": int(AF_INET), "ipv6": int(AF_INET6)}),
    aliases=MappingProxyType({"inet": int(AF_INET), "inet6": int(AF_INET6)}),
)
FAMILIES: Final = tuple((number, number) for number in FAMILY.words.values())
"""Both of them, as a set of numbers: IPv4 first."""
PROTO: Final = NumberField(
    name="proto",
    path=("orig", "proto"),
    constant=True,
    maximum=0xFF,
    always=True,
    words=PROTOCOL_NUMBERS,
    aliases=PROTOCOL_ALIASES,
)
ZONE: Final = NumberField(name="zone", path=(), constant=True, maximum=U16)
ZONES: Final = tuple(
    NumberField(name=f"{side}.zone", path=(), constant=True, maximum=U16, always=True)
    for side in ("orig", "reply")
)
MARK: Final = BitsField(name="mark", path=("mark",), width=32)
STATUS: Final = BitsField(
    name="status", path=("status",), width=32, words=MappingProxyType(_bits(Status))
)
LABEL: Final = BitsField(name="label", path=("labels",), width=LABELS.size * 8)
STATE: Final = NumberField(name="state", path=("protoinfo", "state"), maximum=U16)
HELPER: Final = TextField(name="helper", path=("helper", "name"), longest=15)
TIMEOUT: Final = NumberField(name="timeout", path=("timeout",), maximum=U32)
ID: Final = NumberField(name="id", path=("id",), constant=True, maximum=U32)

_DIRECTIONS: Final = tuple(
    field
    for side in ("orig", "reply")
    for field in (
        AddressField(name=f"{side}.src", path=(side, "src"), constant=True),
        AddressField(name=f"{side}.dst", path=(side, "dst"), constant=True),
        *(
            NumberField(name=f"{side}.{name}", path=(side, name), constant=True, maximum=maximum)
            for name, maximum in (
                *(("sport", U16), ("dport", U16)),
                *(("icmp_type", 0xFF), ("icmp_code", 0xFF), ("icmp_id", U16)),
            )
        ),
    )
)
_COUNTERS: Final = tuple(
    NumberField(name=f"{side}.{name}", path=(f"counters_{side}", name), maximum=U64)
    for side in ("orig", "reply")
    for name in ("packets", "bytes")
)

FIELDS: Final[Mapping[str, Field]] = MappingProxyType(
    {
        field.name: field
        for field in (
            *(FAMILY, PROTO, *_DIRECTIONS, ZONE, *ZONES, MARK, STATUS, LABEL, STATE, HELPER),
            *(TIMEOUT, *_COUNTERS, ID),
        )
    }
)
"""All of them, by name."""


def _named(name: str) -> Field:
    return FIELDS[name]


@attrs.frozen
class Place:
    """Where an event has the value of a field, or one kind of value."""

    path: tuple[int, ...]
    """The types of the attributes, from the outermost on."""
    wire: Wire[object]
    when: int | None = None
    """The protocol of which a flow must be to have it here."""


@cache
def places(*names: str) -> tuple[Place, ...]:
    """The places of what these names lead to from a :class:`Flow`."""
    return tuple(_places(Flow, names))


def _places(cls: type, names: Sequence[str]) -> list[Place]:
    field = getattr(attrs.fields(cls), names[0])
    found: list[Place] = []
    for place in cast("tuple[At[object], ...]", field.metadata[PLACES]):
        when = None if place.when is None else place.when[1]
        if len(names) == 1:
            found.append(Place(place.path, place.wire, when))
            continue
        assert isinstance(place.wire, Nest)
        found += [
            attrs.evolve(inner, path=place.path + inner.path)
            for inner in _places(place.wire.cls, names[1:])
        ]
    return found
