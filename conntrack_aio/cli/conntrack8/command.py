"""Run the command line of conntrack(8)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from ...errors import ConntrackError
from ..failures import guarded
from ..output import write_line
from .actions import Action
from .commands import Command
from .errors import failure_of
from .messages import OK, VERSION_LINE, CommandFailure, report_failure
from .parse import parse

if TYPE_CHECKING:
    from ...connection import Connection

_LOAD_FILE = ("-R", "--load-file")


def run(arguments: Sequence[str]) -> int:
    """Parse a command line, carry it out, and return the exit status.

    :param arguments: the command line without the name of the program.
    """
    return guarded(partial(_run, arguments))


def _run(arguments: Sequence[str]) -> int:
    try:
        if len(arguments) > 1 and arguments[0] in _LOAD_FILE:
            return _load_file(arguments[1])
        return _carry_out(parse(arguments))
    except CommandFailure as failure:
        return report_failure(failure)


def _load_file(path: str) -> int:
    from ...connecting import connect
    from ..running import run_async
    from .load_file import carry_out, read_commands

    commands = read_commands(path)
    if not commands:
        return OK

    async def main() -> int:
        async with connect() as conn:
            return await carry_out(conn, commands)

    try:
        return run_async(main)
    except ConntrackError as error:
        raise failure_of(Action.NONE, error) from error


def _carry_out(command: Command) -> int:
    match command.action:
        case Action.VERSION:
            write_line(VERSION_LINE)
            return OK
        case Action.NONE | Action.HELP:
            from .help_text import show_help

            return show_help(command)
        case Action.EVENT | Action.EXPECT_EVENT:
            from .event_command import show_events

            try:
                return show_events(command)
            except ConntrackError as error:
                raise failure_of(command.action, error) from error
        case _:
            return _with_connection(command, partial(_function(command), command=command))


def _function(command: Command) -> Callable[..., Awaitable[int]]:
    """Return the function that carries out a command on a connection.

    Only what the command needs is imported.
    """
    match command.action:
        case Action.LIST:
            from .flow_reading import list_flows

            return list_flows
        case Action.GET:
            from .flow_reading import get_flow

            return get_flow
        case Action.CREATE | Action.ADD | Action.UPDATE | Action.DELETE:
            from .flow_writing import write_flows

            return write_flows
        case Action.FLUSH:
            from .flow_writing import flush_flows

            return flush_flows
        case Action.COUNT | Action.EXPECT_COUNT:
            from .table_statistics import show_count

            return show_count
        case Action.STATISTICS | Action.EXPECT_STATISTICS:
            from .table_statistics import show_statistics

            return show_statistics
        case _:
            from . import expectation_commands as commands

            return {
                Action.EXPECT_LIST: commands.list_expectations,
                Action.EXPECT_GET: commands.get_expectation,
                Action.EXPECT_CREATE: commands.create_expectation,
                Action.EXPECT_DELETE: commands.delete_expectation,
                Action.EXPECT_FLUSH: commands.flush_expectations,
            }[command.action]


_LARGE_TABLE: Final = 1000
"""Above this number of entries, importing an event loop takes less time than it saves."""

_WALKS: Final = (Action.LIST, Action.DELETE, Action.UPDATE)


def _with_connection(command: Command, function: Callable[[Connection], Awaitable[int]]) -> int:
    """Run a function with a connection, and return its exit status.

    :param command: the command, on whose action the message about an error depends.
    :raises CommandFailure: for an error of the library.
    """
    from ...connecting import connect
    from ..running import run_async, run_requests

    async def without_loop() -> int | None:
        async with connect() as conn:
            return None if await _needs_loop(conn, command) else await function(conn)

    async def in_loop() -> int:
        async with connect() as conn:
            return await function(conn)

    try:
        status = run_requests(without_loop)
        return run_async(in_loop) if status is None else status
    except ConntrackError as error:
        raise failure_of(command.action, error) from error


async def _needs_loop(conn: Connection, command: Command) -> bool:
    """Return whether a command reads or changes many entries."""
    if "zero" in command.given:
        return True
    if command.action not in _WALKS:
        return False
    from .matching import has_complete_tuple

    if has_complete_tuple(command):
        return False
    return await conn.count() > _LARGE_TABLE
