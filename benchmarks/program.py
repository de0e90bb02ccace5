"""Measure the chosen figures one after the other, and print the report."""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from conntrack_aio import ConntrackError

from .contenders.floor import flush
from .figures import MEASURE
from .isolation import end_on_signals, enter_namespace, room_for, run_in_process
from .options import Invocation, Options
from .report import Figure, Report, as_json, as_markdown, as_text, describe_machine
from .rivals import Rivals
from .timing import Disagreement


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the report, and return the exit status: 1 if a figure failed."""
    invocation = Invocation(arguments)
    options = invocation.options
    end_on_signals()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as directory, room_for(options.largest_table):
        rivals = Rivals.find(Path(directory), invocation.go)
        for name in options.only:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            figures.append(_measure(name, options, rivals))
    report = Report(describe_machine(rivals.versions), options.sizes, rivals.missing, figures)
    if invocation.json == "-":
        print(as_json(report))
    else:
        if invocation.json is not None:
            Path(invocation.json).write_text(as_json(report) + "\n")
        print(as_markdown(report) if invocation.markdown else as_text(report))
    return int(any(figure.failed for figure in figures))


def _measure(name: str, options: Options, rivals: Rivals) -> Figure:
    """Return a figure. If it fails, return one with the error, so that the others still run."""
    try:
        return run_in_process(_measure_in_namespace, name, options, rivals)
    except Exception as error:
        if not isinstance(error, ConntrackError | Disagreement):
            traceback.print_exception(error)
        return Figure(name, name, notes=[f"Failed: {error}"], failed=True)


def _measure_in_namespace(name: str, options: Options, rivals: Rivals) -> Figure:
    enter_namespace()
    try:
        return MEASURE[name](options, rivals)
    finally:
        # Otherwise the kernel deletes a large table with the namespace, during the next figure.
        flush()
