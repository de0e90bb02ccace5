"""Measure the live table: filling it, its memory, look-ups, and applying events."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from conntrack_aio import Flow, FlowTable, connect

from .. import tables
from ..contenders import floor, ours
from ..isolation import room, run_in_process
from ..options import Options
from ..report import Figure, Line
from ..rivals import Rivals
from ..timing import (
    Contender,
    Spread,
    Stopwatch,
    Timing,
    cpu_time_per_item,
    in_turns,
    ratios,
    wall_time_per_item,
)
from .events import NEEDS_ROOT, TRUESIZE, can_buffer, event_source
from .lines import table_too_large
from .memory import resident

_FEW: Final = 1_000
"""The size of the small table, and how many entries are looked up in either table."""
_ROUNDS: Final = 20
"""How often each entry is looked up."""

_Lookup = Callable[[FlowTable, Flow], object]


def _by_orig(mirror: FlowTable, flow: Flow) -> object:
    return mirror.by_orig(flow.orig, zone=flow.zone)


def _by_reply(mirror: FlowTable, flow: Flow) -> object:
    return mirror.by_reply(flow.reply, zone=flow.zone)


def _by_id(mirror: FlowTable, flow: Flow) -> object:
    return mirror.by_id(flow.id or 0)


def _translate(mirror: FlowTable, flow: Flow) -> object:
    return mirror.translate(flow.orig, zone=flow.zone)


def _do_nothing(mirror: FlowTable, flow: Flow) -> object:
    """Do nothing, to time the loop and the call alone."""


_LOOKUPS: Final[dict[str, _Lookup]] = {
    "by_orig": _by_orig,
    "by_reply": _by_reply,
    "by_id": _by_id,
    "translate": _translate,
}


class _Measurement(NamedTuple):
    """The costs of one live table in one process."""

    fill: float
    """Microseconds per entry until the table was synchronized."""
    memory: float
    """Bytes per entry by which the process grew."""
    lookups: dict[str, float]
    """Microseconds per look-up, by method."""


def table(options: Options, rivals: Rivals) -> Figure:
    """Measure the figure ``table``, with flows of all kinds. Each run has its own process."""
    title = f"the live table, of {options.large:,} flows"
    lines: list[Line] = []
    notes: list[str] = []
    if room() < options.large:
        return Figure("table", title, notes=[table_too_large(options.large)])
    measurements: dict[int, list[_Measurement]] = {}
    filled = 0
    for size in (_FEW, options.large):
        tables.fill(tables.mixed_shapes(), filled, size, options.per_client)
        filled = size
        measurements[size] = [run_in_process(_measure_table) for _ in range(options.large_runs)]
    small, large = measurements.values()
    lines.append(Line("fill: per entry", Spread.of(each.fill for each in large), "µs"))
    lines.append(Line("memory: per entry", Spread.of(each.memory for each in large), "bytes"))
    for name in _LOOKUPS:
        few = Spread.of(each.lookups[name] for each in small)
        many = Spread.of(each.lookups[name] for each in large)
        growth = Spread(many.median / few.median, many.low / few.high, many.high / few.low)
        lines.append(Line(f"{name}: of {_FEW:,}", few, "µs"))
        lines.append(Line(f"{name}: of {options.large:,}", many, "µs"))
        lines.append(Line(f"{name}: {options.large:,} / {_FEW:,}", growth, "x", limit="2 x"))
    lines += _measure_events(options, notes)
    return Figure("table", title, lines, notes)


def _measure_table() -> _Measurement:
    """Fill a live table from the kernel's table, and look up some of its entries."""

    async def measure() -> _Measurement:
        async with connect() as conn:
            gc.collect()
            before = resident()
            watch = Stopwatch()
            async with conn.table() as mirror:
                timing = watch.stop(len(mirror))
                growth = resident() - before
                flows = list(mirror)
                sample = random.Random(1).sample(flows, min(_FEW, len(flows)))
                lookups = {
                    name: _time_lookup(mirror, sample, lookup) for name, lookup in _LOOKUPS.items()
                }
        return _Measurement(timing.wall / timing.count * 1e6, growth / timing.count, lookups)

    return ours.on_backend(measure)


def _time_lookup(mirror: FlowTable, sample: list[Flow], lookup: _Lookup) -> float:
    """Return microseconds per look-up, without the time of the loop and the call."""

    def timed(function: _Lookup) -> float:
        start = time.perf_counter()
        for _ in range(_ROUNDS):
            for flow in sample:
                function(mirror, flow)
        return (time.perf_counter() - start) / _ROUNDS / len(sample) * 1e6

    assert all(lookup(mirror, flow) for flow in sample)
    return timed(lookup) - timed(_do_nothing)


def _measure_events(options: Options, notes: list[str]) -> list[Line]:
    """Measure applying events to the table, and compare with a stream of the same events."""
    count = options.events
    buffer = count * TRUESIZE
    if not can_buffer(buffer):
        notes.append(f"Events are left out: {NEEDS_ROOT}")
        return []
    cause = event_source(options)

    async def timed() -> Timing:
        floor.flush()  # otherwise the table has entries first, and gets their destroy events
        async with connect() as conn, conn.table(receive_buffer=buffer) as mirror:
            cause()
            watch = Stopwatch()
            await mirror.synced()
            return watch.stop(len(mirror))

    stream = ours.events(ours.EVENTS_IN_BATCHES, cause, count, buffer)
    applying = Contender("apply an event", lambda: ours.on_backend(timed))
    timings = in_turns([stream, applying], options.runs)
    return [
        Line(
            f"read an event ({stream.name}), {count:,} queued",
            wall_time_per_item(timings[stream.name]),
            "µs",
            cpu=cpu_time_per_item(timings[stream.name]),
        ),
        Line(
            applying.name,
            wall_time_per_item(timings[applying.name]),
            "µs",
            ratio=ratios(timings, applying.name, stream.name),
            cpu=cpu_time_per_item(timings[applying.name]),
            remark="x the stream",
        ),
    ]
