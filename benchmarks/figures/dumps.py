"""Reading a table as a stream: of flows that are all alike, and of flows of all kinds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import attrs

from conntrack_aio import Flow, KernelError, connect
from conntrack_aio.model.protocols import PROTOCOL_NAMES

from .. import tables
from ..contenders import command, floor, library, ours, pyroute
from ..isolation import apart
from ..options import Options
from ..report import Figure, Line
from ..rivals import BACKENDS, Rivals
from ..timing import Contender
from .lines import compared


def dump(options: Options, rivals: Rivals) -> Figure:
    """IPv4 TCP flows."""
    shapes = tables.tcp_shapes()
    slow: list[Line] = []
    if pyroute.NAME in rivals:
        tables.fill(shapes, 0, options.slow, options.per_client)
        slow = apart(_slow, options.slow)
        floor.flush()
    tables.fill(shapes, 0, options.flows, options.per_client)
    wanted = {ours.FLOW_BY_FLOW.name: "1.25 x", ours.BATCH_BY_BATCH.name: "1.25 x"}
    lines = compared(_contenders(options.flows, rivals), options.runs, options.flows, wanted)
    return Figure("dump", f"stream {options.flows:,} IPv4 TCP flows", [*lines, *slow])


def _slow(flows: int) -> list[Line]:
    """What is not worth waiting for at full size, run once."""
    lines = compared([floor.dump(flows), pyroute.dump()], 1, flows, {})
    return [attrs.evolve(lines[1], remark=f"once, of {flows:,}")]


def mixed(options: Options, rivals: Rivals) -> Figure:
    """Flows of all kinds, with all that the kernel may tell of them."""
    notes: list[str] = []
    try:
        tables.use_everything()
    except KernelError as error:
        notes.append(f"No flow has labels: {error}")
    tables.fill(tables.mixed_shapes(), 0, options.mixed, options.per_client)
    notes.append(ours.on_backend(_composition))
    wanted = {ours.FLOW_BY_FLOW.name: "1.4 x", ours.BATCH_BY_BATCH.name: "1.4 x"}
    lines = compared(_contenders(options.mixed, rivals), options.runs, options.mixed, wanted)
    return Figure("mixed", f"stream {options.mixed:,} flows of all kinds", lines, notes)


async def _composition() -> str:
    """How many of each kind the kernel really has."""
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
        ours.first_dump(),
        *(ours.dump(ours.FLOW_BY_FLOW, name) for name in BACKENDS if name in rivals),
    ]
    if rivals.program is not None:
        contenders.append(library.dump(rivals.program))
    if command.NAME in rivals:
        contenders.append(command.dump())
    return contenders
