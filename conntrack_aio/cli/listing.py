"""Print flows as ``list`` does: as lines of text or JSON, or as a table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..connection import Connection
from ..model.flow import Flow
from ..model.lazy_fields import is_absent
from .output import write_lines
from .render import renderer
from .terminal import is_terminal


async def print_flows(conn: Connection, options: argparse.Namespace) -> set[str]:
    """Print the flows that the options select, in the form that they and the terminal ask for.

    :returns: the settings that may hide something of these flows, for
        :func:`.hints.report_for_list`.
    """
    if options.columns or (is_terminal() and not options.json):
        from .flow_tables import print_table  # the columns take long to import

        return await print_table(conn, options)
    found = _Hiding()
    if options.sort is None:
        await _print_lines(conn, options, found)
    else:
        await _print_sorted_lines(conn, options, found)
    return found.settings


async def _print_lines(conn: Connection, options: argparse.Namespace, found: _Hiding) -> None:
    """Print a line for each flow: its text, or its JSON."""
    render = renderer(json=options.json)
    left: int | None = options.limit
    async with conn.dump(options.match) as dump:
        async for flows in dump.batches():
            some = flows if left is None else flows[:left]
            write_lines(render(some))
            found.look_at(some)
            if left is not None:
                left -= len(some)
                if not left:
                    return


async def _print_sorted_lines(
    conn: Connection, options: argparse.Namespace, found: _Hiding
) -> None:
    from .flow_columns import FlowColumn, value_reader
    from .progress import dump_progress
    from .sorting import SortedRows

    render = renderer(json=options.json)
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


class _Hiding:
    """The settings that may hide something of the flows listed."""

    def __init__(self) -> None:
        self.settings: set[str] = set()

    def look_at(self, flows: Sequence[Flow]) -> None:
        if flows:
            self.settings.add("events")
        if "acct" not in self.settings and any(is_absent(f, "counters_orig") for f in flows):
            self.settings.add("acct")
