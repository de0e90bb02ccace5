"""Parse the command line of ``conntrack-aio COMMAND``, and run the subcommand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Final

from .. import __version__
from ..errors import EncodeError
from .arguments import parse_match
from .error_texts import wrong_argument
from .failures import guarded
from .parsing import Commands, Parser, Run

COMMANDS: Final = (
    "list",
    "get",
    "count",
    "events",
    "watch",
    "who",
    "delete",
    "update",
    "create",
    "flush",
    "expect",
    "timeouts",
    "helpers",
    "stats",
    "sysctl",
    "features",
    "save",
    "restore",
    "explain",
    "sql",
    "demo",
    "completion",
    "install-links",
)
"""The subcommands in the order of the help.

Each is a module of :mod:`.commands`, with an underscore for a dash.
"""

_EPILOG: Final = """\
Every command but demo, completion and install-links needs CAP_NET_ADMIN: run
it as root, or give it the capability. `conntrack-aio COMMAND --help`,
`conntrack-aio help COMMAND` and `man conntrack-aio-COMMAND` describe a
command.
The command line of conntrack(8) is taken as well, if it begins with an option:
`conntrack-aio -L -p tcp`. `conntrack-aio nfct ...` takes that of nfct(8). Links
with the names of these programs take nothing else: see install-links.

exit status:
  0    the command did what was asked
  1    it failed; standard error has the reason
  2    the arguments are wrong
  130  it was interrupted, as by Ctrl-C

CONNTRACK_AIO_DEBUG=1 in the environment prints every netlink message."""


def run(arguments: Sequence[str]) -> int:
    """Parse the command line, run the subcommand, and return the exit status.

    :param arguments: the command line without the program's name.
    """
    return guarded(lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int | None:
    options = parse(arguments)
    run: Run = options.run
    try:
        return run(options)
    except EncodeError as error:  # nothing was sent
        parser: Parser = options.parser
        if text := wrong_argument(parser, error):
            parser.error(text)
        raise


def build_parser(names: Iterable[str] = COMMANDS) -> Parser:
    """Return the parser of the command line.

    :param names: the subcommands that it accepts. Each one's module is imported.
    """
    parser = Parser(
        prog="conntrack-aio",
        description="Read, follow and change the connections that the Linux kernel tracks.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"conntrack-aio {__version__}",
        help="show the version and exit",
    )
    commands = Commands(parser)
    for name in names:
        import_module(f".commands.{name.replace('-', '_')}", __package__).add(commands)
    return parser


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line and return the options of the subcommand.

    ``run`` is the function that runs it, and ``parser`` its parser.

    :param arguments: the command line without the program's name.
    :raises SystemExit: when the arguments are not valid, with status 2; when they ask for
        ``--help`` or ``--version``, with status 0.
    """
    if not arguments:
        parser = build_parser()
        parser.print_help(sys.stderr)
        text = "the following arguments are required: COMMAND"
        parser.exit(2, f"\n{parser.prog}: error: {text}\n")
    if arguments[0] == "help":
        arguments = [*arguments[1:], "--help"]
    # The parser of one subcommand is made sooner than that of all.
    is_command = arguments[0] in COMMANDS
    options: argparse.Namespace = build_parser(
        arguments[:1] if is_command else COMMANDS
    ).parse_args(arguments)
    command: Parser = options.parser
    if command.parses_match:
        options.match = parse_match(
            command, options.match, command.if_match_empty, command.match_name
        )
    return options
