"""Declare the fields of a flow that a match can have conditions on.

- Each field is declared once, for all compilers: :mod:`.predicate`, :mod:`.dump`, :mod:`.program`.
- A field's path says where its value is, both in a :class:`Flow` and, by what the model declares,
  in the attributes of an event.
- There is one object for each field. Fields are compared by identity, also after unpickling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum, IntFlag
from functools import cache
from socket import AF_INET, AF_INET6
from types import MappingProxyType
from typing import Final, cast

import attrs

from ..model.enums import Status
from ..model.flow import LABELS, Flow
from ..model.protocols import PROTOCOL_ALIASES, PROTOCOL_NUMBERS
from ..model.protoinfo import STATE_TYPES
from ..model.wire import PLACES, At, Nest, Wire
from .intervals import Intervals

U16: Final = 0xFFFF
U32: Final = 0xFFFFFFFF
U64: Final = 0xFFFFFFFFFFFFFFFF


@attrs.frozen(kw_only=True, eq=False)
class MatchField:
    """A field that a match can have conditions on."""

    name: str
    """Its name in the text of a match, such as ``orig.src``."""
    path: tuple[str, ...]
    """The attribute names that lead from a :class:`Flow` to the value. Empty if the value is
    computed from several attributes."""
    constant: bool = False
    """Whether the value never changes while the flow exists, and every event contains it."""

    @property
    def keyword(self) -> str:
        """The name of the :class:`Match` parameter, such as ``orig_src``."""
        return self.name.replace(".", "_")

    def __reduce__(self) -> tuple[object, ...]:
        return _field_by_name, (self.name,)


@attrs.frozen(kw_only=True, eq=False)
class NumberField(MatchField):
    """A field whose value is a number. Conditions compare it with ranges."""

    maximum: int
    always_present: bool = False
    """Whether every flow has a value."""
    names: Mapping[str, int] = MappingProxyType({})
    """The names of numbers that a match is printed with. They are also accepted."""
    aliases: Mapping[str, int] = MappingProxyType({})
    """Further names of numbers that are accepted, but not printed."""
    unit: str = ""
    """What the number counts: ``seconds``, ``bytes``, or ``port`` for the number of a port."""

    @property
    def size(self) -> int:
        """The size of a value in bytes."""
        return (self.maximum.bit_length() + 7) // 8


@attrs.frozen(kw_only=True, eq=False)
class AddressField(MatchField):
    """A field whose value is an address, which every flow has."""


@attrs.frozen(kw_only=True, eq=False)
class BitsField(MatchField):
    """A field whose value is a set of bits. An absent value has no bit set."""

    width: int
    """How many bits there are."""
    names: Mapping[str, int] = MappingProxyType({})
    """The positions of the bits that have names."""


@attrs.frozen(kw_only=True, eq=False)
class TextField(MatchField):
    """A field whose value is a text."""

    max_bytes: int
    """The size of the longest text that the kernel can have, in bytes."""


def _member_names(enum: type[IntEnum]) -> dict[str, int]:
    return {name.lower(): member.value for name, member in enum.__members__.items()}


def _bit_names(enum: type[IntFlag]) -> dict[str, int]:
    return {member.name.lower(): member.value.bit_length() - 1 for member in enum if member.name}


STATES: Final[Mapping[int, Mapping[str, int]]] = MappingProxyType(
    {proto: MappingProxyType(_member_names(states)) for proto, states in STATE_TYPES.items()}
)
"""The numbers of connection states by name, for each protocol that has states."""


def state_number(proto: int, state: int) -> int:
    """Return the value that :data:`STATE` has for a state of a protocol."""
    return proto << 8 | state


FAMILY: Final = NumberField(
    name="family",
    path=(),
    constant=True,
    maximum=0xFF,
    always_present=True,
    names=MappingProxyType({"ipv4": int(AF_INET), "ipv6": int(AF_INET6)}),
    aliases=MappingProxyType({"inet": int(AF_INET), "inet6": int(AF_INET6)}),
)
FAMILIES: Final = tuple((number, number) for number in FAMILY.names.values())
"""The set of both families: IPv4 first."""
PROTO: Final = NumberField(
    name="proto",
    path=("orig", "proto"),
    constant=True,
    maximum=0xFF,
    always_present=True,
    names=PROTOCOL_NUMBERS,
    aliases=PROTOCOL_ALIASES,
)
ZONE: Final = NumberField(name="zone", path=(), constant=True, maximum=U16)
ZONES: Final = tuple(
    NumberField(name=f"{side}.zone", path=(), constant=True, maximum=U16, always_present=True)
    for side in ("orig", "reply")
)
"""The zone of each direction: its own, or that of both directions."""
MARK: Final = BitsField(name="mark", path=("mark",), width=32)
STATUS: Final = BitsField(
    name="status", path=("status",), width=32, names=MappingProxyType(_bit_names(Status))
)
LABEL: Final = BitsField(name="label", path=("labels",), width=LABELS.size * 8)
STATE: Final = NumberField(name="state", path=("protoinfo", "state"), maximum=U16)
"""The state and its protocol, as :func:`state_number` combines them."""
HELPER: Final = TextField(name="helper", path=("helper", "name"), max_bytes=15)
TIMEOUT: Final = NumberField(name="timeout", path=("timeout",), maximum=U32, unit="seconds")
ID: Final = NumberField(name="id", path=("id",), constant=True, maximum=U32)

_TUPLE_FIELDS: Final = tuple(
    field
    for side in ("orig", "reply")
    for field in (
        AddressField(name=f"{side}.src", path=(side, "src"), constant=True),
        AddressField(name=f"{side}.dst", path=(side, "dst"), constant=True),
        *(
            NumberField(
                name=f"{side}.{name}", path=(side, name), constant=True, maximum=maximum, unit=unit
            )
            for name, maximum, unit in (
                *(("sport", U16, "port"), ("dport", U16, "port")),
                *(("icmp_type", 0xFF, ""), ("icmp_code", 0xFF, ""), ("icmp_id", U16, "")),
            )
        ),
    )
)
_COUNTERS: Final = tuple(
    NumberField(name=f"{side}.{name}", path=(f"counters_{side}", name), maximum=U64, unit=unit)
    for side in ("orig", "reply")
    for name, unit in (("packets", ""), ("bytes", "bytes"))
)

FIELDS: Final[Mapping[str, MatchField]] = MappingProxyType(
    {
        field.name: field
        for field in (
            *(FAMILY, PROTO, *_TUPLE_FIELDS, ZONE, *ZONES, MARK, STATUS, LABEL, STATE, HELPER),
            *(TIMEOUT, *_COUNTERS, ID),
        )
    }
)
"""All fields, by name."""


def _field_by_name(name: str) -> MatchField:
    return FIELDS[name]


def all_values(field: NumberField) -> Intervals:
    """Return all values that a field can have."""
    return FAMILIES if field is FAMILY else ((0, field.maximum),)


@attrs.frozen
class AttributeLocation:
    """Where an event contains a value: a field can have several, for different kinds of value."""

    path: tuple[int, ...]
    """The types of the nested attributes, from the outermost to the innermost."""
    wire: Wire[object]
    """The encoding of the value."""


@cache
def attribute_locations(*names: str) -> tuple[AttributeLocation, ...]:
    """Return the locations of the value to which a path of attribute names leads from a flow."""
    return tuple(_locations(Flow, names))


def _locations(cls: type, names: Sequence[str]) -> list[AttributeLocation]:
    field = getattr(attrs.fields(cls), names[0])
    found: list[AttributeLocation] = []
    for place in cast("tuple[At[object], ...]", field.metadata[PLACES]):
        if len(names) == 1:
            found.append(AttributeLocation(place.path, place.wire))
            continue
        assert isinstance(place.wire, Nest)
        found += [
            attrs.evolve(inner, path=place.path + inner.path)
            for inner in _locations(place.wire.cls, names[1:])
        ]
    return found
