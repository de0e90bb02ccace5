"""Parse the command line."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from .. import __version__
from ..errors import MatchError
from ..model.enums import EventType
from ..netlink.namespaces import NetNS
from ..streams.options import DEFAULT_RECEIVE_BUFFER

if TYPE_CHECKING:
    from ..filters.match import Match

_MATCH_HELP: Final = (
    "select flows by a match, such as: proto tcp and orig.dst in 10.0.0.0/8 "
    "(one argument or several; default: all flows)"
)
_QUOTING: Final = """\
The shell interprets braces, parentheses, < and >. Quote a MATCH that contains
any of them: 'proto tcp and orig.dport in {80, 443}' or 'orig.dport >= 1024'."""

_EPILOG: Final = """\
Every command but demo needs CAP_NET_ADMIN: run it as root, or give it the
capability. `conntrack-aio COMMAND --help` describes a command.
`conntrack-aio nfct ...` takes the arguments of nfct(8).

exit status:
  0    the command did what was asked
  1    it failed; standard error has the reason
  2    the arguments are wrong
  130  it was interrupted, as by Ctrl-C

CONNTRACK_AIO_DEBUG=1 in the environment prints every netlink message."""

_SQL_EPILOG: Final = """\
Columns are named like fields with underscores: orig_src, orig_dport, reply_dst,
protocol, state, mark, orig_bytes, reply_bytes, bytes, packets, start, labels.
`describe flows` as the QUERY lists all of them with their types. An example:

  select orig_src, sum(bytes) from flows group by 1 order by 2 desc limit 10

Values are printed as DuckDB converts them to text, a missing one as NULL, and
control characters as escapes such as \\x1b. With --json, numbers, lists and
structures are those of JSON; NaN and infinities are null. Of columns with the
same name, the others are renamed: bytes, bytes_1, bytes_2."""

_TYPES: Final = tuple(kind.value for kind in EventType)

_SIZE: Final = re.compile(r"(\d+)([KMG]?)", re.ASCII)
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line and return the options of the subcommand.

    :param arguments: the command line without the program's name, instead of ``sys.argv[1:]``.
    :raises SystemExit: when the arguments are not valid, with status 2; when they ask for
        ``--help`` or ``--version``, with status 0.
    """
    parser = _Parser(
        prog="conntrack-aio",
        description="List, count and watch the connections that the Linux kernel tracks.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"conntrack-aio {__version__}",
        help="show the version and exit",
    )
    commands = _Commands(parser)
    _add_list(commands)
    _add_events(commands)
    commands.add_matching(
        "count",
        help="print the number of flows",
        description="Print the number of flows in the kernel's table.",
    )
    _add_explain(commands)
    _add_sql(commands)
    commands.add(
        "demo",
        commands.json,
        help="track some connections in a separate network namespace and print their events; "
        "needs no root",
        description="Open some connections over loopback in a separate network namespace, and "
        "print the events of the flows that the kernel tracks there. Needs no root.",
    )
    options = parser.parse_args(arguments)
    if options.command == "list" and options.json and (options.arrow or options.parquet):
        commands.matching["list"].error("argument --json: not allowed with --arrow or --parquet")
    if (command := commands.matching.get(options.command)) is not None:
        options.match = _parse_match(command, options.match)
    return options


class _Once(argparse.Action):
    """Store the value of an option, which may be given only once: the last of several values would
    silently replace the others."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        if option_string is not None and getattr(namespace, self.dest) is not self.default:
            raise argparse.ArgumentError(self, "may be given only once")
        setattr(namespace, self.dest, values)


class _Parser(argparse.ArgumentParser):
    """A parser whose options with a value may be given only once, unless they say otherwise.

    The subcommands have parsers of this class, too.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.register("action", None, _Once)
        self.has_match = False
        """Whether a match is accepted. The help then ends with the fields of matches."""

    def format_help(self) -> str:
        if self.has_match:
            self.epilog = _match_epilog()
        return super().format_help()


def _match_epilog() -> str:
    # The modules of filters take long to import, and only help and matches need them.
    from ..filters.fields import FIELDS

    fields = (
        f"Fields of a MATCH: {', '.join(FIELDS)}. Conditions by themselves: assured, unreplied, "
        "snat, dnat."
    )
    return f"{textwrap.fill(fields, width=78)}\n\n{_QUOTING}"


