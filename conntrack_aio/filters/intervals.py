"""Sets of numbers, as the ranges that they consist of: sorted, and none touching the next."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from math import inf

Intervals = tuple[tuple[int, int], ...]
"""First and last of each range."""

_FEW = 8
"""So many ranges are put into a larger set one by one, instead of sorting all."""


def normalize(ranges: Iterable[tuple[int, int]]) -> Intervals:
    """Any ranges, as such a set."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return tuple(found)


def union(sets: Sequence[Intervals]) -> Intervals:
    """Return what is in any of the sets."""
    if len(sets) == 2:
        small, large = sorted(sets, key=len)
        if len(small) <= _FEW:
            for each in small:
                large = _with(large, *each)
            return large
    return normalize([each for every in sets for each in every])


def _with(values: Intervals, first: int, last: int) -> Intervals:
    """One range more: what does not touch it is copied as it is."""
    start = bisect_left(values, (first,))
    if start and values[start - 1][1] >= first - 1:
        start -= 1
    end = bisect_right(values, (last + 1, inf))
    if start < end:
        first = min(first, values[start][0])
        last = max(last, values[end - 1][1])
    return (*values[:start], (first, last), *values[end:])


def intersection(one: Intervals, other: Intervals) -> Intervals:
    """What is in both."""
    small, large = sorted((one, other), key=len)
    found: list[tuple[int, int]] = []
    for first, last in small:
        at = bisect_left(large, (first,))
        if at and large[at - 1][1] >= first:
            at -= 1
        while at < len(large) and large[at][0] <= last:
            found.append((max(first, large[at][0]), min(last, large[at][1])))
            at += 1
    return tuple(found)


def difference(one: Intervals, other: Intervals) -> Intervals:
    """Return what is in the first set and not in the other."""
    found: list[tuple[int, int]] = []
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
    """The one number that the set has, or ``None``."""
    if len(intervals) == 1 and intervals[0][0] == intervals[0][1]:
        return intervals[0][0]
    return None


def prefixes(intervals: Intervals, width: int) -> list[tuple[int, int]]:
    """The fewest prefixes that the set consists of: value and length of each, in order."""
    found: list[tuple[int, int]] = []
    for first, last in intervals:
        while first <= last:
            # As many low bits as are zero in the first, and as the rest has room for.
            zeros = (first & -first).bit_length() - 1 if first else width
            bits = min(zeros, (last - first + 1).bit_length() - 1)
            found.append((first, width - bits))
            first += 1 << bits
    return found
