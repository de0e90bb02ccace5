"""Test that a few sorted rows are the first of all sorted rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from conntrack_aio.cli.sorting import SortedRows

VALUES = st.lists(st.none() | st.integers(0, 9), max_size=40)


@given(VALUES, st.booleans(), st.none() | st.integers(1, 50), st.integers(1, 1000))
def test_rows_are_sorted(
    values: list[int | None], reverse: bool, limit: int | None, times: int
) -> None:
    values *= min(times, 1 + 20_000 // (len(values) + 1))  # more than are kept without sorting
    rows = SortedRows[int](lambda value: value, reverse=reverse, limit=limit)
    pairs = [(value, place) for place, value in enumerate(values)]
    for start in range(0, len(pairs), 1000):
        rows.add(pairs[start : start + 1000])
    present = [pair for pair in pairs if pair[0] is not None]
    present.sort(key=lambda pair: pair[0] or 0, reverse=reverse)
    absent = [pair for pair in pairs if pair[0] is None]
    assert rows.result() == [place for _, place in present + absent][:limit]
