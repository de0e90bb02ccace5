"""Test that a few sorted rows are the first of all sorted rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from conntrack_aio.cli.sorting import SortedRows, SortKey

VALUES = st.lists(st.tuples(st.none() | st.integers(0, 9), st.none() | st.text("ab")), max_size=40)


@given(VALUES, st.booleans(), st.booleans(), st.none() | st.integers(1, 50), st.integers(1, 1000))
def test_rows_are_sorted(
    values: list[tuple[int | None, str | None]],
    first: bool,
    second: bool,
    limit: int | None,
    times: int,
) -> None:
    values *= min(times, 1 + 20_000 // (len(values) + 1))  # more than are kept without sorting
    keys = [SortKey(lambda value: value, descending) for descending in (first, second)]
    rows = SortedRows[int](keys, limit=limit)
    pairs = [(value, place) for place, value in enumerate(values)]
    for start in range(0, len(pairs), 1000):
        rows.add(pairs[start : start + 1000])
    # The sort is stable, so the less important value comes first.
    for at, descending in ((1, second), (0, first)):
        absent = [pair for pair in pairs if pair[0][at] is None]
        present = [pair for pair in pairs if pair[0][at] is not None]
        present.sort(key=lambda pair: pair[0][at], reverse=descending)
        pairs = present + absent
    assert rows.result() == [place for _, place in pairs][:limit]
