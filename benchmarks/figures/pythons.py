"""Compare several Pythons: the same figures, measured by each in turn."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..contenders.ours import BATCH_BY_BATCH, EVENT_BY_EVENT, EVENTS_IN_BATCHES, FLOW_BY_FLOW
from ..options import Options
from ..report import Figure, Line
from ..rivals import Rivals
from ..timing import Spread

_FIGURES: Final = ("dump", "mixed", "events", "create")
_CONTENDERS: Final = {
    each.name for each in (FLOW_BY_FLOW, BATCH_BY_BATCH, EVENT_BY_EVENT, EVENTS_IN_BATCHES)
}
_ROOT: Final = Path(__file__).parents[2]


def pythons(options: Options, rivals: Rivals) -> Figure:
    """Measure the figure ``pythons``: some other figures, by each Python that was named."""
    title = "the same figures, by several Pythons"
    if not options.pythons:
        return Figure("pythons", title, notes=["Left out: no Python was named by --python."])
    lines: list[Line] = []
    notes: list[str] = []
    for number, python in enumerate(options.pythons, 1):
        try:
            report = _measure(python, options)
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            detail = getattr(error, "stderr", None) or str(error)
            notes.append(f"Python {number} is left out: {python}: {detail.strip()[-300:]}")
            continue
        notes.append(f"Python {number} is {report['machine']['Python']}.")
        for figure in report["figures"]:
            lines += [
                _line(f"{figure['name']}: {line['name']}, Python {number}", line)
                for line in figure["lines"]
                if line["name"] in _CONTENDERS
            ]
    return Figure("pythons", title, sorted(lines, key=lambda line: line.name), notes)


def _measure(python: str, options: Options) -> Any:
    """Run the benchmarks with a Python, and return its report.

    :raises CalledProcessError: when it fails, as where anyio and attrs are not installed.
    :raises OSError: when there is no such program.
    """
    sizes = [
        argument
        for name in ("flows", "mixed", "events", "creates", "slow", "runs", "per_client")
        for argument in (f"--{name.replace('_', '-')}", str(getattr(options, name)))
    ]
    only = [argument for name in _FIGURES for argument in ("--only", name)]
    done = subprocess.run(
        (python, "-m", "benchmarks", *only, *sizes, "--json", "-"),
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def _line(name: str, line: Mapping[str, Any]) -> Line:
    """Return a line of another report under a new name."""

    def spread(key: str) -> Spread | None:
        return None if line[key] is None else Spread(**line[key])

    value = spread("value")
    assert value is not None
    return Line(
        name,
        value,
        line["unit"],
        ratio=spread("ratio"),
        c_ratio=spread("c_ratio"),
        cpu=spread("cpu"),
    )
