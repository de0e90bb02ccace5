"""Say in the words of the command line what errors of the library say in those of its functions.

The library names fields, parameters and functions: it does not know the command's options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import EncodeError

if TYPE_CHECKING:
    import argparse

    from .parsing import Parser

LIBRARY_PHRASES: Final = {
    "only detached, by an empty name": "only detached, with --no-helper",
    "; masters_first() puts the masters of many flows first": "",
    "a rule or create() assigns one": "a rule or `create --helper` assigns one",
    "pass the zone of the master as zone=": "pass the zone of the master as --zone",
    "a larger receive_buffer": "a larger --receive-buffer",
}
"""What texts of the library contain, and what the command says instead."""

_OPTIONS: Final = {
    "nat_src": "snat",
    "nat_dst": "dnat",
    "orig": "tuple",
    "mask": "tuple",
    "mark_mask": "mark",
    "labels_mask": "labels",
}
"""The options for fields that have other names."""

_UNNAMED: Final = ("address_min", "name", "tuple")
"""The parts of options that are not named: each is the whole of its option for the user."""


def text_of(error: object) -> str:
    """Return the text of an error in the words of the command line."""
    text = str(error)
    for phrase, replacement in LIBRARY_PHRASES.items():
        text = text.replace(phrase, replacement)
    return text


def wrong_argument(parser: Parser, error: EncodeError) -> str | None:
    """Return the message for a value of an argument that the library refuses.

    :param parser: the parser of the subcommand.
    :param error: the error, whose path leads to the value.
    :returns: the message; ``None`` if the value is not that of an argument.
    """
    if not error.path:
        return None
    field, *inner = error.path
    dest = _OPTIONS.get(field, field)
    argument = next((each for each in parser.arguments if each.dest == dest), None)
    if argument is None:
        return None
    parts = [part for part in inner if part not in _UNNAMED and not part.isdecimal()]
    return text_of(f"argument {_name(argument)}: {': '.join([*parts, error.reason])}")


def _name(argument: argparse.Action) -> str:
    if argument.option_strings:
        return argument.option_strings[0]
    return argument.metavar if isinstance(argument.metavar, str) else argument.dest
