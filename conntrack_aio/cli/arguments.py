"""What the command line means."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .. import __version__
from ..errors import MatchError
from ..filters.match import Match
from ..model.events import EventType
from ..netlink.namespaces import NetNS

_MATCH = "which flows, as one argument or as several: proto tcp and orig.dst in 10.0.0.0/8"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the arguments; exits with status 2 for bad ones, as argparse does."""
    parser = argparse.ArgumentParser(
        prog="conntrack-aio",
        description="The Linux kernel's connection tracking: who talks to whom.",
    )
    parser.add_argument("--version", action="version", version=f"conntrack-aio {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    where = argparse.ArgumentParser(add_help=False)
    where.add_argument(
        "--netns",
        type=_netns,
        metavar="NAME",
        help="another network namespace: a name, or a path with a slash",
    )
    form = argparse.ArgumentParser(add_help=False)
    form.add_argument("--json", action="store_true", help="JSON Lines instead of text")

    which = argparse.ArgumentParser(add_help=False)
    which.add_argument("match", nargs="*", metavar="MATCH", help=_MATCH)

    commands.add_parser(
        "list", parents=[where, form, which], help="the flows in the kernel's table"
    )
    events = commands.add_parser(
        "events", parents=[where, form, which], help="what happens to flows, until interrupted"
    )
    events.add_argument(
        "--type",
        action="append",
        default=[],
        choices=[kind.value for kind in EventType],
        help="only events of this type; may be given several times",
    )
    commands.add_parser("count", parents=[where, which], help="how many flows there are")
    explain = commands.add_parser(
        "explain", parents=[where], help="what this kernel filters by, and what is left"
    )
    explain.add_argument("match", nargs="+", metavar="MATCH", help=_MATCH)
    explain.add_argument(
        "--program", action="store_true", help="list the program that events are filtered by, too"
    )
    commands.add_parser(
        "demo",
        parents=[form],
        help="watch the kernel track some connections, in a namespace of its own; needs no root",
    )
    options = parser.parse_args(arguments)
    if "match" in options:
        words = " ".join(options.match)
        try:
            options.match = Match.parse(words) if words else None
        except MatchError as error:
            parser.error(f"argument MATCH: {error}")
    return options


def _netns(value: str) -> NetNS:
    try:
        return NetNS.of(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
