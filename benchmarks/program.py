"""The program: each figure in turn, in a process and a namespace of its own, and the report."""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from conntrack_aio import ConntrackError

from .contenders.floor import flush
from .figures import MEASURE
from .isolation import apart, end_on_signals, enter_namespace, room_for
from .options import Invocation, Options
from .report import Figure, Report, as_json, as_markdown, as_text, machine
from .rivals import Rivals
from .timing import Disagreement


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; the exit status."""
    invocation = Invocation(arguments)
    options = invocation.options
    end_on_signals()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as directory, room_for(options.most):
        rivals = Rivals.find(Path(directory))
        for name in options.only:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            figures.append(_measured(name, options, rivals))
    report = Report(machine(rivals.versions), options.sizes, rivals.missing, figures)
    if invocation.json == "-":
        print(as_json(report))
    else:
        if invocation.json is not None:
            Path(invocation.json).write_text(as_json(report) + "\n")
        print(as_markdown(report) if invocation.markdown else as_text(report))
    return int(any(figure.failed for figure in figures))


def _measured(name: str, options: Options, rivals: Rivals) -> Figure:
    """One figure, or what went wrong: the others are measured all the same."""
    try:
        return apart(_in_namespace, name, options, rivals)
    except Exception as error:
        if not isinstance(error, ConntrackError | Disagreement):
            traceback.print_exception(error)
        return Figure(name, name, notes=[f"Failed: {error}"], failed=True)


def _in_namespace(name: str, options: Options, rivals: Rivals) -> Figure:
    enter_namespace()
    try:
        return MEASURE[name](options, rivals)
    finally:
        # Left to the end of the namespace, a large table would go while the next one is measured.
        flush()
