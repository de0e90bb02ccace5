"""Timing contenders in turns, and what comes of it: medians, spreads and ratios."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import attrs


@attrs.frozen
class Timing:
    """One run, in seconds."""

    wall: float
    cpu: float
    """On processors, all threads together, in the kernel and outside of it."""
    count: int
    """How many flows or events that was for."""


@attrs.frozen
class Seen:
    """What a contender saw, to be compared."""

    count: int
    checksum: int | None = None
    """A sum over what was read of each flow; whoever parses nothing has none."""


class Spread(NamedTuple):
    """The median of some runs, the least and the most."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1])


@attrs.frozen
class Contender:
    """Something that can be run and timed."""

    name: str
    run: Callable[[], Timing]
    """Does it once. What comes before and after the timed part is its own affair."""
    check: Callable[[], Seen] | None = None
    """Does it once untimed, and tells what it saw."""
    remark: str = ""


class Stopwatch:
    """Seconds that have passed since it was made, by the wall and on processors."""

    def __init__(self) -> None:
        self._cpu = time.process_time()
        self._wall = time.perf_counter()

    def stop(self, count: int) -> Timing:
        wall = time.perf_counter() - self._wall
        return Timing(wall, time.process_time() - self._cpu, count)


class Disagreement(Exception):
    """Contenders that ought to have seen the same have not."""


def check(contenders: Sequence[Contender], expected: int) -> None:
    """Have each run untimed, which also warms it up. Raises :exc:`Disagreement`."""
    seen = {each.name: each.check() for each in contenders if each.check is not None}
    counts = {name: one.count for name, one in seen.items()}
    if set(counts.values()) - {expected}:
        raise Disagreement(f"there are {expected}; seen were {counts}")
    sums = {name: one.checksum for name, one in seen.items() if one.checksum is not None}
    if len(set(sums.values())) > 1:
        raise Disagreement(f"they saw different things: {sums}")


def in_turns(contenders: Sequence[Contender], runs: int) -> dict[str, list[Timing]]:
    """The timings of each contender: A B C, A B C and so on."""
    timings: dict[str, list[Timing]] = {each.name: [] for each in contenders}
    for _ in range(runs):
        for each in contenders:
            gc.collect()  # the garbage of one is not the next one's business
            timings[each.name].append(each.run())
    return timings


def each_costs(timings: Sequence[Timing]) -> Spread:
    """Microseconds for one of what was counted."""
    return Spread.of(timing.wall / timing.count * 1e6 for timing in timings)


def each_occupies(timings: Sequence[Timing]) -> Spread:
    """Microseconds of processor time for one."""
    return Spread.of(timing.cpu / timing.count * 1e6 for timing in timings)


def ratios(timings: Mapping[str, Sequence[Timing]], name: str, floor: str) -> Spread:
    """The ratios of one contender's runs to those of the floor in the same turns.

    Their median, not the ratio of the medians: what slows a machine for a second slows both.
    """
    pairs = zip(timings[name], timings[floor], strict=True)
    return Spread.of((one.wall / one.count) / (least.wall / least.count) for one, least in pairs)
