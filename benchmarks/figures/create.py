"""Measure creating many flows, with an outcome for each."""

from __future__ import annotations

from conntrack_aio import Flow

from ..contenders import floor, library, ours
from ..options import Options
from ..report import Figure
from ..rivals import Rivals
from .lines import measure


def create(options: Options, rivals: Rivals) -> Figure:
    """Measure the figure ``create``.

    The flow objects exist beforehand. The floor's requests are also encoded beforehand.
    """
    flows = [_flow(number) for number in range(options.creates)]
    methods = (ours.ALL_OUTCOMES, ours.OUTCOMES_IN_BATCHES)
    our_contenders = [ours.create(method, flows) for method in methods]
    contenders = [floor.create(flows), *our_contenders]
    if rivals.program is not None:
        contenders.append(library.create(rivals.program, len(flows)))
    title = f"create {len(flows):,} flows, an outcome for each"
    limits = {each.name: "1.3 x C" for each in our_contenders}
    return Figure("create", title, measure(contenders, options.runs, len(flows), limits))


def _flow(number: int) -> Flow:
    """Return the flow that rival.c creates with this number."""
    client = f"10.{number + 1 >> 16}.{number + 1 >> 8 & 255}.{number + 1 & 255}"
    port = 1024 + number % 64_000
    return Flow.tcp(client, port, "198.51.100.1", 443, timeout=3600, mark=number & 0xFF)
