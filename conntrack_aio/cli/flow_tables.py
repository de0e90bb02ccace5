"""Print columns of flows, as ``list`` does: as a table, or as objects of JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import AsyncIterator, Sequence
from shutil import get_terminal_size
from typing import Final

from ..connection import Connection
from .aligned import AlignedRows
from .column_values import Value
from .column_widths import Fitting
from .flow_columns import (
    DEFAULT_COLUMNS,
    OPTIONAL_COLUMNS,
    FlowColumn,
    FlowTexts,
    json_row,
    needed_fields,
    rows_of_batch,
)
from .hidden_values import HiddenValues
from .output import write_lines
from .selected_flows import list_progress, selected_flows
from .sorting import SortedRows, SortKey
from .terminal import is_terminal, shows_colors

_BOLD: Final = "1"

Row = tuple[Value, ...]


async def print_table(conn: Connection, options: argparse.Namespace) -> set[str]:
    """Print the columns that the options ask for.

    :returns: the settings that may hide values of these columns.
    """
    columns: Sequence[FlowColumn] = options.columns or DEFAULT_COLUMNS
    sorted_by = [column for column, _ in options.sort if column not in columns]
    hidden = HiddenValues([*columns, *sorted_by])
    rows = _rows(conn, options, (*columns, *sorted_by), len(columns), hidden)
    if options.json:
        async for some in rows:
            lines = [json.dumps(json_row(columns, row)) for row in some]
            write_lines("\n".join([*lines, ""]))
        return hidden.settings()
    at_terminal, colors = is_terminal(), shows_colors()
    numeric: bool = options.numeric
    texts = FlowTexts(columns, short=at_terminal and not numeric, colors=colors, numeric=numeric)
    table = AlignedRows(
        [column.name for column in columns],
        [column.to_the_right for column in columns],
        show_headings=not options.no_header,
        heading_style=_BOLD if colors else "",
        fitting=_fitting_of(columns, options) if at_terminal else None,
    )
    async for some in rows:
        table.add(map(texts.cells, some), map(texts.styles, some) if colors else None)
    table.finish()
    return hidden.settings(table.left_out)


def _fitting_of(columns: Sequence[FlowColumn], options: argparse.Namespace) -> Fitting:
    """Return how to make columns fit the terminal. Columns that were asked for are not left out."""
    optional: list[int] = []
    if not options.columns:
        asked_for = [column.name for column, _ in options.sort]
        if options.reset_counters:
            asked_for.append("bytes")  # they are shown only now
        names = [column.name for column in columns]
        optional = [names.index(name) for name in OPTIONAL_COLUMNS if name not in asked_for]
    shrinking = [column.shrinking for column in columns]
    return Fitting(get_terminal_size().columns, shrinking, optional)


async def _rows(
    conn: Connection,
    options: argparse.Namespace,
    wanted: Sequence[FlowColumn],
    printed: int,
    hidden: HiddenValues,
) -> AsyncIterator[Sequence[Row]]:
    """Yield the rows of the table in the order and number that the options ask for.

    :param conn: the connection.
    :param options: the options.
    :param wanted: the columns to print, and then those that are only sorted by.
    :param printed: the number of columns to print.
    :param hidden: is shown the values of all these columns.
    """
    by: list[tuple[FlowColumn, bool]] = options.sort
    left: int | None = options.limit
    dump = selected_flows(conn, options).columns(*needed_fields(wanted), addresses="text")
    async with dump as batches:
        if not by:
            async for batch in batches:
                rows = list(rows_of_batch(wanted, batch))[:left]
                hidden.look_at(rows)
                yield rows
                if left is not None:
                    left -= len(rows)
                    if not left:
                        return
            return
        places = [list(wanted).index(column) for column, _ in by]
        keys = [SortKey(column.key, descending) for column, descending in by]
        sorter = SortedRows[Row](keys, limit=left)
        with await list_progress(conn, options):
            async for batch in batches:
                rows = list(rows_of_batch(wanted, batch))
                hidden.look_at(rows)
                sorter.add([([row[place] for place in places], row[:printed]) for row in rows])
    result = sorter.result()
    for start in range(0, len(result), 1000):
        yield result[start : start + 1000]
