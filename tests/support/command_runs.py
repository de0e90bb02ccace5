"""Run the command ``conntrack-aio`` in the namespace of a test: with pipes, or at a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Final, Self

import anyio

from conntrack_aio import Connection, Flow, connect

from .lab import Lab
from .processes import TIMEOUT

COMMAND: Final = (sys.executable, "-W", "error::ResourceWarning", "-m", "conntrack_aio")


def run(lab: Lab, *arguments: str) -> tuple[int, str, str]:
    """Run the command, and return its exit status, standard output and standard error."""
    start = partial(subprocess.run, (*COMMAND, *arguments), capture_output=True, text=True)
    done = lab.run(partial(start, timeout=TIMEOUT, check=False))
    return done.returncode, done.stdout, done.stderr


def do(lab: Lab, action: Callable[[Connection], Awaitable[object]]) -> None:
    """Run an action with a connection to the lab's namespace."""

    async def main() -> None:
        async with connect(netns=lab.netns) as conn:
            await action(conn)

    anyio.run(main)


def create(lab: Lab, *flows: Flow) -> None:
    """Create entries in the lab's namespace."""

    async def action(conn: Connection) -> None:
        for flow in flows:
            await conn.create(flow)

    do(lab, action)


class Terminal:
    """A program that runs at a terminal of its own."""

    def __init__(
        self, lab: Lab, *command: str, columns: int = 80, environment: dict[str, str] | None = None
    ) -> None:
        """Start the program.

        :param lab: the namespace in which it runs.
        :param command: the program and its arguments.
        :param columns: the width of the terminal.
        :param environment: the variables that it gets besides those of the tests.
        """
        self._terminal, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
        variables = {**os.environ, "TERM": "xterm", **(environment or {})}
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            if name not in (environment or {}):
                variables.pop(name, None)
        start = partial(
            subprocess.Popen[bytes],
            command,
            stdin=side,
            stdout=side,
            stderr=side,
            env=variables,
            start_new_session=True,
        )
        try:
            self._process = lab.run(start)
        finally:
            os.close(side)
        self.text = ""
        """What the program has printed so far."""

    def read_until(self, condition: Callable[[str], object]) -> str:
        """Read until the condition is true for the text that was read, and return the text.

        :raises TimeoutError: when that takes too long.
        :raises EOFError: when the program has ended.
        """
        deadline = time.monotonic() + TIMEOUT
        while not condition(self.text):
            if not select.select([self._terminal], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"after {self.text!r}")
            try:
                chunk = os.read(self._terminal, 65536)
            except OSError:  # EIO: no process has the terminal any more
                chunk = b""
            if not chunk:
                raise EOFError(f"after {self.text!r}")
            self.text += chunk.decode().replace("\r\n", "\n")
        return self.text

    def write(self, text: str) -> None:
        """Type text."""
        os.write(self._terminal, text.encode())

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> tuple[int, str]:
        """Wait until the program ends, and return its exit status and all that it has printed."""
        try:
            self.read_until(lambda _: False)
        except EOFError:
            pass
        return self._process.wait(TIMEOUT), self.text

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


def run_at_terminal(
    lab: Lab, *arguments: str, columns: int = 80, **environment: str
) -> tuple[int, str]:
    """Run the command at a terminal, and return its exit status and what it has printed."""
    with Terminal(lab, *COMMAND, *arguments, columns=columns, environment=environment) as terminal:
        return terminal.wait()
