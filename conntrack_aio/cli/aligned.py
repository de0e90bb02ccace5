"""Print rows as aligned text, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from typing import Final

from .output import write_lines

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
    before :meth:`finish`. A longer cell of a later row moves the cells after it to the right.
    """

    def __init__(
        self,
        headings: Sequence[str],
        to_the_right: Sequence[bool],
        *,
        show_headings: bool = True,
        heading_style: str = "",
        room: int | None = None,
    ) -> None:
        """Start with the row of headings.

        :param headings: the headings.
        :param to_the_right: whether each column is aligned to the right, as numbers are.
        :param show_headings: whether to print the headings.
        :param heading_style: the style of the headings; see :meth:`add`.
        :param room: the width of the terminal. If the rows are wider, columns become narrower than
            a few of their cells, so that one long address does not widen all rows.
        """
        self._to_the_right = to_the_right
        self._least = list(map(len, headings)) if show_headings else [0] * len(headings)
        self._room = room
        self._widths: list[int] | None = None
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
        if self._widths is not None:
            self._write(styled)
            return
        self._first += styled
        if len(self._first) > _ALIGNED_ROWS:
            self.finish()

    def finish(self) -> None:
        """Print the rows that wait."""
        if self._widths is None:
            rows = zip(*[row for row, _ in self._first], strict=True)
            self._widths = self._widths_of([sorted(map(len, column)) for column in rows])
        self._write(self._first)
        self._first = []

    def _widths_of(self, lengths: Sequence[Sequence[int]]) -> list[int]:
        """Return the width of each column.

        :param lengths: the lengths of the cells of each column, in ascending order.
        """
        widths = [of_column[-1] for of_column in lengths]
        if self._room is None or sum(widths) + 2 * (len(widths) - 1) <= self._room:
            return widths
        most = [of_column[len(of_column) * 3 // 4] for of_column in lengths]
        return list(map(max, most, self._least))

    def _write(self, rows: Iterable[tuple[Sequence[str], Sequence[str] | None]]) -> None:
        assert self._widths is not None
        shape = list(zip(self._widths, self._to_the_right, strict=False))
        lines: list[str] = []
        for cells, styles in rows:
            aligned = [
                cell.rjust(width) if right else cell.ljust(width)
                for cell, (width, right) in zip(cells, shape, strict=True)
            ]
            aligned[-1] = aligned[-1].rstrip()
            if styles is not None:
                aligned = [
                    f"\x1b[{style}m{cell}\x1b[0m" if style else cell
                    for cell, style in zip(aligned, styles, strict=True)
                ]
            lines.append("  ".join(aligned).rstrip())
        if lines:
            write_lines("\n".join(chain(lines, [""])))
