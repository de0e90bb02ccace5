"""How long other tasks wait while the whole table is walked."""

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
from .lines import no_room

_TICK: Final = 0.001
_IDLE: Final = 0.5
"""Seconds to watch a loop on which nothing walks."""

_NO_MARK: Final = 0xDEADBEEF
"""That no flow has."""


Walk = Callable[[Connection], Awaitable[object]]


class Gaps(NamedTuple):
    """Milliseconds that a task which sleeps for one slept too long."""

    longest: float
    percentile99: float


def gaps(options: Options, rivals: Rivals) -> Figure:
    """Beside each walk one task sleeps for a millisecond at a time, another calls ``get``."""
    title = f"how long a ticking task waits beside {options.large:,} flows, on asyncio"
    if room() < options.large:
        return Figure("gaps", title, notes=[no_room(options.large)])
    found: dict[str, list[Gaps]] = {name: [] for name in _WALKS}
    for _ in range(options.large_runs):
        # The last of the walks empties it.
        tables.fill(tables.tcp_shapes(), 0, options.large, options.per_client)
        for name, walk in _WALKS.items():
            found[name].append(ours.on_backend(partial(_beside, walk)))
    lines: list[Line] = []
    for name, all_gaps in found.items():
        limits = ("", "") if name == _NOTHING else ("50 ms", "5 ms")
        for what, values, wanted in zip(
            ("longest", "99th percentile"), zip(*all_gaps, strict=True), limits, strict=True
        ):
            lines.append(Line(f"{name}: {what}", Spread.of(values), "ms", wanted=wanted))
    return Figure("gaps", title, lines)


class _Others:
    """Two tasks beside a walk. They end by themselves, so that no last, long gap is missed."""

    def __init__(self, conn: Connection, target: Tuple) -> None:
        self.gaps: list[float] = []
        self.over = False
        self._conn = conn
        self._target = target

    async def tick(self) -> None:
        last = time.perf_counter()
        while not self.over:
            await anyio.sleep(_TICK)
            now = time.perf_counter()
            self.gaps.append((now - last - _TICK) * 1000)
            last = now

    async def get(self) -> None:
        while not self.over:
            try:
                await self._conn.get(self._target)
            except NotFound:
                pass  # it was flushed


async def _beside(walk: Walk) -> Gaps:
    """Tick, and get a flow, for as long as the walk takes."""
    async with connect() as conn:
        others = _Others(conn, (await anext(conn.dump())).orig)
        async with anyio.create_task_group() as group:
            group.start_soon(others.tick)
            group.start_soon(others.get)
            await anyio.sleep(_TICK)
            await walk(conn)
            others.over = True
    found = sorted(others.gaps)
    return Gaps(found[-1], found[math.ceil(len(found) * 0.99) - 1])


async def _idle(conn: Connection) -> None:
    await anyio.sleep(_IDLE)


async def _filtered(conn: Connection) -> None:
    assert not await conn.list(Match(mark=_NO_MARK))


_NOTHING: Final = "nothing walks"
_WALKS: Final[dict[str, Walk]] = {
    _NOTHING: _idle,
    "dumped": ours.FLOW_BY_FLOW.consume,
    "dumped, with a filter that none matches": _filtered,
    "flushed": Connection.flush,
}
