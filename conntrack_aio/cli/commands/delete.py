"""``delete``: delete the flows that match, or the entry of one tuple."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from ..parsing import Commands, require_match_or_tuple
from ..running import run_async, run_requests

if TYPE_CHECKING:
    from ...connection import Connection


def add(commands: Commands) -> None:
    """Add the subcommand."""
    command = commands.add_changing(
        "delete",
        _run,
        help="delete the flows that match",
        description="Delete the flows that match, and print them as they were, one per line. Each "
        "flow is deleted just after it was read, by its tuple, zone and id and, if it has one, its "
        "start time. At a terminal, ask before more than 200 flows are deleted.",
    )
    command.if_match_empty += "; only `flush --all` deletes every flow"


def _run(options: argparse.Namespace) -> int | None:
    require_match_or_tuple(options, "`flush --all` deletes every flow")
    if options.tuple is not None:
        return run_requests(partial(_delete_one, options))
    if options.match.always:
        options.parser.error(
            "argument MATCH: it selects every flow; `flush --all` deletes every flow"
        )
    return run_async(partial(_delete, options))


async def _delete(options: argparse.Namespace) -> int | None:
    from ...connecting import connect
    from ...model.flow import Flow
    from ..bulk_changes import (
        FlowPrinter,
        Tally,
        ask_about_matching,
        change_matching,
        print_matching,
    )
    from ..ending_connections import has_open_tcp
    from ..hidden_conditions import report_hidden_conditions
    from ..terminal import is_terminal

    match = options.match
    async with connect(netns=options.netns) as conn:
        await report_hidden_conditions(conn, options)
        if options.dry_run:
            await print_matching(conn, match, options, "deleted")
            return None
        await ask_about_matching(conn, match, options, "delete", "deleted")
        printer, tally = FlowPrinter(json=options.json), Tally("deleted")
        open_tcp = False

        def on_done(flows: list[Flow]) -> None:
            nonlocal open_tcp
            open_tcp = open_tcp or has_open_tcp(flows)
            printer.write(flows)

        shows_progress = not (options.quiet or is_terminal())
        await change_matching(
            conn, match, conn.delete_many, tally, on_done, shows_progress=shows_progress
        )
        await _report(conn, options, str(tally), open_tcp)
    return 1 if tally.failed else None


async def _delete_one(options: argparse.Namespace) -> None:
    from ...connecting import connect
    from ..bulk_changes import FlowPrinter, print_one
    from ..ending_connections import has_open_tcp
    from ..looking_up import look_up

    async with connect(netns=options.netns) as conn:
        flow = await look_up(conn, options.tuple, options.zone)
        if options.dry_run:
            print_one(flow, options, "deleted")
            return
        await conn.delete(flow)
        FlowPrinter(json=options.json).write([flow])
        await _report(conn, options, "1 flow deleted", has_open_tcp([flow]))


async def _report(
    conn: Connection, options: argparse.Namespace, summary: str, open_tcp: bool
) -> None:
    """Report the summary, and what ends TCP connections, unless the options say ``--quiet``."""
    from ..ending_connections import report_open_tcp
    from ..summaries import report_summary

    report_summary(options, summary)
    if open_tcp and not options.quiet:
        await report_open_tcp(conn)
