"""``restore``: create the flows of a saved table."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from ..arguments import parse_file
from ..parsing import Commands
from ..running import run_async

if TYPE_CHECKING:
    from ..saved_tables import SavedTable

_EPILOG = """\
The whole file is read and checked before anything is created. A flow whose
entry exists already is left alone. Nothing is deleted.

exit status:
  0  every flow and expectation was created, existed already, or had expired
  1  the file is not valid, or something could not be restored completely"""


def add(commands: Commands) -> None:
    """Add the subcommand."""
    command = commands.add(
        "restore",
        _run,
        commands.netns,
        commands.json,
        help="create the flows of a saved table",
        description="Create the flows and expectations of a table that `save` wrote, with their "
        "translations, states, marks, labels, helpers, zones and timeouts. With --json, print a "
        "line about each flow that existed already or could not be restored, and a summary.",
        epilog=_EPILOG,
    )
    command.add_argument(
        "file",
        nargs="?",
        type=parse_file,
        default="-",
        metavar="FILE",
        help="the file to read; - or nothing for standard input",
    )
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="create nothing; print what would be created, and what exists already",
    )
    command.add_argument(
        "--update",
        action="store_true",
        help="give entries that exist already the timeout, state, mark and labels of their saved "
        "flows, instead of leaving them alone",
    )
    command.add_argument(
        "--subtract-elapsed",
        action="store_true",
        help="subtract the time since the table was saved from all timeouts, and leave out what "
        "has expired; by default, timeouts continue where they were",
    )


def _run(options: argparse.Namespace) -> int:
    from ..progress import shown_progress
    from ..saved_tables import opened

    with opened(options.file) as table:
        # Outside of the event loop, an interrupt ends the check at once.
        with shown_progress("lines checked", lambda: table.checked, None, quiet=options.quiet):
            table.check()
        return run_async(partial(_restore, options, table))


async def _restore(options: argparse.Namespace, table: SavedTable) -> int:
    import time

    from ...connecting import connect
    from ..output import resume_writes
    from ..progress import shown_progress
    from ..restore_report import RestoreReport
    from ..restoring import Restoration, RestoreOptions
    from ..terminal import is_terminal

    report = RestoreReport(json=options.json, quiet=options.quiet, dry_run=options.dry_run)
    elapsed = max(0, time.time_ns() - table.time) // 10**9 if options.subtract_elapsed else 0
    how = RestoreOptions(update=options.update, elapsed=elapsed)
    total = table.flows + len(table.expectations)
    prints = options.json or options.dry_run
    quiet = options.quiet or (prints and is_terminal())
    async with connect(netns=options.netns) as conn:
        restoration = Restoration(conn, report, how)
        try:
            with shown_progress("flows", lambda: report.done, total, quiet=quiet):
                await (restoration.dry_run(table) if options.dry_run else restoration.run(table))
        except BaseException:
            resume_writes()
            report.finish(stopped=True)
            raise
    return report.finish()
