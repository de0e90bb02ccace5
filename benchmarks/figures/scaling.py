"""Measure whether the time per flow stays the same as the table grows."""

from __future__ import annotations

import attrs

from .. import tables
from ..contenders import floor, ours
from ..isolation import room
from ..options import Options
from ..report import Figure, Line
from ..rivals import Rivals
from ..timing import Spread
from .lines import measure, table_too_large


def scaling(options: Options, rivals: Rivals) -> Figure:
    """Measure the figure ``scaling``: stream a small table, and again after it has grown."""
    title = f"stream {options.small:,} flows, and {options.large:,}"
    if room() < options.large:
        return Figure("scaling", title, notes=[table_too_large(options.large)])
    small = _measure_size(options, 0, options.small, options.runs)
    large = _measure_size(options, options.small, options.large, options.large_runs)
    lines = [*small, *large]
    for before, after in zip(small, large, strict=True):
        growth = Spread(
            after.value.median / before.value.median,
            after.value.low / before.value.high,
            after.value.high / before.value.low,
        )
        limit = "" if before.name.startswith(floor.FLOOR) else "1.15 x"
        name = f"{after.name} / {options.small:,}"
        lines.append(Line(name, growth, "x", limit=limit))
    return Figure("scaling", title, lines)


def _measure_size(options: Options, filled: int, size: int, runs: int) -> list[Line]:
    """Fill a table that has ``filled`` flows up to ``size`` flows, and measure dumps of it."""
    tables.fill(tables.tcp_shapes(), filled, size, options.per_client)
    contenders = [floor.dump(size), ours.dump(ours.FLOW_BY_FLOW), ours.dump(ours.BATCH_BY_BATCH)]
    return [
        attrs.evolve(line, name=f"{line.name}: {size:,}")
        for line in measure(contenders, runs, size, {})
    ]
