"""Run the programs of a page, and its commands in a shell."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from blocks import ROOT, commands_of, pattern_of
from support.lab import Lab
from support.processes import TIMEOUT

_WITH_OWN_RUN: Final = 'mount -t tmpfs tmpfs /run && exec "$@"'
"""Mounts an empty ``/run``: the names of network namespaces are files there."""

_REPLACEMENTS: Final = {
    "sudo": 'exec "$@"',  # the tests are root in the lab
    "docker": "echo $PPID",  # prints a process id, as docker inspect does
}
"""Scripts that replace programs which only a reader's machine needs."""

_MARK: Final = re.compile(r"\x1e(\d+) (\d+)\x1e\n")


def environment(directory: Path) -> dict[str, str]:
    """Return the environment variables of a root user who has installed the library."""
    programs = directory / ".programs"
    programs.mkdir(exist_ok=True)
    for name, text in _REPLACEMENTS.items():
        script = programs / name
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
    path = f"{programs}:{Path(sys.executable).parent}:/usr/sbin:/sbin:{os.environ['PATH']}"
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("CONNTRACK_AIO")
    }
    return {**inherited, "PATH": path, "PYTHONUNBUFFERED": "1", "REPOSITORY": str(ROOT)}


class Running:
    """A program that runs in the lab.

    :param directory: its working directory.
    :param command: the program and its arguments.
    :param merged: whether its standard error goes to its output.
    """

    def __init__(self, lab: Lab, directory: Path, *command: str, merged: bool = False) -> None:
        def start() -> subprocess.Popen[bytes]:
            with (directory / ".errors").open("wb") as errors:
                return subprocess.Popen(
                    ["unshare", "--mount", "sh", "-c", _WITH_OWN_RUN, "sh", *command],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT if merged else errors,
                    cwd=directory,
                    env=environment(directory),
                    start_new_session=True,
                )

        self._errors = directory / ".errors"
        self._process = lab.run(start)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._written = b""
        self.ended = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        """Return the output so far."""
        return self._written.decode(errors="replace")

    @property
    def errors(self) -> str:
        """Return its standard error so far, unless that goes to the output."""
        return self._errors.read_text(errors="replace")

    def write(self, text: str) -> None:
        self._stdin.write(text.encode())
        self._stdin.flush()

    def read(self, seconds: float) -> None:
        """Read its next output, and wait for it at most for this time."""
        if select.select([self._stdout], [], [], seconds)[0]:
            chunk = os.read(self._stdout.fileno(), 65536)
            self._written += chunk
            self.ended = not chunk

    def status(self) -> int:
        """Wait until the program ends, and return its exit status."""
        return self._process.wait(TIMEOUT)

    def processes(self) -> list[int]:
        """Return the ids of the process and its descendants, the youngest last."""
        found = [self.pid]
        for pid in found:
            try:
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
            except OSError:
                continue
            found += map(int, children.split())
        return found

    def listeners(self) -> int:
        """Return how many sockets in the namespaces of its processes are subscribed to events."""
        sockets: set[str] = set()
        for pid in self.processes():
            try:
                table = Path(f"/proc/{pid}/net/netlink").read_text()
            except OSError:
                continue
            lines = [line.split() for line in table.splitlines()[1:]]
            sockets |= {line[9] for line in lines if line[1] == "12" and int(line[3], 16) & 7}
        return len(sockets)

    def has_more_listeners_than(self, number: int) -> bool:
        """Return whether more sockets than this are subscribed."""
        return self.listeners() > number

    def interrupt(self) -> None:
        """Send SIGINT to the youngest process, as Ctrl-C in a terminal does."""
        os.kill(self.processes()[-1], signal.SIGINT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        with self._process:
            pass


class Shell(Running):
    """A shell in the lab that runs the commands of a page one after the other."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        super().__init__(lab, directory, "bash", "--norc", "-s", merged=True)
        self._count = 0
        self._consumed = 0

    def run_block(self, text: str, where: str, exceptions: frozenset[str]) -> None:
        """Run the commands of a block, and compare their output.

        :param text: the text of the block.
        :param where: the name of the block, for errors.
        :param exceptions: commands that are not run.

        :raises AssertionError: when the output differs from the page.
        """
        for command, expected in commands_of(text):
            if command not in exceptions:
                self._run(command, expected, where)

    def _run(self, command: str, expected: str, where: str) -> None:
        self._count += 1
        self.write(f"{command}\nprintf '\\036{self._count} %d\\036\\n' $?\n")
        expected, interrupted, _ = expected.partition("^C\n")
        pattern = re.compile(pattern_of(expected))
        deadline = time.monotonic() + TIMEOUT
        status: int | None = None
        sent = False
        while time.monotonic() < deadline:
            text = self.output[self._consumed :]
            if interrupted and not sent:
                if pattern.fullmatch(text):
                    self.interrupt()
                    sent = True
            elif mark := _MARK.search(text):
                assert int(mark[1]) == self._count
                status = int(mark[2])
                output = text[: mark.start()] + text[mark.end() :]
                if pattern.fullmatch(output) and self._is_settled(command):
                    assert interrupted or expected or not status, f"{where}: {command}: {status}"
                    self._consumed = len(self.output)
                    return
            if self.ended:
                break
            self.read(0.02)
        shown = _MARK.sub("", self.output[self._consumed :])
        raise AssertionError(f"{where}: {command}: {status}\n{shown}\nexpected\n{expected}")

    def _is_settled(self, command: str) -> bool:
        """Return whether a command that reads events in the background has subscribed."""
        waits = command.startswith(("conntrack-aio events", "sudo conntrack-aio events"))
        return not waits or not command.endswith("&") or bool(self.listeners())
