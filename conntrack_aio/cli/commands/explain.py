"""``explain``: show where a match is evaluated."""

from __future__ import annotations

import argparse
from functools import partial

from ..parsing import Commands
from ..running import run_requests


def add(commands: Commands) -> None:
    """Add the subcommand."""
    command = commands.add_matching(
        "explain",
        _run,
        help="show where a match is evaluated",
        description="Show which part of a match this kernel applies to dumps, events and deletes, "
        "and which part the library checks afterwards.",
    )
    command.add_argument(
        "--program",
        action="store_true",
        help="also print the BPF program that filters events in the kernel",
    )


def _run(options: argparse.Namespace) -> None:
    run_requests(partial(_explain, options))


async def _explain(options: argparse.Namespace) -> None:
    from ...connecting import connect
    from ...filters.match import Match
    from ..output import write_line

    match = Match() if options.match is None else options.match
    async with connect(netns=options.netns) as conn:
        explanation = await match.explain(conn)
    write_line(explanation)
    if options.program:
        write_line(explanation.event_program or "no program filters the events")
