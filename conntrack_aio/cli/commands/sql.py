"""``sql``: run an SQL query on the flows in the kernel's table."""

from __future__ import annotations

import argparse
from typing import Final

from ..parsing import Commands

_EPILOG: Final = """\
Columns are named like fields with underscores: orig_src, orig_dport, reply_dst,
protocol, state, mark, orig_bytes, reply_bytes, bytes, packets, start, labels.
`describe flows` as the QUERY lists all of them with their types. An example:

  select orig_src, sum(bytes) from flows group by 1 order by 2 desc limit 10

Values are printed as DuckDB converts them to text, a missing one as NULL, and
control characters as escapes such as \\x1b. With --json, numbers, lists and
structures are those of JSON; NaN and infinities are null. Of columns with the
same name, the others are renamed: bytes, bytes_1, bytes_2."""


def add(commands: Commands) -> None:
    """Add the subcommand."""
    command = commands.add(
        "sql",
        _run,
        commands.netns,
        commands.json,
        help="run an SQL query on the flows in the kernel's table",
        description="Dump the kernel's table, run an SQL query of DuckDB on the table `flows`, and "
        "print its result. Only the columns that the query uses are read. Queries can read no file "
        "and load no extension. Needs DuckDB: pip install duckdb nanoarrow.",
        epilog=_EPILOG,
    )
    command.add_argument(
        "query",
        metavar="QUERY",
        help="one statement: SELECT, also as FROM, WITH or VALUES; DESCRIBE, SUMMARIZE or SHOW",
    )
    command.add_argument(
        "--match",
        type=lambda text: [text],
        default=[],
        metavar="MATCH",
        help="query only the flows that match, such as: 'proto tcp and orig.dst in 10.0.0.0/8'",
    )
    command.parses_match = True
    command.match_name = "--match"


def _run(options: argparse.Namespace) -> None:
    from ..sql_queries import run_sql

    run_sql(options)
