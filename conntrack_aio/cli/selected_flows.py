"""Dump the flows that the options of ``list`` select: the table, or another list of the kernel."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ..connection import Connection
    from ..model.flow import Flow
    from ..streams.dump import Dump


def selected_flows(conn: Connection, options: argparse.Namespace) -> Dump[Flow]:
    """Return the dump of the flows that the options of ``list`` select.

    :param conn: the connection.
    :param options: ``match``, ``dying``, ``unconfirmed`` and ``reset_counters``.
    """
    if options.dying:
        return conn.dying(options.match)
    if options.unconfirmed:
        return conn.unconfirmed(options.match)
    return conn.dump(options.match, reset_counters=options.reset_counters)


async def list_progress(
    conn: Connection, options: argparse.Namespace
) -> AbstractContextManager[None]:
    """Return a context that shows how many entries were read; see :func:`.dump_progress`."""
    from .progress import dump_progress

    of_table = not (options.dying or options.unconfirmed)
    return await dump_progress(conn, options.match, quiet=options.quiet, of_table=of_table)
