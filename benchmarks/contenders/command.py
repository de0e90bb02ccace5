"""conntrack(8), as a whole process whose output nobody reads."""

from __future__ import annotations

import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import attrs

from ..timing import Contender, Disagreement, Seen, Stopwatch, Timing

NAME: Final = "conntrack -L"
_SHOWN = re.compile(r"(\d+) flow (?:entries|events) have been shown")
_GROUPS, _RMEM, _DROPS = 3, 4, 8
"""Columns of /proc/net/netlink."""
_AT_ONCE = 100
"""Events that there is room for in a receive buffer of the usual size."""


def dump() -> Contender:
    """``conntrack -L`` of both families."""
    return Contender(NAME, _run, lambda: Seen(_run().count), "a whole process")


def dump_matching(options: Sequence[str], size: int) -> Contender:
    """``conntrack -L`` with options that say which flows, of a table of this size."""

    def run() -> Timing:
        return attrs.evolve(_run(options), count=size)

    return Contender(NAME, run, lambda: Seen(_run(options).count), "a whole process")


def _run(options: Sequence[str] = ()) -> Timing:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(
        ("conntrack", "-L", *options),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Timing(wall, cpu, _shown(done.stderr))


def _shown(said: str) -> int:
    shown = _SHOWN.search(said)
    assert shown is not None, said
    return int(shown[1])


def listen(
    options: Sequence[str], make: Callable[[int, int], None], count: int, expected: int
) -> Contender:
    """``conntrack -E`` of new flows, which ``make`` makes: those of some numbers at a time, and no
    more before it has read of these, so that it loses none. Each run must hear of all that it
    should."""
    words = ("conntrack", "-E", "-e", "NEW", *options)

    def run() -> tuple[Timing, int]:
        watch = Stopwatch()
        with subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            _wait_for(lambda: bool(_listener()))
            for number in range(0, count, _AT_ONCE):
                make(number, min(number + _AT_ONCE, count))
                _wait_for(lambda: _listener()[_RMEM] == "0" and _sleeps(process.pid))
            dropped = int(_listener()[_DROPS])
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if dropped:
            raise Disagreement(f"conntrack -E lost {dropped} events")
        if (shown := _shown(said)) != expected:
            raise Disagreement(f"there are {expected}; conntrack -E showed {shown}")
        return attrs.evolve(watch.stop(count), cpu=cpu), shown

    return Contender("conntrack -E", lambda: run()[0], lambda: Seen(run()[1]), "a whole process")


def _listener() -> list[str]:
    """The line of the one socket of this namespace that has joined groups; empty, without one."""
    lines = [line.split() for line in Path("/proc/self/net/netlink").read_text().splitlines()]
    none: list[str] = []
    return next((line for line in lines[1:] if int(line[_GROUPS], 16)), none)


def _sleeps(pid: int) -> bool:
    """Whether a process waits, having done with what it read."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def _wait_for(true: Callable[[], bool]) -> None:
    for _ in range(100_000):
        if true():
            return
        time.sleep(0.0001)
    raise TimeoutError("conntrack -E does not get on")
