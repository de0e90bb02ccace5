"""Time contenders in turns, and compute medians, ranges and ratios of their runs."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import attrs


@attrs.frozen
class Timing:
    """The duration of one run, in seconds."""

    wall: float
    """Elapsed time."""
    cpu: float
    """Processor time of all threads, in user space and in the kernel."""
    count: int
    """How many flows or events the run processed."""


@attrs.frozen
class Observation:
    """The flows or events that a contender read, to compare it with the others."""

    count: int
    checksum: int | None = None
    """The sum of the digests of all flows. ``None`` for a contender that parses nothing."""


class Spread(NamedTuple):
    """The median, the least and the greatest of some values."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Return the spread of these values."""
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1])


@attrs.frozen
class Contender:
    """A program that can be run and timed."""

    name: str
    run: Callable[[], Timing]
    """Run it once. It prepares and cleans up outside of the timed part."""
    check: Callable[[], Observation] | None = None
    """Run it once without timing, and return what it read."""
    remark: str = ""
    """A remark for the report."""


class Stopwatch:
    """Measures elapsed time and processor time from its creation on."""

    def __init__(self) -> None:
        self._cpu = time.process_time()
        self._wall = time.perf_counter()

    def stop(self, count: int) -> Timing:
        """Return the time since the creation, for this number of flows or events."""
        wall = time.perf_counter() - self._wall
        return Timing(wall, time.process_time() - self._cpu, count)


class Disagreement(Exception):
    """A contender read other flows or events than it should."""


def check(contenders: Sequence[Contender], expected: int) -> None:
    """Run each contender once without timing, and check what it read.

    This also warms the contenders up.

    :param expected: how many flows or events each must read.

    :raises Disagreement: when a count is wrong, or when the checksums differ.
    """
    observations = {each.name: each.check() for each in contenders if each.check is not None}
    counts = {name: one.count for name, one in observations.items()}
    if set(counts.values()) - {expected}:
        raise Disagreement(f"expected a count of {expected}; got {counts}")
    sums = {name: one.checksum for name, one in observations.items() if one.checksum is not None}
    if len(set(sums.values())) > 1:
        raise Disagreement(f"the checksums differ: {sums}")


def in_turns(contenders: Sequence[Contender], runs: int) -> dict[str, list[Timing]]:
    """Run the contenders in turns, A B C, A B C and so on; return the timings of each by name."""
    timings: dict[str, list[Timing]] = {each.name: [] for each in contenders}
    for _ in range(runs):
        for each in contenders:
            gc.collect()  # otherwise this run collects the garbage of the one before
            timings[each.name].append(each.run())
    return timings


def wall_time_per_item(timings: Sequence[Timing]) -> Spread:
    """Return microseconds of elapsed time per flow or event."""
    return Spread.of(timing.wall / timing.count * 1e6 for timing in timings)


def cpu_time_per_item(timings: Sequence[Timing]) -> Spread:
    """Return microseconds of processor time per flow or event."""
    return Spread.of(timing.cpu / timing.count * 1e6 for timing in timings)


def ratios(timings: Mapping[str, Sequence[Timing]], name: str, floor: str) -> Spread:
    """Return the ratios of a contender's runs to the floor's runs in the same turns.

    The median is that of the ratios, not the ratio of the medians: what slows the machine down for
    a second slows down both runs of a turn.
    """
    pairs = zip(timings[name], timings[floor], strict=True)
    return Spread.of((one.wall / one.count) / (base.wall / base.count) for one, base in pairs)
