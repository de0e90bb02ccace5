"""Programs that run beside a test, in its namespace."""

from __future__ import annotations

import array
import fcntl
import os
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from . import effort
from .lab import Lab

TIMEOUT = 20.0 * effort.TIMEOUT_FACTOR
"""Seconds that something may take that ought to come at once."""

NEW, UPDATE, DESTROY = 0x1, 0x2, 0x4
"""The groups of ctnetlink's events, as the bits of /proc/net/netlink."""

_NETFILTER = "12"


class Process:
    """A program that prints lines until it is told to stop."""

    def __init__(self, lab: Lab, *command: str, merged: bool = False) -> None:
        error = subprocess.STDOUT if merged else subprocess.PIPE
        start = partial(subprocess.Popen[bytes], command, stdout=subprocess.PIPE, stderr=error)
        self._process = lab.run(start)
        assert self._process.stdout is not None
        self._stdout = self._process.stdout
        self._buffer = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stdout(self) -> IO[bytes]:
        return self._stdout

    @property
    def stderr(self) -> IO[bytes]:
        assert self._process.stderr is not None
        return self._process.stderr

    def line(self) -> str:
        """The next line; :exc:`TimeoutError` if it doesn't come, :exc:`EOFError` at the end."""
        while b"\n" not in self._buffer:
            if not select.select([self._stdout], [], [], TIMEOUT)[0]:
                raise TimeoutError(f"after {self._buffer!r}")
            chunk = os.read(self._stdout.fileno(), 65536)
            if not chunk:
                raise EOFError(f"after {self._buffer!r}")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def stop_reading(self) -> None:
        """As ``head -1`` does."""
        self._stdout.close()

    def pause(self) -> None:
        """Stop it until it gets a SIGCONT."""
        self.signal(signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Wait for its end: the exit status, and what it wrote to standard error."""
        stderr = self._process.stderr
        told = b"" if stderr is None else stderr.read()
        return self._process.wait(TIMEOUT), told.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        with self._process:  # close its pipes, and wait
            pass


def unread_bytes(pipe: IO[bytes]) -> int:
    """How many bytes wait in a pipe to be read."""
    waiting = array.array("i", [0])
    fcntl.ioctl(pipe.fileno(), termios.FIONREAD, waiting)
    return waiting[0]


def count_subscribers(lab: Lab, groups: int) -> int:
    """How many sockets of the namespace listen to just these groups."""
    table = lab.run(Path("/proc/thread-self/net/netlink").read_text)
    lines = [line.split() for line in table.splitlines()[1:]]
    return sum(line[1] == _NETFILTER and int(line[3], 16) == groups for line in lines)


def wait_until(condition: Callable[[], object]) -> None:
    """For what says nothing when it happens. Raises :exc:`TimeoutError`."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.005)
