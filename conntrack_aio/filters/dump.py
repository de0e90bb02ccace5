"""A match as what the kernel selects a dump by: perhaps less than the match, never other.

First it is found what a match *needs*: what single fields must be, whatever else it says. Then,
what of it the kernel at hand can look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from socket import AF_INET, AF_INET6, AF_UNSPEC
from typing import Final, NamedTuple, Protocol

import attrs

from ..model.requests import Masked, Selection
from ..model.tuples import ICMP, ICMP_INVERSE, ICMPV6, ICMPV6_INVERSE, TCP, UDP
from .fields import FAMILY, MARK, PROTO, STATUS, ZONE
from .intervals import single
from .nodes import FALSE, Addresses, All, Any, Bits, Node, Not, Numbers
from .tree import negate

_WHOLE: Final = -1
"""The mask of a field that must be one value."""

_ZONE_ID: Final = "zone.id"
"""The id of an entry's zone: of both directions, or of the one that has its own."""


class FilterFeatures(Protocol):
    """What the kernel at hand can select by: :class:`~conntrack_aio.Features` has it."""

    @property
    def tuple_filter(self) -> bool: ...
    @property
    def reply_filter(self) -> bool: ...
    @property
    def status_filter(self) -> bool: ...
    @property
    def zone_filter(self) -> bool: ...


class Needs(NamedTuple):
    """What must be so, for a flow to match."""

    values: Mapping[str, Masked]
    """By the name of the field."""
    enough: bool
    """Whether nothing else need be so."""


@attrs.frozen
class DumpFilter:
    """What dumps, one after the other, are selected by in the kernel: each flow is in one."""

    selections: tuple[Selection, ...] = (Selection(),)
    """None, if no flow can match: then there is nothing to ask."""
    exact: bool = False
    """Whether the kernel leaves out all that does not match, and nothing else."""


def compile_dump(
    node: Node, features: FilterFeatures | None = None, needs: Needs | None = None
) -> DumpFilter:
    """What the kernel can do of a match; it may let too much through.

    Without ``features``, what every kernel can do: select by family and mark.

    :param needs: what the match needs, where that is known.
    """
    if node == FALSE:
        return DumpFilter((), exact=True)
    needs = needs_of(node) if needs is None else needs
    values = dict(needs.values)
    family = values.pop(FAMILY.name, Masked(AF_UNSPEC, _WHOLE)).value
    # That a mark is looked at at all, and not left alone by a kernel built without marks, is shown
    # by the question about zones.
    proven = features is not None and features.zone_filter
    mark = values.pop(MARK.name, None)
    status = zone = None
    if features is not None and features.status_filter:
        status = values.pop(STATUS.name, None)
    if features is not None and features.zone_filter and _ZONE_ID in values:
        zone = values.pop(_ZONE_ID).value
    families = [family]
    if not family and any(_sides(dict(values), AF_INET, features)):
        families = [AF_INET, AF_INET6]  # of tuples it looks only at those of one family
    orig, reply = _sides(values, families[0], features)
    if orig:
        values.pop(PROTO.name, None)
    exact = needs.enough and not values and (mark is None or proven)
    selections = [
        Selection(family=each, mark=mark, status=status, zone=zone, orig=orig, reply=reply)
        for each in families
    ]
    return DumpFilter(tuple(selections), exact)


# -- what is needed -----------------------------------------------------------------------------


def needs_of(node: Node) -> Needs:
    """What a match needs."""
    if isinstance(node, All):
        return _both(map(needs_of, node.parts))
    if isinstance(node, Any):
        return _either(map(needs_of, node.parts))
    if isinstance(node, Not):
        return _needs_of_not(node.part)
    if isinstance(node, Bits):
        if node.field in (MARK, STATUS):
            return Needs({node.field.name: Masked(node.value, node.mask)}, enough=True)
        return _NOTHING
    if isinstance(node, Addresses):
        return _needs_of_addresses(node)
    value = single(node.values) if isinstance(node, Numbers) else None
    if value is None:
        return _NOTHING
    if node.field is ZONE:
        # A zone of one direction alone is that of an entry with this id, too; but no entry whose
        # id is 0 has any.
        return Needs({_ZONE_ID: Masked(value, _WHOLE)}, enough=value == 0)
    if node.field.name.endswith(".zone"):
        return Needs({_ZONE_ID: Masked(value, _WHOLE)}, enough=False) if value else _NOTHING
    return Needs({node.field.name: Masked(value, _WHOLE)}, enough=True)


