"""Run programs in the namespace of a test while the test runs."""

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
"""The time limit in seconds for whatever should happen at once."""

NEW, UPDATE, DESTROY = 0x1, 0x2, 0x4
"""Multicast groups of ctnetlink events, as bits in the column Groups of /proc/net/netlink."""

_NETFILTER = "12"


class Process:
    """A program that prints lines until it is stopped."""

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

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def line(self) -> str:
        """Return the next line of standard output.

        :raises TimeoutError: when no line arrives within :data:`TIMEOUT`.
        :raises EOFError: when standard output is closed.
        """
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
        """Close the reading end of standard output, as ``head -1`` does."""
        self._stdout.close()

    def pause(self) -> None:
        """Suspend the program until it receives a SIGCONT."""
        self.signal(signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> tuple[int, str]:
        """Wait until the program ends.

        :returns: the exit status, and the rest of standard error.
        """
        stderr = self._process.stderr
        output = b"" if stderr is None else stderr.read()
        return self._process.wait(TIMEOUT), output.decode()

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
    """Return how many bytes in a pipe have not been read."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe.fileno(), termios.FIONREAD, count)
    return count[0]


def count_subscribers(lab: Lab, groups: int) -> int:
    """Return how many netfilter sockets of the namespace subscribe to exactly these groups."""
    table = lab.run(Path("/proc/thread-self/net/netlink").read_text)
    lines = [line.split() for line in table.splitlines()[1:]]
    return sum(line[1] == _NETFILTER and int(line[3], 16) == groups for line in lines)


def wait_until(condition: Callable[[], object]) -> None:
    """Poll until a condition is true.

    :raises TimeoutError: when that takes longer than :data:`TIMEOUT`.
    """
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.005)
