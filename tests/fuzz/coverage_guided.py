"""Fuzzing guided by coverage: ``python tests/fuzz/coverage_guided.py -max_total_time=60``.

It needs atheris (``pip install -e '.[fuzz]'``). Its arguments are options of libFuzzer and
directories for new inputs. The first byte of an input chooses the target. libFuzzer ends the
process without cleanup, so that temporary directories ``$TMPDIR/conntrack_aio_fuzz*`` remain.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

with atheris.instrument_imports(include=["conntrack_aio"]):  # pyright: ignore[reportAttributeAccessIssue]
    from fuzz.inputs import TARGETS, Target
    from fuzz.monitor import HANG_TIMEOUT, InputMonitor
    from fuzz.mutation import Mutator
    from fuzz.seeds import ALL_MESSAGES

_DEFAULTS = (
    "-max_len=16384",
    f"-timeout={HANG_TIMEOUT:.0f}",
    "-rss_limit_mb=1024",
    "-print_final_stats=1",
)

_targets = list(TARGETS.values())
_monitor = InputMonitor(alarm=False)
_runner = asyncio.Runner()


def _target_of(data: bytes) -> Target:
    return _targets[data[0] % len(_targets)]


def run_input(data: bytes) -> None:
    """Run the target that the first byte of an input chooses."""
    if not data:
        return
    target = _target_of(data)
    try:
        with _monitor():
            running = target.run(data[1:])
            if inspect.iscoroutine(running):
                _runner.run(running)
    except BaseException:
        print(f"failed: {target.name} {data[1:].hex()}", file=sys.stderr)
        raise


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Mutate an input: most often by the mutator of its target, otherwise by that of libFuzzer."""
    random = Random(seed)
    if not data or random.random() < 0.3:
        return bytes(atheris.Mutate(data, max_size))
    target = _target_of(data)
    mutated = target.mutate(
        Mutator(random, ALL_MESSAGES), random, data[1:], random.choice(target.seeds)
    )
    return (data[:1] + mutated)[:max_size]


def main() -> None:
    logging.getLogger("conntrack_aio").addHandler(logging.NullHandler())
    corpus = tempfile.mkdtemp(prefix="conntrack_aio_fuzz")
    for number, target in enumerate(_targets):
        # At most about 100 seeds of each target; libFuzzer finds the others.
        for at, seed in enumerate(target.seeds[:: max(1, len(target.seeds) // 100)]):
            Path(corpus, f"{target.name}{at}").write_bytes(bytes([number]) + seed)
    options = [sys.argv[0], *_DEFAULTS, *sys.argv[1:], corpus]
    atheris.Setup(options, run_input, custom_mutator=mutate)
    with _monitor:
        atheris.Fuzz()


if __name__ == "__main__":
    main()
