"""``update``: change the flows that match."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from ..durations import ENTRY_RANGE, FORMS, parse_entry_timeout
from ..flow_options import (
    add_state_options,
    check_state_of,
    helper_of,
    protocol_with_state,
    protoinfo_of,
)
from ..parsing import Commands, Parser, require_match_or_tuple
from ..running import run_async, run_requests
from ..value_arguments import parse_labels, parse_masked_mark, parse_status

if TYPE_CHECKING:
    from ...connection import Connection
    from ...errors import ConntrackError
    from ...filters.match import Match
    from ...model.flow import Flow
    from ...model.update import FlowUpdate
    from ..bulk_changes import Tally

_ALIKE: Final = (
    ("labels", "clear_labels", "add_label", "remove_label"),
    ("helper", "no_helper"),
)
"""Options of which each sets the same field."""


def add(commands: Commands) -> None:
    """Add the subcommand."""
    command = commands.add_changing(
        "update",
        _run,
        help="change the flows that match",
        description="Change the given fields of each flow that matches, and no others. Report how "
        "many were changed, and how many could not be changed for each reason, with examples. The "
        "state of a protocol changes only in flows of that protocol; the others are skipped. To "
        "change all flows, pass `all` as the MATCH. At a terminal, ask before more than 200 flows "
        "are changed. With --json, print one object with the numbers of flows: updated, skipped, "
        "ended and failed.",
    )
    _add_fields(command)


def _add_fields(command: Parser) -> None:
    fields = command.add_argument_group("fields", "At least one of them is required.")
    add = fields.add_argument
    add(
        "--mark",
        type=parse_masked_mark,
        metavar="MARK[/MASK]",
        help="set the mark; with a mask, only its bits in the mask",
    )
    add(
        "--timeout",
        type=parse_entry_timeout,
        metavar="SECONDS",
        help=f"expire after this time: {FORMS}; {ENTRY_RANGE}",
    )
    add(
        "--status",
        type=parse_status,
        metavar="BIT[,BIT]",
        help="set status bits: SEEN_REPLY, ASSURED, FIXED_TIMEOUT, HELPER; none can be cleared",
    )
    add(
        "--labels",
        type=parse_labels,
        metavar="LABEL[,LABEL]",
        help="set exactly these labels, by number or by name, and clear all others",
    )
    add("--clear-labels", action="store_true", help="clear all labels")
    add(
        "--add-label",
        type=parse_labels,
        action="append",
        metavar="LABEL",
        help="set a label, and keep the others (may be repeated)",
    )
    add(
        "--remove-label",
        type=parse_labels,
        action="append",
        metavar="LABEL",
        help="clear a label, and keep the others (may be repeated)",
    )
    add(
        "--helper",
        metavar="NAME",
        help="the helper that the flows have, for --helper-info; another one is refused",
    )
    add("--no-helper", action="store_true", help="detach the helper")
    add_state_options(add)


def _run(options: argparse.Namespace) -> int | None:
    update = _update_of(options)
    require_match_or_tuple(options, "the MATCH `all` selects every flow")
    if options.tuple is None:
        return run_async(partial(_update, options, update))
    check_state_of(options, options.tuple.proto)
    return run_requests(partial(_update_one, options, update))


def _update_of(options: argparse.Namespace) -> FlowUpdate:
    """Return what to change. An invalid combination of options is an error."""
    from ...model.flow import Helper

    error = options.parser.error
    for names in _ALIKE:
        given = [name for name in names if getattr(options, name) not in (None, False)]
        if len(given) > 1 and given != ["add_label", "remove_label"]:
            first, second = (f"--{name.replace('_', '-')}" for name in given[:2])
            error(f"argument {second}: not allowed with {first}")
    update: FlowUpdate = {
        "timeout": options.timeout,
        "status": options.status,
        "protoinfo": protoinfo_of(options),
        "helper": Helper(name="") if options.no_helper else helper_of(options),
        "seqadj_orig": options.seqadj_orig,
        "seqadj_reply": options.seqadj_reply,
        "synproxy": options.synproxy,
    }
    if options.mark is not None:
        update["mark"], update["mark_mask"] = options.mark
    update.update(_labels_of(options))
    if all(value is None for value in update.values()):
        error("nothing to change; pass at least one of the fields")
    return update


def _labels_of(options: argparse.Namespace) -> FlowUpdate:
    if options.labels is not None or options.clear_labels:
        return {"labels": options.labels or 0}
    added = removed = 0
    for label in options.add_label or ():
        added |= label
    for label in options.remove_label or ():
        removed |= label
    if added & removed:
        options.parser.error("argument --remove-label: a label cannot be added and removed")
    return {"labels": added, "labels_mask": added | removed} if added | removed else {}


def _of_protocol(match: Match, proto: int) -> Match:
    """Return the match for those of its flows that have a protocol."""
    from ...errors import MatchError
    from ...filters.match import Match

    try:
        return match & Match(proto=proto)
    except MatchError:  # it names other protocols
        return Match.parse("none")


class _Able:
    """The flows of a dump to which the change applies. The others are counted as skipped."""

    def __init__(self, flows: AsyncIterable[Flow], proto: int | None, tally: Tally) -> None:
        """Begin with the first flow.

        :param flows: the flows.
        :param proto: the protocol that the flows must have, or ``None``.
        :param tally: counts those that have another protocol.
        """
        self._flows = aiter(flows)
        self._proto = proto
        self._tally = tally

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Flow:
        while True:
            flow = await anext(self._flows)
            if self._proto is None or flow.orig.proto == self._proto:
                return flow
            self._tally.skipped += 1


async def _update(options: argparse.Namespace, update: FlowUpdate) -> int | None:
    from ...connecting import connect
    from ...model.protocols import PROTOCOL_NAMES
    from ..bulk_changes import Tally, ask_about_matching, change_matching, print_matching
    from ..hidden_conditions import report_hidden_conditions
    from ..summaries import report_numbers

    match = options.match
    proto = protocol_with_state(options)
    able = match if proto is None else _of_protocol(match, proto)
    async with connect(netns=options.netns) as conn:
        await report_hidden_conditions(conn, options)
        if options.dry_run:
            await print_matching(conn, able, options, "updated")
            return None
        await ask_about_matching(conn, able, options, "update", "updated")
        tally = Tally("updated", ignores=partial(_has_no_label_to_clear, update))
        tally.why_skipped = f"only flows of {PROTOCOL_NAMES.get(proto or 0)} have this state"
        last: list[Flow] = []

        def on_done(flows: list[Flow]) -> None:
            last[:] = flows[-1:] or last

        await change_matching(
            conn,
            match,
            lambda flows: conn.update_many(_Able(flows, proto, tally), **update),
            tally,
            on_done,
            shows_progress=not options.quiet,
        )
        report_numbers(options, tally.numbers, tally)
        for flow in last:
            await _report_short_timeout(conn, flow, options.timeout)
    return 1 if tally.failed else None


async def _update_one(options: argparse.Namespace, update: FlowUpdate) -> None:
    from ...connecting import connect
    from ...errors import ConntrackError
    from ..bulk_changes import print_one
    from ..looking_up import look_up
    from ..summaries import report_numbers

    async with connect(netns=options.netns) as conn:
        flow = await look_up(conn, options.tuple, options.zone)
        if options.dry_run:
            print_one(flow, options, "updated")
            return
        try:
            await conn.update(flow, **update)
        except ConntrackError as error:
            if not _has_no_label_to_clear(update, error):
                raise
        numbers = {"updated": 1, "skipped": 0, "ended": 0, "failed": 0}
        report_numbers(options, numbers, "1 flow updated")
        await _report_short_timeout(conn, flow, options.timeout)


async def _report_short_timeout(conn: Connection, flow: Flow, seconds: int | None) -> None:
    """Report that the kernel has shortened the timeout that a flow was given, if it has."""
    from ...errors import NotFound
    from ..durations import EVERY_KERNEL_KEEPS, shortened
    from ..output import report

    if seconds is None or seconds <= EVERY_KERNEL_KEEPS:
        return
    with suppress(NotFound):  # it ended since
        if text := shortened(seconds, (await conn.get(flow)).timeout):
            report(text)


def _has_no_label_to_clear(update: FlowUpdate, error: ConntrackError) -> bool:
    """Return whether only labels were to be cleared, and the entry has no room for labels."""
    import errno

    given = {name for name, value in update.items() if value is not None}
    only_clears = update.get("labels") == 0 and given <= {"labels", "labels_mask"}
    return only_clears and getattr(error, "errno", None) == errno.ENOSPC
