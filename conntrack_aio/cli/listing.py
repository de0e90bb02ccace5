"""Print flows as ``list`` does: as lines of text or JSON, or as a table."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..connection import Connection
from ..model.flow import Flow
from .output import write_lines
from .render import renderer
from .selected_flows import list_progress, selected_flows
from .terminal import is_terminal

if TYPE_CHECKING:
    from .flow_columns import FlowColumn


async def print_flows(conn: Connection, options: argparse.Namespace) -> set[str]:
    """Print the flows that the options select, in the form that they and the terminal ask for.

    :returns: the settings that may hide values that the options ask for, for
        :func:`.hints.report_for_list`.
    """
    if options.columns or (is_terminal() and not options.json):
        from .flow_tables import print_table  # the columns take long to import

        return await print_table(conn, options)
    if options.sort:
        return await _print_sorted_lines(conn, options)
    await _print_lines(conn, options)
    return set()


async def _print_lines(conn: Connection, options: argparse.Namespace) -> None:
    """Print a line for each flow: its text, or its JSON."""
    render = renderer(json=options.json, numeric=options.numeric)
    left: int | None = options.limit
    async with selected_flows(conn, options) as dump:
        async for flows in dump.batches():
            some = flows if left is None else flows[:left]
            write_lines(render(some))
            if left is not None:
                left -= len(some)
                if not left:
                    return


async def _print_sorted_lines(conn: Connection, options: argparse.Namespace) -> set[str]:
    from .flow_columns import value_reader
    from .hidden_values import HiddenValues
    from .sorting import SortedRows, SortKey

    render = renderer(json=options.json, numeric=options.numeric)
    by: list[tuple[FlowColumn, bool]] = options.sort
    readers = [value_reader(column) for column, _ in by]
    rows = SortedRows[Flow](
        [SortKey(column.key, descending) for column, descending in by], limit=options.limit
    )
    hidden = HiddenValues([column for column, _ in by])
    with await list_progress(conn, options):
        async for flows in selected_flows(conn, options).batches():
            values = [[read(flow) for read in readers] for flow in flows]
            hidden.look_at(values)
            rows.add(zip(values, flows, strict=True))
    result = rows.result()
    for start in range(0, len(result), 1000):
        write_lines(render(result[start : start + 1000]))
    return hidden.settings()
