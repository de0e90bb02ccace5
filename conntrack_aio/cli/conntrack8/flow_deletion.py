"""Delete flows, and flush the table."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ...connection import Connection
from ...errors import NotFound
from ...model.flow import Flow
from ..running import runs_without_event_loop
from .commands import Command
from .entry_writer import EntryWriter
from .flow_reading import for_each_batch, named_flow
from .matching import names_entry_without_zone, selector
from .messages import OK, report


async def delete_flows(conn: Connection, command: Command) -> int:
    """Delete the flows that match, print them, and return how many there were."""
    writer = EntryWriter(command, many=not runs_without_event_loop())

    async def delete(flows: list[Flow]) -> None:
        deleted: list[Flow] = []
        try:
            async for flow in _deleted(conn, flows):
                deleted.append(flow)
        finally:
            writer.flows(deleted, command="-D")

    if names_entry_without_zone(command):
        # Walking the table takes the kernel longer than all else. There may be entries in zones,
        # too, but not in a table that is now empty.
        flow = await named_flow(conn, command)
        if flow is not None and selector(command)(flow):
            await delete([flow])
            if not await conn.count():
                return writer.count
    await for_each_batch(conn, command, selector, delete)
    return writer.count


async def _deleted(conn: Connection, flows: list[Flow]) -> AsyncIterator[Flow]:
    """Delete flows, and yield those that had not ended meanwhile."""
    if not runs_without_event_loop():
        async for outcome in conn.delete_many(flows):
            if not isinstance(outcome.error, NotFound):
                yield outcome.result()
        return
    for flow in flows:
        try:
            await conn.delete(flow)
        except NotFound:
            continue
        yield flow


async def flush_flows(conn: Connection, command: Command) -> int:
    """Delete all flows, or those of one address family, and return the exit status."""
    if command.family:
        from ...filters.match import Match

        await conn.delete_matching(Match(family=command.family))
    else:
        await conn.flush()
    report("connection tracking table has been emptied.")
    return OK
