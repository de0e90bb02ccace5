"""The subcommands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import anyio

from ..connection import Connection, connect
from ..errors import ConntrackError, DecodeError, EventsLost
from ..model.events import EventType
from .arguments import parse
from .failures import complain, guarded
from .render import lost_as_json, renderer


def run(arguments: Sequence[str] | None) -> int:
    """Parse and act; the exit status."""
    options = parse(arguments)
    if options.command == "demo":
        from .demo import run_demo

        return guarded(lambda: run_demo(json=options.json))
    return guarded(lambda: anyio.run(_ACTIONS[options.command], options))


async def _list(options: argparse.Namespace) -> None:
    render = renderer(json=options.json)
    unseen = {"count"}
    async with connect(netns=options.netns) as conn:
        async for flow in conn.dump(options.match):
            print(render(flow))
            unseen |= {"events"}
            unseen |= set() if flow.counters_orig else {"acct"}
            unseen |= set() if flow.timestamp else {"timestamp"}
        if not options.json:
            await _say_what_is_unseen(conn, unseen)


async def _say_what_is_unseen(conn: Connection, unseen: set[str]) -> None:
    """On standard error, which of these settings hide something."""
    try:
        settings = await conn.sysctls.read()
    except ConntrackError:
        return  # the list is complete all the same
    for spot in settings.blind_spots():
        if spot.setting in unseen:
            print(end="", flush=True)  # what was listed comes first
            print(f"conntrack-aio: {spot}", file=sys.stderr)


async def _events(options: argparse.Namespace) -> None:
    render = renderer(json=options.json)
    types = [EventType(name) for name in options.type]
    async with (
        connect(netns=options.netns) as conn,
        conn.events(*types, match=options.match) as stream,
    ):
        if stream.covers_older_flows is False:
            print(
                "conntrack-aio: flows older than the first listener stay silent "
                "(net.netfilter.nf_conntrack_events is not 1)",
                file=sys.stderr,
            )
        while True:
            try:
                async for event in stream:
                    print(render(event), flush=True)
            except (EventsLost, DecodeError) as error:
                if options.json and isinstance(error, EventsLost):
                    print(lost_as_json(error), flush=True)
                complain(error)


async def _count(options: argparse.Namespace) -> None:
    async with connect(netns=options.netns) as conn:
        print(await conn.count(options.match))


async def _explain(options: argparse.Namespace) -> None:
    async with connect(netns=options.netns) as conn:
        explanation = await options.match.explain(conn)
    print(explanation)
    if options.program:
        print(explanation.event_program or "no program")


_ACTIONS = {"list": _list, "events": _events, "count": _count, "explain": _explain}
