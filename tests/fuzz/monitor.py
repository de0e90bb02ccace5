"""Check that each input ends in time and that no exception goes unnoticed; measure memory."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Self

HANG_TIMEOUT = 20.0
"""The seconds after which an input is considered to hang. The processor may be busy otherwise."""

MAX_PROCESSOR_TIME = 5.0
"""The seconds of processor time that one input may take.

The slowest input has 15,000 attributes, is read about ten times, and takes 0.4 to 1.8 seconds,
depending on the processor. Only the time of this thread counts: threads of earlier tests may still
run.
"""

_PAGE = resource.getpagesize()


class InputHangs(BaseException):
    """An input did not end. It is no ``Exception``, which the code under test might catch."""


def resident_memory() -> int:
    """Return the resident memory of this process in bytes, after a garbage collection."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * _PAGE


def _raise_hang(number: int, frame: FrameType | None) -> None:
    raise InputHangs(f"an input takes more than {HANG_TIMEOUT} s")


class InputMonitor:
    """Monitors one input after another."""

    def __init__(self, *, alarm: bool = True) -> None:
        """Create a monitor.

        :param alarm: whether to limit the time of each input. libFuzzer has limits of its own.
        """
        self.slowest = 0.0
        """The processor time of the slowest input in seconds."""
        self._alarm = alarm
        self._unraisable: list[BaseException | str] = []

    def __enter__(self) -> Self:
        """Install the hooks until the context is left. The caller must be the main thread."""
        self._saved_hooks = (
            sys.unraisablehook,
            threading.excepthook,
            signal.getsignal(signal.SIGALRM),
        )
        sys.unraisablehook = lambda args: self._unraisable.append(args.exc_value or str(args))
        threading.excepthook = lambda args: self._unraisable.append(args.exc_value or str(args))
        if self._alarm:
            signal.signal(signal.SIGALRM, _raise_hang)
        gc.freeze()  # a garbage collection during an input must not scan all earlier objects
        return self

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook, threading.excepthook, alarm = self._saved_hooks
        if self._alarm:
            signal.signal(signal.SIGALRM, alarm)

    @contextmanager
    def __call__(self) -> Generator[None]:
        """Monitor the body of the context as one input.

        :raises InputHangs: when it does not end within :data:`HANG_TIMEOUT`.
        :raises AssertionError: when it takes too much processor time, or when an exception was
            raised in a thread or in a finalizer.
        """
        if self._alarm:
            signal.setitimer(signal.ITIMER_REAL, HANG_TIMEOUT)
        began = time.thread_time()
        try:
            yield
        finally:
            if self._alarm:
                signal.setitimer(signal.ITIMER_REAL, 0)
        took = time.thread_time() - began
        self.slowest = max(self.slowest, took)
        assert took < MAX_PROCESSOR_TIME or not self._alarm, (
            f"an input takes {took:.2f} s of processor time"
        )
        assert not self._unraisable, f"an unraisable error: {self._unraisable.pop()!r}"


def count_descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))
