"""Run fuzzing targets on inputs."""

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
from .monitor import InputHangs, InputMonitor

BACKENDS: Sequence[tuple[str, dict[str, Any]]] = (
    ("asyncio", {"use_uvloop": False}),
    ("asyncio", {"use_uvloop": True}),
    ("trio", {}),
)


class InputFailed(Exception):
    """An input broke a rule of the fuzzer."""

    def __init__(self, target: str, data: bytes) -> None:
        super().__init__(f"{target}, an input of {len(data)} bytes")
        self.target = target
        self.data = data


def run_inputs(
    target: Target, data: Iterator[bytes], monitor: InputMonitor, backend: int = 0
) -> int:
    """Run a target on each of these inputs, and return how many there were.

    :param backend: the index of the event loop in :data:`BACKENDS`.
    :raises InputFailed: when an input breaks a rule.
    """
    if not inspect.iscoroutinefunction(target.run):
        return _run_without_loop(target, data, monitor)
    name, options = BACKENDS[backend % len(BACKENDS)]
    return anyio.run(_run_on_loop, target, data, monitor, backend=name, backend_options=options)


def _run_without_loop(target: Target, data: Iterator[bytes], monitor: InputMonitor) -> int:
    count = 0
    for item in data:
        count += 1
        try:
            with monitor():
                target.run(item)
        except (Exception, InputHangs) as error:
            raise InputFailed(target.name, item) from error
    return count


async def _run_on_loop(target: Target, data: Iterator[bytes], monitor: InputMonitor) -> int:
    count = 0
    for item in data:
        count += 1
        try:
            with monitor():
                running = target.run(item)
                assert running is not None
                await running
        except (Exception, InputHangs) as error:
            raise InputFailed(target.name, item) from error
    return count


class Campaign:
    """Runs several targets, each on a share of the inputs that is given by its weight."""

    def __init__(self, seed: int, names: Sequence[str], monitor: InputMonitor) -> None:
        self.monitor = monitor
        self.counts: Counter[str] = Counter()
        self.seconds: Counter[str] = Counter()
        self._random = Random(seed)
        self._targets = [TARGETS[name] for name in names]
        self._inputs = {
            target.name: inputs(target, Random(f"{seed} {target.name}")) for target in self._targets
        }
        self._turns = 0

    def run(self, count: int) -> None:
        """Choose a target, and run it on this many inputs.

        :raises InputFailed: when an input breaks a rule.
        """
        weights = [target.weight for target in self._targets]
        (target,) = self._random.choices(self._targets, weights)
        began = time.process_time()
        chosen = islice(self._inputs[target.name], count)
        self.counts[target.name] += run_inputs(target, chosen, self.monitor, self._turns)
        self.seconds[target.name] += time.process_time() - began
        self._turns += 1

    @property
    def done(self) -> int:
        return self.counts.total()
