"""The subcommands."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio

from ..connecting import connect
from ..connection import Connection
from ..errors import ConntrackError, DecodeError, EventsLost
from ..filters.match import Match
from ..model.enums import EventType
from ..model.events import FlowEvent
from ..streams.events import EventStream
from .arguments import parse
from .failures import complain, guarded
from .output import flush_output, interrupting_writes, say, write_line
from .render import lost_as_json, renderer

_NOTHING_TRACKED: Final = "count"
"""The blind spot of a namespace without entries."""

_EMPTY: Final = {
    True: "the table is empty: connections are tracked here, but there are none",
    None: "the table is empty: there are no connections, or no iptables rule here has the kernel "
    "track them",
}
"""What is said instead, by whether connections are tracked."""


def run(arguments: Sequence[str] | None) -> int:
    """Parse and act; the exit status."""
    return guarded(lambda: _run(parse(arguments)))


def _run(options: argparse.Namespace) -> int:
    if options.command == "demo":
        from .demo import run_demo

        return run_demo(json=options.json)
    anyio.run(_act, _ACTIONS[options.command], options)
    return 0


async def _act(
    action: Callable[[argparse.Namespace], Awaitable[None]], options: argparse.Namespace
) -> None:
    with interrupting_writes():
        await action(options)


async def _list(options: argparse.Namespace) -> None:
    render = renderer(json=options.json)
    missing: set[str] = set()  # of what flows could have
    async with connect(netns=options.netns) as conn:
        async for flow in conn.dump(options.match):
            write_line(render(flow))
            missing.add("events")
            if flow.counters_orig is None:
                missing.add("acct")
        if not options.json or options.verbose:
            flush_output()  # what was listed comes first
            await _say_what_is_missing(conn, None if options.verbose else missing)


async def _say_what_is_missing(conn: Connection, missing: set[str] | None) -> None:
    """Say why the table is empty, and which of these settings, or of all, hide something."""
    try:
        for spot in (await conn.sysctls.read()).blind_spots():
            if spot.setting == _NOTHING_TRACKED:
                say(_EMPTY.get(await conn.sysctls.tracking(), spot))
            elif missing is None or spot.setting in missing:
                say(spot)
    except ConntrackError:
        return  # the list is complete all the same


async def _events(options: argparse.Namespace) -> None:
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
            receive_time=options.timestamp,
        ) as stream,
    ):
        await _say_what_is_not_heard(conn, stream)
        while True:
            try:
                async for event in stream:
                    write_line(render(event), flush=True)
            except (EventsLost, DecodeError) as error:
                if options.json and isinstance(error, EventsLost):
                    line = lost_as_json(error, receive_time=options.timestamp)
                    write_line(line, flush=True)
                complain(error)


async def _say_what_is_not_heard(conn: Connection, stream: EventStream[FlowEvent]) -> None:
    for spot in stream.blind_spots:
        if spot.setting == _NOTHING_TRACKED:
            try:
                if await conn.sysctls.tracking() is not False:
                    continue
            except ConntrackError:
                continue  # the events come all the same
        say(spot)


async def _count(options: argparse.Namespace) -> None:
    async with connect(netns=options.netns) as conn:
        write_line(await conn.count(options.match))


async def _explain(options: argparse.Namespace) -> None:
    match = Match() if options.match is None else options.match
    async with connect(netns=options.netns) as conn:
        explanation = await match.explain(conn)
    write_line(explanation)
    if options.program:
        write_line(explanation.event_program or "no program")


_ACTIONS = {"list": _list, "events": _events, "count": _count, "explain": _explain}
