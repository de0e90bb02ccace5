"""Turn the timings of contenders into lines of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..contenders import library
from ..contenders.floor import FLOOR
from ..report import Line
from ..timing import Contender, check, cpu_time_per_item, in_turns, ratios, wall_time_per_item


def measure(
    contenders: Sequence[Contender],
    runs: int,
    expected: int,
    limits: Mapping[str, str],
) -> list[Line]:
    """Check the contenders, time them in turns, and return a line for each.

    :param contenders: the contenders; one of them is the floor.
    :param runs: how often each is run.
    :param expected: how many flows or events each must read.
    :param limits: by name of the contender, the ratio that it should not exceed.

    :raises Disagreement: when a contender reads other flows or events than it should.
    """
    check(contenders, expected)
    timings = in_turns(contenders, runs)
    return [
        Line(
            each.name,
            wall_time_per_item(timings[each.name]),
            "µs",
            ratio=None if each.name == FLOOR else ratios(timings, each.name, FLOOR),
            c_ratio=(
                ratios(timings, each.name, library.NAME)
                if library.NAME in timings and each.name not in (FLOOR, library.NAME)
                else None
            ),
            cpu=cpu_time_per_item(timings[each.name]),
            limit=limits.get(each.name, ""),
            remark=each.remark,
        )
        for each in contenders
    ]


def table_too_large(flows: int) -> str:
    """Return a note that says why a figure with a table of this size is left out."""
    return (
        f"Left out: {flows:,} flows are more than net.netfilter.nf_conntrack_max allows. Only root "
        "in the initial network namespace can raise it."
    )
