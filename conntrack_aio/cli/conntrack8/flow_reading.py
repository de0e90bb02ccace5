"""List and get flows, and find those that a command is about."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ...errors import InvalidRequest, NotFound
from ..running import runs_without_event_loop
from .actions import Table
from .commands import Command
from .entry_writer import EntryWriter
from .matching import FlowTest, beyond_kernel_match, kernel_match, names_entry, selector
from .messages import FAILED, OK, report
from .named_entries import complete_tuple, named_tuple

if TYPE_CHECKING:
    from ...connection import Connection
    from ...model.flow import Flow
    from ...streams.dump import Dump

_SMALL_TABLE = 2000
"""Up to this number of entries the kernel does not filter: preparing a filter takes longer."""


async def list_flows(conn: Connection, command: Command) -> int:
    """Print the flows of a table that match, and return the exit status."""
    writer = EntryWriter(command, root="conntrack", many=not runs_without_event_loop())

    async def write(flows: list[Flow]) -> None:
        writer.flows(flows)

    await for_each_batch(conn, command, selector, write)
    writer.close()
    report(f"{writer.count} flow entries have been shown.")
    return OK


async def get_flow(conn: Connection, command: Command) -> int:
    """Print the flow that a command names, if it matches, and return the exit status."""
    flow = await conn.get(named_tuple(command))
    writer = EntryWriter(command, root="conntrack")
    if selector(command)(flow):
        writer.flows([flow])
    report(f"{writer.count} flow entries have been shown.")
    return OK if writer.count else FAILED


async def for_each_batch(
    conn: Connection,
    command: Command,
    select: Callable[[Command], FlowTest],
    consume: Callable[[list[Flow]], Awaitable[None]],
) -> None:
    """Call a function with the flows that match, some at a time.

    :param conn: the connection.
    :param command: the command, which names the table.
    :param select: returns a function that tests whether a flow matches a command.
    :param consume: the function.
    """
    if names_entry(command) and command.table is Table.CONNTRACK and "zero" not in command.given:
        flow = await named_flow(conn, command)
        if flow is not None and select(command)(flow):
            await consume([flow])
        return
    read_singly = "zero" in command.given
    filtered = await _is_filtered(conn, command)
    matches = select(beyond_kernel_match(command) if filtered else command)
    async with _dump(conn, command, filtered=filtered) as dump:
        async for flows in dump.batches():
            selected = [flow for flow in flows if matches(flow)]
            if read_singly:
                for flow in selected:
                    _count_uses_as_dump(flow)
            if selected:
                await consume(selected)


async def named_flow(conn: Connection, command: Command) -> Flow | None:
    """Return the flow with the tuple and the zone of a command, as a dump reports it.

    :param conn: the connection.
    :param command: the command, which gives a complete tuple.
    :return: ``None`` if there is none.
    """
    try:
        flow = await conn.get(complete_tuple(command), zone=command.zone)
    except (NotFound, InvalidRequest):  # the kernel refuses types of ICMP that it does not track
        return None
    _count_uses_as_dump(flow)
    return flow


def _count_uses_as_dump(flow: Flow) -> None:
    """Leave out the use of a flow by the request that read it alone.

    ``ctnetlink_get_conntrack()`` holds the entry while it reports it.
    """
    if flow.use is not None:
        flow.use -= 1


async def _is_filtered(conn: Connection, command: Command) -> bool:
    """Return whether the library and the kernel select entries of the table."""
    return (
        command.table is Table.CONNTRACK
        and bool(command.given - {"output", "zero"})
        and await conn.count() > _SMALL_TABLE
    )


def _dump(conn: Connection, command: Command, *, filtered: bool) -> Dump[Flow]:
    if command.table is Table.DYING:
        return conn.dying()
    if command.table is Table.UNCONFIRMED:
        return conn.unconfirmed()
    return conn.dump(
        kernel_match(command) if filtered else None, reset_counters="zero" in command.given
    )
