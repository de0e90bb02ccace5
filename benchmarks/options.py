"""The options of ``python -m benchmarks``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs

FIGURES: Final = (
    *("dump", "mixed", "events", "create", "selected", "filtered"),
    *("table", "scaling", "memory", "gaps", "processes", "output", "pythons"),
)
"""The names of the figures, in the order in which they are measured."""


@attrs.frozen
class Options:
    """The sizes of tables, the numbers of runs, and the figures to measure.

    The defaults are those of the results in README.md.
    """

    flows: int = 200_000
    """The size of the table of IPv4 TCP flows."""
    mixed: int = 200_000
    """The size of the table of flows of all kinds."""
    events: int = 100_000
    """How many events are queued."""
    creates: int = 100_000
    """How many flows are created."""
    small: int = 50_000
    """The smaller of two table sizes that are compared."""
    large: int = 1_000_000
    """The larger of two table sizes that are compared."""
    slow: int = 5_000
    """The size of the table for contenders that take about a hundred microseconds per flow."""
    runs: int = 7
    """The number of runs of each contender. The contenders take turns."""
    large_runs: int = 3
    """The number of runs of each contender with the large table."""
    per_client: int = 1
    """How many flows have the same source address."""
    starts: int = 10
    """How often each process of the figure ``processes`` is started."""
    printed: int = 60_000
    """How many flows the commands of the figure ``output`` print."""
    pythons: tuple[str, ...] = ()
    """The Pythons of the figure ``pythons``: paths, or names of commands."""
    only: tuple[str, ...] = FIGURES
    """The figures to measure."""

    @property
    def sizes(self) -> dict[str, int]:
        """All options that are numbers, by name."""
        return attrs.asdict(self, filter=lambda _, value: isinstance(value, int))

    @property
    def largest_table(self) -> int:
        """The number of flows in the largest table."""
        return max(
            self.flows, self.mixed, self.events, self.creates, self.small, self.large, self.printed
        )


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
    printed=500,
)
"""Small sizes to check that everything runs. The results mean nothing."""

_HELP: Final = {
    "flows": "IPv4 TCP flows in the table of the figure dump",
    "mixed": "flows in the table of the figure mixed",
    "events": "events that are queued for the figures events, filtered and table",
    "creates": "flows to create",
    "printed": "flows that the commands of the figure output print",
    "small": "flows in the small table of the figures scaling and memory",
    "large": "flows in the large table of the figures scaling, memory, selected, table and gaps",
    "slow": "flows in the table for pyroute2, which takes about 100 µs per flow",
    "runs": "runs of each contender; the contenders take turns",
    "large_runs": "runs of each contender with the large table",
    "per_client": "flows that share a source address",
}


class Invocation:
    """The parsed command line."""

    def __init__(self, arguments: Sequence[str] | None) -> None:
        parsed = _parser().parse_args(arguments)
        given = {name: value for name in _HELP if (value := getattr(parsed, name)) is not None}
        if parsed.only:
            given["only"] = tuple(name for name in FIGURES if name in parsed.only)
        if parsed.python:
            given["pythons"] = tuple(parsed.python)
        self.options: Options = attrs.evolve(QUICK if parsed.quick else Options(), **given)
        self.json: str | None = parsed.json
        """The file that the results are written to; ``-`` is standard output."""
        self.go: Path | None = parsed.go
        """A program that dumps the table and prints the microseconds per flow."""
        self.markdown: bool = parsed.markdown
        """Whether to print Markdown."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure conntrack_aio. Compare it with other libraries and with the floor: "
        "the time that the kernel alone takes. Run it as root to measure everything. Otherwise "
        "the report says what was left out.",
    )
    for name, text in _HELP.items():
        flag = "--" + name.replace("_", "-")
        default = getattr(Options(), name)
        parser.add_argument(
            flag, type=_positive, metavar="N", help=f"{text} (default: {default:,})"
        )
    parser.add_argument(
        "--only",
        action="append",
        choices=FIGURES,
        metavar="NAME",
        help=f"measure only this figure; may be repeated: {', '.join(FIGURES)}",
    )
    parser.add_argument(
        "--python",
        action="append",
        metavar="FILE",
        help="a Python to compare in the figure pythons, with this project's dependencies "
        "installed; may be repeated",
    )
    parser.add_argument(
        "--go",
        type=Path,
        metavar="FILE",
        help="a program to compare in the figures dump and mixed: it dumps the table of its "
        "network namespace, and the last number that it prints is the microseconds per flow",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="use small tables, to check that everything runs; the results mean nothing",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="also write the results to this file, as JSON; - prints JSON instead of tables",
    )
    parser.add_argument("--markdown", action="store_true", help="print the tables in Markdown")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; got {value}")
    return value
