"""Print flows as ``list`` does: as lines, as objects of JSON, or as a table."""

from __future__ import annotations

import argparse
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from shutil import get_terminal_size

from ..connection import Connection
from ..model.flow import Flow
from ..model.lazy_fields import is_absent
from .aligned import AlignedRows
from .flow_columns import (
    DEFAULT_COLUMNS,
    FlowColumn,
    FlowTexts,
    Value,
    json_row,
    needed_fields,
    rows_of_batch,
    value_reader,
)
from .output import write_lines
from .progress import dump_progress
from .render import renderer
from .sorting import SortedRows
from .terminal import is_terminal, shows_colors

_BOLD = "1"
_COUNTERS = ("orig_packets", "orig_bytes", "reply_packets", "reply_bytes")

Row = tuple[Value, ...]


async def print_flows(conn: Connection, options: argparse.Namespace) -> set[str]:
    """Print the flows that the options select, in the form that they and the terminal ask for.

    :returns: the settings that may hide something of these flows, for
        :func:`.hints.report_for_list`.
    """
    columns: Sequence[FlowColumn] = options.columns
    if not columns and not options.json and is_terminal():
        columns = DEFAULT_COLUMNS
    if columns:
        return await _print_columns(conn, options, columns)
    return await _print_lines(conn, options)


# Lines


async def _print_lines(conn: Connection, options: argparse.Namespace) -> set[str]:
    """Print a line for each flow: its text, or its JSON."""
    render = renderer(json=options.json)
    found = _Hiding()
    if options.sort is None:
        left: int | None = options.limit
        async with conn.dump(options.match) as dump:
            async for flows in dump.batches():
                some = flows[:left]
                write_lines(render(some))
                found.look_at(some)
                if left is not None:
                    left -= len(some)
                    if not left:
                        break
        return found.settings
    column: FlowColumn = options.sort
    read = value_reader(column)
    rows = SortedRows[Flow](column.key, reverse=options.reverse, limit=options.limit)
    with await dump_progress(conn, options.match, quiet=options.quiet):
        async for flows in conn.dump(options.match).batches():
            rows.add([(read(flow), flow) for flow in flows])
    result = rows.result()
    for start in range(0, len(result), 1000):
        write_lines(render(result[start : start + 1000]))
    found.look_at(result)
    return found.settings


class _Hiding:
    """The settings that may hide something of the flows listed."""

    def __init__(self) -> None:
        self.settings: set[str] = set()

    def look_at(self, flows: Sequence[Flow]) -> None:
        if flows:
            self.settings.add("events")
        if "acct" not in self.settings and any(is_absent(f, "counters_orig") for f in flows):
            self.settings.add("acct")


# Columns


async def _print_columns(
    conn: Connection, options: argparse.Namespace, columns: Sequence[FlowColumn]
) -> set[str]:
    """Print columns of the flows: as a table, or as objects of JSON."""
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
