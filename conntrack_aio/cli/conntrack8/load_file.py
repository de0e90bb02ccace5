"""Carry out the commands of a file, as of ``-R``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from ...connection import Connection
from ...errors import ConntrackError
from .actions import Action
from .bulk_deletion import delete_in_order
from .commands import Command
from .errors import failure_of
from .flow_creation import create_flow
from .flow_deletion import flush_flows
from .flow_updates import update_flows
from .messages import OK, invalid
from .parse import parse

_ALLOWED: Final = frozenset({Action.CREATE, Action.ADD, Action.UPDATE, Action.DELETE, Action.FLUSH})

_LONGEST_PARAMETER: Final = 1023
_MOST_PARAMETERS: Final = 253
_BLANKS: Final = frozenset(" \t\n")


def read_commands(path: str) -> list[Command]:
    """Read the commands of a file, and parse all of them.

    :param path: the path, or ``-`` for standard input.
    :raises CommandFailure: when the file cannot be read, or when a line is not valid.
    """
    try:
        data = _read(path)
    except (OSError, ValueError):
        raise invalid(f"Failed to open file {path} for reading") from None
    commands: list[Command] = []
    for line in re.findall(rb"[^\n]*\n|[^\n]+", data):
        # The program reads a line up to a null byte.
        text = line.partition(b"\0")[0].decode(errors="surrogateescape")
        # Only a newline makes a line blank: a last line of spaces has no action, and is refused.
        if not text.lstrip(" \t").startswith(("#", "\n")):
            commands.append(parse([*split_parameters(text)]))
    for command in commands:
        if command.action not in _ALLOWED:
            raise invalid(f"Cannot use command `{command.action.value}' with --load-file")
    return commands


def _read(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read() if sys.stdin is not None else b""
    try:
        with open(path, "rb") as file:
            return file.read()
    except IsADirectoryError:
        return b""  # the program finds no lines in a directory


def split_parameters(line: str) -> Iterator[str]:
    r"""Yield the parameters of a line. One in quotes may have blanks, and ``\"`` for a quote.

    A quote ends a parameter. A newline within quotes is part of the parameter.

    :raises CommandFailure: when there are too many parameters, or when one is too long.
    """
    for count, parameter in enumerate(_parameters(line)):
        if len(parameter) > _LONGEST_PARAMETER:
            raise invalid("Parameter too long!")
        if count == _MOST_PARAMETERS:
            raise invalid("too many arguments")
        yield parameter


def _parameters(line: str) -> Iterator[str]:
    parameter: list[str] = []
    quoted = escaped = False
    for character in line:
        if quoted:
            if not escaped and character == '"':
                quoted = False
                yield "".join(parameter)
                parameter.clear()
            elif not escaped and character == "\\":
                escaped = True
            else:
                escaped = False
                parameter.append(character)
        elif character == '"':
            quoted = True
        elif character not in _BLANKS:
            parameter.append(character)
        elif parameter:
            yield "".join(parameter)
            parameter.clear()
    if parameter:
        yield "".join(parameter)


async def carry_out(conn: Connection, commands: list[Command]) -> int:
    """Carry out commands in their order up to the first error, and return the exit status.

    :raises CommandFailure: for the error.
    """
    for action, group in groupby(commands, key=lambda command: command.action):
        try:
            if action is Action.DELETE:
                await delete_in_order(conn, [*group])
            else:
                for command in group:
                    await _carry_out_one(conn, command)
        except ConntrackError as error:
            raise failure_of(action, error) from error
    return OK


async def _carry_out_one(conn: Connection, command: Command) -> None:
    if command.action is Action.FLUSH:
        await flush_flows(conn, command)
    elif command.action is Action.UPDATE:
        await update_flows(conn, command)
    else:
        await create_flow(conn, command)
