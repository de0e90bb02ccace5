"""Sets of numbers, as the ranges that they consist of: sorted, and none touching the next."""

from __future__ import annotations

from collections.abc import Iterable

Intervals = tuple[tuple[int, int], ...]
"""First and last of each range."""


def normalize(ranges: Iterable[tuple[int, int]]) -> Intervals:
    """Any ranges, as such a set."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return tuple(found)


def intersection(one: Intervals, other: Intervals) -> Intervals:
    """What is in both."""
    found: list[tuple[int, int]] = []
    i = j = 0
    while i < len(one) and j < len(other):
        first = max(one[i][0], other[j][0])
        last = min(one[i][1], other[j][1])
        if first <= last:
            found.append((first, last))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
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
