"""``stats``: print the statistics of the kernel's table."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Final

from ..parsing import Commands
from ..running import run_requests

_EPILOG: Final = """\
The counters are those of this network namespace, since it was created; they
wrap at 2^32. Counters that this kernel does not have are left out. With --json,
one object is printed, which has the objects table, counters and expectations;
with --cpu these two are lists with an object for each processor."""


def add(commands: Commands) -> None:
    """Add the subcommand."""
    command = commands.add(
        "stats",
        _run,
        commands.netns,
        commands.json,
        help="print the statistics of the kernel's table",
        description="Print how many entries the kernel's table has and may have, and what the "
        "processors have counted, with what each counter means.",
        epilog=_EPILOG,
    )
    command.add_argument(
        "--cpu",
        action="store_true",
        help="print the counters of each processor instead of their sums",
    )


def _run(options: argparse.Namespace) -> None:
    run_requests(partial(_stats, options))


async def _stats(options: argparse.Namespace) -> None:
    from ...connecting import connect
    from ..statistics import print_statistics

    async with connect(netns=options.netns) as conn:
        await print_statistics(conn, each_cpu=options.cpu, json=options.json)
