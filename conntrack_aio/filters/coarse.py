"""Conditions with fewer ranges than they had, for programs that may not be long."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from ..errors import MatchError
from .fields import Field
from .intervals import Intervals, normalize, prefixes
from .nodes import Addresses, All, Any, Node, Numbers
from .tree import atom, every, unite

Ranged = Numbers | Addresses


def broader(node: Ranged, most: int) -> Ranged:
    """It holds wherever the node does, and has few enough ranges."""
    return _simplified(node, most, _bridged, _shortened)


def narrower(node: Ranged, most: int) -> Ranged:
    """It holds only where the node does."""
    return _simplified(node, most, _largest, _shortest)


def _simplified(
    node: Ranged,
    most: int,
    ranges: Callable[[Intervals, int], Intervals],
    prefixes_: Callable[[Intervals, int], Intervals],
) -> Ranged:
    if isinstance(node, Numbers):
        return attrs.evolve(node, values=ranges(node.values, most))
    return attrs.evolve(node, v4=ranges(node.v4, most), v6=prefixes_(node.v6, most))


def _bridged(values: Intervals, most: int) -> Intervals:
    """The smallest gaps are taken in."""
    if len(values) <= most:
        return values
    gaps = [(values[i + 1][0] - values[i][1], i) for i in range(len(values) - 1)]
    kept = sorted(i for _, i in sorted(gaps, reverse=True)[: most - 1])
    starts = [0, *(i + 1 for i in kept)]
    ends = [*kept, len(values) - 1]
    return tuple((values[i][0], values[j][1]) for i, j in zip(starts, ends, strict=True))


def _largest(values: Intervals, most: int) -> Intervals:
    if len(values) <= most:
        return values
    return tuple(sorted(sorted(values, key=lambda each: each[0] - each[1])[:most]))


def _shortened(values: Intervals, most: int) -> Intervals:
    """The prefixes of IPv6 that these consist of, cut off where few enough differ."""
    nets = prefixes(values, 128)
    if len(nets) <= most:
        return values
    low, high = 0, 128
    while low < high:
        length = (low + high + 1) // 2
        if len({_cut(net, length) for net in nets}) <= most:
            low = length
        else:
            high = length - 1
    return normalize(map(_range, {_cut(net, low) for net in nets}))


def _shortest(values: Intervals, most: int) -> Intervals:
    nets = prefixes(values, 128)
    if len(nets) <= most:
        return values
    return normalize(map(_range, sorted(nets, key=lambda net: net[1])[:most]))


def _cut(net: tuple[int, int], length: int) -> tuple[int, int]:
    length = min(net[1], length)
    return net[0] >> 128 - length << 128 - length, length


def _range(net: tuple[int, int]) -> tuple[int, int]:
    return net[0], net[0] | (1 << 128 - net[1]) - 1


def relaxed(node: Node) -> Node:
    """What any of many conditions needs of single fields, instead of the many themselves.

    It holds wherever the node does.
    """
    try:
        if isinstance(node, All):
            return every(map(relaxed, node.parts))
        if isinstance(node, Any) and node.parts:
            return _relaxed([dict(_by_field(part)) for part in node.parts])
    except MatchError:  # it can never hold
        pass
    return node


def _relaxed(told: list[dict[Field, Ranged]]) -> Node:
    """What all of these say something of, and what any of them says."""
    return every(
        atom(unite([each[field] for each in told]))
        for field in told[0]
        if all(field in each for each in told)
    )


def _by_field(part: Node) -> Iterator[tuple[Field, Ranged]]:
    """The ranges that a condition has of single fields."""
    for each in part.parts if isinstance(part, All) else (part,):
        if isinstance(each, Numbers | Addresses):
            yield each.field, each
