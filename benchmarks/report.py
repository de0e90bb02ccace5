"""What was measured, in tables for people, for a page, and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Final

import attrs

from conntrack_aio import __version__

from .timing import Spread


@attrs.frozen
class Line:
    """One contender in one figure, or one of several numbers about it."""

    name: str
    value: Spread
    unit: str
    ratio: Spread | None = None
    """To the floor, in the same turns."""
    cpu: Spread | None = None
    """Microseconds on processors, all threads together."""
    wanted: str = ""
    """What it must not exceed."""
    remark: str = ""


@attrs.frozen
class Figure:
    """One thing that is measured, with a line for each contender."""

    name: str
    title: str
    lines: Sequence[Line] = ()
    notes: Sequence[str] = ()
    """What was measured on, and what was left out and why."""
    failed: bool = False


@attrs.frozen
class Report:
    """All figures, and what is to be known about them."""

    machine: Mapping[str, str]
    sizes: Mapping[str, int]
    missing: Sequence[str]
    """What was not there to be measured with, and how to have it."""
    figures: Sequence[Figure]


_HEADER: Final = ("", "median", "least - most", "x floor", "least - most", "processor", "at most")


def machine(versions: Mapping[str, str]) -> dict[str, str]:
    """What it was measured on, and when."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "conntrack_aio": __version__,
        **versions,
    }


def _processor() -> str:
    with open("/proc/cpuinfo") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.machine()


def as_text(report: Report) -> str:
    """Tables for a terminal."""
    facts = [f"{name}: {value}" for name, value in report.machine.items()]
    tables = [f"\n{_table(figure)}" for figure in report.figures]
    return "\n".join([*facts, *report.missing, *tables])


def _table(figure: Figure) -> str:
    rows = _rows(figure)
    lines = [f"{figure.name}: {figure.title}"]
    if rows:
        columns = [*zip_longest(*[_HEADER, *rows], fillvalue="")]
        widths = [max(len(cell) for cell in column) for column in columns]
        for row in (_HEADER, *rows):
            first, *rest = (
                cell.ljust(width) if place in (0, len(row) - 1) else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            lines.append("  ".join(["", first, *rest]).rstrip())
    return "\n".join([*lines, *(f"  {note}" for note in figure.notes)])


def as_markdown(report: Report) -> str:
    """Tables for a page."""
    facts = ", ".join(f"{name} {value}" for name, value in report.machine.items())
    tables = [_markdown_table(figure) for figure in report.figures]
    return "\n".join(
        [f"Measured on {facts}.", "", *(f"{each}\n" for each in report.missing), *tables]
    )


def _markdown_table(figure: Figure) -> str:
    lines = [f"**{figure.title}**", ""]
    if rows := _rows(figure):
        lines += [_markdown_row(_HEADER), _markdown_row(["---", *["---:"] * 5, "---"])]
        lines += [*(_markdown_row(row) for row in rows), ""]
    return "\n".join([*lines, *(f"{note}\n" for note in figure.notes)])


def as_json(report: Report) -> str:
    """Everything, for another program."""

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
        f"{_number(line.cpu.median)} {line.unit}" if line.cpu else "",
        line.wanted,
    )


def _range(spread: Spread) -> str:
    return f"{_number(spread.low)} - {_number(spread.high)}"


def _number(value: float) -> str:
    """With three digits or so that say something."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"
