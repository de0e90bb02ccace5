"""Convert arguments of the command line to the values that they express."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from ..errors import MatchError
from ..suggestions import suggestion

if TYPE_CHECKING:
    from ..filters.match import Match
    from ..model.tuples import Tuple
    from ..netlink.netns import NetNS
    from .flow_columns import FlowColumn

_MOST_BYTES: Final = (1 << 30) - 1


def parse_match(
    command: argparse.ArgumentParser,
    arguments: Sequence[str],
    if_empty: str,
    name: str = "MATCH",
) -> Match | None:
    """Return the match that the arguments express, or ``None`` for no arguments.

    An empty argument is an error: it is often the result of ``"$UNSET"`` in a shell, and must not
    select all flows.

    :param command: the parser that reports an error and exits.
    :param arguments: the arguments, which are one text together.
    :param if_empty: what the error for an empty match says to do.
    :param name: what errors call the argument.
    """
    if not arguments:
        return None
    if not any(argument.strip() for argument in arguments):
        command.error(f"argument {name}: the match is empty; {if_empty}")
    if not all(argument.strip() for argument in arguments):
        command.error(f"argument {name}: one of the arguments is empty")
    # The modules of filters take long to import.
    from ..filters.match import Match

    try:
        return Match.parse(" ".join(arguments))
    except MatchError as error:
        command.error(f"argument {name}: {error}")


def invalid_choice(value: str, choices: Iterable[str]) -> str:
    """Return the message about a value that is none of some words.

    It suggests those that resemble the value, and otherwise lists all.
    """
    known = list(choices)
    hint = suggestion(value, known) or f" (choose from {', '.join(known)})"
    return f"invalid choice: {value!r}{hint}"


def parse_file(value: str) -> str:
    """Return the name of a file, or ``-``."""
    if not value:
        raise argparse.ArgumentTypeError("the name of the file is empty")
    return value


def parse_netns(value: str) -> NetNS:
    """Return the network namespace of a name or path."""
    from ..netlink.netns import NetNS

    try:
        return NetNS(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_tuple_text(value: str) -> Tuple:
    """Return the tuple of a text; see :mod:`.tuple_arguments`."""
    from .tuple_arguments import read_tuple_alone

    try:
        return read_tuple_alone(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_entry_text(value: str) -> Tuple:
    """Return the tuple of a text that names an entry: a tuple, or a line that ``list`` prints."""
    from .tuple_arguments import read_tuple

    try:
        return read_tuple(value, listed=True)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_size(value: str) -> int:
    """Return a number of bytes: 1 to 2^30 - 1, perhaps with the suffix K, M or G."""
    from ..quantities import parse_size as read_size

    try:
        size = read_size(value)
    except ValueError:
        size = 0
    if not 0 < size <= _MOST_BYTES:
        raise argparse.ArgumentTypeError(
            f"invalid size {value[:40]!r}; expected 1 to {_MOST_BYTES} bytes, such as 8388608, "
            "8192K or 8M"
        )
    return size


def parse_count(value: str) -> int:
    """Return a number of things, which is at least 1."""
    if not value.isascii() or not value.isdigit() or not 0 < int(value[:20]) < 1 << 63:
        raise argparse.ArgumentTypeError(f"invalid number {value!r}; expected 1 or more")
    return int(value)


def parse_columns(value: str) -> tuple[FlowColumn, ...]:
    """Return the columns of flows that are named in a text, separated by commas."""
    from . import flow_columns

    try:
        return flow_columns.parse_columns(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_sort_columns(value: str) -> tuple[tuple[FlowColumn, bool], ...]:
    """Return the columns of flows to sort by, which are separated by commas.

    :returns: each with whether the largest values come first.
    """
    signs = [name.strip().startswith("-") for name in value.split(",")]
    names = [name.strip().removeprefix("-") for name in value.split(",")]
    return tuple(zip(parse_columns(",".join(names)), signs, strict=True))


def parse_zone(value: str) -> int:
    """Return the number of a zone."""
    if not value.isascii() or not value.isdigit() or not int(value[:20]) <= 0xFFFF:
        raise argparse.ArgumentTypeError(f"invalid zone {value!r}; expected 0 to 65535")
    return int(value)
