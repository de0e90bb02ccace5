"""Show the number of entries, and the counters of each processor."""

from __future__ import annotations

from socket import AF_INET
from typing import Final

from ...connection import Connection
from ..output import write_line
from .actions import Action
from .commands import Command
from .messages import OK

_FLOW_COUNTERS: Final = {
    "searched": "searched",
    "found": "found",
    "new": "new",
    "invalid": "invalid",
    "ignore": "ignore",
    "delete": "delete",
    "delete_list": "delete_list",
    "insert": "insert",
    "insert_failed": "insert_failed",
    "drop": "drop",
    "early_drop": "early_drop",
    "error": "error",
    "search_restart": "search_restart",
    "clash_resolve": "clash_resolve",
    "chain_toolong": "chaintoolong",
}
"""The names of the counters, by the field that has their value, in the kernel's order."""

_EXPECT_COUNTERS: Final = {
    "new": "expect_new",
    "create": "expect_create",
    "delete": "expect_delete",
}


async def show_count(conn: Connection, command: Command) -> int:
    """Print the number of entries, and return the exit status."""
    if command.action is Action.EXPECT_COUNT:
        count = len(await conn.expectations.list(family=AF_INET))
    else:
        count = await conn.count()
    write_line(count)
    return OK


async def show_statistics(conn: Connection, command: Command) -> int:
    """Print the counters of each processor, and return the exit status."""
    if command.action is Action.EXPECT_STATISTICS:
        for expect_counters in await conn.expectations.cpu_statistics():
            _write_counters(expect_counters.cpu, expect_counters, _EXPECT_COUNTERS)
    else:
        for counters in await conn.cpu_statistics():
            _write_counters(counters.cpu, counters, _FLOW_COUNTERS)
    return OK


def _write_counters(cpu: int, counters: object, names: dict[str, str]) -> None:
    values = [(name, getattr(counters, field)) for field, name in names.items()]
    shown = "".join(f"{name}={value} " for name, value in values if value is not None)
    write_line(f"cpu={cpu:<4}\t{shown}")
