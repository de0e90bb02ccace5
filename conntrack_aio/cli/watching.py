"""Print the changes of the live table, for ``watch``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Final

import anyio

from ..codec.json import to_dict
from ..codec.json_values import JSON
from ..connection import Connection
from ..model.table import Cause, Change, FlowTableStatistics, TableMode
from ..table.flow_table import FlowTable
from .aligned import printable
from .label_texts import LabelTexts
from .output import report, write_line, write_lines

_CHECK_INTERVAL: Final = 1.0
"""Seconds after which losses are looked for, though no change has arrived."""

_MODES: Final = {
    TableMode.PARTIAL: "flows that exist may emit no events, so their changes are found only every "
    "60 seconds: net.netfilter.nf_conntrack_events is not 1, or was not",
    TableMode.POLLED: "no flow emits events, so changes are found only every 60 seconds: "
    "net.netfilter.nf_conntrack_events is 0",
}


async def print_changes(conn: Connection, options: argparse.Namespace) -> None:
    """Print changes until the task is cancelled.

    :param conn: the connection.
    :param options: the options of the subcommand.
    """
    render = _to_json_line if options.json else _text_writer(numeric=options.numeric)
    async with conn.table(options.match) as table, table.changes() as changes:
        if not options.quiet:
            if table.mode in _MODES:
                report(_MODES[table.mode])
            # Programs that start this one wait for this line.
            report(f"watching: {len(table)} flows at the start")
        losses = _Losses(table, as_json=options.json)
        while True:
            batch: list[Change] = []
            with anyio.move_on_after(_CHECK_INTERVAL):
                batch = await changes.receive_batch()
            losses.report()
            lines = [
                render(change)
                for change in batch
                if options.initial or change.cause is not Cause.PRESENT
            ]
            if lines:
                write_lines("\n".join([*lines, ""]), flush=True)


def _text_writer(*, numeric: bool) -> Callable[[Change], str]:
    """Return the function that writes a change as a line of text.

    :param numeric: whether it has labels by number, instead of by name.
    """
    if numeric:
        return lambda change: printable(str(change))
    labels = LabelTexts()
    return lambda change: labels.in_lines(printable(str(change)))


def _to_json_line(change: Change) -> str:
    fields: list[JSON] = [*change.fields]
    found: dict[str, JSON] = {
        "type": change.type.value,
        "cause": change.cause.value,
        "fields": fields,
        "flow": to_dict(change.flow),
    }
    return json.dumps(found)


class _Losses:
    """What was reported of lost events, and of failures to read the table again."""

    def __init__(self, table: FlowTable, *, as_json: bool) -> None:
        self._table = table
        self._as_json = as_json
        self._seen: FlowTableStatistics = table.statistics()
        self._behind = False

    def report(self) -> None:
        """Report what has happened since the last call."""
        now = self._table.statistics()
        if self._table.behind:
            if not self._behind and now.last_error is not None:
                self._behind = True
                report(f"the table is out of date, and is read again: {now.last_error}")
            return
        self._behind = False
        if now.resyncs > self._seen.resyncs:
            lost = now.stream.events_lost - self._seen.stream.events_lost
            if self._as_json:
                write_line(json.dumps({"type": "resynchronized", "lost": lost}), flush=True)
            number = f"{lost} events were lost" if lost else "events were lost"
            report(f"{number}; the table was read again, and its changes are complete")
            self._seen = now
