"""Measure how long it takes to start processes: the import, and whole commands."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from typing import Final

from ..contenders import command as conntrack8
from ..options import Options
from ..report import Figure, Line
from ..rivals import Rivals
from ..timing import Contender, Spread, Timing, in_turns

_PYTHON: Final = "python -c pass"
_IMPORT: Final = "import conntrack_aio, in addition"
_COUNT: Final = "conntrack-aio count"


def processes(options: Options, rivals: Rivals) -> Figure:
    """Measure the figure ``processes``.

    The network namespace has no flows, and all modules are already compiled.
    """
    commands: dict[str, tuple[str, ...]] = {
        _PYTHON: (sys.executable, "-c", "pass"),
        _IMPORT: (sys.executable, "-c", "import conntrack_aio"),
        _COUNT: (sys.executable, "-m", "conntrack_aio", "count"),
    }
    if conntrack8.NAME in rivals:
        commands["conntrack -C"] = ("conntrack", "-C")
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": directory}
        # With this setting each start would compile everything again.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        contenders = [
            Contender(name, partial(_run, arguments, environment))
            for name, arguments in commands.items()
        ]
        in_turns(contenders, 1)  # compiles the modules
        timings = in_turns(contenders, options.starts)
    times = {name: [timing.wall * 1000 for timing in timings[name]] for name in commands}
    times[_IMPORT] = [
        whole - bare for whole, bare in zip(times[_IMPORT], times[_PYTHON], strict=True)
    ]
    lines = [
        Line(name, Spread.of(values), "ms", limit="120 ms" if name == _COUNT else "")
        for name, values in times.items()
    ]
    return Figure("processes", "start a process", lines)


def _run(arguments: tuple[str, ...], environment: Mapping[str, str]) -> Timing:
    start = time.perf_counter()
    subprocess.run(arguments, stdout=subprocess.DEVNULL, check=True, env=environment)
    return Timing(time.perf_counter() - start, 0, 1)
