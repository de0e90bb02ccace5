"""Who looks on: that an input ends, and in time; that no memory is kept, and no error hidden."""

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
"""Seconds after which an input hangs. Other programs may have the processor meanwhile."""

MAX_PROCESSOR_TIME = 5.0
"""Seconds of processor time that one input may take. The slowest has 15,000 attributes, is read
some ten times, and takes 0.4 to 1.8 seconds, depending on the processor. It is the time of this
thread: others, of tests that ran before, may have work of their own."""

_PAGE = resource.getpagesize()


class InputHangs(BaseException):
    """An input did not come to an end: no exception that the code under test may handle."""


def resident_memory() -> int:
    """Bytes of memory that this process has now."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * _PAGE


def _raise_hang(number: int, frame: FrameType | None) -> None:
    raise InputHangs(f"an input takes more than {HANG_TIMEOUT} s")


class InputMonitor:
    """Looks on at one input after the other."""

    def __init__(self, *, alarm: bool = True) -> None:
        """Without an ``alarm``, somebody else looks on at the time."""
        self.slowest = 0.0
        """Seconds of processor time."""
        self._alarm = alarm
        self._unseen: list[BaseException | str] = []

    def __enter__(self) -> Self:
        """From now on until it is left; on the main thread."""
        self._kept = sys.unraisablehook, threading.excepthook, signal.getsignal(signal.SIGALRM)
        sys.unraisablehook = lambda args: self._unseen.append(args.exc_value or str(args))
        threading.excepthook = lambda args: self._unseen.append(args.exc_value or str(args))
        if self._alarm:
            signal.signal(signal.SIGALRM, _raise_hang)
        gc.freeze()  # else an input may pay for looking through all that there was before
        return self

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook, threading.excepthook, alarm = self._kept
        if self._alarm:
            signal.signal(signal.SIGALRM, alarm)

    @contextmanager
    def __call__(self) -> Generator[None]:
        """One input. Raises :exc:`Hang`, and :exc:`AssertionError` for what it should not do."""
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
        assert not self._unseen, f"an error that nobody saw: {self._unseen.pop()!r}"


def count_descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))
