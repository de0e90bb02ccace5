"""Delete what many commands select, with one dump of the table for all of them.

The result is that of carrying out one command after the other: each flow is deleted for the first
command that selects it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby

from ...connection import Connection
from ...errors import NotFound
from ...model.flow import Flow
from ...model.tuples import Tuple
from .commands import Command
from .entry_writer import EntryWriter
from .matching import FlowTest, has_complete_tuple, selector
from .named_entries import complete_tuple


class _Selection:
    """Finds the first of many commands that selects a flow."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self._named: dict[Tuple, list[tuple[int, FlowTest]]] = defaultdict(list)
        self._others: list[tuple[int, FlowTest]] = []
        for index, command in enumerate(commands):
            entry = index, selector(command)
            if has_complete_tuple(command):
                self._named[complete_tuple(command)].append(entry)
            else:
                self._others.append(entry)

    def first(self, flow: Flow) -> int | None:
        """Return the index of the first command that selects a flow."""
        found = [
            index for index, matches in self._named.get(flow.orig.without_zone, ()) if matches(flow)
        ][:1]
        for index, matches in self._others:
            if found and index > found[0]:
                break
            if matches(flow):
                return index
        return found[0] if found else None


async def delete_in_order(conn: Connection, commands: Sequence[Command]) -> None:
    """Delete the flows that each command selects, and print them in the order of the commands."""
    selection = _Selection(commands)
    selected: dict[int, list[Flow]] = defaultdict(list)
    async with conn.dump() as dump:
        async for flows in dump.batches():
            for flow in flows:
                index = selection.first(flow)
                if index is not None:
                    selected[index].append(flow)
    owners = [(index, flow) for index in sorted(selected) for flow in selected[index]]
    deleted: list[tuple[Command, Flow]] = []
    try:
        position = 0
        async for outcome in conn.delete_many(flow for _, flow in owners):
            index = owners[position][0]
            position += 1
            if not isinstance(outcome.error, NotFound):  # it may have ended meanwhile
                deleted.append((commands[index], outcome.result()))
    finally:
        for _, group in groupby(deleted, key=lambda item: item[0].output):
            items = [*group]
            EntryWriter(items[0][0]).flows([flow for _, flow in items], command="-D")
