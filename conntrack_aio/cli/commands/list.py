"""``list``: print the flows in the kernel's table, or write them to a file."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Final

from ..arguments import parse_columns, parse_count, parse_file, parse_sort_columns
from ..parsing import Commands, Parser
from ..running import run_async

_DESCRIPTION: Final = (
    "Print the flows in the kernel's table, one per line. At a terminal they are a table, in which "
    "well-known ports have names and numbers of bytes are rounded, unless --numeric is given; "
    "elsewhere they are the lines that `events` prints, too, which --json and --columns change. "
    "A line of the table is as long as the terminal permits: columns are left out, and long cells "
    "are cut, which `…` shows. Report on standard error which settings hide the counters that the "
    "MATCH has conditions on and, without --json, the counters or times that are asked for."
)


def add(commands: Commands) -> None:
    """Add the subcommand."""
    command = commands.add_matching(
        "list",
        _run,
        commands.json,
        help="print the flows in the kernel's table",
        description=_DESCRIPTION,
    )
    command.explains_columns = True
    _add_sources(command)
    command.add_argument(
        "--columns",
        type=parse_columns,
        default=(),
        metavar="FIELD[,FIELD]",
        help="print these fields as aligned text with a header; an absent value is `-`. Only at a "
        "terminal, ports have names and numbers are rounded. With --json, print objects of these "
        "fields, an absent value as null",
    )
    command.add_argument(
        "--no-header",
        action="store_true",
        help="print no header above aligned text; lines and JSON have none",
    )
    command.add_argument(
        "--sort",
        type=parse_sort_columns,
        default=(),
        metavar="[-]FIELD[,[-]FIELD]",
        help="sort the flows by a field, or descending by -FIELD, and those with the same value by "
        "the next field; flows without a value come last",
    )
    command.accepts_dash.append("--sort")
    command.add_argument("--reverse", action="store_true", help="reverse the order of --sort")
    command.add_argument(
        "--limit", type=parse_count, metavar="N", help="print at most this many flows"
    )
    command.add_argument(
        "-n",
        "--numeric",
        action="store_true",
        help="print labels by number, also those that have a name in connlabel.conf; and print "
        "ports and all digits of numbers at a terminal, too: elsewhere they are always printed",
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


def _add_sources(command: Parser) -> None:
    """Add the options that select another dump of the kernel."""
    sources = command.add_mutually_exclusive_group()
    sources.add_argument(
        "--dying",
        action="store_true",
        help="print the flows that have ended and that the kernel still keeps, because a reliable "
        "event stream has not received their destroy event; before Linux 5.19 also those that "
        "something in the kernel refers to",
    )
    sources.add_argument(
        "--unconfirmed",
        action="store_true",
        help="print the flows whose first packet is still on its way through the kernel; there "
        "are none since Linux 5.19, which has no list of them",
    )
    sources.add_argument(
        "--reset-counters",
        action="store_true",
        help="set the counters of each flow to zero as it is read, and print what they were; with "
        "a MATCH, only those of the flows that match. If another entry takes the tuple of such a "
        "flow in between, the counters of that entry are reset. If the command is interrupted, or "
        "cannot print, the counters that were read and not printed are lost",
    )


def _run(options: argparse.Namespace) -> None:
    if options.reset_counters and options.limit is not None:
        # The flows are read and reset some at a time: others than those printed would be, too.
        options.parser.error(
            "argument --limit: not allowed with --reset-counters; select the flows by a MATCH"
        )
    if options.reverse:
        if not options.sort:
            options.parser.error("argument --reverse: needs --sort")
        options.sort = [(column, not descending) for column, descending in options.sort]
    writes_file = options.arrow is not None or options.parquet is not None
    for name in ("no_header", "numeric"):
        if getattr(options, name) and (options.json or writes_file):
            of_json = "--json" if options.json else "--arrow or --parquet"
            options.parser.error(
                f"argument --{name.replace('_', '-')}: not allowed with {of_json}, which it would "
                "not change"
            )
    if not writes_file:
        run_async(partial(_list, options))
        return
    for name in ("json", "columns", "sort", "limit"):
        if getattr(options, name):
            options.parser.error(f"argument --{name}: not allowed with --arrow or --parquet")
    run_async(partial(_list_to_file, options))


async def _list(options: argparse.Namespace) -> None:
    from ...connecting import connect
    from ..listing import print_flows
    from ..output import flush_output

    async with connect(netns=options.netns) as conn:
        hiding = await print_flows(conn, options)
        if options.verbose or not (options.json or options.quiet):
            flush_output()  # the flows precede the report where both go to one terminal
            from ..hints import report_for_list

            if options.match is not None:
                from ..hidden_conditions import settings_read_by

                hiding |= settings_read_by(options.match)
            await report_for_list(conn, None if options.verbose else hiding)
        elif options.match is not None and not options.quiet:
            flush_output()
            from ..hidden_conditions import report_hidden_conditions

            await report_hidden_conditions(conn, options)


async def _list_to_file(options: argparse.Namespace) -> None:
    from ...connecting import connect
    from ..arrow_files import write_arrow, write_parquet
    from ..selected_flows import list_progress, selected_flows

    async with connect(netns=options.netns) as conn:
        async with selected_flows(conn, options).columns(addresses="text") as batches:
            with await list_progress(conn, options):
                if options.arrow is not None:
                    await write_arrow(batches, options.arrow)
                else:
                    await write_parquet(batches, options.parquet)
        if options.verbose:
            from ..hints import report_for_list

            await report_for_list(conn, None)
        elif options.match is not None and not options.quiet:
            from ..hidden_conditions import report_hidden_conditions

            await report_hidden_conditions(conn, options)
