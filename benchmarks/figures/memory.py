"""Resident memory: of a whole table that is kept, and of one that is read as a stream."""

from __future__ import annotations

import gc
import resource
from pathlib import Path
from typing import Final

from conntrack_aio import connect

from .. import tables
from ..contenders import ours
from ..isolation import apart, room
from ..options import Options
from ..report import Figure, Line
from ..rivals import Rivals
from ..timing import Spread
from .lines import no_room

_MIB: Final = 1 << 20


def memory(options: Options, rivals: Rivals) -> Figure:
    """Each run in a process of its own, whose memory nothing else has grown before."""
    title = f"resident memory: keep {options.large:,} flows, or stream them"
    if room() < options.large:
        return Figure("memory", title, notes=[no_room(options.large)])
    lines: list[Line] = []
    filled = 0
    for size in (options.small, options.large):
        tables.fill(tables.tcp_shapes(), filled, size, options.per_client)
        filled = size
        grown = Spread.of(apart(_streamed) / _MIB for _ in range(options.large_runs))
        lines.append(Line(f"stream {size:,}: growth at its peak", grown, "MiB", wanted="16 MiB"))
    kept = Spread.of(apart(_kept) / filled for _ in range(options.large_runs))
    lines.append(Line(f"keep {filled:,}: a flow", kept, "bytes", wanted="900 bytes"))
    return Figure("memory", title, lines)


def _kept() -> int:
    """By how many bytes the process grows with ``list()``."""

    async def grown() -> int:
        async with connect() as conn:
            gc.collect()
            before = resident()
            flows = await conn.list()
            after = resident()
            assert flows
            return after - before

    return ours.on_backend(grown)


def _streamed() -> int:
    """By how many bytes it grows at most while it reads the table."""

    async def grown() -> int:
        async with connect() as conn:
            gc.collect()
            _forget_peak()
            before = resident()
            await ours.FLOW_BY_FLOW.consume(conn)
            return _peak() - before

    return ours.on_backend(grown)


def resident() -> int:
    """Bytes of memory that this process takes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _forget_peak() -> None:
    """Have the peak be counted from now on (proc_pid_clear_refs(5))."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    raise LookupError("the kernel does not tell VmHWM")
