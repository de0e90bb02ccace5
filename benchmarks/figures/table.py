"""The live table: what it takes to fill and to hold, to ask, and to keep true."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from contextlib import closing
from socket import SO_RCVBUF, SOL_SOCKET
from typing import Final, NamedTuple

from conntrack_aio import Flow, FlowTable, connect

from .. import tables
from ..contenders import floor, ours
from ..isolation import apart, room
from ..options import Options
from ..report import Figure, Line
from ..rivals import Rivals
from ..timing import (
    Contender,
    Spread,
    Stopwatch,
    Timing,
    each_costs,
    each_occupies,
    in_turns,
    ratios,
)
from .events import TRUESIZE, cause_of
from .lines import no_room
from .memory import resident

_FEW: Final = 1_000
"""Entries of the small table, and those that are asked for, in the large one too."""
_ROUNDS: Final = 20
"""Times that each is asked for."""


_Call = Callable[[FlowTable, Flow], object]


def _by_orig(mirror: FlowTable, flow: Flow) -> object:
    return mirror.by_orig(flow.orig, zone=flow.zone)


def _by_reply(mirror: FlowTable, flow: Flow) -> object:
    return mirror.by_reply(flow.reply, zone=flow.zone)


def _by_id(mirror: FlowTable, flow: Flow) -> object:
    return mirror.by_id(flow.id or 0)


def _translate(mirror: FlowTable, flow: Flow) -> object:
    return mirror.translate(flow.orig, zone=flow.zone)


def _nothing(mirror: FlowTable, flow: Flow) -> object:
    """What the loop and the call themselves take."""


_LOOKUPS: Final[dict[str, _Call]] = {
    "by_orig": _by_orig,
    "by_reply": _by_reply,
    "by_id": _by_id,
    "translate": _translate,
}


class _Filled(NamedTuple):
    """What one process saw of a table."""

    filled: float
    """Microseconds for an entry, until the table could be used."""
    held: float
    """Bytes for an entry, by which the process grew."""
    asked: dict[str, float]
    """Microseconds for one look-up."""


def table(options: Options, rivals: Rivals) -> Figure:
    """Of flows of all kinds, of which some are translated; each run in a process of its own."""
    title = f"the live table, of {options.large:,} flows"
    lines: list[Line] = []
    notes: list[str] = []
    if room() < options.large:
        return Figure("table", title, notes=[no_room(options.large)])
    found: dict[int, list[_Filled]] = {}
    filled = 0
    for size in (_FEW, options.large):
        tables.fill(tables.mixed_shapes(), filled, size, options.per_client)
        filled = size
        found[size] = [apart(_fill_and_ask) for _ in range(options.large_runs)]
    few, many = found.values()
    lines.append(Line("fill it: an entry", Spread.of(each.filled for each in many), "µs"))
    lines.append(Line("hold it: an entry", Spread.of(each.held for each in many), "bytes"))
    for name in _LOOKUPS:
        little = Spread.of(each.asked[name] for each in few)
        much = Spread.of(each.asked[name] for each in many)
        growth = Spread(much.median / little.median, much.low / little.high, much.high / little.low)
        lines.append(Line(f"{name}: of {_FEW:,}", little, "µs"))
        lines.append(Line(f"{name}: of {options.large:,}", much, "µs"))
        lines.append(Line(f"{name}: {options.large:,} / {_FEW:,}", growth, "x", wanted="2 x"))
    lines += _applied(options, notes)
    return Figure("table", title, lines, notes)


def _fill_and_ask() -> _Filled:
    async def measured() -> _Filled:
        async with connect() as conn:
            gc.collect()
            before = resident()
            watch = Stopwatch()
            async with conn.table() as mirror:
                took = watch.stop(len(mirror))
                grown = resident() - before
                flows = list(mirror)
                some = random.Random(1).sample(flows, min(_FEW, len(flows)))
                asked = {name: _ask(mirror, some, call) for name, call in _LOOKUPS.items()}
        return _Filled(took.wall / took.count * 1e6, grown / took.count, asked)

    return ours.on_backend(measured)


def _ask(mirror: FlowTable, some: list[Flow], call: _Call) -> float:
    """Microseconds for a call, without those that a call of nothing takes."""

    def timed(call: _Call) -> float:
        start = time.perf_counter()
        for _ in range(_ROUNDS):
            for flow in some:
                call(mirror, flow)
        return (time.perf_counter() - start) / _ROUNDS / len(some) * 1e6

    assert all(call(mirror, flow) for flow in some)
    return timed(call) - timed(_nothing)


def _applied(options: Options, notes: list[str]) -> list[Line]:
    """What it takes to follow new flows, beside a stream that hands out the same events."""
    count = options.events
    buffer = count * TRUESIZE
    with closing(floor.open_socket(buffer)) as sock:
        if sock.getsockopt(SOL_SOCKET, SO_RCVBUF) < buffer:
            notes.append("Events are left out: a receive buffer that holds so many takes root.")
            return []
    cause = cause_of(options)

    async def timed() -> Timing:
        floor.flush()  # or the table would begin with entries, and hear of their ends
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
            each_costs(timings[stream.name]),
            "µs",
            cpu=each_occupies(timings[stream.name]),
        ),
        Line(
            applying.name,
            each_costs(timings[applying.name]),
            "µs",
            ratios(timings, applying.name, stream.name),
            each_occupies(timings[applying.name]),
            remark="x the stream",
        ),
    ]
