"""Carry out the commands that write flows, and report how many were written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .actions import Action
from .commands import Command
from .messages import FAILED, OK, report

if TYPE_CHECKING:
    from ...connection import Connection


async def write_flows(conn: Connection, command: Command) -> int:
    """Carry out ``-I``, ``-A``, ``-U`` or ``-D``, report it, and return the exit status."""
    match command.action:
        case Action.UPDATE:
            from .flow_updates import update_flows

            count, done = await update_flows(conn, command), "updated"
        case Action.DELETE:
            from .flow_deletion import delete_flows

            count, done = await delete_flows(conn, command), "deleted"
        case _:
            from .flow_creation import create_flow

            count = await create_flow(conn, command)
            done = "added" if command.action is Action.ADD else "created"
    report(f"{count} flow entries have been {done}.")
    changes_existing = command.action in (Action.UPDATE, Action.DELETE)
    return FAILED if changes_existing and not count else OK
