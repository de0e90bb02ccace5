"""``sysctl``: print and set the settings of connection tracking."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Final

from ..parsing import Commands
from ..running import run_requests

_EPILOG: Final = """\
NAME is that of the sysctl with or without its prefix: acct, nf_conntrack_acct
or net.netfilter.nf_conntrack_acct. A switch is 0 or 1 (also off and on), events
is 0, 1 or 2 (also off, always and auto), everything else a number.
Seconds may be written as 90s, 10m, 1h30m or 2d, and bytes as 8192K or 8M.

All arguments are checked before anything is set. Then the settings are printed
as they are now, so what was set is printed, too. Settings that this kernel does
not have are left out, unless they are named: then the exit status is 1.
The form `NAME = VALUE` is that of sysctl(8) and sysctl.conf. It may be one
argument or several."""


def add(commands: Commands) -> None:
    """Add the subcommand."""
    command = commands.add(
        "sysctl",
        _run,
        commands.netns,
        commands.json,
        commands.dry_run,
        help="print and set the settings of connection tracking",
        description="Print the settings of connection tracking in a network namespace, all or "
        "those that are named, and set those that have a value.",
        epilog=_EPILOG,
    )
    command.add_argument(
        "settings", nargs="*", metavar="NAME[=VALUE]", help="the settings (default: print all)"
    )
    command.add_argument(
        "--explain", action="store_true", help="print what each setting means, too"
    )


def _run(options: argparse.Namespace) -> None:
    from ..settings import parse_settings

    parser: argparse.ArgumentParser = options.parser
    try:
        names, changes = parse_settings(options.settings)
    except ValueError as error:
        parser.error(f"argument NAME: {error}")
    run_requests(partial(_sysctl, options, names, changes))


async def _sysctl(options: argparse.Namespace, names: list[str], changes: dict[str, int]) -> None:
    from ...connecting import connect
    from ..settings import check_settings, print_settings, set_settings
    from ..summaries import count_of, report_summary

    async with connect(netns=options.netns) as conn:
        planned = changes if options.dry_run else {}
        if planned:
            await check_settings(conn, planned)
        elif changes:
            await set_settings(conn, changes)
        await print_settings(conn, names, planned, json=options.json, explain=options.explain)
        if planned:
            report_summary(options, f"{count_of(len(planned), 'setting')} would be set")
