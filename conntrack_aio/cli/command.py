"""The subcommands, and what becomes of their failures."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

import anyio

from ..connection import connect
from ..errors import ConntrackError, DecodeError, EventsLost
from ..model.events import EventType
from .arguments import parse
from .render import renderer

_STDOUT = 1


def run(arguments: Sequence[str] | None) -> int:
    """Parse and act; the exit status."""
    options = parse(arguments)
    if options.command == "demo":
        from .demo import run_demo

        return guarded(lambda: run_demo(json=options.json))
    return guarded(lambda: anyio.run(_ACTIONS[options.command], options))


def guarded(action: Callable[[], int | None]) -> int:
    """Act; a failure becomes a sentence and an exit status."""
    try:
        status = action() or 0
        # What can't be written is to fail here, not while Python exits.
        print(end="", flush=True)
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader had enough
        _discard_output()
        return 0
    except ConntrackError as error:
        return complain(error)
    except OSError as error:
        _discard_output()
        return complain(error)


def _discard_output() -> None:
    """Python flushes once more when it exits, and would complain once more."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, _STDOUT)
    os.close(devnull)


def complain(error: BaseException) -> int:
    """Say what went wrong, on standard error; the exit status."""
    print(f"conntrack-aio: {error}", file=sys.stderr)
    return 1


async def _list(options: argparse.Namespace) -> None:
    render = renderer(json=options.json)
    async with connect(netns=options.netns) as conn, conn.dump() as dump:
        async for flow in dump:
            print(render(flow))


async def _events(options: argparse.Namespace) -> None:
    render = renderer(json=options.json)
    types = [EventType(name) for name in options.type]
    async with connect(netns=options.netns) as conn, conn.events(*types) as stream:
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
                complain(error)


async def _count(options: argparse.Namespace) -> None:
    async with connect(netns=options.netns) as conn:
        print(await conn.count())


_ACTIONS = {"list": _list, "events": _events, "count": _count}
