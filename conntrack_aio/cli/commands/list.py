"""``list``: print the flows in the kernel's table, or write them to a file."""

from __future__ import annotations

import argparse
from functools import partial

from ..arguments import parse_file
from ..parsing import Commands
from ..running import run_async


def add(commands: Commands) -> None:
    """Add the subcommand."""
    command = commands.add_matching(
        "list",
        _run,
        commands.json,
        commands.quiet,
        help="print the flows in the kernel's table",
        description="Print the flows in the kernel's table, one per line. Without --json, report "
        "on standard error which settings hide the events or counters of these flows.",
    )
    command.add_argument(
        "--verbose",
        action="store_true",
        help="report every setting that hides something in this namespace, also with --json",
    )
    files = command.add_mutually_exclusive_group()
    files.add_argument(
        "--arrow",
        type=parse_file,
        metavar="FILE",
        help="write the flows to a file (- for standard output) as an Arrow IPC stream, usually "
        "named *.arrows; needs nanoarrow: pip install nanoarrow",
    )
    files.add_argument(
        "--parquet",
        type=parse_file,
        metavar="FILE",
        help="write the flows to a Parquet file; also needs pyarrow",
    )


def _run(options: argparse.Namespace) -> None:
    if options.arrow is None and options.parquet is None:
        run_async(partial(_list, options))
        return
    if options.json:
        options.parser.error("argument --json: not allowed with --arrow or --parquet")
    run_async(partial(_list_to_file, options))


async def _list(options: argparse.Namespace) -> None:
    from ...connecting import connect
    from ...model.lazy_fields import is_absent
    from ..output import flush_output, write_lines
    from ..render import renderer

    render = renderer(json=options.json)
    hiding: set[str] = set()
    """The settings that may hide something of the flows listed."""
    async with connect(netns=options.netns) as conn:
        async for flows in conn.dump(options.match).batches():
            write_lines(render(flows))
            hiding.add("events")
            if "acct" not in hiding and any(is_absent(flow, "counters_orig") for flow in flows):
                hiding.add("acct")
        if options.verbose or not (options.json or options.quiet):
            flush_output()  # the flows precede the report where both go to one terminal
            from ..hints import report_for_list

            await report_for_list(conn, None if options.verbose else hiding)


async def _list_to_file(options: argparse.Namespace) -> None:
    from ...connecting import connect
    from ..arrow_files import write_arrow, write_parquet

    async with connect(netns=options.netns) as conn:
        async with conn.dump(options.match).columns(addresses="text") as batches:
            if options.arrow is not None:
                await write_arrow(batches, options.arrow)
            else:
                await write_parquet(batches, options.parquet)
        if options.verbose:
            from ..hints import report_for_list

            await report_for_list(conn, None)
