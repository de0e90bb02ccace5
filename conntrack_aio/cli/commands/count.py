"""``count``: print the number of flows."""

from __future__ import annotations

import argparse
from functools import partial

from ..parsing import Commands
from ..running import run_async, run_requests


def add(commands: Commands) -> None:
    """Add the subcommand."""
    commands.add_matching(
        "count",
        _run,
        commands.json,
        help="print the number of flows",
        description="Print the number of flows in the kernel's table.",
    )


def _run(options: argparse.Namespace) -> None:
    run = run_requests if options.match is None else run_async
    run(partial(_count, options))


async def _count(options: argparse.Namespace) -> None:
    from ...connecting import connect
    from ..output import flush_output, write_line
    from ..progress import dump_progress

    async with connect(netns=options.netns) as conn:
        if options.match is None:
            count = await conn.count()
        else:
            with await dump_progress(conn, options.match, quiet=options.quiet):
                count = await conn.count(options.match)
        write_line(f'{{"count": {count}}}' if options.json else count)
        if not count and not options.quiet:
            flush_output()
            from ..hints import report_for_count

            await report_for_count(conn)
        if options.match is not None and not options.quiet:
            flush_output()
            from ..hidden_conditions import report_hidden_conditions

            await report_hidden_conditions(conn, options)
