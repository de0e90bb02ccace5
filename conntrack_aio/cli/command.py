"""Run the subcommands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from ..connecting import connect
from ..errors import DecodeError, EventsLost
from ..model.enums import EventType
from ..model.lazy_fields import is_absent
from .arguments import parse
from .failures import guarded, report_failure
from .output import flush_output, write_line, write_lines
from .running import run_async


def run(arguments: Sequence[str] | None) -> int:
    """Parse the command line, run the subcommand, and return the exit status.

    :param arguments: the command line without the program's name, instead of ``sys.argv[1:]``.
    """
    return guarded(lambda: _run(parse(arguments)))


def _run(options: argparse.Namespace) -> int:
    if options.command == "demo":
        from .demo import run_demo

        return run_demo(json=options.json)
    if options.command == "sql":
        from .sql import run_sql

        run_sql(options)
        return 0
    run_async(partial(_SUBCOMMANDS[options.command], options))
    return 0


async def _list(options: argparse.Namespace) -> None:
    if options.arrow is not None or options.parquet is not None:
        await _list_to_file(options)
        return
    from .render import renderer

    render = renderer(json=options.json)
    hiding: set[str] = set()
    """The settings that may hide something of the flows listed."""
    async with connect(netns=options.netns) as conn:
        async for flows in conn.dump(options.match).batches():
            write_lines(render(flows))
            hiding.add("events")
            if "acct" not in hiding and any(is_absent(flow, "counters_orig") for flow in flows):
                hiding.add("acct")
        if not options.json or options.verbose:
            flush_output()  # the flows precede the report where both go to one terminal
            from .hints import report_for_list

            await report_for_list(conn, None if options.verbose else hiding)


async def _list_to_file(options: argparse.Namespace) -> None:
    from .arrow_files import write_arrow, write_parquet

    async with connect(netns=options.netns) as conn:
        async with conn.dump(options.match).columns(addresses="text") as batches:
            if options.arrow is not None:
                await write_arrow(batches, options.arrow)
            else:
                await write_parquet(batches, options.parquet)
        if options.verbose:
            from .hints import report_for_list

            await report_for_list(conn, None)


async def _events(options: argparse.Namespace) -> None:
    from .render import lost_as_json, renderer

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
        from .hints import report_for_events

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


async def _count(options: argparse.Namespace) -> None:
    async with connect(netns=options.netns) as conn:
        count = await conn.count(options.match)
        write_line(count)
        if not count:
            flush_output()
            from .hints import report_for_count

            await report_for_count(conn)


async def _explain(options: argparse.Namespace) -> None:
    from ..filters.match import Match

    match = Match() if options.match is None else options.match
    async with connect(netns=options.netns) as conn:
        explanation = await match.explain(conn)
    write_line(explanation)
    if options.program:
        write_line(explanation.event_program or "no program filters the events")


_SUBCOMMANDS = {"list": _list, "events": _events, "count": _count, "explain": _explain}
