"""Format the results as text, as Markdown and as JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Final

import attrs

from conntrack_aio import __version__

from .timing import Spread


@attrs.frozen
class Line:
    """One row of a figure: a contender, or one of several values."""

    name: str
    value: Spread
    unit: str
    ratio: Spread | None = attrs.field(default=None, kw_only=True)
    """The ratios to the floor's runs in the same turns."""
    c_ratio: Spread | None = attrs.field(default=None, kw_only=True)
    """The ratios to the runs of libnetfilter_conntrack in the same turns."""
    cpu: Spread | None = attrs.field(default=None, kw_only=True)
    """Microseconds of processor time of all threads."""
    limit: str = ""
    """The value, or the ratio, that the median should not exceed."""
    remark: str = ""
    """A remark that follows the name."""


@attrs.frozen
class Figure:
    """One measurement, with a line for each contender."""

    name: str
    title: str
    lines: Sequence[Line] = ()
    notes: Sequence[str] = ()
    """Remarks about the table, and what was left out and why."""
    failed: bool = False


@attrs.frozen
class Report:
    """All figures, and the conditions under which they were measured."""

    machine: Mapping[str, str]
    sizes: Mapping[str, int]
    missing: Sequence[str]
    """For each rival that was not found, how to install it."""
    figures: Sequence[Figure]


_HEADER: Final = ("", "median", "min - max", "x floor", "min - max", "x C", "CPU time", "limit")


def describe_machine(versions: Mapping[str, str]) -> dict[str, str]:
    """Return the date, the processor, the kernel, and the versions of all programs, by name.

    :param versions: the versions of the rivals.
    """
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": describe_python(),
        "conntrack_aio": __version__,
        **versions,
    }


def describe_python() -> str:
    """Return the implementation, the version and the path of this Python."""
    name = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{name} ({os.path.realpath(sys.executable)})"


def _processor() -> str:
    with open("/proc/cpuinfo") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.machine()


def as_text(report: Report) -> str:
    """Return the report as text for a terminal."""
    conditions = [f"{name}: {value}" for name, value in report.machine.items()]
    tables = [f"\n{_table(figure)}" for figure in report.figures]
    return "\n".join([*conditions, *report.missing, *tables])


def _table(figure: Figure) -> str:
    rows = _rows(figure)
    lines = [f"{figure.name}: {figure.title}"]
    if rows:
        columns = [*zip_longest(*[_HEADER, *rows], fillvalue="")]
        widths = [max(map(len, cells)) for cells in columns]
        for row in (_HEADER, *rows):
            first, *rest = (
                cell.ljust(width) if column in (0, len(row) - 1) else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            lines.append("  ".join(["", first, *rest]).rstrip())
    return "\n".join([*lines, *(f"  {note}" for note in figure.notes)])


def as_markdown(report: Report) -> str:
    """Return the report as Markdown."""
    conditions = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    tables = [_markdown_table(figure) for figure in report.figures]
    return "\n".join(
        [f"Measured on {conditions}.", "", *(f"{each}\n" for each in report.missing), *tables]
    )


def _markdown_table(figure: Figure) -> str:
    lines = [f"**{figure.title}**", ""]
    if rows := _rows(figure):
        lines += [
            _markdown_row(_HEADER),
            _markdown_row(["---", *["---:"] * (len(_HEADER) - 2), "---"]),
        ]
        lines += [*(_markdown_row(row) for row in rows), ""]
    return "\n".join([*lines, *(f"{note}\n" for note in figure.notes)])


def as_json(report: Report) -> str:
    """Return the report as JSON."""

    def plain(_: object, __: object, value: object) -> object:
        return value._asdict() if isinstance(value, Spread) else value

    return json.dumps(attrs.asdict(report, value_serializer=plain), indent=2, ensure_ascii=False)


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rows(figure: Figure) -> list[tuple[str, ...]]:
    return [_row(line) for line in figure.lines]


def _row(line: Line) -> tuple[str, ...]:
    return (
        f"{line.name} ({line.remark})" if line.remark else line.name,
        f"{_number(line.value.median)} {line.unit}",
        _range(line.value),
        _number(line.ratio.median) if line.ratio else "",
        _range(line.ratio) if line.ratio else "",
        _number(line.c_ratio.median) if line.c_ratio else "",
        f"{_number(line.cpu.median)} {line.unit}" if line.cpu else "",
        line.limit,
    )


def _range(spread: Spread) -> str:
    return f"{_number(spread.low)} - {_number(spread.high)}"


def _number(value: float) -> str:
    """Format a number with about three significant digits."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"
