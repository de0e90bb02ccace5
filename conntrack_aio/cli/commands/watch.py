"""``watch``: print the changes of the table as they occur."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Final

from ..parsing import Commands
from ..running import run_async

_DESCRIPTION: Final = (
    "Print the changes of the kernel's table, one per line, until interrupted: which flows were "
    "added, changed and removed. Unlike `events`, it keeps a copy of the table. So a change says "
    "which fields differ, flows that begin or cease to match are reported, and after lost events "
    "the table is read again and the differences are reported: applied one after the other, the "
    "changes lead to the kernel's table. Changes of timeouts and counters are not reported."
)
_MERGED: Final = (
    "What happens to a flow between two reads of the copy is one change: several changes are "
    "merged, and a flow that was added and removed meanwhile is not printed, so short flows may "
    "not appear. `events` prints every event."
)
_FORM: Final = (
    "With --json, each line has type (added, changed, removed), cause, fields and flow; after lost "
    "events, a line has the type resynchronized and the number of lost events as lost."
)


def add(commands: Commands) -> None:
    """Add the subcommand."""
    command = commands.add_matching(
        "watch",
        _run,
        commands.json,
        commands.numeric,
        help="print the changes of the table as they occur; short flows may not appear",
        description=f"{_DESCRIPTION} {_MERGED} {_FORM}",
    )
    command.add_argument(
        "--initial",
        action="store_true",
        help="first print the flows that exist, as added, with the cause present",
    )


def _run(options: argparse.Namespace) -> None:
    run_async(partial(_watch, options))


async def _watch(options: argparse.Namespace) -> None:
    from ...connecting import connect
    from ..watching import print_changes

    async with connect(netns=options.netns) as conn:
        await print_changes(conn, options)
