"""What a program pays before it does anything: the import, and the command as a whole."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from typing import Final

from ..contenders import command as conntrack8
from ..options import Options
from ..report import Figure, Line
from ..rivals import Rivals
from ..timing import Contender, Spread, Timing, in_turns

_PYTHON: Final = "python, nothing else"
_IMPORT: Final = "import conntrack_aio"
_COUNT: Final = "conntrack-aio count"


def processes(options: Options, rivals: Rivals) -> Figure:
    """Whole processes, in a namespace without flows; of the import, what it adds to Python."""
    commands = {
        _PYTHON: (sys.executable, "-c", "pass"),
        _IMPORT: (sys.executable, "-c", "import conntrack_aio"),
        _COUNT: (sys.executable, "-m", "conntrack_aio", "count"),
    }
    if conntrack8.NAME in rivals:
        commands["conntrack -C"] = ("conntrack", "-C")
    contenders = [Contender(name, partial(_run, words)) for name, words in commands.items()]
    in_turns(contenders, 1)  # so that all is compiled, and in the page cache
    timings = in_turns(contenders, options.starts)
    took = {name: [timing.wall * 1000 for timing in timings[name]] for name in commands}
    took[_IMPORT] = [whole - bare for whole, bare in zip(took[_IMPORT], took[_PYTHON], strict=True)]
    lines = [
        Line(name, Spread.of(values), "ms", wanted="120 ms" if name == _COUNT else "")
        for name, values in took.items()
    ]
    return Figure("processes", "start", lines)


def _run(words: tuple[str, ...]) -> Timing:
    start = time.perf_counter()
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
    return Timing(time.perf_counter() - start, 0, 1)
