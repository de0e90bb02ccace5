"""Run a program at a terminal, read what it prints, and answer its questions."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Self

from .command import COMMAND
from .lab import Lab
from .processes import TIMEOUT

INTERRUPT, END_OF_INPUT = "\x03", "\x04"
"""What a terminal sends for Ctrl-C and Ctrl-D."""


class Terminal:
    """A terminal that a program runs at, with the program's output so far."""

    def __init__(
        self,
        lab: Lab,
        *command: str,
        columns: int = 80,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start the program.

        :param lab: the namespace in which it runs.
        :param command: the program and its arguments.
        :param columns: the width of the terminal.
        :param environment: the variables that it gets besides those of the tests.
        """
        self._descriptor, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
        variables = {**os.environ, "TERM": "xterm"}
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            variables.pop(name, None)
        start = partial(
            subprocess.Popen[bytes],
            ("setsid", "--ctty", *command),
            stdin=end,
            stdout=end,
            stderr=end,
            env=variables | dict(environment or {}),
        )
        try:
            self._process = lab.run(start)
        finally:
            os.close(end)
        self.output = ""

    def wait_for(self, text: str) -> None:
        """Read the program's output until it has a text. Raises what :meth:`read_until` raises."""
        self.read_until(lambda output: text in output)

    def read_until(self, condition: Callable[[str], object]) -> None:
        """Read the program's output until a condition is true for it.

        :raises TimeoutError: when that takes longer than :data:`TIMEOUT`.
        :raises EOFError: when the program ends before.
        """
        deadline = time.monotonic() + TIMEOUT
        while not condition(self.output):
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._descriptor], [], [], left)[0]:
                raise TimeoutError(self.output)
            try:
                data = os.read(self._descriptor, 65536)
            except OSError:  # no program has the terminal open any more
                data = b""
            if not data:
                raise EOFError(self.output)
            self.output += data.decode().replace("\r\n", "\n")

    def type(self, text: str) -> None:
        """Type a text at the terminal."""
        os.write(self._descriptor, text.encode())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Read the output until the program ends, and return its exit status."""
        try:
            self.read_until(lambda _: False)
        except EOFError:
            pass
        return self._process.wait(TIMEOUT)

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
        os.close(self._descriptor)


def run_at_terminal(
    lab: Lab, *arguments: str, columns: int = 80, **environment: str
) -> tuple[int, str]:
    """Run the command at a terminal, and return its exit status and what it has printed."""
    with Terminal(lab, *COMMAND, *arguments, columns=columns, environment=environment) as terminal:
        return terminal.wait(), terminal.output