class _Commands:
    """The subcommands of a parser."""

    def __init__(self, parser: _Parser) -> None:
        self._subparsers = parser.add_subparsers(
            title="commands",
            dest="command",
            required=True,
            metavar="COMMAND",
            parser_class=_Parser,
        )
        self.netns = _Parser(add_help=False)
        self.netns.add_argument(
            "--netns",
            type=_parse_netns,
            metavar="NAME",
            help="use this network namespace instead of the current one: a name of `ip netns`, or "
            "a path with a slash",
        )
        self.json = _Parser(add_help=False)
        self.json.add_argument(
            "--json", action="store_true", help="print JSON Lines instead of text"
        )
        self.matching: dict[str, argparse.ArgumentParser] = {}
        """The subcommands that accept a match, by name."""

    def add(
        self,
        name: str,
        *parents: _Parser,
        help: str,
        description: str,
        epilog: str | None = None,
    ) -> _Parser:
        """Add a subcommand.

        :param name: the name of the subcommand.
        :param parents: the parsers of options that it shares with other subcommands.
        :param help: its line in the list of subcommands.
        :param description: the text at the start of its own help.
        :param epilog: the text at the end of its own help.
        """
        return self._subparsers.add_parser(
            name,
            parents=parents,
            help=help,
            description=textwrap.fill(description, width=78),
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def add_matching(
        self, name: str, *parents: _Parser, help: str, description: str
    ) -> argparse.ArgumentParser:
        """Add a subcommand that accepts a network namespace and a match."""
        command = self.add(name, self.netns, *parents, help=help, description=description)
        command.has_match = True
        command.add_argument("match", nargs="*", metavar="MATCH", help=_MATCH_HELP)
        self.matching[name] = command
        return command


def _add_list(commands: _Commands) -> None:
    command = commands.add_matching(
        "list",
        commands.json,
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
        type=_parse_file,
        metavar="FILE",
        help="write the flows to a file (- for standard output) as an Arrow IPC stream, usually "
        "named *.arrows; needs nanoarrow: pip install nanoarrow",
    )
    files.add_argument(
        "--parquet",
        type=_parse_file,
        metavar="FILE",
        help="write the flows to a Parquet file; also needs pyarrow",
    )


def _add_events(commands: _Commands) -> None:
    command = commands.add_matching(
        "events",
        commands.json,
        help="print the events of flows as they occur",
        description="Print the events of flows as they occur, one per line, until interrupted.",
    )
    command.add_argument(
        "--type",
        type=_parse_types,
        action="extend",
        default=[],
        metavar="TYPE[,TYPE]",
        help=f"print only events of these types: {', '.join(_TYPES)} (may be repeated)",
    )
    command.add_argument(
        "--all-netns",
        action="store_true",
        help="print the events of every network namespace that has an id in this one; "
        "`ip netns set NAME auto` assigns an id",
    )
    command.add_argument(
        "--reliable",
        action="store_true",
        help="make the kernel retry each destroy event until it is delivered; until then the flow "
        "counts against nf_conntrack_max, so a reader that stops can fill the table",
    )
    command.add_argument(
        "--receive-buffer",
        type=_parse_size,
        metavar="BYTES",
        help="let this many bytes of events wait to be read, such as 8388608, 8192K or 8M "
        f"(default: {DEFAULT_RECEIVE_BUFFER >> 20}M); N bytes hold about N/640 events",
    )
    command.add_argument(
        "--receive-time", action="store_true", help="add the time at which each event was received"
    )


def _add_explain(commands: _Commands) -> None:
    command = commands.add_matching(
        "explain",
        help="show where a match is evaluated",
        description="Show which part of a match this kernel applies to dumps, events and deletes, "
        "and which part the library checks afterwards.",
    )
    command.add_argument(
        "--program",
        action="store_true",
        help="also print the BPF program that filters events in the kernel",
    )


def _add_sql(commands: _Commands) -> None:
    command = commands.add(
        "sql",
        commands.netns,
        commands.json,
        help="run an SQL query on the flows in the kernel's table",
        description="Dump the kernel's table, run an SQL query of DuckDB on the table `flows`, and "
        "print its result. Only the columns that the query uses are read. Queries can read no file "
        "and load no extension. Needs DuckDB: pip install duckdb nanoarrow.",
        epilog=_SQL_EPILOG,
    )
    command.add_argument(
        "query",
        metavar="QUERY",
        help="one statement: SELECT, also as FROM, WITH or VALUES; DESCRIBE, SUMMARIZE or SHOW",
    )
    command.add_argument(
        "--match",
        type=lambda text: [text],
        default=[],
        metavar="MATCH",
        help="query only the flows that match, such as: 'proto tcp and orig.dst in 10.0.0.0/8'",
    )
    commands.matching["sql"] = command


def _parse_match(command: argparse.ArgumentParser, arguments: Sequence[str]) -> Match | None:
    """Return the match that the arguments express, or ``None`` for no arguments.

    An empty argument is an error: it is often the result of ``"$UNSET"`` in a shell, and must not
    select all flows.
    """
    if not arguments:
        return None
    if any(not argument.strip() for argument in arguments):
        command.error(
            "argument MATCH: the match is empty; omit it or pass `all` to select all flows"
            if len(arguments) == 1
            else "argument MATCH: one of the arguments is empty"
        )
    from ..filters.match import Match

    try:
        return Match.parse(" ".join(arguments))
    except MatchError as error:
        command.error(f"argument MATCH: {error}")


def _parse_file(value: str) -> str:
    if not value:
        raise argparse.ArgumentTypeError("the name of the file is empty")
    return value


def _parse_netns(value: str) -> NetNS:
    try:
        return NetNS(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parse_types(value: str) -> list[str]:
    names = [name.strip() for name in value.split(",")]
    for name in names:
        if name not in _TYPES:
            raise argparse.ArgumentTypeError(
                f"invalid choice: {name!r} (choose from {', '.join(_TYPES)})"
            )
    return names


def _parse_size(value: str) -> int:
    found = _SIZE.fullmatch(value)
    size = 0 if found is None else int(found[1]) * _UNITS[found[2]]
    if not 0 < size < 1 << 30:
        raise argparse.ArgumentTypeError(
            f"invalid size {value!r}; expected 1 to 1073741823 bytes, such as 8388608, 8192K or 8M"
        )
    return size
