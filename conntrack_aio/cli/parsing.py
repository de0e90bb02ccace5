"""The parsers of the command line: argparse's, with the options that subcommands share."""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NoReturn

from ..suggestions import did_you_mean, similar_names
from .arguments import invalid_choice, parse_entry_text, parse_netns, parse_zone

_MATCH_HELP: Final = (
    "select flows by a match, such as: proto tcp and orig.dst in 10.0.0.0/8 (one argument or "
    "several{default})"
)
_JSON_HELP: Final = "print JSON Lines instead of text"
_QUOTING: Final = """\
The shell interprets braces, parentheses, < and >. Quote a MATCH that contains
any of them: 'proto tcp and orig.dport in {80, 443}' or 'orig.dport >= 1024'."""

Run = Callable[[argparse.Namespace], int | None]
"""Runs a subcommand with its options. Returns the exit status, or ``None`` for 0."""


def set_words(action: argparse.Action, words: Iterable[str]) -> None:
    """Say of which words the value of an option consists, for shells that complete it."""
    vars(action)["words"] = tuple(words)


def words_of(action: argparse.Action) -> tuple[str, ...]:
    """Return what :func:`set_words` has set; nothing if it has not."""
    words: tuple[str, ...] = vars(action).get("words", ())
    return words


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


class Parser(argparse.ArgumentParser):
    """A parser whose options with a value may be given only once, unless they say otherwise.

    The subcommands have parsers of this class, too.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.register("action", None, _Once)
        self.parses_match = False
        """Whether the option ``match`` is the text of a match."""
        self.match_name = "MATCH"
        """What errors call the argument that has the match."""
        self.if_match_empty = "omit it or pass `all` to select all flows"
        """What the error for an empty match says to do."""
        self._given: list[str] = []
        """The arguments that are parsed, for errors."""
        self.explains_match = False
        """Whether the help ends with the fields of matches."""
        self.subcommands: dict[str, Parser] = {}
        """The parsers of its subcommands by their names."""
        self.explains_columns = False
        """Whether it ends with the names of columns, too."""
        self.accepts_dash: list[str] = []
        """The options whose value may begin with a dash, as in ``--sort -bytes``."""
        self.accepts_arrow = False
        """Whether an argument may be the arrow of a tuple, which begins with a dash, too."""
        self.summary = ""
        """Its line in the list of subcommands."""

    @property
    def arguments(self) -> list[argparse.Action]:
        """The options and arguments, in the order in which they were added."""
        return list(self._actions)

    @property
    def exclusive_arguments(self) -> list[list[argparse.Action]]:
        """The groups of options of which only one may be given."""
        return [list(group._group_actions) for group in self._mutually_exclusive_groups]

    @property
    def closing_text(self) -> str:
        """The text at the end of the help."""
        texts = [_columns_epilog()] if self.explains_columns else []
        texts.append(_match_epilog() if self.explains_match else self.epilog or "")
        return "\n\n".join(texts)

    def parse_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Parse all arguments. The subcommand reports an unknown one, and options like it."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            command: Parser = getattr(options, "parser", self)
            command.error(command._unrecognized(unknown))
        return options

    def _unrecognized(self, unknown: Sequence[str]) -> str:
        """Return the message about unknown arguments."""
        hint = self._similar_options(unknown)
        return f"unrecognized arguments: {' '.join(unknown)}{hint}"

    def _similar_options(self, unknown: Iterable[str]) -> str:
        """Return a hint for the first of the unknown arguments that resembles an option."""
        # Dashes are not compared: otherwise all options would resemble each other.
        known = {
            option.lstrip("-"): option
            for action in self._actions
            for option in action.option_strings
        }
        for argument in unknown:
            name = argument.partition("=")[0]
            if name.startswith("--") and (names := similar_names(name.lstrip("-"), known)):
                return did_you_mean([known[name] for name in names])
        return ""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Check that a value is one of the choices. The error names those that are like it."""
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, invalid_choice(value, action.choices))

    def format_help(self) -> str:
        self.epilog = self.closing_text
        self.explains_columns = self.explains_match = False  # the epilog has both
        return super().format_help()

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Parse arguments. A value that begins with a dash is first joined to its option.

        An arrow is replaced by one that does not begin with a dash.
        """
        given = list(sys.argv[1:] if args is None else args)
        if self.accepts_arrow:
            given = [f"→{each[2:]}" if each.startswith("->") else each for each in given]
        joined: list[str] = []
        for argument in given:
            if joined and joined[-1] in self.accepts_dash and argument[:1] == "-":
                joined[-1] += f"={argument}"
            else:
                joined.append(argument)
        self._given = joined
        return super().parse_known_args(joined, namespace)

    def error(self, message: str) -> NoReturn:
        """Report an error, with the usage of this parser, and exit.

        argparse looks for missing arguments first. But an option that is misspelled, or that
        belongs to another subcommand, is the likely reason why one is missing.
        """
        unknown = self._unknown_options()
        is_missing = message.startswith("the following arguments are required")
        # The value of an unknown option before the name of a subcommand is taken for that name.
        is_value = message.startswith("argument COMMAND:") and self._given[:1] == unknown[:1]
        if unknown and (is_missing or is_value):
            message = self._unrecognized(unknown)
        super().error(message)

    def _unknown_options(self) -> list[str]:
        """Return the given arguments that look like options, and that this parser does not have."""
        known = [option for action in self._actions for option in action.option_strings]
        end = self._given.index("--") if "--" in self._given else len(self._given)
        return [
            argument
            for argument in self._given[:end]
            if re.match("-[^0-9 ]", argument)
            and not any(
                option.startswith(argument.partition("=")[0])
                if argument.startswith("--")
                else argument.startswith(option)
                for option in known
            )
        ]


def _match_epilog() -> str:
    # The modules of filters take long to import, and only help and matches need them.
    from ..filters.fields import FIELDS

    fields = (
        f"Fields of a MATCH: {', '.join(FIELDS)}. Conditions by themselves: assured, unreplied, "
        "snat, dnat."
    )
    return f"{textwrap.fill(fields, width=78)}\n\n{_QUOTING}"


def _columns_epilog() -> str:
    from .flow_columns import COLUMNS, DEFAULT_COLUMNS

    default = ", ".join(column.name for column in DEFAULT_COLUMNS)
    return "\n\n".join(
        textwrap.fill(text, width=78)
        for text in (
            f"Fields of --columns and --sort: {', '.join(COLUMNS)}.",
            f"At a terminal the columns are {default}. nat is what a flow's source and destination "
            "are translated to; start is a time, age a number of seconds; details are the status, "
            "and what the flow has of mark, zone, labels, helper and the fields of ICMP.",
        )
    )


class Commands:
    """The subcommands of a parser, and the options that they share."""

    def __init__(self, parser: Parser, dest: str = "command") -> None:
        """Create an empty list of subcommands.

        :param parser: the parser that gets the subcommands.
        :param dest: the option that has the name of the subcommand.
        """
        self._parser = parser
        self._subparsers = parser.add_subparsers(
            title="commands",
            dest=dest,
            required=True,
            metavar="COMMAND",
            parser_class=Parser,
        )
        self.netns = Parser(add_help=False)
        self.netns.add_argument(
            "--netns",
            type=parse_netns,
            metavar="NAME",
            help="use this network namespace instead of the current one: a name of `ip netns`, or "
            "a path with a slash",
        )
        self.json = Parser(add_help=False)
        self.json.add_argument("-j", "--json", action="store_true", help=_JSON_HELP)
        self.numeric = Parser(add_help=False)
        self.numeric.add_argument(
            "-n",
            "--numeric",
            action="store_true",
            help="print labels by number; otherwise those that have a name in connlabel.conf are "
            "printed by name, except with --json",
        )
        self.dry_run = Parser(add_help=False)
        self.dry_run.add_argument(
            "--dry-run",
            action="store_true",
            help="print what would be affected, and change nothing",
        )
        self.changes = Parser(add_help=False, parents=[self.dry_run])
        self.changes.add_argument(
            "-y",
            "--yes",
            action="store_true",
            help="do not ask; without a terminal, the command never asks",
        )
        self.quiet = Parser(add_help=False)
        self.quiet.add_argument(
            "-q",
            "--quiet",
            action="store_true",
            help="print no hints, summaries and progress on standard error, only errors",
        )

    def add(
        self,
        name: str,
        run: Run,
        *parents: Parser,
        help: str,
        description: str,
        epilog: str | None = None,
    ) -> Parser:
        """Add a subcommand. Every one accepts ``--quiet``.

        :param name: the name of the subcommand.
        :param run: the function that runs it.
        :param parents: the parsers of options that it shares with other subcommands.
        :param help: its line in the list of subcommands.
        :param description: the text at the start of its own help.
        :param epilog: the text at the end of its own help.
        """
        command = self._subparsers.add_parser(
            name,
            parents=[*parents, self.quiet],
            help=help,
            description=textwrap.fill(description, width=78),
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run, parser=command)
        command.summary = help
        self._parser.subcommands[name] = command
        return command

    def add_group(self, name: str, *, help: str, description: str) -> Commands:
        """Add a subcommand that has subcommands of its own, and return these, of which none exist.

        The options of each have its name as ``verb``.
        """
        group = self._subparsers.add_parser(
            name,
            help=help,
            description=textwrap.fill(description, width=78),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        group.summary = help
        self._parser.subcommands[name] = group
        return Commands(group, "verb")

    def add_matching(
        self, name: str, run: Run, *parents: Parser, help: str, description: str
    ) -> Parser:
        """Add a subcommand that accepts a network namespace and a match.

        Its options have the match as ``match``: a :class:`Match`, or ``None`` for all flows.
        """
        command = self.add(name, run, self.netns, *parents, help=help, description=description)
        _add_match(command, "; default: all flows")
        return command

    def add_changing(self, name: str, run: Run, *, help: str, description: str) -> Parser:
        """Add a subcommand that changes the flows that match, or the one entry of a tuple.

        Its options have the match as ``match`` and the tuple as ``tuple``. It needs exactly one of
        them, which :func:`require_match_or_tuple` checks.
        """
        parents = (self.netns, self.json, self.changes)
        command = self.add(name, run, *parents, help=help, description=description)
        _add_match(command, "")
        # An empty match is seldom meant: no advice leads to a change of every flow.
        command.if_match_empty = f"`{name}` requires one, so nothing was changed"
        command.add_argument(
            "--tuple",
            type=parse_entry_text,
            metavar="TUPLE",
            help="instead of a match: the one entry with this tuple, in either direction, such as "
            "'tcp 10.0.0.1:1000 10.1.0.1:80', or a line that `list` prints; fail if there is none",
        )
        command.add_argument(
            "--zone",
            type=parse_zone,
            metavar="ZONE",
            help="with --tuple: look in this zone (default: the zone in the TUPLE, or 0)",
        )
        return command


def _add_match(command: Parser, default: str) -> None:
    """Add the argument ``MATCH``.

    :param default: what the help says about the default.
    """
    command.parses_match = command.explains_match = True
    text = _MATCH_HELP.format(default=default)
    command.add_argument("match", nargs="*", metavar="MATCH", help=text)


def add_tuple_argument(
    command: Parser,
    nargs: str = "+",
    text: str = "the tuple, such as: tcp 10.0.0.1:1000 10.1.0.1:80",
) -> None:
    """Add the argument ``TUPLE`` to a subcommand; :func:`.tuple_arguments.parse_tuple` reads it.

    :param command: the parser of the subcommand.
    :param nargs: how many arguments it has.
    :param text: its help.
    """
    command.add_argument("tuple", nargs=nargs, metavar="TUPLE", help=text)
    command.accepts_arrow = True


def require_match_or_tuple(options: argparse.Namespace, every_flow: str) -> None:
    """Check that the options have a match or a tuple, and not both. Otherwise exit with an error.

    :param options: the options of a subcommand of :meth:`Commands.add_changing`.
    :param every_flow: says how to select every flow.
    """
    if options.match is None and options.tuple is None:
        options.parser.error(f"a MATCH or --tuple is required; {every_flow}")
    if options.match is not None and options.tuple is not None:
        options.parser.error("argument --tuple: not allowed with a MATCH")
    if options.match is not None and options.zone is not None:
        options.parser.error(
            f"argument --zone: needs --tuple; in a MATCH it is a condition: zone {options.zone}"
        )
