"""Fuzzing by mutation: ``python tests/fuzz/run.py --inputs 1000000``.

It prints the time that each target takes, and the memory of the process. At the first input that
breaks a rule, it prints that input and exits with status 1.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import sys
import time
import traceback
import warnings
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conntrack_aio.codec import decoder
from fuzz import inputs
from fuzz.campaign import Campaign, InputFailed, run_inputs
from fuzz.inputs import TARGETS
from fuzz.large_inputs import LARGE_INPUTS
from fuzz.monitor import InputMonitor, count_descriptors, resident_memory

_BLOCK_SIZE = 500
"""The number of inputs that one target runs in a row, on one event loop."""

_MAX_GROWTH = 24 << 20
"""The bytes by which the process may grow after the first third of the inputs.

Some growth is normal: some hundred layouts of each kind are replaced continually, and their sizes
differ.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--layouts", type=int, default=decoder.MAX_LAYOUTS, help="maximum for each kind of message"
    )
    parser.add_argument(
        "--kept", type=int, default=inputs.MAX_KEPT, help="maximum of inputs to mutate again"
    )
    parser.add_argument("--target", action="append", choices=TARGETS, help="(all)")
    options = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("error")
    logging.getLogger("conntrack_aio").addHandler(logging.NullHandler())
    bounds = (decoder, "MAX_LAYOUTS", options.layouts), (inputs, "MAX_KEPT", options.kept)
    with ExitStack() as stack:
        for bound in bounds:
            stack.enter_context(mock.patch.object(*bound))
        monitor = stack.enter_context(InputMonitor())
        return fuzz(Campaign(options.seed, options.target or list(TARGETS), monitor), options)


def fuzz(campaign: Campaign, options: argparse.Namespace) -> int:
    """Run a campaign until it has enough inputs or one fails, and return the exit status."""
    began = time.monotonic()
    printed, files = began, count_descriptors()
    sizes: list[int] = []
    """The memory of the process in bytes, after each tenth of the inputs."""
    try:
        for name, data in LARGE_INPUTS:
            run_inputs(TARGETS[name], iter([data]), campaign.monitor)
        while campaign.done < options.inputs and time.monotonic() - began < options.seconds:
            campaign.run(min(_BLOCK_SIZE, options.inputs - campaign.done))
            if _progress(campaign, options, began) * 10 >= len(sizes) + 1:
                sizes.append(resident_memory())
            if time.monotonic() - printed > 10:
                printed = time.monotonic()
                _print_progress(campaign, printed - began)
    except InputFailed as failure:
        traceback.print_exception(failure)
        print(f"failed: {failure.target} {failure.data.hex()}")
        return 1
    _print_progress(campaign, time.monotonic() - began)
    for name, count in campaign.counts.most_common():
        microseconds = campaign.seconds[name] / count * 1e6
        print(f"  {name:9} {count:9,} inputs, {microseconds:6.0f} µs each")
    print(f"MiB at each tenth: {' '.join(str(size >> 20) for size in sizes)}")
    print(f"descriptors: {files} before, {count_descriptors()} after")
    warm = sizes[len(sizes) // 3 :]
    return int(len(warm) > 1 and warm[-1] - warm[0] > _MAX_GROWTH)


def _progress(campaign: Campaign, options: argparse.Namespace, began: float) -> float:
    """Return the share of the campaign that is done, from 0 to 1."""
    return max(campaign.done / options.inputs, (time.monotonic() - began) / options.seconds)


def _print_progress(campaign: Campaign, spent: float) -> None:
    print(
        f"{campaign.done:,} inputs in {spent:.0f} s, the slowest {campaign.monitor.slowest:.3f} s, "
        f"{decoder.count_layouts()} layouts, {resident_memory() >> 20} MiB",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
