"""Inputs, given to what reads them."""

from __future__ import annotations

import inspect
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random
from typing import Any

import anyio

from .inputs import TARGETS, Target, inputs
from .watch import InputHangs, InputMonitor

BACKENDS: Sequence[tuple[str, dict[str, Any]]] = (
    ("asyncio", {"use_uvloop": False}),
    ("asyncio", {"use_uvloop": True}),
    ("trio", {}),
)


class InputFailed(Exception):
    """An input did what it should not."""

    def __init__(self, target: str, data: bytes) -> None:
        super().__init__(f"{target}, an input of {len(data)} bytes")
        self.target = target
        self.data = data


def run_inputs(target: Target, data: Iterator[bytes], watch: InputMonitor, backend: int = 0) -> int:
    """Give these inputs to the target; how many they were. Raises :exc:`Failed`."""
    if not inspect.iscoroutinefunction(target.run):
        return _run_without_loop(target, data, watch)
    name, options = BACKENDS[backend % len(BACKENDS)]
    return anyio.run(_run_on_loop, target, data, watch, backend=name, backend_options=options)


def _run_without_loop(target: Target, data: Iterator[bytes], watch: InputMonitor) -> int:
    count = 0
    for each in data:
        count += 1
        try:
            with watch():
                target.run(each)
        except (Exception, InputHangs) as error:
            raise InputFailed(target.name, each) from error
    return count


async def _run_on_loop(target: Target, data: Iterator[bytes], watch: InputMonitor) -> int:
    count = 0
    for each in data:
        count += 1
        try:
            with watch():
                running = target.run(each)
                assert running is not None
                await running
        except (Exception, InputHangs) as error:
            raise InputFailed(target.name, each) from error
    return count


class Campaign:
    """Inputs for all targets, by their shares."""

    def __init__(self, seed: int, names: Sequence[str], watch: InputMonitor) -> None:
        self.watch = watch
        self.counts: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self._random = Random(seed)
        self._targets = [TARGETS[name] for name in names]
        self._inputs = {
            target.name: inputs(target, Random(f"{seed} {target.name}")) for target in self._targets
        }
        self._turns = 0

    def run(self, count: int) -> None:
        """So many inputs, all for one target. Raises :exc:`Failed`."""
        weights = [target.weight for target in self._targets]
        (target,) = self._random.choices(self._targets, weights)
        began = time.process_time()
        some = islice(self._inputs[target.name], count)
        self.counts[target.name] += run_inputs(target, some, self.watch, self._turns)
        self.seconds[target.name] += time.process_time() - began
        self._turns += 1

    @property
    def done(self) -> int:
        return self.counts.total()
