"""Compile a match to what the kernel filters dumps by.

- The kernel may send flows that do not match. It never leaves out a flow that matches.
- First, :func:`requirements_of` finds what a match requires of single fields. Then
  :func:`compile_dump_filter` selects the requirements that this kernel can check.
- The kernel compares tuples only in a dump of one family. A match of both families takes two dumps.
- The kernel is never asked to compare IPv6 addresses, because every kernel inverts that comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from socket import AF_INET, AF_INET6, AF_UNSPEC
from typing import Final, NamedTuple

import attrs

from ..model.features import Features
from ..model.protocols import ICMP, ICMPV6, TCP, UDP
from ..model.requests import Masked, Selection
from ..model.tuples import ICMP_INVERSE, ICMPV6_INVERSE
from .fields import FAMILY, MARK, PROTO, STATUS, ZONE
from .intervals import single
from .nodes import FALSE, Addresses, AllOf, AnyOf, Bits, Node, Not, Numbers
from .tree import negate

_ALL_BITS: Final = -1
"""The mask of a field that must have exactly one value."""

_ZONE_ID: Final = "zone.id"
"""The name of a requirement: the id of an entry's zone. The zone may be that of both directions, or
that of one direction."""


class DumpFeatures(NamedTuple):
    """The features of a kernel that filters of dumps depend on, as :class:`Features` has them."""

    tuple_filter: bool
    reply_filter: bool
    status_filter: bool
    zone_filter: bool

    @classmethod
    def of(cls, features: Features) -> DumpFeatures:
        """Return those features of a kernel that filters of dumps depend on."""
        return cls(*[getattr(features, name) for name in cls._fields])


NO_FEATURES: Final = DumpFeatures(
    tuple_filter=False, reply_filter=False, status_filter=False, zone_filter=False
)
"""None of these features. Every kernel filters dumps by the family and, if built with marks, by the
mark."""


class Requirements(NamedTuple):
    """What a match requires of single fields: every flow that matches meets it."""

    values: Mapping[str, Masked]
    """The required value and its mask, by the name of the field."""
    sufficient: bool
    """Whether every flow that meets the requirements matches."""


@attrs.frozen
class DumpFilter:
    """The filters of one or more consecutive dumps. A flow is in at most one of these dumps."""

    selections: tuple[Selection, ...] = (Selection(),)
    """The filter of each dump. Empty if no flow can match: then no dump is needed."""
    exact: bool = False
    """Whether the kernel sends all flows that match, and no others."""


def compile_dump_filter(
    node: Node, features: DumpFeatures = NO_FEATURES, requirements: Requirements | None = None
) -> DumpFilter:
    """Return what a kernel filters the dumps of a match by.

    :param node: the match.
    :param features: the features of the kernel.
    :param requirements: the requirements of the match, if they are known.
    """
    if node == FALSE:
        return DumpFilter((), exact=True)
    requirements = requirements_of(node) if requirements is None else requirements
    values = dict(requirements.values)
    family = values.pop(FAMILY.name, Masked(AF_UNSPEC, _ALL_BITS)).value
    # A kernel that is built without marks ignores the mark. The probe for the zone filter shows
    # that this kernel does not.
    filters_by_mark = features.zone_filter
    mark = values.pop(MARK.name, None)
    status = zone = None
    if features.status_filter:
        status = values.pop(STATUS.name, None)
    if features.zone_filter and _ZONE_ID in values:
        zone = values.pop(_ZONE_ID).value
    families = [family]
    if not family and any(_tuple_filters(dict(values), AF_INET, features)):
        families = [AF_INET, AF_INET6]
    orig, reply = _tuple_filters(values, families[0], features)
    if orig:
        values.pop(PROTO.name, None)
    exact = requirements.sufficient and not values and (mark is None or filters_by_mark)
    selections = [
        Selection(family=each, mark=mark, status=status, zone=zone, orig=orig, reply=reply)
        for each in families
    ]
    return DumpFilter(tuple(selections), exact)


# -- requirements -------------------------------------------------------------------------------


def requirements_of(node: Node) -> Requirements:
    """Return what a node requires of single fields."""
    if isinstance(node, AllOf):
        return _required_by_all(map(requirements_of, node.parts))
    if isinstance(node, AnyOf):
        return _required_by_any(map(requirements_of, node.parts))
    if isinstance(node, Not):
        return _requirements_of_not(node.part)
    if isinstance(node, Bits):
        if node.field in (MARK, STATUS):
            return Requirements({node.field.name: Masked(node.value, node.mask)}, sufficient=True)
        return _NO_REQUIREMENTS
    if isinstance(node, Addresses):
        return _requirements_of_addresses(node)
    value = single(node.values) if isinstance(node, Numbers) else None
    if value is None:
        return _NO_REQUIREMENTS
    if node.field is ZONE:
        # The kernel also sends entries that have the zone in one direction only. An entry whose
        # zone id is 0 has no zone in either direction.
        return Requirements({_ZONE_ID: Masked(value, _ALL_BITS)}, sufficient=value == 0)
    if node.field.name.endswith(".zone"):
        if not value:
            return _NO_REQUIREMENTS
        return Requirements({_ZONE_ID: Masked(value, _ALL_BITS)}, sufficient=False)
    return Requirements({node.field.name: Masked(value, _ALL_BITS)}, sufficient=True)


def _requirements_of_addresses(node: Addresses) -> Requirements:
    if node.v4 and node.v6:
        return _NO_REQUIREMENTS
    family = AF_INET if node.v4 else AF_INET6
    found = {FAMILY.name: Masked(family, _ALL_BITS)}
    # Only an IPv4 address becomes a requirement: the kernel inverts the comparison of IPv6.
    address = single(node.v4)
    if address is None:
        return Requirements(found, sufficient=False)
    return Requirements({**found, node.field.name: Masked(address, _ALL_BITS)}, sufficient=True)


def _requirements_of_not(part: Node) -> Requirements:
    if isinstance(part, AllOf):
        return _required_by_any(requirements_of(negate(inner)) for inner in part.parts)
    if isinstance(part, AnyOf):
        return _required_by_all(requirements_of(negate(inner)) for inner in part.parts)
    if isinstance(part, Bits) and part.field in (MARK, STATUS) and part.mask.bit_count() == 1:
        inverted = Masked(part.value ^ part.mask, part.mask)
        return Requirements({part.field.name: inverted}, sufficient=True)
    if isinstance(part, Numbers) and part.field is FAMILY:
        (other,) = {AF_INET, AF_INET6} - {single(part.values)}
        return Requirements({FAMILY.name: Masked(other, _ALL_BITS)}, sufficient=True)
    return _NO_REQUIREMENTS


_NO_REQUIREMENTS: Final = Requirements({}, sufficient=False)


def _required_by_all(parts: Iterable[Requirements]) -> Requirements:
    """Return the requirements of a conjunction: those of all parts together."""
    values: dict[str, Masked] = {}
    sufficient = True
    for part in parts:
        sufficient &= part.sufficient
        for name, value in part.values.items():
            known = values.setdefault(name, value)
            if known is value:
                continue
            if (known.value ^ value.value) & known.mask & value.mask:
                # The parts exclude each other. No flow matches, so any requirements are correct.
                return Requirements(values, sufficient=False)
            values[name] = Masked(known.value | value.value, known.mask | value.mask)
    return Requirements(values, sufficient)


def _required_by_any(parts: Iterable[Requirements]) -> Requirements:
    """Return the requirements of a disjunction: those that all parts have in common."""
    common: Requirements | None = None
    for part in parts:
        if common is None:
            common = part
            continue
        common = Requirements(_common_values(common.values, part.values), sufficient=False)
        if not common.values:
            break
    return _NO_REQUIREMENTS if common is None else common


def _common_values(one: Mapping[str, Masked], other: Mapping[str, Masked]) -> Mapping[str, Masked]:
    """Return the requirements that are in both. Of bits, these are the equal ones."""
    values: dict[str, Masked] = {}
    for name in one.keys() & other.keys():
        a, b = one[name], other[name]
        if a == b:
            values[name] = a
        elif name in (MARK.name, STATUS.name):
            mask = a.mask & b.mask & ~(a.value ^ b.value)
            if mask:
                values[name] = Masked(a.value & mask, mask)
    return values


# -- tuples -------------------------------------------------------------------------------------

_PORT_FIELDS: Final = ("sport", "dport")
_ICMP_FIELDS: Final = ("icmp_type", "icmp_code", "icmp_id")
_INVERSE_TYPES: Final = {ICMP: ICMP_INVERSE, ICMPV6: ICMPV6_INVERSE}


def _tuple_filters(
    values: dict[str, Masked], family: int, features: DumpFeatures
) -> list[dict[str, object]]:
    """Return what the kernel filters the original and the reply tuple by.

    :param values: the requirements, from which those that the kernel checks are removed.
    :param family: the family of the dump.
    :param features: the features of the kernel.
    """
    return [_tuple_filter(side, values, family, features) for side in ("orig", "reply")]


def _tuple_filter(
    side: str, values: dict[str, Masked], family: int, features: DumpFeatures
) -> dict[str, object]:
    """Return what the kernel filters the tuple of one direction by."""
    if not family:
        return {}
    if not (features.reply_filter if side == "reply" else features.tuple_filter):
        return {}
    found: dict[str, object] = {}
    proto = values.get(PROTO.name)
    # The kernel does not compare the ports of other protocols. It refuses an ICMP type that has no
    # reply type.
    supported = ["src", "dst"]
    if proto is not None and proto.value in (TCP, UDP):
        supported += _PORT_FIELDS
    elif proto is not None and proto.value in _INVERSE_TYPES:
        icmp_type = values.get(f"{side}.icmp_type")
        if icmp_type is None or icmp_type.value in _INVERSE_TYPES[proto.value]:
            supported += _ICMP_FIELDS
    for name in supported:
        value = values.pop(f"{side}.{name}", None)
        if value is not None:
            found[name] = IPv4Address(value.value) if name in ("src", "dst") else value.value
    if proto is not None and (side == "orig" or found):
        found["proto"] = proto.value
    return found
