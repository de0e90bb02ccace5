"""``get``: print one flow, which a tuple names."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Final

from ..arguments import parse_zone
from ..parsing import Commands, add_tuple_argument
from ..running import run_requests
from ..tuple_arguments import TUPLE_HELP, parse_tuple

_EPILOG: Final = f"""\
{TUPLE_HELP}
A line that `list` prints is accepted, too: its tuple and its zone are read.

The exit status is 1 if there is no such entry. Standard error then says where
it was looked for, and which other zones have an entry with this tuple."""


def add(commands: Commands) -> None:
    """Add the subcommand."""
    command = commands.add(
        "get",
        _run,
        commands.netns,
        commands.json,
        commands.numeric,
        help="print one flow, which a tuple names",
        description="Print the flow whose entry has a tuple in either direction, as the original "
        "or as the reply tuple. The kernel looks it up; nothing else is read.",
        epilog=_EPILOG,
    )
    add_tuple_argument(command)
    command.add_argument(
        "--zone",
        type=parse_zone,
        metavar="ZONE",
        help="look in this zone (default: the zone in the TUPLE, or 0)",
    )
    command.add_argument(
        "--direction",
        choices=("orig", "reply", "either"),
        default="either",
        help="the direction that must have the tuple (default: either)",
    )
    command.add_argument(
        "--packet",
        action="store_true",
        help="the tuple is that of a packet, as it was seen on either side of a translation: if no "
        "entry has it, look for the tuple of its reply",
    )
    command.add_argument(
        "--reset-counters",
        action="store_true",
        help="set the counters of the flow to zero as it is read, and print what they were; fail "
        "if another entry takes its tuple in between, whose counters may then be reset",
    )


def _run(options: argparse.Namespace) -> None:
    options.tuple = parse_tuple(options.parser, options.tuple, listed=True)
    run_requests(partial(_get, options))


async def _get(options: argparse.Namespace) -> None:
    from ...codec.json_lines import to_json
    from ...connecting import connect
    from ..aligned import printable
    from ..label_texts import LabelTexts
    from ..looking_up import look_up
    from ..output import write_line

    async with connect(netns=options.netns) as conn:
        flow = await look_up(
            conn,
            options.tuple,
            options.zone,
            direction=options.direction,
            packet=options.packet,
        )
        if options.reset_counters:
            flow = await conn.get(flow, reset_counters=True)
    if options.json:
        write_line(to_json(flow))
        return
    line = printable(str(flow))
    write_line(line if options.numeric else LabelTexts().in_lines(line))
