"""Parse the first two words of ``nfct``: a command and a subsystem, in either order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from .refusal import VERSION, Refused

USAGE: Final = "Usage: nfct command subsystem [parameters]..."

COMMANDS: Final = (
    "list",
    "add",
    "delete",
    "get",
    "flush",
    "disable",
    "default-set",
    "default-get",
)
_SUBSYSTEMS: Final = ("timeout", "helper", "version")
SUBSYSTEM_COMMANDS: Final = {
    "timeout": frozenset(COMMANDS) - {"disable"},
    "helper": frozenset(COMMANDS) - {"default-set", "default-get"},
    "version": frozenset(COMMANDS),
}
_MISSING: Final = f"{VERSION}: Missing command"
_TIMEOUT_COMMANDS: Final = (
    "nfct <list|add|delete|get|default-set|default-get|flush> timeout [<parameters>, ...]"
)
_HELPER_COMMANDS: Final = "nfct helper list|add|delete|disable|get|flush [parameters...]"


class Order(NamedTuple):
    """What the words ask for."""

    command: str
    subsystem: str
    parameters: Sequence[str]
    """The other words."""


class UsageError(Refused):
    """The words name no command. The usage is all there is to say."""

    def __str__(self) -> str:
        return USAGE


def parse(words: Sequence[str]) -> Order:
    """Parse the command line.

    :param words: the command line without the program's name.
    :raises Refused: when the words name no command of a subsystem.
    """
    if len(words) < 2:
        raise UsageError
    first, second, *parameters = words
    if (command := _complete(first, COMMANDS)) is not None:
        subsystem = _complete(second, _SUBSYSTEMS)
    else:
        subsystem = _complete(first, _SUBSYSTEMS)
        command = _complete(second, COMMANDS)
    if subsystem is None:
        raise Refused(f"Unknown subsystem: {first}", USAGE)
    if command is None:
        raise Refused(f"Unknown command: {first}", USAGE)
    if command not in SUBSYSTEM_COMMANDS[subsystem]:
        if subsystem == "timeout":
            raise Refused("Missing command", _TIMEOUT_COMMANDS)
        raise Refused(f"Unknown command: {second}", _MISSING, _HELPER_COMMANDS)
    return Order(command, subsystem, parameters)


def _complete(word: str, names: Iterable[str]) -> str | None:
    """Return the first name that begins with the word; ``None`` if there is none.

    An empty word, as of an unset variable of a script, is no abbreviation.
    """
    return next((name for name in names if word and name.startswith(word)), None)
