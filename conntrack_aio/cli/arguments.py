"""What the command line means."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Final

from .. import __version__
from ..errors import MatchError
from ..filters.match import Match
from ..model.enums import EventType
from ..netlink.namespaces import NetNS

_MATCH: Final = (
    "only these flows, as one argument or as several: proto tcp and orig.dst in 10.0.0.0/8 "
    "(all flows, if there is none)"
)
_QUOTING: Final = (
    "A shell has meanings of its own for braces, parentheses, < and >: quote a MATCH that has any, "
    "as in 'proto tcp and orig.dport in {80, 443}' or 'orig.dport >= 1024'."
)

_TYPES: Final = tuple(kind.value for kind in EventType)

_SIZE: Final = re.compile(r"(\d+)([KMG]?)", re.ASCII)
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


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

    matching: dict[str, argparse.ArgumentParser] = {}

    def add_matching(
        name: str, *parents: argparse.ArgumentParser, help: str
    ) -> argparse.ArgumentParser:
        """A subcommand that takes a match."""
        command = commands.add_parser(name, parents=[where, *parents], help=help, epilog=_QUOTING)
        command.add_argument("match", nargs="*", metavar="MATCH", help=_MATCH)
        matching[name] = command
        return command

    listing = add_matching("list", form, help="the flows in the kernel's table")
    listing.add_argument(
        "--verbose",
        action="store_true",
        help="say what else is not to be seen in this namespace, and which settings hide it",
    )
    events = add_matching("events", form, help="what happens to flows, until interrupted")
    events.add_argument(
        "--type",
        type=_types,
        action="extend",
        default=[],
        metavar="TYPE[,TYPE]",
        help=f"only events of these types: {', '.join(_TYPES)}; may be given several times",
    )
    events.add_argument(
        "--all-netns",
        action="store_true",
        help="of all network namespaces that have an id in this one (`ip netns set NAME auto`)",
    )
    events.add_argument(
        "--reliable",
        action="store_true",
        help="have the kernel deliver every destroy event, however late; until then the flow "
        "counts against nf_conntrack_max",
    )
    events.add_argument(
        "--receive-buffer",
        type=_size,
        metavar="BYTES",
        help="how much may wait to be read, such as 8388608, 8192K or 8M; an event takes some 640",
    )
    events.add_argument(
        "--timestamp", action="store_true", help="add the time at which each event was received"
    )
    add_matching("count", help="how many flows there are")
    explain = add_matching("explain", help="what this kernel filters by, and what is left")
    explain.add_argument(
        "--program", action="store_true", help="list the program that events are filtered by, too"
    )
    commands.add_parser(
        "demo",
        parents=[form],
        help="watch the kernel track some connections, in a namespace of its own; needs no root",
    )
    options = parser.parse_args(arguments)
    if (command := matching.get(options.command)) is not None:
        options.match = _match(command, options.match)
    return options


def _match(command: argparse.ArgumentParser, words: Sequence[str]) -> Match | None:
    """The match that the words are; ``None``, and that is all flows, if there are none.

    An empty word is what a shell makes of ``"$UNSET"``: whoever writes that does not mean all.
    """
    if not words:
        return None
    if any(not word.strip() for word in words):
        command.error(
            "argument MATCH: it is empty; omit it, or pass `all`, to select all flows"
            if len(words) == 1
            else "argument MATCH: one of its words is empty"
        )
    try:
        return Match.parse(" ".join(words))
    except MatchError as error:
        command.error(f"argument MATCH: {error}")


def _netns(value: str) -> NetNS:
    try:
        return NetNS.of(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _types(value: str) -> list[str]:
    names = [name.strip() for name in value.split(",")]
    for name in names:
        if name not in _TYPES:
            raise argparse.ArgumentTypeError(
                f"invalid choice: {name!r} (choose from {', '.join(_TYPES)})"
            )
    return names


def _size(value: str) -> int:
    found = _SIZE.fullmatch(value)
    size = 0 if found is None else int(found[1]) * _UNITS[found[2]]
    if not 0 < size < 1 << 30:
        raise argparse.ArgumentTypeError(
            f"{value!r} is not a number of bytes from 1 to 1073741823, such as 8388608 or 8M"
        )
    return size
