"""Sets of numbers, represented as ranges."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from conntrack_aio.filters.intervals import Intervals, intersection, normalize, prefixes, single

WIDTH = 6
ENDS = st.integers(0, (1 << WIDTH) - 1)
RANGES = st.lists(st.tuples(ENDS, ENDS).map(lambda ends: (min(ends), max(ends))), max_size=8)


def members(intervals: Intervals | list[tuple[int, int]]) -> set[int]:
    return {number for first, last in intervals for number in range(first, last + 1)}


@given(RANGES)
def test_ranges_are_joined_if_they_overlap_or_adjoin(ranges: list[tuple[int, int]]) -> None:
    found = normalize(ranges)
    assert members(found) == members(ranges)
    assert all(one[1] + 1 < other[0] for one, other in pairwise(found))


@given(RANGES, RANGES)
def test_the_intersection_has_the_common_numbers(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    found = intersection(normalize(one), normalize(other))
    assert members(found) == members(one) & members(other)
    assert found == normalize(found)


@given(RANGES)
def test_single_returns_the_only_number(ranges: list[tuple[int, int]]) -> None:
    numbers = members(ranges)
    assert single(normalize(ranges)) == (numbers.pop() if len(numbers) == 1 else None)


@given(RANGES)
def test_a_set_is_split_into_the_fewest_prefixes(ranges: list[tuple[int, int]]) -> None:
    intervals = normalize(ranges)
    found = prefixes(intervals, WIDTH)
    sizes = [1 << WIDTH - length for _, length in found]
    nets = {(value, value + size - 1) for (value, _), size in zip(found, sizes, strict=True)}
    assert sum(sizes) == len(members(intervals))
    assert members([*nets]) == members(intervals)
    assert all(value % size == 0 for (value, _), size in zip(found, sizes, strict=True))
    # Two prefixes that are the halves of a larger one would be returned as that one.
    assert not any(
        (value ^ size, value ^ size | size - 1) in nets
        for (value, _), size in zip(found, sizes, strict=True)
        if size < 1 << WIDTH
    )
