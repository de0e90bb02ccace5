"""Measure the resident memory of a program that keeps a whole table, and of one that streams it."""

from __future__ import annotations

import gc
import resource
from pathlib import Path
from typing import Final

from conntrack_aio import connect

from .. import tables
from ..contenders import ours
from ..isolation import room, run_in_process
from ..options import Options
from ..report import Figure, Line
from ..rivals import Rivals
from ..timing import Spread
from .lines import table_too_large

_MIB: Final = 1 << 20


def memory(options: Options, rivals: Rivals) -> Figure:
    """Measure the figure ``memory``.

    Each run has its own process: memory that an earlier run freed would hide its growth.
    """
    title = f"resident memory: keep {options.large:,} flows, or stream them"
    if room() < options.large:
        return Figure("memory", title, notes=[table_too_large(options.large)])
    lines: list[Line] = []
    filled = 0
    for size in (options.small, options.large):
        tables.fill(tables.tcp_shapes(), filled, size, options.per_client)
        filled = size
        grown = Spread.of(
            run_in_process(_peak_growth_of_stream) / _MIB for _ in range(options.large_runs)
        )
        lines.append(Line(f"stream {size:,}: peak growth", grown, "MiB", limit="16 MiB"))
    per_flow = Spread.of(
        run_in_process(_growth_of_list) / filled for _ in range(options.large_runs)
    )
    lines.append(Line(f"keep {filled:,}: per flow", per_flow, "bytes", limit="600 bytes"))
    return Figure("memory", title, lines)


def _growth_of_list() -> int:
    """Return by how many bytes the process grows when it keeps the result of ``conn.list()``."""

    async def growth() -> int:
        async with connect() as conn:
            gc.collect()
            before = resident()
            flows = await conn.list()
            after = resident()
            assert flows
            return after - before

    return ours.on_backend(growth)


def _peak_growth_of_stream() -> int:
    """Return by how many bytes the process grows at most while it streams the table."""

    async def growth() -> int:
        async with connect() as conn:
            gc.collect()
            _reset_peak()
            before = resident()
            await ours.FLOW_BY_FLOW.consume(conn)
            return _peak() - before

    return ours.on_backend(growth)


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _reset_peak() -> None:
    """Reset the peak of resident memory to its present value; see proc_pid_clear_refs(5)."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Return the peak of resident memory in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024
    raise LookupError("/proc/self/status has no VmHWM")
