"""``events``: print the events of flows as they occur."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Final

from ...model.enums import EventType
from ...streams.buffer_sizes import DEFAULT_RECEIVE_BUFFER
from ..arguments import invalid_choice, parse_size
from ..parsing import Commands
from ..running import run_async

_TYPES: Final = tuple(kind.value for kind in EventType)


def add(commands: Commands) -> None:
    """Add the subcommand."""
    command = commands.add_matching(
        "events",
        _run,
        commands.json,
        commands.quiet,
        help="print the events of flows as they occur",
        description="Print the events of flows as they occur, one per line, until interrupted.",
    )
    command.add_argument(
        "--type",
        type=_parse_types,
        action="extend",
        default=[],
        metavar="TYPE[,TYPE]",
        help=f"print only events of these types: {', '.join(_TYPES)} (may be repeated)",
    )
    command.add_argument(
        "--all-netns",
        action="store_true",
        help="print the events of every network namespace that has an id in this one; "
        "`ip netns set NAME auto` assigns an id",
    )
    command.add_argument(
        "--reliable",
        action="store_true",
        help="make the kernel retry each destroy event until it is delivered; until then the flow "
        "counts against nf_conntrack_max, so a reader that stops can fill the table",
    )
    command.add_argument(
        "--receive-buffer",
        type=parse_size,
        metavar="BYTES",
        help="let this many bytes of events wait to be read, such as 8388608, 8192K or 8M "
        f"(default: {DEFAULT_RECEIVE_BUFFER >> 20}M); N bytes hold about N/640 events",
    )
    command.add_argument(
        "--receive-time", action="store_true", help="add the time at which each event was received"
    )


def _parse_types(value: str) -> list[str]:
    names = [name.strip() for name in value.split(",")]
    for name in names:
        if name not in _TYPES:
            raise argparse.ArgumentTypeError(invalid_choice(name, _TYPES))
    return names


def _run(options: argparse.Namespace) -> None:
    run_async(partial(_events, options))


async def _events(options: argparse.Namespace) -> None:
    from ...connecting import connect
    from ...errors import DecodeError, EventsLost
    from ..failures import report_failure
    from ..output import write_line, write_lines
    from ..render import lost_as_json, renderer

    render = renderer(json=options.json)
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
        while True:
            try:
                async for events in stream.batches():
                    write_lines(render(events), flush=True)
            except (EventsLost, DecodeError) as error:
                if options.json and isinstance(error, EventsLost):
                    line = lost_as_json(error, receive_time=options.receive_time)
                    write_line(line, flush=True)
                report_failure(error)
