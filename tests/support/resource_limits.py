"""Limit the descriptors and threads that this process can get."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager


@contextmanager
def limit_descriptors(spare: int) -> Generator[None]:
    """Allow at most ``spare`` further descriptors."""
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
    """Allow at most ``spare`` threads to be started."""
    names = [
        name for name in ("_start_new_thread", "_start_joinable_thread") if hasattr(threading, name)
    ]
    real = {name: getattr(threading, name) for name in names}
    remaining = spare

    def limited(name: str) -> Callable[..., object]:
        def start(*arguments: object, **options: object) -> object:
            nonlocal remaining
            if remaining <= 0:
                raise RuntimeError("can't start new thread")
            remaining -= 1
            return real[name](*arguments, **options)

        return start

    for name in names:
        setattr(threading, name, limited(name))
    try:
        yield
    finally:
        for name in names:
            setattr(threading, name, real[name])
