"""Run command lines of conntrack(8), by the program and by this package, in one namespace.

A :class:`Worker` is a process inside of a network namespace, so that neither a thread has to enter
it nor Python has to start for each command line. Its names of labels are :data:`LABELS`.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from .lab import Lab
from .processes import TIMEOUT

LABELS = {"web": 3, "db": 5, "two words": 7, "last": 127}

_LABEL_LINES = "\n".join(f"{bit} {name}" for name, bit in LABELS.items())
_SCRIPT = """
    protocols=$(cat /etc/protocols)
    mount -t tmpfs none /etc
    mkdir /etc/xtables
    echo "$LABELS" > /etc/xtables/connlabel.conf
    echo "$protocols" > /etc/protocols
    exec "$@"
"""


class Result(NamedTuple):
    """What a command line did."""

    status: int
    """The exit status, or a negative number if a signal ended the program."""
    output: str
    errors: str


def in_environment(*command: str) -> list[str]:
    """Return a command line that runs a command with :data:`LABELS` as the names of labels."""
    path = os.pathsep.join(str(directory) for directory in Path(__file__).parents[1:3])
    environment = [f"LABELS={_LABEL_LINES}", "TZ=UTC0", f"PYTHONPATH={path}"]
    return ["env", *environment, "unshare", "-m", "sh", "-ec", _SCRIPT, "sh", *command]


class Worker:
    """A process that runs command lines in a network namespace."""

    def __init__(self, lab: Lab) -> None:
        command = in_environment(sys.executable, "-m", __name__)
        self._process = lab.run(_start, command)

    def program(self, *arguments: str, input: str = "") -> Result:
        """Run the program."""
        return self._run("program", arguments, input)

    def ours(self, *arguments: str, input: str = "") -> Result:
        """Run the command of this package."""
        return self._run("ours", arguments, input)

    def _run(self, which: str, arguments: Sequence[str], input: str) -> Result:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps([which, arguments, input]), file=process.stdin, flush=True)
        answer = process.stdout.readline()
        assert answer, f"the worker ended at {arguments}"
        status, output, errors = cast("list[object]", json.loads(answer))
        return Result(cast("int", status), str(output), str(errors))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(TIMEOUT)
        self._process.stdout.close()


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


# -- inside of the process -----------------------------------------------------------------------


def _serve() -> None:
    answers = sys.stdout
    for line in sys.stdin:
        which, arguments, input = json.loads(line)
        run = _run_program if which == "program" else _run_ours
        print(json.dumps(run(arguments, input)), file=answers, flush=True)


def _run_program(arguments: Sequence[str], input: str) -> Result:
    done = subprocess.run(
        ["conntrack", *arguments],
        input=input,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=TIMEOUT,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def _run_ours(arguments: Sequence[str], input: str) -> Result:
    from conntrack_aio.cli.conntrack8.command import run

    def stream(text: str = "") -> io.TextIOWrapper:
        data = io.BytesIO(text.encode(errors="surrogateescape"))
        return io.TextIOWrapper(data, encoding="utf-8", errors="surrogateescape")

    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin, output, errors = stream(input), stream(), stream()
    sys.stdout, sys.stderr = output, errors
    try:
        status = run(arguments)
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
    return Result(status, _contents(output), _contents(errors))


def _contents(stream: io.TextIOWrapper) -> str:
    stream.flush()
    stream.seek(0)
    return stream.read()


if __name__ == "__main__":
    _serve()