def _needs_of_addresses(node: Addresses) -> Needs:
    if node.v4 and node.v6:
        return _NOTHING
    family = AF_INET if node.v4 else AF_INET6
    found = {FAMILY.name: Masked(family, _WHOLE)}
    # The kernel turns the comparison of IPv6 addresses around.
    address = single(node.v4)
    if address is None:
        return Needs(found, enough=False)
    return Needs({**found, node.field.name: Masked(address, _WHOLE)}, enough=True)


def _needs_of_not(part: Node) -> Needs:
    if isinstance(part, All):
        return _either(needs_of(negate(each)) for each in part.parts)
    if isinstance(part, Any):
        return _both(needs_of(negate(each)) for each in part.parts)
    if isinstance(part, Bits) and part.field in (MARK, STATUS) and part.mask.bit_count() == 1:
        return Needs({part.field.name: Masked(part.value ^ part.mask, part.mask)}, enough=True)
    if isinstance(part, Numbers) and part.field is FAMILY:
        (other,) = {AF_INET, AF_INET6} - {single(part.values)}
        return Needs({FAMILY.name: Masked(other, _WHOLE)}, enough=True)
    return _NOTHING


_NOTHING: Final = Needs({}, enough=False)


def _both(parts: Iterable[Needs]) -> Needs:
    values: dict[str, Masked] = {}
    enough = True
    for part in parts:
        enough &= part.enough
        for name, value in part.values.items():
            known = values.setdefault(name, value)
            if known is value:
                continue
            if (known.value ^ value.value) & known.mask & value.mask:
                # Nothing matches: then what is known so far is true as well.
                return Needs(values, enough=False)
            values[name] = Masked(known.value | value.value, known.mask | value.mask)
    return Needs(values, enough)


def _either(parts: Iterable[Needs]) -> Needs:
    common: Needs | None = None
    for part in parts:
        if common is None:
            common = part
            continue
        common = Needs(_common(common.values, part.values), enough=False)
        if not common.values:
            break
    return _NOTHING if common is None else common  # of no parts nothing matches


def _common(one: Mapping[str, Masked], other: Mapping[str, Masked]) -> Mapping[str, Masked]:
    """What both need."""
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


# -- what the kernel looks at -------------------------------------------------------------------

_PORTS: Final = ("sport", "dport")
_ICMP: Final = ("icmp_type", "icmp_code", "icmp_id")
_INVERSE: Final = {ICMP: ICMP_INVERSE, ICMPV6: ICMPV6_INVERSE}


def _sides(
    values: dict[str, Masked], family: int, features: FilterFeatures | None
) -> list[dict[str, object]]:
    return [_side(side, values, family, features) for side in ("orig", "reply")]


def _side(
    side: str, values: dict[str, Masked], family: int, features: FilterFeatures | None
) -> dict[str, object]:
    """What is needed of one direction's tuple and can be selected by: it is taken out of the
    values."""
    if features is None or not family:
        return {}
    if not (features.reply_filter if side == "reply" else features.tuple_filter):
        return {}
    found: dict[str, object] = {}
    proto = values.get(PROTO.name)
    # Ports of other protocols are not compared, and an ICMP type that has no answer is refused.
    wanted = ["src", "dst"]
    if proto is not None and proto.value in (TCP, UDP):
        wanted += _PORTS
    elif proto is not None and proto.value in _INVERSE:
        type_ = values.get(f"{side}.icmp_type")
        if type_ is None or type_.value in _INVERSE[proto.value]:
            wanted += _ICMP
    for name in wanted:
        value = values.pop(f"{side}.{name}", None)
        if value is not None:
            found[name] = IPv4Address(value.value) if name in ("src", "dst") else value.value
    if proto is not None and (side == "orig" or found):
        found["proto"] = proto.value
    return found
