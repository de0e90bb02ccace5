"""conntrack(8), as a whole process whose output nobody reads."""

from __future__ import annotations

import re
import resource
import subprocess
import time
from typing import Final

from ..timing import Contender, Seen, Timing

NAME: Final = "conntrack -L"
_SHOWN = re.compile(r"(\d+) flow entries have been shown")


def dump() -> Contender:
    """``conntrack -L`` of both families."""
    return Contender(NAME, _run, lambda: Seen(_run().count), "a whole process")


def _run() -> Timing:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(
        ("conntrack", "-L"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = _SHOWN.search(done.stderr)
    assert shown is not None, done.stderr
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Timing(wall, cpu, int(shown[1]))
