"""Represent sets of numbers as sorted ranges that neither overlap nor adjoin."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from math import inf

Interval = tuple[int, int]
"""The first and the last number of a range."""

Intervals = tuple[Interval, ...]
"""A set of numbers: its ranges in ascending order, with a gap between each and the next."""

_MAX_INSERTIONS = 8
"""Up to this many ranges are inserted one by one into a larger set. More are sorted with it."""


def normalize(ranges: Iterable[Interval]) -> Intervals:
    """Return the set of all numbers in some ranges, which may overlap and be in any order."""
    found: list[Interval] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return tuple(found)


def union(sets: Sequence[Intervals]) -> Intervals:
    """Return the numbers that are in any of the sets."""
    if len(sets) == 2:
        small, large = sorted(sets, key=len)
        if len(small) <= _MAX_INSERTIONS:
            for first, last in small:
                large = _insert(large, first, last)
            return large
    return normalize([interval for values in sets for interval in values])


def _insert(values: Intervals, first: int, last: int) -> Intervals:
    """Return the set with one more range. Ranges that do not touch it are copied as a slice."""
    start = bisect_left(values, (first,))
    if start and values[start - 1][1] >= first - 1:
        start -= 1
    end = bisect_right(values, (last + 1, inf))
    if start < end:
        first = min(first, values[start][0])
        last = max(last, values[end - 1][1])
    return (*values[:start], (first, last), *values[end:])


def intersection(one: Intervals, other: Intervals) -> Intervals:
    """Return the numbers that are in both sets."""
    small, large = sorted((one, other), key=len)
    found: list[Interval] = []
    for first, last in small:
        at = bisect_left(large, (first,))
        if at and large[at - 1][1] >= first:
            at -= 1
        while at < len(large) and large[at][0] <= last:
            found.append((max(first, large[at][0]), min(last, large[at][1])))
            at += 1
    return tuple(found)


def difference(one: Intervals, other: Intervals) -> Intervals:
    """Return the numbers that are in the first set and not in the other."""
    found: list[Interval] = []
    for first, last in one:
        at = bisect_left(other, (first,))
        if at and other[at - 1][1] >= first:
            at -= 1
        while at < len(other) and other[at][0] <= last:
            if first < other[at][0]:
                found.append((first, other[at][0] - 1))
            first = other[at][1] + 1
            at += 1
        if first <= last:
            found.append((first, last))
    return tuple(found)


def single(intervals: Intervals) -> int | None:
    """Return the number of a set that has exactly one, and ``None`` for any other set."""
    if len(intervals) == 1 and intervals[0][0] == intervals[0][1]:
        return intervals[0][0]
    return None


def prefixes(intervals: Intervals, width: int) -> list[tuple[int, int]]:
    """Return the fewest network prefixes that make up a set, in ascending order.

    :param intervals: the set.
    :param width: the bits of a number: 32 for IPv4 addresses, 128 for IPv6 addresses.
    :returns: the value and the length in bits of each prefix.
    """
    found: list[tuple[int, int]] = []
    for first, last in intervals:
        while first <= last:
            # The prefix is limited by the zero bits at the end of its first number, and by the
            # numbers that remain of the range.
            zeros = (first & -first).bit_length() - 1 if first else width
            bits = min(zeros, (last - first + 1).bit_length() - 1)
            found.append((first, width - bits))
            first += 1 << bits
    return found
