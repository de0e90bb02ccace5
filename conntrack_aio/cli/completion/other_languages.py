"""Make parsers of the languages of conntrack(8) and nfct(8), which only shell completion reads.

The programs do not parse with them: :mod:`..conntrack8` and :mod:`..nfct` do that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ...model.protoinfo import STATE_TYPES
from ..conntrack8.actions import Table
from ..conntrack8.builder import EVENT_WORDS, OUTPUT_WORDS
from ..conntrack8.getopt import Argument
from ..conntrack8.options import ACTION_CODES, OPTIONS
from ..conntrack8.protocols import PROTOCOLS
from ..conntrack8.state_words import STATUS_WORDS
from ..nfct.grammar import COMMANDS as NFCT_COMMANDS
from ..nfct.grammar import SUBSYSTEM_COMMANDS
from ..nfct.protocols import FAMILIES
from ..nfct.protocols import NAMES as NFCT_PROTOCOLS
from ..parsing import Parser, set_words

_STATES: Final = tuple(
    dict.fromkeys(name for states in STATE_TYPES.values() for name in states.__members__)
)
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "protonum": tuple(protocol.name for protocol in PROTOCOLS),
    "family": ("ipv4", "ipv6"),
    "state": _STATES,
    "role": ("client", "server"),
}
"""The words of which a value is one."""

_LISTS: Final[Mapping[str, tuple[str, ...]]] = {
    "status": (*STATUS_WORDS, "UNREPLIED"),
    "output": tuple(map(str.lower, OUTPUT_WORDS)),
    "event-mask": EVENT_WORDS,
}
"""The words of which a value consists."""

_NAMED: Final = ("add", "delete", "get", "disable")
"""The commands of nfct(8) that the name of an object follows."""


def conntrack_parser() -> Parser:
    """Return a parser with the options and tables of conntrack(8)."""
    parser = Parser(prog="conntrack", add_help=False)
    for code, (action, names, _) in ACTION_CODES.items():
        _add_option(parser, action.name.lower(), (code,), names, has_value=False)
    _add_option(parser, "load-file", ("R",), ("load-file",), has_value=True)
    for option in OPTIONS:
        codes = (option.code,) if option.code.isalpha() else ()
        # The value of an option that needs none is in the same word.
        has_value = option.argument is Argument.REQUIRED
        _add_option(parser, option.name, codes, option.long_names, has_value=has_value)
    added: set[str] = set()
    for protocol in PROTOCOLS:
        for each in protocol.options:
            if each.name not in added:
                added.add(each.name)
                _add_option(parser, each.name, (), each.long_names, has_value=True)
    parser.add_argument("table", nargs="?", choices=[table.value for table in Table])
    return parser


def _add_option(
    parser: Parser,
    name: str,
    codes: tuple[str, ...],
    long_names: tuple[str, ...],
    *,
    has_value: bool,
) -> None:
    strings = [*(f"-{code}" for code in codes), *(f"--{long_name}" for long_name in long_names)]
    if not has_value:
        parser.add_argument(*strings, action="store_true", help=name)
        return
    action = parser.add_argument(
        *strings,
        metavar="FILE" if name == "load-file" else name,
        choices=_CHOICES.get(name),
        help=name,
    )
    set_words(action, _LISTS.get(name, ()))


def nfct_parser() -> Parser:
    """Return a parser with the commands, subsystems and protocols of nfct(8)."""
    parser = Parser(prog="nfct", add_help=False)
    commands = parser.add_subparsers(dest="command", parser_class=Parser)
    for name in NFCT_COMMANDS:
        command = commands.add_parser(name, help=name, add_help=False)
        command.summary = name
        parser.subcommands[name] = command
        subsystems = [each for each, names in SUBSYSTEM_COMMANDS.items() if name in names]
        command.add_argument("subsystem", choices=subsystems)
        if name in _NAMED:
            command.add_argument("name")
        if name not in ("list", "flush"):
            command.add_argument("family", choices=list(FAMILIES))
            command.add_argument("protocol", choices=list(NFCT_PROTOCOLS))
    return parser
