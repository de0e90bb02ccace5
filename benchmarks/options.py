"""What may be asked of the program."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

import attrs

FIGURES: Final = (
    *("dump", "mixed", "events", "create", "selected", "filtered"),
    *("table", "scaling", "memory", "gaps", "processes"),
)
"""In the order in which they are measured."""


@attrs.frozen
class Options:
    """The sizes, and what to leave out. By default those of the table in README.md."""

    flows: int = 200_000
    """Of the table of IPv4 TCP flows."""
    mixed: int = 200_000
    """Of the table with something of everything."""
    events: int = 100_000
    creates: int = 100_000
    small: int = 50_000
    """The lesser of two sizes that are compared."""
    large: int = 1_000_000
    """The greater of them."""
    slow: int = 5_000
    """Of the table for what takes some hundred microseconds a flow."""
    runs: int = 7
    """Of each contender, in turns."""
    large_runs: int = 3
    """The same, with the large table."""
    per_client: int = 1
    """How many flows have the same source address."""
    starts: int = 10
    """Of each program that is only started."""
    only: tuple[str, ...] = FIGURES

    @property
    def sizes(self) -> dict[str, int]:
        """All that are numbers."""
        return attrs.asdict(self, filter=lambda _, value: isinstance(value, int))

    @property
    def most(self) -> int:
        """Flows in the largest table."""
        return max(self.flows, self.mixed, self.events, self.creates, self.small, self.large)


QUICK: Final = Options(
    flows=2_000,
    mixed=2_000,
    events=100,
    creates=1_000,
    small=1_000,
    large=4_000,
    slow=100,
    runs=1,
    large_runs=1,
    starts=2,
)
"""To see that it runs: the figures say nothing."""

_HELP: Final = {
    "flows": "IPv4 TCP flows in the table that is dumped",
    "mixed": "flows of all kinds in the other table that is dumped",
    "events": "events that wait to be read, to be applied to a live table, or to be filtered",
    "creates": "flows to make",
    "small": "flows in the small table, for how cost grows",
    "large": "flows in the large one, also for memory, gaps, the live table and filtered dumps",
    "slow": "flows for what is a hundred times slower",
    "runs": "runs of each contender, in turns",
    "large_runs": "runs with the large table",
    "per_client": "flows that share a source address",
}


class Invocation:
    """The options, and where the results go."""

    def __init__(self, arguments: Sequence[str] | None) -> None:
        parsed = _parser().parse_args(arguments)
        given = {name: value for name in _HELP if (value := getattr(parsed, name)) is not None}
        if parsed.only:
            given["only"] = tuple(name for name in FIGURES if name in parsed.only)
        self.options: Options = attrs.evolve(QUICK if parsed.quick else Options(), **given)
        self.json: str | None = parsed.json
        self.markdown: bool = parsed.markdown


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure conntrack_aio beside the floor of what the kernel takes, and beside "
        "other libraries. As root all of it; else it says what is left out.",
    )
    for name, text in _HELP.items():
        flag = "--" + name.replace("_", "-")
        default = getattr(Options(), name)
        parser.add_argument(flag, type=_positive, metavar="N", help=f"{text} ({default:,})")
    parser.add_argument(
        "--only", action="append", choices=FIGURES, metavar="NAME", help=", ".join(FIGURES)
    )
    parser.add_argument("--quick", action="store_true", help="small tables, to see that it runs")
    parser.add_argument("--json", metavar="FILE", help="write the results there too; - is here")
    parser.add_argument("--markdown", action="store_true", help="print tables for a page")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("it takes at least one")
    return value
