"""What a restore did with each flow and expectation: counts, problems and lines of output."""

from __future__ import annotations

import json
from collections import Counter
from enum import Enum
from typing import Final

from ..codec.json import to_dict
from ..codec.json_values import JSON
from ..model.expectations import Expectation
from ..model.flow import Flow
from .output import OutputError, ReaderGone, report, write_line
from .problems import Problems, name_of_flow, reason_of

Item = Flow | Expectation


class Result(Enum):
    """What was done with a flow or an expectation. The value is its name in the output."""

    CREATED = "created"
    UPDATED = "updated"
    EXISTING = "existing"
    EXPIRED = "expired"
    FAILED = "failed"


_WOULD_BE: Final = {
    Result.CREATED: "create",
    Result.UPDATED: "update",
    Result.EXISTING: "exists",
    Result.EXPIRED: "expired",
    Result.FAILED: "conflict",
}
"""The first words of the lines of a dry run."""

_SUMMARY: Final = {  # of a restore and of a dry run
    Result.CREATED: ("created {}", "would create {}"),
    Result.UPDATED: ("updated {}", "would update {}"),
    Result.EXISTING: ("left {} alone", "would leave {} alone"),
    Result.EXPIRED: ("{} expired",) * 2,
    Result.FAILED: ("failed to restore {}", "could not create {}"),
}


class RestoreReport:
    """Counts what a restore does, and reports it.

    A restore goes on if its output cannot be written: a table that is half restored would be worse.
    """

    def __init__(self, *, json: bool, quiet: bool, dry_run: bool) -> None:
        """Create a report.

        :param json: write lines of JSON about all but flows that were created, and a summary.
        :param quiet: report no summary, only problems.
        :param dry_run: nothing is done; write a line for each flow.
        """
        self._json = json
        self._quiet = quiet
        self._dry_run = dry_run
        self._flows: Counter[Result] = Counter()
        self._expectations: Counter[Result] = Counter()
        self._problems = Problems()
        self._output_error: OutputError | ReaderGone | None = None

    @property
    def done(self) -> int:
        """The number of flows and expectations so far."""
        return self._flows.total() + self._expectations.total()

    @property
    def numbers(self) -> dict[str, int]:
        """The numbers of flows so far, by the name of each result that occurred."""
        return {result.value: count for result, count in self._flows.items()}

    @property
    def failures(self) -> list[str]:
        """The texts of the failures so far."""
        return [str(problem) for problem in self._problems.failures]

    def add(self, result: Result, item: Item) -> None:
        """Count a flow or an expectation that did not fail."""
        self._count(result, item)
        if self._json:
            if self._dry_run or result is not Result.CREATED:
                self._write_json(result.value, item)
        elif self._dry_run:
            self._write(f"{_WOULD_BE[result]} {item}")

    def fail(self, item: Item, reason: object) -> None:
        """Count a flow or an expectation that cannot be restored.

        :param reason: the error, or its text.
        """
        self._count(Result.FAILED, item)
        text = reason_of(reason)
        if self._json:
            self._write_json(Result.FAILED.value, item, text)
        elif self._dry_run:
            self._write(f"{_WOULD_BE[Result.FAILED]} {item}")
        self._problems.add("not restored", text, _name(item))

    def lack(self, flow: Flow, what: str, reason: object, *, is_failure: bool = True) -> None:
        """Report a flow that was created without something that it had.

        :param what: what it lacks, such as ``helper``.
        :param reason: the error, or its text.
        :param is_failure: whether the restore fails because of it.
        """
        text = reason_of(reason)
        if self._json:
            self._write_json(f"without {what}", flow, text)
        self._problems.add(f"created without the {what}", text, _name(flow), is_failure=is_failure)

    def finish(self, *, stopped: bool = False) -> int:
        """Report the problems and the summary, and return the exit status.

        :param stopped: the restore was stopped before its end.
        :raises OutputError: when a line of output could not be written and nothing else failed.
        :raises ReaderGone: likewise, because the reader has closed its end of the pipe.
        """
        if self._json:
            self._write(json.dumps(self._summary(stopped)))
        for problem in self._problems.all:
            if not self._quiet or problem.is_failure:
                report(problem)
        if stopped or not self._quiet:
            report(("stopped before the end: " if stopped else "") + self._summary_text())
        if self._output_error is not None and not self.failures and not stopped:
            raise self._output_error
        return int(bool(self.failures))

    def _count(self, result: Result, item: Item) -> None:
        counts = self._flows if isinstance(item, Flow) else self._expectations
        counts[result] += 1

    def _summary(self, stopped: bool) -> dict[str, JSON]:
        def numbers(counts: Counter[Result]) -> dict[str, JSON]:
            return {result.value: counts[result] for result in Result}

        return {
            "type": "summary",
            "dry_run": self._dry_run,
            "stopped": stopped,
            "flows": numbers(self._flows),
            "expectations": numbers(self._expectations),
        }

    def _summary_text(self) -> str:
        parts: list[str] = []
        for result in Result:
            flows, expectations = self._flows[result], self._expectations[result]
            if flows or expectations or result is Result.CREATED:
                text = _SUMMARY[result][self._dry_run]
                parts.append(text.format(count_items(flows, expectations)))
        return "; ".join(parts)

    def _write_json(self, type: str, item: Item, error: str | None = None) -> None:
        kind = "flow" if isinstance(item, Flow) else "expectation"
        line: dict[str, JSON] = {"type": type, kind: to_dict(item)}
        if error is not None:
            line["error"] = error
        self._write(json.dumps(line))

    def _write(self, line: str) -> None:
        if self._output_error is None:
            try:
                write_line(line)
            except (OutputError, ReaderGone) as error:
                self._output_error = error


def count_items(flows: int, expectations: int) -> str:
    """Return the text for numbers of flows and expectations, such as ``2 flows``."""
    parts = [_plural(flows, "flow")] if flows or not expectations else []
    if expectations:
        parts.append(_plural(expectations, "expectation"))
    return " and ".join(parts)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _name(item: Item) -> str:
    """Return the short text of an item in a list of examples."""
    if isinstance(item, Expectation):
        return f"expectation {item.tuple}"
    helper = f" helper={item.helper.name}" if item.helper is not None else ""
    return f"{name_of_flow(item)}{helper}"
