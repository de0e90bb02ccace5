"""Measure printing a table as text and as JSON Lines: whole processes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from .. import tables
from ..contenders import command
from ..options import Options
from ..report import Figure, Line
from ..rivals import Rivals
from ..timing import Contender, Spread, Timing, in_turns

_START: Final = "conntrack-aio list, of no flow"
_LISTS: Final = {
    "conntrack-aio list": ("list",),
    "conntrack-aio list --json": ("list", "--json"),
}
_NONE: Final = "mark == 0xdeadbeef"
"""A match that no flow has, and that the kernel checks."""


def output(options: Options, rivals: Rivals) -> Figure:
    """Measure the figure ``output``: the processor time of commands that print all flows.

    The commands write to ``/dev/null``. The start of this library's command is subtracted once
    more in lines of their own.
    """
    title = f"print {options.printed:,} IPv4 TCP flows: processor time of the whole process"
    tables.fill(tables.tcp_shapes(), 0, options.printed, options.per_client)
    contenders = [
        Contender(name, partial(_run, arguments, options.printed))
        for name, arguments in {_START: ("list", _NONE), **_LISTS}.items()
    ]
    if command.NAME in rivals:
        contenders.append(command.dump())
    in_turns(contenders, 1)  # compiles the modules
    timings = in_turns(contenders, options.runs)
    cpu = {name: [each.cpu for each in runs] for name, runs in timings.items()}
    for name in _LISTS:
        rest = zip(cpu[name], cpu[_START], strict=True)
        cpu[f"{name}, without the start"] = [whole - start for whole, start in rest]
    lines: list[Line] = []
    for name, values in cpu.items():
        ratio = None
        if command.NAME in cpu and name not in (command.NAME, _START):
            ratio = Spread.of(
                one / other for one, other in zip(values, cpu[command.NAME], strict=True)
            )
        limit = "" if ratio is None else "1.5 x" if name.endswith("start") else "4 x"
        seconds = Spread.of(value * 1000 for value in values)
        lines.append(Line(name, seconds, "ms", c_ratio=ratio, limit=limit))
    return Figure("output", title, lines, [f"x C is the ratio to {command.NAME}."])


def _run(arguments: Sequence[str], flows: int) -> Timing:
    """Run the command once, and return its times."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    # With PYTHONDONTWRITEBYTECODE, each start would compile every module again.
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }
    subprocess.run(
        (sys.executable, "-m", "conntrack_aio", *arguments),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
        env=environment,
    )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Timing(wall, cpu, flows)
