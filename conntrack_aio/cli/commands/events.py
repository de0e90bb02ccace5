"""``events``: print the events of flows as they occur."""

from __future__ import annotations

import argparse
from functools import partial

from ...model.enums import EventType
from ..event_options import add_event_options
from ..parsing import Commands
from ..running import run_async


def add(commands: Commands) -> None:
    """Add the subcommand."""
    command = commands.add_matching(
        "events",
        _run,
        commands.json,
        commands.numeric,
        help="print the events of flows as they occur",
        description="Print the events of flows as they occur, one per line, until interrupted.",
    )
    add_event_options(command, [kind.value for kind in EventType])
    command.add_argument(
        "--reliable",
        action="store_true",
        help="make the kernel retry each destroy event until it is delivered; until then the flow "
        "counts against nf_conntrack_max, so a reader that stops can fill the table",
    )


def _run(options: argparse.Namespace) -> None:
    run_async(partial(_events, options))


async def _events(options: argparse.Namespace) -> None:
    from ...connecting import connect
    from ..event_lines import print_events

    types = [EventType(name) for name in options.type]
    async with (
        connect(netns=options.netns) as conn,
        conn.events(
            *types,
            match=options.match,
            receive_buffer=options.receive_buffer,
            all_netns=options.all_netns,
            reliable=options.reliable,
            receive_time=options.receive_time,
        ) as stream,
    ):
        if not options.quiet:
            from ..hints import report_for_events

            await report_for_events(conn, stream)
        await print_events(stream, options, numeric=options.numeric)
