"""What a program pays before it does anything: the import, and the command as a whole."""

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

_PYTHON: Final = "python, nothing else"
_IMPORT: Final = "import conntrack_aio, beyond that"
_COUNT: Final = "conntrack-aio count"


def processes(options: Options, rivals: Rivals) -> Figure:
    """Whole processes, in a namespace without flows, all modules compiled beforehand."""
    commands: dict[str, tuple[str, ...]] = {
        _PYTHON: (sys.executable, "-c", "pass"),
        _IMPORT: (sys.executable, "-c", "import conntrack_aio"),
        _COUNT: (sys.executable, "-m", "conntrack_aio", "count"),
    }
    if conntrack8.NAME in rivals:
        commands["conntrack -C"] = ("conntrack", "-C")
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": directory}
        # A developer's setting, with which each start compiles everything again.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        contenders = [
            Contender(name, partial(_run, words, environment)) for name, words in commands.items()
        ]
        in_turns(contenders, 1)
        timings = in_turns(contenders, options.starts)
    took = {name: [timing.wall * 1000 for timing in timings[name]] for name in commands}
    took[_IMPORT] = [whole - bare for whole, bare in zip(took[_IMPORT], took[_PYTHON], strict=True)]
    lines = [
        Line(name, Spread.of(values), "ms", wanted="120 ms" if name == _COUNT else "")
        for name, values in took.items()
    ]
    return Figure("processes", "start a process", lines)


def _run(words: tuple[str, ...], environment: Mapping[str, str]) -> Timing:
    start = time.perf_counter()
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True, env=environment)
    return Timing(time.perf_counter() - start, 0, 1)
