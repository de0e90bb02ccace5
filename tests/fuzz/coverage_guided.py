"""Fuzzing guided by coverage: ``python tests/fuzz/coverage_guided.py -max_total_time=60``.

It needs atheris (``pip install -e '.[fuzz]'``), and takes the options of libFuzzer, and directories
for what it finds. Which target an input is for, its first byte says. libFuzzer ends the process at
once, so that temporary directories are left behind (``conntrack_aio_fuzz*`` below ``$TMPDIR``).
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

with atheris.instrument_imports(include=["conntrack_aio"]):
    from fuzz.inputs import TARGETS, Target
    from fuzz.mutation import Mutator
    from fuzz.seeds import ALL_MESSAGES
    from fuzz.watch import HANG_TIMEOUT, InputMonitor

_DEFAULTS = (
    "-max_len=16384",
    f"-timeout={HANG_TIMEOUT:.0f}",
    "-rss_limit_mb=1024",
    "-print_final_stats=1",
)

_targets = list(TARGETS.values())
_watch = InputMonitor(alarm=False)
_runner = asyncio.Runner()


def _target_of(data: bytes) -> Target:
    return _targets[data[0] % len(_targets)]


def run_input(data: bytes) -> None:
    """One input."""
    if not data:
        return
    target = _target_of(data)
    try:
        with _watch():
            running = target.run(data[1:])
            if inspect.iscoroutine(running):
                _runner.run(running)
    except BaseException:
        print(f"failed: {target.name} {data[1:].hex()}", file=sys.stderr)
        raise


def mutate(data: bytes, most: int, seed: int) -> bytes:
    """As one who knows netlink, or as libFuzzer does."""
    random = Random(seed)
    if not data or random.random() < 0.3:
        return bytes(atheris.Mutate(data, most))
    target = _target_of(data)
    made = target.mutate(
        Mutator(random, ALL_MESSAGES), random, data[1:], random.choice(target.seeds)
    )
    return (data[:1] + made)[:most]


def main() -> None:
    logging.getLogger("conntrack_aio").addHandler(logging.NullHandler())
    corpus = tempfile.mkdtemp(prefix="conntrack_aio_fuzz")
    for number, target in enumerate(_targets):
        # A choice of them: libFuzzer makes the others.
        for at, seed in enumerate(target.seeds[:: max(1, len(target.seeds) // 100)]):
            Path(corpus, f"{target.name}{at}").write_bytes(bytes([number]) + seed)
    options = [sys.argv[0], *_DEFAULTS, *sys.argv[1:], corpus]
    atheris.Setup(options, run_input, custom_mutator=mutate)
    with _watch:
        atheris.Fuzz()


if __name__ == "__main__":
    main()
