"""Measure how long other tasks wait while the kernel walks the whole table."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple

import anyio

from conntrack_aio import Connection, Match, NotFound, Tuple, connect

from .. import tables
from ..contenders import ours
from ..isolation import room
from ..options import Options
from ..report import Figure, Line
from ..rivals import Rivals
from ..timing import Spread
from .lines import table_too_large

_TICK: Final = 0.001
"""How long the ticking task sleeps at a time, in seconds."""
_IDLE: Final = 0.5
"""How long the ticking task runs without a walk, in seconds."""
_UNUSED_MARK: Final = 0xDEADBEEF
"""A mark that no flow has."""

Walk = Callable[[Connection], Awaitable[object]]


class Gaps(NamedTuple):
    """By how many milliseconds the ticking task overslept."""

    longest: float
    percentile99: float


def gaps(options: Options, rivals: Rivals) -> Figure:
    """Measure the figure ``gaps``.

    During each walk one task sleeps a millisecond at a time, and another calls ``conn.get()``.
    """
    title = f"how long another task waits while {options.large:,} flows are walked, on asyncio"
    if room() < options.large:
        return Figure("gaps", title, notes=[table_too_large(options.large)])
    found: dict[str, list[Gaps]] = {name: [] for name in _WALKS}
    for _ in range(options.large_runs):
        # The last of the walks deletes all flows.
        tables.fill(tables.tcp_shapes(), 0, options.large, options.per_client)
        for name, walk in _WALKS.items():
            found[name].append(ours.on_backend(partial(_gaps_during, walk)))
    lines: list[Line] = []
    for name, all_gaps in found.items():
        limits = ("", "") if name == _NO_WALK else ("50 ms", "5 ms")
        for statistic, values, limit in zip(
            ("longest", "99th percentile"), zip(*all_gaps, strict=True), limits, strict=True
        ):
            lines.append(Line(f"{name}: {statistic}", Spread.of(values), "ms", limit=limit))
    return Figure("gaps", title, lines)


class _OtherTasks:
    """Two tasks that run during a walk.

    They end by themselves instead of being cancelled, so that a long gap at the end counts.
    """

    def __init__(self, conn: Connection, target: Tuple) -> None:
        self.gaps: list[float] = []
        self.stop = False
        self._conn = conn
        self._target = target

    async def tick(self) -> None:
        last = time.perf_counter()
        while not self.stop:
            await anyio.sleep(_TICK)
            now = time.perf_counter()
            self.gaps.append((now - last - _TICK) * 1000)
            last = now

    async def get(self) -> None:
        while not self.stop:
            try:
                await self._conn.get(self._target)
            except NotFound:
                pass  # the walk has flushed it


async def _gaps_during(walk: Walk) -> Gaps:
    """Run the other tasks for as long as the walk takes, and return how long they waited."""
    async with connect() as conn:
        other_tasks = _OtherTasks(conn, (await anext(conn.dump())).orig)
        async with anyio.create_task_group() as group:
            group.start_soon(other_tasks.tick)
            group.start_soon(other_tasks.get)
            await anyio.sleep(_TICK)
            await walk(conn)
            other_tasks.stop = True
    found = sorted(other_tasks.gaps)
    return Gaps(found[-1], found[math.ceil(len(found) * 0.99) - 1])


async def _idle(conn: Connection) -> None:
    await anyio.sleep(_IDLE)


async def _dump_nothing(conn: Connection) -> None:
    assert not await conn.list(Match(mark=_UNUSED_MARK))


_NO_WALK: Final = "no walk"
_WALKS: Final[dict[str, Walk]] = {
    _NO_WALK: _idle,
    "dump": ours.FLOW_BY_FLOW.consume,
    "dump with a filter that no flow matches": _dump_nothing,
    "flush": Connection.flush,
}
