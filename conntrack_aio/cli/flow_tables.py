"""Print columns of flows, as ``list`` does: as a table, or as objects of JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from shutil import get_terminal_size
from typing import Final

from ..connection import Connection
from .aligned import AlignedRows
from .column_values import Value
from .flow_columns import (
    DEFAULT_COLUMNS,
    FlowColumn,
    FlowTexts,
    json_row,
    needed_fields,
    rows_of_batch,
)
from .output import write_lines
from .progress import dump_progress
from .sorting import SortedRows
from .terminal import is_terminal, shows_colors

_BOLD: Final = "1"
_COUNTERS: Final = ("orig_packets", "orig_bytes", "reply_packets", "reply_bytes")

Row = tuple[Value, ...]


async def print_table(conn: Connection, options: argparse.Namespace) -> set[str]:
    """Print the columns that the options ask for.

    :returns: the settings that may hide something of these flows.
    """
    columns: Sequence[FlowColumn] = options.columns or DEFAULT_COLUMNS
    hiding: set[str] = set()
    write = _json_writer(columns) if options.json else _table_writer(columns, options)
    async for rows in _rows(conn, options, columns):
        hiding.add("events")
        write(rows)
        if "acct" not in hiding and _lack_counters(columns, rows):
            hiding.add("acct")
    write(None)
    return hiding


Write = Callable[[Sequence[Row] | None], None]
"""Writes rows; ``None`` after the last ones."""


def _json_writer(columns: Sequence[FlowColumn]) -> Write:
    def write(rows: Iterable[Row] | None) -> None:
        lines = [json.dumps(json_row(columns, row)) for row in rows or ()]
        write_lines("\n".join([*lines, ""]))

    return write


def _table_writer(columns: Sequence[FlowColumn], options: argparse.Namespace) -> Write:
    at_terminal, colors = is_terminal(), shows_colors()
    texts = FlowTexts(columns, short=at_terminal and not options.numeric, colors=colors)
    table = AlignedRows(
        [column.name for column in columns],
        [column.to_the_right for column in columns],
        show_headings=not options.no_header,
        heading_style=_BOLD if colors else "",
        room=get_terminal_size().columns if at_terminal else None,
    )

    def write(rows: Sequence[Row] | None) -> None:
        if rows is None:
            table.finish()
        else:
            table.add(map(texts.cells, rows), map(texts.styles, rows) if colors else None)

    return write


async def _rows(
    conn: Connection, options: argparse.Namespace, columns: Sequence[FlowColumn]
) -> AsyncIterator[Sequence[Row]]:
    """Yield the rows of the table in the order and number that the options ask for."""
    by: FlowColumn | None = options.sort
    left: int | None = options.limit
    wanted = columns if by is None or by in columns else (*columns, by)
    dump = conn.dump(options.match).columns(*needed_fields(wanted), addresses="text")
    async with dump as batches:
        if by is None:
            async for batch in batches:
                rows = list(rows_of_batch(columns, batch))[:left]
                yield rows
                if left is not None:
                    left -= len(rows)
                    if not left:
                        return
            return
        at = list(wanted).index(by)
        sorter = SortedRows[Row](by.key, reverse=options.reverse, limit=left)
        with await dump_progress(conn, options.match, quiet=options.quiet):
            async for batch in batches:
                rows = list(rows_of_batch(wanted, batch))
                sorter.add([(row[at], row[: len(columns)]) for row in rows])
    result = sorter.result()
    for start in range(0, len(result), 1000):
        yield result[start : start + 1000]


def _lack_counters(columns: Sequence[FlowColumn], rows: Sequence[Row]) -> bool:
    """Return whether a flow has no value in a column of counters."""
    places = [n for n, column in enumerate(columns) if set(column.needs) <= set(_COUNTERS)]
    return any(row[place] is None for place in places for row in rows)
