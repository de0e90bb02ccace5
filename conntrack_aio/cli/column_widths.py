"""Choose the columns and widths with which a table fits a terminal, so that no line wraps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

GAP: Final = 2
"""The spaces between two columns."""

_MOST: Final = 0.75
"""The part of its cells for which an address column is wide enough, if there is room."""


class Shrinking(NamedTuple):
    """How a column becomes narrower than its longest cell where there is no room."""

    least: int
    """The least width."""
    cuts: bool
    """Whether longer cells are cut. Otherwise they move the cells after them to the right."""


class Fitting(NamedTuple):
    """How a table is made to fit."""

    room: int
    """The width of the terminal."""
    shrinking: Sequence[Shrinking | None]
    """How each column becomes narrower; ``None`` if it does not."""
    optional: Sequence[int] = ()
    """The places of the columns that may be left out, in descending order of importance."""


def widths_that_fit(lengths: Sequence[Sequence[int]], fitting: Fitting) -> list[int | None]:
    """Return the width of each column; ``None`` for a column that is left out.

    If everything fits, every column is as wide as its longest cell.

    :param lengths: the lengths of the cells of each column in ascending order, with the heading.
    :param fitting: how to make the table fit.
    """
    longest = [of_column[-1] for of_column in lengths]
    left = fitting.room - sum(longest) - GAP * (len(longest) - 1)
    if left >= 0:
        return [*longest]
    widths: list[int | None] = [None] * len(longest)
    left = fitting.room + GAP
    for place, narrow in enumerate(fitting.shrinking):
        if place not in fitting.optional:
            widths[place] = width = _least(longest[place], narrow)
            left -= width + GAP
    left -= _widen_for_most(lengths, widths, left, fitting)
    # Columns without values, whose cells are all `-`, come last: their only long cell is the
    # heading.
    for place in sorted(fitting.optional, key=lambda place: lengths[place][-2:][0] <= 1):
        width = _least(longest[place], fitting.shrinking[place])
        if width + GAP <= left:
            widths[place] = width
            left -= width + GAP
    for place in (*fitting.optional, *range(len(longest))):
        width = widths[place]
        if width is not None and left > 0:
            more = min(left, longest[place] - width)
            widths[place] = width + more
            left -= more
    return widths


def _least(longest: int, narrow: Shrinking | None) -> int:
    return longest if narrow is None else min(longest, narrow.least)


def _widen_for_most(
    lengths: Sequence[Sequence[int]], widths: list[int | None], left: int, fitting: Fitting
) -> int:
    """Widen the columns that are not cut for most of their cells, and return by how much.

    They are not widened where even that takes more room than there is: it would only move the
    cells of the shorter rows apart.
    """
    wanted: dict[int, int] = {}
    for place, narrow in enumerate(fitting.shrinking):
        width = widths[place]
        if width is not None and narrow is not None and not narrow.cuts:
            of_column = lengths[place]
            wanted[place] = max(width, of_column[int((len(of_column) - 1) * _MOST)])
    more = sum(width - (widths[place] or 0) for place, width in wanted.items())
    if more > left:
        return 0
    for place, width in wanted.items():
        widths[place] = width
    return more


class RowFitting:
    """Makes the rows of a table as long as the terminal permits."""

    def __init__(
        self, widths: Sequence[int | None], to_the_right: Sequence[bool], fitting: Fitting
    ) -> None:
        """Use widths for all rows.

        :param widths: what :func:`widths_that_fit` returned.
        :param to_the_right: whether each column is aligned to the right.
        :param fitting: how the table was made to fit.
        """
        self._columns = [
            (width, narrow is not None and narrow.cuts, right)
            for width, narrow, right in zip(widths, fitting.shrinking, to_the_right, strict=True)
        ]
        self._last = max(place for place, width in enumerate(widths) if width is not None)
        self._optional = fitting.optional
        self._room = fitting.room

    def cells(self, row: Sequence[str]) -> list[str | None]:
        """Return the cells of a row as they are printed, with :data:`GAP` spaces between them.

        :returns: for each column the cell; ``None`` if it is left out.
        """
        shown: list[str | None] = []
        moved = 0  # by how much a longer cell has moved the next one to the right
        for cell, (width, cuts, right) in zip(row, self._columns, strict=True):
            if width is None:
                shown.append(None)
                continue
            text = cell if len(cell) <= width or not cuts else f"{cell[: width - 1]}…"
            wanted = max(len(text), width - moved)
            moved += wanted - width
            shown.append(text.rjust(wanted) if right else text.ljust(wanted))
        if moved:
            self._shorten(shown)
        else:
            shown[self._last] = (shown[self._last] or "").rstrip()
        return shown

    def _shorten(self, shown: list[str | None]) -> None:
        """Shorten a row whose cells were moved to the right, if it is too long: at its end."""
        for place in range(len(shown) - 1, -1, -1):
            cell = shown[place]
            if cell is None:
                continue
            shown[place] = cell = cell.rstrip()
            excess = _length(shown) - self._room
            if excess <= 0:
                return
            if place not in self._optional:
                break
            available = len(cell) - excess
            if available > 0:
                cuts = self._columns[place][1]
                shown[place] = f"{cell[: available - 1]}…" if cuts else "…"
                return
            shown[place] = None
        for place, cell in enumerate(shown):
            shown[place] = None if cell is None else cell.strip()


def _length(shown: Sequence[str | None]) -> int:
    lengths = [len(cell) for cell in shown if cell is not None]
    return sum(lengths) + GAP * (len(lengths) - 1)
