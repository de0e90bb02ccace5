"""Parse the command line of conntrack(8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from . import values
from .actions import ON_EXPECTATIONS, Action, Table
from .builder import CommandBuilder
from .commands import Command
from .getopt import MissingArgument, OptionReader, UnknownOption
from .messages import PROGRAM, invalid, warn
from .options import (
    ACTION_CODES,
    BY_CODE,
    CHECKED,
    COMPARED,
    IGNORED_CODE,
    LONG_OPTIONS,
    SHORT_OPTIONS,
    check_options,
)
from .protocols import check_pairs, check_protocol_options, long_options

_TABLES: Final = (Table.EXPECT, Table.CONNTRACK, Table.DYING, Table.UNCONFIRMED)
"""The tables in the order in which an abbreviation is compared with their names."""

_NAMED: Final = frozenset({Action.CREATE, Action.ADD, Action.GET})
"""The actions that need the complete tuple of one direction."""

_ADDRESS_PAIRS: Final = (
    ("src", "dst", "`--src' and `--dst'"),
    ("reply-src", "reply-dst", "`--reply-src' and `--reply-dst'"),
)

_FILTERS: Final = frozenset(
    (
        *("src", "dst", "reply-src", "reply-dst", "protonum", "mark", "secmark"),
        *("status", "zone", "orig-zone", "reply-zone", "label"),
    )
)
"""The options that cannot be combined with ``-z``."""


def parse(arguments: Sequence[str]) -> Command:
    """Parse a command line.

    :param arguments: the command line without the name of the program.
    :raises CommandFailure: when it is not valid.
    """
    reader = OptionReader([PROGRAM, *arguments], SHORT_OPTIONS, LONG_OPTIONS)
    builder = CommandBuilder()
    protocol_options: set[str] = set()
    while True:
        try:
            found = reader.next()
        except UnknownOption:
            raise invalid(f"unknown option `{_last_argument(reader)}'") from None
        except MissingArgument:
            raise invalid(f"option `{_last_argument(reader)}' requires an argument") from None
        if found is None:
            break
        code, argument = found
        if code in ACTION_CODES:
            _set_action(builder, ACTION_CODES[code][0], _table_word(reader, argument))
        elif code == IGNORED_CODE:
            warn("WARNING: ignoring -a, deprecated option.")
        elif code in BY_CODE:
            _set_option(builder, reader, BY_CODE[code].name, argument)
        else:
            protocol_options.add(code)
            builder.set_protocol_value(code, argument or "")
    _check(builder, frozenset(protocol_options))
    _settle_any_nat(builder)
    return builder.command


def _settle_any_nat(builder: CommandBuilder) -> None:
    """Forget the source that the address of ``-j`` has set, if the program does not compare it."""
    command = builder.command
    if command.any_nat is not None and not command.given & COMPARED:
        builder.set(orig=command.orig._replace(src=None))


def _last_argument(reader: OptionReader) -> str:
    return reader.arguments[reader.index - 1]


def _optional_argument(reader: OptionReader, joined: str | None) -> str | None:
    """Return the argument of an option that may have one; ``None`` if it has none.

    :param joined: the argument that is joined to the option, as in ``--src-nat=ADDRESS``. The
        program ignores it, and so acts on more entries than were meant.
    """
    return reader.take_word() if joined is None else joined


def _table_word(reader: OptionReader, joined: str | None) -> str | None:
    """Return the word that names the table of an action; ``None`` if there is none.

    :param joined: what is joined to the action. If it names no table, it is read as options, as in
        ``-Lo extended``. Version 1.4.9 of the program does so, and version 1.4.7 ignores it.
    """
    if joined is None:
        return reader.take_word()
    if _last_argument(reader).startswith("--") or _names_table(joined):
        return joined
    reader.read_as_options(joined)
    return None


def _names_table(joined: str) -> bool:
    return len(joined) > 1 and any(table.value.startswith(joined) for table in _TABLES)


def _set_action(builder: CommandBuilder, action: Action, word: str | None) -> None:
    table = Table.CONNTRACK if word is None else _parse_table(word)
    if builder.command.action is not Action.NONE:
        raise invalid("Invalid commands combination")
    if table is Table.EXPECT:
        if action in (Action.UPDATE, Action.ADD):
            name = "update" if action is Action.UPDATE else "add"
            raise invalid(f"Can't do --{name} on expectations")
        action = ON_EXPECTATIONS.get(action, action)
    if table in (Table.DYING, Table.UNCONFIRMED) and action is not Action.LIST:
        raise invalid("Can't do that command with tables `dying' and `unconfirmed'")
    builder.set(action=action, table=table)


def _parse_table(word: str) -> Table:
    for table in _TABLES:
        if table.value.startswith(word):
            return table
    raise invalid(f"unknown type `{word}'")


def _set_option(
    builder: CommandBuilder, reader: OptionReader, name: str, argument: str | None
) -> None:
    """Set the value of an option.

    :param argument: the argument; of an optional one only if it is joined to the option.
    """
    builder.set(given=builder.command.given | {name})
    if name in ("src-nat", "dst-nat", "any-nat"):
        builder.set_nat(name, _optional_argument(reader, argument))
    elif name == "label-del":
        builder.remove_labels(_optional_argument(reader, argument))
    elif name == "protonum":
        builder.set_protocol(argument or "")
        if builder.protocol is not None:
            reader.long += long_options(builder.protocol)
    elif argument is not None:
        _set_argument(builder, name, argument)


def _set_argument(builder: CommandBuilder, name: str, argument: str) -> None:
    """Set the value of an option that needs an argument."""
    match name:
        case "src" | "dst" | "tuple-src" | "tuple-dst":
            builder.set_address(name, argument)
        case "reply-src" | "reply-dst" | "mask-src" | "mask-dst":
            builder.set_plain_address(name, argument)
        case "zone" | "orig-zone" | "reply-zone":
            builder.set_zone(name, argument)
        case "family":
            builder.set_family(values.parse_family(argument))
        case "timeout" | "secmark" | "buffer-size":
            number = values.parse_decimal(argument, 32)
            builder.set(**{name.replace("-", "_"): number})
        case "id":
            builder.set(id=values.parse_unsigned(argument, 32))
        case "mark":
            builder.set(mark=values.parse_mark(argument))
        case "status":
            builder.set_status(argument)
        case "event-mask":
            builder.set_events(argument)
        case "output":
            builder.set_output(argument)
        case "label":
            builder.set_label_filter(argument)
        case _:
            assert name == "label-add", name
            builder.add_labels(argument)


def _check(builder: CommandBuilder, protocol_options: frozenset[str]) -> None:
    """Check the options together.

    :raises CommandFailure: when an option is missing, or not accepted by the action.
    """
    command = builder.command
    action, given = command.action, command.given
    if "any-nat" in given and given & {"src-nat", "dst-nat"}:
        raise invalid("cannot specify `--src-nat' or `--dst-nat' with `--any-nat'")
    check_options(action, given, CHECKED)
    if action in _NAMED:
        check_pairs(given, _ADDRESS_PAIRS)
    if builder.protocol is not None:
        check_protocol_options(action, builder.protocol, protocol_options)
    if "zero" in given and command.table is Table.CONNTRACK and given & _FILTERS:
        raise invalid("Can't use -z with filtering parameters")
    # As in the program, the masks of the other lists are ignored.
    if action is not Action.EXPECT_CREATE and command.table not in (Table.DYING, Table.UNCONFIRMED):
        for end in ("src", "dst"):
            if f"mask-{end}" in given and end not in given:
                raise invalid(f"Can't use --mask-{end} without --{end}")
