"""Test which columns a table has at a terminal, and how long its lines are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conntrack_aio.cli.column_widths import (
    Fitting,
    RowFitting,
    Shrinking,
    widths_that_fit,
)

ADDRESS = Shrinking(5, cuts=False)
TEXT = Shrinking(3, cuts=True)
SHRINKING = [None, ADDRESS, TEXT, None]
OPTIONAL = [2, 3]
RIGHT = [False, False, False, True]


@pytest.mark.parametrize(
    ("room", "widths"),
    [
        (100, [3, 9, 8, 4]),
        (30, [3, 9, 8, 4]),
        (29, [3, 8, 8, 4]),  # the long address of few rows
        (26, [3, 5, 8, 4]),
        (25, [3, 5, 7, 4]),
        (21, [3, 5, 3, 4]),
        (20, [3, 5, 8, None]),
        (15, [3, 5, 3, None]),
        (14, [3, 9, None, None]),
        (10, [3, 5, None, None]),
        (1, [3, 5, None, None]),
    ],
)
def test_the_least_important_column_is_left_out_first(room: int, widths: list[int | None]) -> None:
    lengths = [[3, 3, 3, 3, 3], [4, 4, 4, 5, 9], [3, 4, 5, 6, 8], [1, 2, 3, 4, 4]]
    assert widths_that_fit(lengths, Fitting(room, SHRINKING, OPTIONAL)) == widths


def test_a_column_without_values_is_left_out_before_others() -> None:
    lengths = [[3, 3], [4, 4], [1, 4], [4, 4]]
    assert widths_that_fit(lengths, Fitting(16, SHRINKING, OPTIONAL)) == [3, 4, None, 4]


def test_long_addresses_of_most_rows_determine_the_width() -> None:
    lengths = [[3] * 4, [4, 9, 9, 9], [3, 4, 5, 8], [4] * 4]
    assert widths_that_fit(lengths, Fitting(25, SHRINKING, OPTIONAL)) == [3, 9, 3, 4]


ROWS = st.lists(
    st.tuples(
        st.text("a", min_size=1, max_size=3),
        st.text("b", min_size=1, max_size=20),
        st.text("c", min_size=1, max_size=20),
        st.text("d", min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=20,
)


@given(ROWS, ROWS, st.integers(12, 80))
def test_lines_are_too_long_only_if_the_required_cells_are(
    first: list[tuple[str, ...]], later: list[tuple[str, ...]], room: int
) -> None:
    fitting = Fitting(room, SHRINKING, OPTIONAL)
    widths = widths_that_fit([sorted(map(len, column)) for column in zip(*first)], fitting)  # noqa: B905
    rows = RowFitting(widths, RIGHT, fitting)
    for row in [*first, *later]:
        cells = [cell for cell in rows.cells(row) if cell is not None]
        line = "  ".join(cells).rstrip()
        assert row[1] in line
        assert len(line) <= max(room, len(row[0]) + 2 + len(row[1]))
