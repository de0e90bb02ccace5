"""``flush``: delete every flow."""

from __future__ import annotations

import argparse
from functools import partial

from ..parsing import Commands
from ..running import run_async


def add(commands: Commands) -> None:
    """Add the subcommand."""
    command = commands.add(
        "flush",
        _run,
        commands.netns,
        commands.json,
        commands.quiet,
        commands.changes,
        help="delete every flow",
        description="Delete every flow of the network namespace, and report how many there were. "
        "At a terminal, ask first. `delete MATCH` deletes some flows.",
    )
    command.add_argument("--all", action="store_true", help="required: delete every flow")


def _run(options: argparse.Namespace) -> None:
    if not options.all:
        options.parser.error(
            "--all is required, for this deletes every flow; `delete MATCH` deletes some"
        )
    run_async(partial(_flush, options))


async def _flush(options: argparse.Namespace) -> None:
    from ...connecting import connect
    from ..bulk_changes import count_of, print_matching
    from ..confirmation import confirm, is_person_asked
    from ..output import report

    async with connect(netns=options.netns) as conn:
        if options.dry_run:
            await print_matching(conn, None, options, "deleted")
            return
        count = count_of(await conn.count())
        if is_person_asked(options):
            confirm(f"delete every flow ({count})", "nothing was deleted")
        await conn.flush()
    if not options.quiet:
        report(f"{count} deleted")
