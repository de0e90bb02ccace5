"""Combine conditions that the value of a field is in a set: numbers, addresses or texts.

Several conditions on one field become one: of ``orig.dport in {80, 443}`` and
``orig.dport >= 100`` it is ``orig.dport 443``. So contradictions are found, and each field is
compared once. :func:`families_of` and :func:`protocols_of` find contradictions between conditions
on different fields, such as a port of an ICMP flow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, cast

from ..model.protocols import ICMP, ICMPV6
from ..model.tuples import PORTED
from .fields import FAMILIES, FAMILY, PROTO, STATE, all_values
from .intervals import Intervals, intersection, normalize, union
from .nodes import TRUE, Addresses, Atom, Bits, Membership, Node, Numbers, Texts

V4: Final = ((0, (1 << 32) - 1),)
V6: Final = ((0, (1 << 128) - 1),)
_PORTED: Final = normalize((number, number) for number in PORTED)
_ICMP: Final = normalize(((ICMP, ICMP), (ICMPV6, ICMPV6)))


def simplify_atom(node: Atom) -> Node:
    """Return a condition, or :data:`TRUE` if every flow meets it."""
    if isinstance(node, Bits) and not node.mask:
        return TRUE
    if isinstance(node, Addresses) and (node.v4, node.v6) == (V4, V6):
        return TRUE
    if (
        isinstance(node, Numbers)
        and node.field.always_present
        and node.values == all_values(node.field)
    ):
        return TRUE
    return node


def intersect(one: Membership, other: Membership) -> Membership:
    """Return the condition that holds where two conditions on the same field hold."""
    if isinstance(one, Numbers) and isinstance(other, Numbers):
        return Numbers(one.field, intersection(one.values, other.values))
    if isinstance(one, Addresses) and isinstance(other, Addresses):
        v4, v6 = intersection(one.v4, other.v4), intersection(one.v6, other.v6)
        return Addresses(one.field, v4, v6)
    texts = {*cast("Texts", one).values} & {*cast("Texts", other).values}
    return Texts(cast("Texts", one).field, tuple(sorted(texts)))


def unite(members: Sequence[Membership]) -> Membership:
    """Return the condition that holds where any of several conditions on the same field holds."""
    first = members[0]
    if isinstance(first, Numbers):
        numbers = cast("Sequence[Numbers]", members)
        return Numbers(first.field, union([node.values for node in numbers]))
    if isinstance(first, Addresses):
        addresses = cast("Sequence[Addresses]", members)
        v4, v6 = union([node.v4 for node in addresses]), union([node.v6 for node in addresses])
        return Addresses(first.field, v4, v6)
    texts = cast("Sequence[Texts]", members)
    if len(texts) == 2:
        small, large = sorted((node.values for node in texts), key=len)
        if len(small) == 1:  # one text is inserted: sorting for each of many would take long
            at = bisect_left(large, small[0])
            return Texts(
                first.field,
                large if large[at : at + 1] == small else large[:at] + small + large[at:],
            )
    return Texts(first.field, tuple(sorted({text for node in texts for text in node.values})))


def is_empty(node: Membership) -> bool:
    """Return whether no value meets a condition."""
    return not (node.v4 or node.v6 if isinstance(node, Addresses) else node.values)


def families_of(node: Membership) -> Intervals | None:
    """Return the families of the flows that can meet a condition; ``None`` for all."""
    if isinstance(node, Numbers) and node.field is FAMILY:
        return node.values
    if isinstance(node, Addresses) and not (node.v4 and node.v6):
        return FAMILIES[:1] if node.v4 else FAMILIES[1:]
    return None


def protocols_of(node: Membership) -> Intervals | None:
    """Return the protocols of the flows that can meet a condition; ``None`` for all."""
    if isinstance(node, Numbers):
        if node.field is PROTO:
            return node.values
        if node.field is STATE:
            return normalize((first >> 8, last >> 8) for first, last in node.values)
        if node.field.name.endswith("port"):
            return _PORTED
        if ".icmp_" in node.field.name:
            return _ICMP
    return None
