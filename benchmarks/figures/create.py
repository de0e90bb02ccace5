"""Making many flows, with an outcome for each."""

from __future__ import annotations

from conntrack_aio import Flow

from ..contenders import floor, library, ours
from ..options import Options
from ..report import Figure
from ..rivals import Rivals
from .lines import compared


def create(options: Options, rivals: Rivals) -> Figure:
    """Of objects that exist beforehand; the floor has the requests encoded beforehand too."""
    flows = [_flow(number) for number in range(options.creates)]
    made = [ours.create(way, flows) for way in (ours.ALL_OUTCOMES, ours.OUTCOMES_IN_BATCHES)]
    contenders = [floor.create(flows), *made]
    if rivals.program is not None:
        contenders.append(library.create(rivals.program, len(flows)))
    title = f"make {len(flows):,} flows, an outcome for each"
    wanted = {each.name: "2.0 x" for each in made}
    return Figure("create", title, compared(contenders, options.runs, len(flows), wanted))


def _flow(number: int) -> Flow:
    """As rival.c makes it."""
    client = f"10.{number + 1 >> 16}.{number + 1 >> 8 & 255}.{number + 1 & 255}"
    port = 1024 + number % 64_000
    return Flow.tcp(client, port, "198.51.100.1", 443, timeout=3600, mark=number & 0xFF)
