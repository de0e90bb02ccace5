"""Print rows as aligned text, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from typing import Final

from .column_widths import GAP, Fitting, RowFitting, widths_that_fit
from .output import write_lines

_GAP: Final = " " * GAP
_ALIGNED_ROWS: Final = 1000
"""Rows that determine the widths of the columns."""


def printable(text: str) -> str:
    """Return a text as a terminal can show it on one line. Control characters are escaped."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


class AlignedRows:
    """Rows of text that are printed in columns.

    The first rows determine the widths: nothing is printed before there are enough of them, or
    before :meth:`finish`. A longer cell moves the cells after it to the right, as far as they are
    not short enough themselves.
    """

    def __init__(
        self,
        headings: Sequence[str],
        to_the_right: Sequence[bool],
        *,
        show_headings: bool = True,
        heading_style: str = "",
        fitting: Fitting | None = None,
    ) -> None:
        """Start with the row of headings.

        :param headings: the headings.
        :param to_the_right: whether each column is aligned to the right, as numbers are.
        :param show_headings: whether to print the headings.
        :param heading_style: the style of the headings; see :meth:`add`.
        :param fitting: how lines become as short as the terminal, instead of as long as the rows.
        """
        self._to_the_right = to_the_right
        self._fitting = fitting
        self._is_ready = False
        """Whether the widths are known, so that rows can be printed."""
        self._widths: list[int] = []
        self._row_fitting: RowFitting | None = None
        """Has the widths instead, if the lines must be as short as the terminal."""
        self.left_out: set[int] = set()
        """The places of the columns that are not printed because there is no room."""
        self._first: list[tuple[Sequence[str], Sequence[str] | None]] = []
        if show_headings:
            self._first.append((headings, [heading_style] * len(headings)))

    def add(
        self, rows: Iterable[Sequence[str]], styles: Iterable[Sequence[str]] | None = None
    ) -> None:
        """Add rows, and print as many as can be printed.

        :param rows: the cells of each row.
        :param styles: the style of each cell: the parameters of the escape sequence SGR, such as
            ``"32"``; an empty text for none.
        """
        styled = zip(rows, repeat(None) if styles is None else styles, strict=False)
        if self._is_ready:
            self._write(styled)
            return
        self._first += styled
        if len(self._first) > _ALIGNED_ROWS:
            self.finish()

    def finish(self) -> None:
        """Print the rows that wait."""
        if not self._is_ready:
            rows = zip(*[row for row, _ in self._first], strict=True)
            lengths = [sorted(map(len, column)) for column in rows]
            if self._fitting is None or not lengths:
                self._widths = [of_column[-1] for of_column in lengths]
            else:
                widths = widths_that_fit(lengths, self._fitting)
                self._row_fitting = RowFitting(widths, self._to_the_right, self._fitting)
                self.left_out = {place for place, width in enumerate(widths) if width is None}
            self._is_ready = True
        self._write(self._first)
        self._first = []

    def _aligned(self, row: Sequence[str]) -> list[str | None]:
        """Return the cells of a row with their padding; ``None`` for those that are left out."""
        if self._row_fitting is not None:
            return self._row_fitting.cells(row)
        aligned = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, self._widths, self._to_the_right, strict=True)
        ]
        return [*aligned[:-1], aligned[-1].rstrip()]

    def _write(self, rows: Iterable[tuple[Sequence[str], Sequence[str] | None]]) -> None:
        lines: list[str] = []
        for cells, styles in rows:
            aligned = self._aligned(cells)
            if styles is not None:
                aligned = [
                    f"\x1b[{style}m{cell}\x1b[0m" if style and cell else cell
                    for cell, style in zip(aligned, styles, strict=True)
                ]
            lines.append(_GAP.join([cell for cell in aligned if cell is not None]).rstrip())
        if lines:
            write_lines("\n".join(chain(lines, [""])))
