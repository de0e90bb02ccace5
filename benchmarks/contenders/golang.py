"""Time a program of the user's, such as one that dumps with the Go package ti-mo/conntrack.

No Go program is part of this project. The program dumps the table of its network namespace once,
and prints the microseconds per flow as the last number of its output.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from ..timing import Contender, Disagreement, Timing

_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def dump(program: Path, flows: int) -> Contender:
    """Time a dump by the program, which measures its own time.

    :param program: the program.
    :param flows: the number of flows in the table.

    A run raises :exc:`Disagreement` when the program fails or prints no number.
    """

    def run() -> Timing:
        done = subprocess.run((program,), capture_output=True, text=True, check=False)
        if done.returncode:
            raise Disagreement(f"{program.name} failed: {done.stderr.strip() or done.returncode}")
        numbers = _NUMBER.findall(done.stdout)
        if not numbers:
            raise Disagreement(f"{program.name} printed no number; got {done.stdout!r}")
        wall = float(numbers[-1]) * flows / 1e6
        return Timing(wall, wall, flows)

    return Contender(name(program), run, remark="as it measures itself")


def name(program: Path) -> str:
    """Return the name of the contender for a program."""
    return f"{program.name} (--go)"
