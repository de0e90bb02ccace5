"""Run a program at a terminal, and answer its questions."""

from __future__ import annotations

import os
import pty
import select
import subprocess
from functools import partial
from types import TracebackType
from typing import Self

from .lab import Lab
from .processes import TIMEOUT

INTERRUPT, END_OF_INPUT = "\x03", "\x04"
"""What a terminal sends for Ctrl-C and Ctrl-D."""


class Terminal:
    """A terminal that a program runs at, with the program's output so far."""

    def __init__(self, lab: Lab, *command: str) -> None:
        self._descriptor, end = pty.openpty()
        start = partial(
            subprocess.Popen[bytes],
            ("setsid", "--ctty", *command),
            stdin=end,
            stdout=end,
            stderr=end,
        )
        try:
            self._process = lab.run(start)
        finally:
            os.close(end)
        self.output = ""

    def wait_for(self, text: str) -> None:
        """Read the program's output until it has a text.

        :raises TimeoutError: when the text does not appear within :data:`TIMEOUT`.
        :raises EOFError: when the program ends without it.
        """
        while text not in self.output:
            if not self._read():
                raise EOFError(self.output)

    def type(self, text: str) -> None:
        """Type a text at the terminal."""
        os.write(self._descriptor, text.encode())

    def wait(self) -> int:
        """Read the output until the program ends, and return its exit status."""
        while self._read():
            pass
        return self._process.wait(TIMEOUT)

    def _read(self) -> bool:
        """Read more output; return ``False`` at the end."""
        if not select.select([self._descriptor], [], [], TIMEOUT)[0]:
            raise TimeoutError(self.output)
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # no program has the terminal open any more
            return False
        self.output += data.decode().replace("\r\n", "\n")
        return bool(data)

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
