"""Measure dumps that are read as a stream: of IPv4 TCP flows, and of flows of all kinds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import attrs

from conntrack_aio import Flow, KernelError, connect
from conntrack_aio.model.protocols import PROTOCOL_NAMES

from .. import tables
from ..contenders import command, floor, golang, library, ours, pyroute
from ..isolation import run_in_process
from ..options import Options
from ..report import Figure, Line
from ..rivals import BACKENDS, Rivals
from ..timing import Contender
from .lines import measure


def dump(options: Options, rivals: Rivals) -> Figure:
    """Measure the figure ``dump``: IPv4 TCP flows."""
    shapes = tables.tcp_shapes()
    slow: list[Line] = []
    if pyroute.NAME in rivals:
        tables.fill(shapes, 0, options.slow, options.per_client)
        slow = run_in_process(_measure_slow, options.slow)
        floor.flush()
    tables.fill(shapes, 0, options.flows, options.per_client)
    limits = {
        ours.FLOW_BY_FLOW.name: "1.15 x floor or 0.85 x C",
        ours.BATCH_BY_BATCH.name: "1.1 x floor or 0.75 x C",
    }
    lines = measure(_contenders(options.flows, rivals), options.runs, options.flows, limits)
    return Figure("dump", f"stream {options.flows:,} IPv4 TCP flows", [*lines, *slow])


def _measure_slow(flows: int) -> list[Line]:
    """Return the line of pyroute2, which is too slow for the full size and runs once."""
    lines = measure([floor.dump(flows), pyroute.dump()], 1, flows, {})
    return [attrs.evolve(lines[1], remark=f"once, of {flows:,}")]


def mixed(options: Options, rivals: Rivals) -> Figure:
    """Measure the figure ``mixed``: flows of all kinds, with counters, times and some labels."""
    notes: list[str] = []
    try:
        tables.enable_everything()
    except KernelError as error:
        notes.append(f"No flow has labels: {error}")
    tables.fill(tables.mixed_shapes(), 0, options.mixed, options.per_client)
    notes.append(ours.on_backend(_composition))
    limits = dict.fromkeys((ours.FLOW_BY_FLOW.name, ours.BATCH_BY_BATCH.name), "1 x C")
    lines = measure(_contenders(options.mixed, rivals), options.runs, options.mixed, limits)
    return Figure("mixed", f"stream {options.mixed:,} flows of all kinds", lines, notes)


async def _composition() -> str:
    """Dump the table, and describe how many flows of each kind it contains."""
    kinds: Counter[str] = Counter()
    async with connect() as conn:
        async for flow in conn.dump():
            kinds.update(_kinds(flow))
    return ", ".join(f"{kind}: {kinds[kind]:,}" for kind in sorted(kinds))


def _kinds(flow: Flow) -> Iterator[str]:
    yield f"IPv{flow.orig.src.version}"
    yield PROTOCOL_NAMES[flow.orig.proto]
    if flow.nat is not None:
        yield "translated"
    if flow.counters_orig is not None:
        yield "with counters"
    if flow.timestamp is not None:
        yield "with times"
    if flow.labels is not None:
        yield "with labels"


def _contenders(flows: int, rivals: Rivals) -> list[Contender]:
    contenders = [
        floor.dump(flows),
        ours.dump(ours.FLOW_BY_FLOW),
        ours.dump(ours.BATCH_BY_BATCH),
        ours.dump(ours.EVERY_FIELD),
        ours.first_dump(),
        *(ours.dump(ours.FLOW_BY_FLOW, name) for name in BACKENDS if name in rivals),
    ]
    if rivals.program is not None:
        contenders.append(library.dump(rivals.program))
    if rivals.go is not None:
        contenders.append(golang.dump(rivals.go, flows))
    if command.NAME in rivals:
        contenders.append(command.dump())
    return contenders
