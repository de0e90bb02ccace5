"""Whether the cost of a flow stays the same as the table grows."""

from __future__ import annotations

import attrs

from .. import tables
from ..contenders import floor, ours
from ..isolation import room
from ..options import Options
from ..report import Figure, Line
from ..rivals import Rivals
from ..timing import Spread
from .lines import compared, no_room


def scaling(options: Options, rivals: Rivals) -> Figure:
    """The streamed dump of a small table, and of the same one grown large."""
    title = f"stream {options.small:,} flows, and {options.large:,}"
    if room() < options.large:
        return Figure("scaling", title, notes=[no_room(options.large)])
    small = _measured(options, 0, options.small, options.runs)
    large = _measured(options, options.small, options.large, options.large_runs)
    lines = [*small, *large]
    for little, much in zip(small, large, strict=True):
        growth = Spread(
            much.value.median / little.value.median,
            much.value.low / little.value.high,
            much.value.high / little.value.low,
        )
        wanted = "" if little.name.startswith(floor.FLOOR) else "1.15 x"
        name = f"{much.name} / {options.small:,}"
        lines.append(Line(name, growth, "x", wanted=wanted))
    return Figure("scaling", title, lines)


def _measured(options: Options, filled: int, size: int, runs: int) -> list[Line]:
    tables.fill(tables.tcp_shapes(), filled, size, options.per_client)
    contenders = [floor.dump(size), ours.dump(ours.FLOW_BY_FLOW), ours.dump(ours.BATCH_BY_BATCH)]
    return [
        attrs.evolve(line, name=f"{line.name}: {size:,}")
        for line in compared(contenders, runs, size, {})
    ]
