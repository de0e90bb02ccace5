"""Approximate conditions by simpler ones, for programs of limited length.

- :func:`superset` and :func:`union_by_field` return a condition that holds wherever the original
  holds, and possibly elsewhere.
- :func:`subset` returns a condition that holds only where the original holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from ..errors import MatchError
from .fields import MatchField
from .intervals import Interval, Intervals, normalize, prefixes
from .memberships import simplify_atom, unite
from .nodes import Addresses, AllOf, AnyOf, Node, Numbers, Ranged
from .tree import all_of


def superset(node: Ranged, max_ranges: int) -> Ranged:
    """Return a condition with a limited number of ranges that holds wherever the given one holds.

    :param node: the condition to approximate.
    :param max_ranges: how many ranges it may have at most; for addresses, in each family. IPv6
        ranges are counted as prefixes, because programs compare IPv6 addresses by prefixes.
    """
    return _approximate(node, max_ranges, _close_gaps, _shorten_prefixes)


def subset(node: Ranged, max_ranges: int) -> Ranged:
    """Return a condition with a limited number of ranges that holds only where the given one does.

    :param node: the condition to approximate.
    :param max_ranges: as for :func:`superset`.
    """
    return _approximate(node, max_ranges, _keep_largest_ranges, _keep_shortest_prefixes)


def _approximate(
    node: Ranged,
    max_ranges: int,
    limit_ranges: Callable[[Intervals, int], Intervals],
    limit_prefixes: Callable[[Intervals, int], Intervals],
) -> Ranged:
    if isinstance(node, Numbers):
        return attrs.evolve(node, values=limit_ranges(node.values, max_ranges))
    return attrs.evolve(
        node, v4=limit_ranges(node.v4, max_ranges), v6=limit_prefixes(node.v6, max_ranges)
    )


def _close_gaps(values: Intervals, max_ranges: int) -> Intervals:
    """Return a superset: the smallest gaps between the ranges are closed."""
    if len(values) <= max_ranges:
        return values
    gaps = [(values[i + 1][0] - values[i][1], i) for i in range(len(values) - 1)]
    remaining = sorted(i for _, i in sorted(gaps, reverse=True)[: max_ranges - 1])
    starts = [0, *(i + 1 for i in remaining)]
    ends = [*remaining, len(values) - 1]
    return tuple((values[i][0], values[j][1]) for i, j in zip(starts, ends, strict=True))


def _keep_largest_ranges(values: Intervals, max_ranges: int) -> Intervals:
    """Return a subset: the largest ranges."""
    if len(values) <= max_ranges:
        return values
    return tuple(
        sorted(sorted(values, key=lambda interval: interval[0] - interval[1])[:max_ranges])
    )


def _shorten_prefixes(values: Intervals, max_ranges: int) -> Intervals:
    """Return a superset, by shortening the prefixes.

    They get the greatest length at which at most ``max_ranges`` distinct prefixes remain.
    """
    networks = prefixes(values, 128)
    if len(networks) <= max_ranges:
        return values
    low, high = 0, 128
    while low < high:
        length = (low + high + 1) // 2
        if len({_cut(network, length) for network in networks}) <= max_ranges:
            low = length
        else:
            high = length - 1
    return normalize(map(_range_of, {_cut(network, low) for network in networks}))


def _keep_shortest_prefixes(values: Intervals, max_ranges: int) -> Intervals:
    """Return a subset: the shortest prefixes, which have the most addresses."""
    networks = prefixes(values, 128)
    if len(networks) <= max_ranges:
        return values
    return normalize(map(_range_of, sorted(networks, key=lambda network: network[1])[:max_ranges]))


def _cut(network: tuple[int, int], length: int) -> tuple[int, int]:
    """Return a prefix, cut to a length in bits."""
    length = min(network[1], length)
    return network[0] >> 128 - length << 128 - length, length


def _range_of(network: tuple[int, int]) -> Interval:
    """Return the first and the last address of a prefix."""
    return network[0], network[0] | (1 << 128 - network[1]) - 1


def union_by_field(node: Node) -> Node:
    """Return a condition on single fields that holds wherever a node of many alternatives holds.

    For each field that every alternative constrains to ranges, it is the union of these ranges.
    Other nodes are returned unchanged.
    """
    try:
        if isinstance(node, AllOf):
            return all_of(map(union_by_field, node.parts))
        if isinstance(node, AnyOf) and node.parts:
            return _union_of_alternatives([dict(_ranges_by_field(part)) for part in node.parts])
    except MatchError:  # the unions exclude each other, so that the node can never hold
        pass
    return node


def _union_of_alternatives(alternatives: list[dict[MatchField, Ranged]]) -> Node:
    """Return the union, per field, of the fields that every alternative constrains."""
    return all_of(
        simplify_atom(unite([ranges[field] for ranges in alternatives]))
        for field in alternatives[0]
        if all(field in ranges for ranges in alternatives)
    )


def _ranges_by_field(part: Node) -> Iterator[tuple[MatchField, Ranged]]:
    """Yield the fields that an alternative constrains to ranges, and the conditions on them."""
    for condition in part.parts if isinstance(part, AllOf) else (part,):
        if isinstance(condition, Numbers | Addresses):
            yield condition.field, condition
