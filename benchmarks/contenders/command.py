"""Time conntrack(8): whole processes whose output goes to ``/dev/null``."""

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

from ..timing import Contender, Disagreement, Observation, Stopwatch, Timing

NAME: Final = "conntrack -L"
_SHOWN_COUNT = re.compile(r"(\d+) flow (?:entries|events) have been shown")
_GROUPS, _RMEM, _DROPS = 3, 4, 8
"""The numbers of columns of ``/proc/net/netlink``."""
_BURST = 100
"""How many events fit into a receive buffer of the default size."""


def dump() -> Contender:
    """Time ``conntrack -L``, which dumps both families."""
    return Contender(NAME, _run, lambda: Observation(_run().count), "a whole process")


def dump_matching(options: Sequence[str], size: int) -> Contender:
    """Time ``conntrack -L`` with options that select flows.

    :param options: the options of the command.
    :param size: the number of flows in the table.
    """

    def run() -> Timing:
        return attrs.evolve(_run(options), count=size)

    return Contender(NAME, run, lambda: Observation(_run(options).count), "a whole process")


def _run(options: Sequence[str] = ()) -> Timing:
    """Run ``conntrack -L`` once, and return its time and the number of flows that it printed."""
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
    return Timing(wall, cpu, _shown_count(done.stderr))


def _shown_count(stderr: str) -> int:
    """Return how many flows or events the command reports to have printed."""
    shown = _SHOWN_COUNT.search(stderr)
    assert shown is not None, stderr
    return int(shown[1])


def receive_events(
    options: Sequence[str], create: Callable[[int, int], None], count: int, expected: int
) -> Contender:
    """Time ``conntrack -E`` while flows are created.

    The flows are created in bursts that fit into the receive buffer of the command. Each burst
    waits until the command has read the one before, so that no event is lost. Each run checks the
    number of events.

    :param options: options of the command that select events.
    :param create: creates the flows from a first number up to, but not including, a last number.
    :param count: how many flows to create.
    :param expected: how many events the command must print.
    """
    arguments = ("conntrack", "-E", "-e", "NEW", *options)

    def run() -> tuple[Timing, int]:
        watch = Stopwatch()
        with subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            _wait_for(lambda: bool(_subscribed_socket()))
            for number in range(0, count, _BURST):
                create(number, min(number + _BURST, count))
                _wait_for(lambda: _subscribed_socket()[_RMEM] == "0" and _is_asleep(process.pid))
            dropped = int(_subscribed_socket()[_DROPS])
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if dropped:
            raise Disagreement(f"conntrack -E lost {dropped} events")
        if (shown := _shown_count(stderr)) != expected:
            raise Disagreement(f"expected {expected} events; conntrack -E printed {shown}")
        return attrs.evolve(watch.stop(count), cpu=cpu), shown

    return Contender(
        "conntrack -E", lambda: run()[0], lambda: Observation(run()[1]), "a whole process"
    )


def _subscribed_socket() -> list[str]:
    """Return the columns of the only netlink socket here that has joined multicast groups.

    The list is empty while there is no such socket in this network namespace.
    """
    lines = [line.split() for line in Path("/proc/self/net/netlink").read_text().splitlines()]
    none: list[str] = []
    return next((line for line in lines[1:] if int(line[_GROUPS], 16)), none)


def _is_asleep(pid: int) -> bool:
    """Return whether a process sleeps: it then waits for events and has processed all of them."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def _wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(100_000):
        if condition():
            return
        time.sleep(0.0001)
    raise TimeoutError("conntrack -E neither subscribed nor read its events in time")
