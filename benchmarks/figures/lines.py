"""What the timings of contenders say, as lines of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..contenders.floor import FLOOR
from ..report import Line
from ..timing import Contender, check, each_costs, each_occupies, in_turns, ratios


def compared(
    contenders: Sequence[Contender],
    runs: int,
    expected: int,
    wanted: Mapping[str, str],
) -> list[Line]:
    """Check that they see the same, and time them in turns; the floor is one of them."""
    check(contenders, expected)
    timings = in_turns(contenders, runs)
    return [
        Line(
            each.name,
            each_costs(timings[each.name]),
            "µs",
            None if each.name == FLOOR else ratios(timings, each.name, FLOOR),
            each_occupies(timings[each.name]),
            wanted.get(each.name, ""),
            each.remark,
        )
        for each in contenders
    ]


def no_room(flows: int) -> str:
    """Why a large table can't be measured."""
    return (
        f"Left out: {flows:,} flows are more than net.netfilter.nf_conntrack_max allows, and to "
        "raise it takes root in the machine's first network namespace."
    )
