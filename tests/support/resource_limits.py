"""Shortages of what the system gives: descriptors and threads."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def limit_descriptors(spare: int) -> Generator[None]:
    """No more than so many further descriptors can be had."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    fillers: list[int] = []
    try:
        while (number := os.open("/dev/null", os.O_RDONLY)) < used[-1] + 1:
            fillers.append(number)
        os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (number + spare, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for number in fillers:
            os.close(number)


@contextmanager
def limit_threads(spare: int) -> Generator[None]:
    """No more than so many threads can be started."""
    names = [
        name for name in ("_start_new_thread", "_start_joinable_thread") if hasattr(threading, name)
    ]
    real = {name: getattr(threading, name) for name in names}
    left = spare

    def starting(name: str) -> Callable[..., object]:
        def start(*arguments: object, **options: object) -> object:
            nonlocal left
            if left <= 0:
                raise RuntimeError("can't start new thread")
            left -= 1
            return real[name](*arguments, **options)

        return start

    for name in names:
        setattr(threading, name, starting(name))
    try:
        yield
    finally:
        for name in names:
            setattr(threading, name, real[name])
