"""``save``: write the kernel's table to a file."""

from __future__ import annotations

import argparse
from functools import partial

from ..arguments import parse_file
from ..parsing import Commands
from ..running import run_async


def add(commands: Commands) -> None:
    """Add the subcommand."""
    command = commands.add_matching(
        "save",
        _run,
        commands.json,
        help="save the kernel's table, for restore",
        description="Write the flows in the kernel's table, and the expectations of these flows, "
        "as JSON Lines from which `restore` creates them again.",
    )
    command.add_argument(
        "--output",
        type=parse_file,
        default="-",
        metavar="FILE",
        help="write to a file instead of standard output; a file of that name is replaced once the "
        "new one is complete. With --json, also print the numbers of flows and expectations",
    )


def _run(options: argparse.Namespace) -> None:
    run_async(partial(_save, options))


async def _save(options: argparse.Namespace) -> None:
    from ...connecting import connect
    from ..hints import report_for_count
    from ..output import flush_output, report, write_line, write_lines
    from ..progress import dump_progress
    from ..restore_report import count_items
    from ..saving import save_table
    from ..terminal import is_terminal
    from ..whole_files import written_whole

    to_output = options.output == "-"
    quiet = options.quiet or (to_output and is_terminal())
    async with connect(netns=options.netns) as conn:
        if to_output:
            with await dump_progress(conn, options.match, quiet=quiet):
                flows, expectations = await save_table(conn, options.match, write_lines)
            flush_output()
        else:
            with (
                written_whole(options.output) as file,
                await dump_progress(conn, options.match, quiet=quiet),
            ):
                flows, expectations = await save_table(
                    conn, options.match, lambda lines: file.write(lines.encode())
                )
            if options.json:
                write_line(f'{{"flows": {flows}, "expectations": {expectations}}}')
        if not options.quiet:
            report(f"saved {count_items(flows, expectations)}")
            if not flows:
                await report_for_count(conn)
