"""Delete or update the flows that match: ask, do it, and report what happened to how many."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import anyio

from ..bulk.outcomes import BulkOperation, Outcome
from ..connection import Connection
from ..errors import ConntrackError, NotFound
from ..model.flow import Flow
from ..streams.dump import Dump
from .confirmation import MOST_UNASKED, confirm, is_person_asked
from .output import ReaderGone, report_after_interrupt, write_lines
from .problems import Problems, name_of_flow
from .progress import shown_progress
from .render import Render, renderer
from .summaries import count_of, report_summary

if TYPE_CHECKING:
    from ..filters.match import Match


class FlowPrinter:
    """Prints the flows that a command changes, until the reader of standard output is gone.

    A change must not end half-way because nobody reads about it, so it continues without a reader.
    """

    def __init__(self, *, json: bool) -> None:
        self._render: Render = renderer(json=json)
        self._has_reader = True

    def write(self, flows: Sequence[Flow]) -> None:
        """Print flows. Raises what :func:`write_lines` raises, except for :exc:`ReaderGone`."""
        if self._has_reader and flows:
            try:
                write_lines(self._render(flows), flush=True)
            except ReaderGone:
                self._has_reader = False


class Tally:
    """What happened to how many flows."""

    def __init__(
        self, participle: str, ignores: Callable[[ConntrackError], bool] = lambda error: False
    ) -> None:
        """Begin with zero flows.

        :param participle: what is done with the flows, such as ``deleted``.
        :param ignores: returns whether a flow counts as done in spite of an error.
        """
        self._participle = participle
        self._ignores = ignores
        self._failures = Problems()
        """What was not reported yet."""
        self.done = 0
        self.ended = 0
        """The flows that ended before it was done."""
        self.failed = 0
        self.skipped = 0
        """The flows that were left out, because what was asked does not apply to them."""
        self.why_skipped = ""

    def count(self, outcomes: Sequence[Outcome[Flow]]) -> list[Flow]:
        """Count outcomes, and return the flows that succeeded."""
        done: list[Flow] = []
        for outcome in outcomes:
            error = outcome.error
            if error is None or self._ignores(error):
                done.append(outcome.item)
            elif isinstance(error, NotFound):
                self.ended += 1
            else:
                self.failed += 1
                self._failures.add(f"not {self._participle}", error, name_of_flow(outcome.item))
        self.done += len(done)
        return done

    def report_failures(self) -> None:
        """Report the failures that were counted and not reported yet, also after an interrupt."""
        for failure in self._failures.take():
            report_after_interrupt(failure)

    @property
    def numbers(self) -> dict[str, int]:
        """How many flows there are of each kind."""
        return {
            self._participle: self.done,
            "skipped": self.skipped,
            "ended": self.ended,
            "failed": self.failed,
        }

    def __bool__(self) -> bool:
        return bool(self.done or self.ended or self.failed or self.skipped)

    def __str__(self) -> str:
        parts = [f"{count_of(self.done, 'flow')} {self._participle}"]
        if self.ended:
            parts.append(f"{self.ended} ended before")
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.skipped:
            parts.append(f"{self.skipped} skipped: {self.why_skipped}")
        return ", ".join(parts)


async def print_matching(
    conn: Connection, match: Match | None, options: argparse.Namespace, participle: str
) -> None:
    """Print the flows that would be changed, and report how many there are.

    :param conn: the connection that reads them.
    :param match: the flows, or ``None`` for all.
    :param options: the options of the subcommand: ``json`` and ``quiet``.
    :param participle: what would be done with them, such as ``deleted``.
    """
    render = renderer(json=options.json)
    number = 0
    async with conn.dump(match) as dump:
        async for flows in dump.batches():
            write_lines(render(flows))
            number += len(flows)
    report_summary(options, f"{count_of(number, 'flow')} would be {participle}")


def print_one(flow: Flow, options: argparse.Namespace, participle: str) -> None:
    """Print the one flow that would be changed; see :func:`print_matching`."""
    write_lines(renderer(json=options.json)([flow]))
    report_summary(options, f"1 flow would be {participle}")


async def ask_about_matching(
    conn: Connection, match: Match, options: argparse.Namespace, verb: str, participle: str
) -> None:
    """Ask the person at the terminal, if there is one, before many flows are changed.

    :param conn: the connection that counts the flows.
    :param match: the flows.
    :param options: the options of the subcommand: ``yes``.
    :param verb: what is to be done with them, such as ``delete``.
    :param participle: what is done with them, such as ``deleted``.
    :raises CommandError: when the person declines.
    """
    if is_person_asked(options) and (number := await conn.count(match)) > MOST_UNASKED:
        confirm(f"{verb} {count_of(number, 'flow')}", f"nothing was {participle}")


async def change_matching(
    conn: Connection,
    match: Match,
    change: Callable[[AsyncIterable[Flow]], BulkOperation[Flow]],
    tally: Tally,
    on_done: Callable[[list[Flow]], None],
    *,
    shows_progress: bool = False,
) -> None:
    """Change the flows that match, each just after it was read. Report the failures at the end.

    If this is interrupted or fails, it changes no further flows, and reports the tally.

    :param conn: the connection that reads the flows.
    :param match: the flows.
    :param change: starts the bulk operation that changes flows.
    :param tally: counts what happened to them.
    :param on_done: called with the flows that were changed, some hundreds at a time.
    :param shows_progress: whether to show at a terminal how many were changed. Then ``on_done``
        must not print at a terminal.
    """
    try:
        with shown_progress("flows", lambda: tally.done, None, quiet=not shows_progress):
            await _change(conn, match, change, tally, on_done)
    except BaseException as error:
        tally.report_failures()
        if tally or not isinstance(error, Exception):
            report_after_interrupt(f"not finished: {tally}")
        raise
    tally.report_failures()


async def _change(
    conn: Connection,
    match: Match,
    change: Callable[[AsyncIterable[Flow]], BulkOperation[Flow]],
    tally: Tally,
    on_done: Callable[[list[Flow]], None],
) -> None:
    async with conn.dump(match) as dump:
        flows = _StoppableDump(dump)
        async with change(flows) as bulk:
            try:
                async for outcomes in bulk.batches():
                    on_done(tally.count(outcomes))
            except BaseException:
                flows.stop()
                await _finish(bulk, tally)
                raise


async def _finish(bulk: BulkOperation[Flow], tally: Tally) -> None:
    """Count the outcomes of the requests that are on their way, though this task is cancelled."""
    with anyio.CancelScope(shield=True), suppress(ConntrackError):
        async for outcomes in bulk.batches():
            tally.count(outcomes)


class _StoppableDump:
    """The flows of a dump, until they are stopped."""

    def __init__(self, dump: Dump[Flow]) -> None:
        self._dump = dump
        self._stopped = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Flow:
        if self._stopped:
            raise StopAsyncIteration
        return await anext(self._dump)

    def stop(self) -> None:
        """Yield no more flows."""
        self._stopped = True
