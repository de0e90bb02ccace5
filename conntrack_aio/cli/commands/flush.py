"""``flush``: delete every flow."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..flushing import add_flush, confirm_flush
from ..parsing import Commands

if TYPE_CHECKING:
    from ...connection import Connection


def add(commands: Commands) -> None:
    """Add the subcommand."""
    add_flush(
        commands,
        _flush,
        "every flow",
        "Delete every flow of the network namespace, and report how many there were. At a "
        "terminal, ask first. `delete MATCH` deletes some flows.",
    )


async def _flush(conn: Connection, options: argparse.Namespace) -> None:
    from ..bulk_changes import print_matching
    from ..summaries import count_of, report_numbers

    if options.dry_run:
        await print_matching(conn, None, options, "deleted")
        return
    number = await conn.count()
    count = count_of(number, "flow")
    if number:
        confirm_flush(options, "flow", count)
    await conn.flush()
    report_numbers(options, {"deleted": number}, f"{count} deleted")
