"""Run commands in a network namespace, each in a process of its own.

A worker is a process inside of the namespace that has imported ``conntrack_aio``. It forks for each
command of ``conntrack-aio``, so that Python does not have to start each time. Commands with syntax
of the shell, and other programs, are run by bash.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import NamedTuple, cast

from support.lab import Lab
from support.processes import TIMEOUT

_SHELL_SYNTAX = re.compile(r"[;<>$]")
_LINKS = ("conntrack", "nfct")

# conntrack(8) and the library read the names of labels from this file only.
_WITH_LABELS = """
    protocols=$(cat /etc/protocols)
    mount -t tmpfs none /etc
    mkdir /etc/xtables
    printf "$LABELS" > /etc/xtables/connlabel.conf
    echo "$protocols" > /etc/protocols
    exec "$@"
"""


class Done(NamedTuple):
    """What a command did."""

    status: int
    output: str
    errors: str


class Worker:
    """A process that runs commands in a network namespace."""

    def __init__(
        self, lab: Lab, directory: Path, variables: Mapping[str, str], labels: str
    ) -> None:
        """Start the process.

        :param directory: the working directory of commands.
        :param variables: the environment variables of commands.
        :param labels: the contents of ``connlabel.conf``.
        """
        path = os.pathsep.join(str(each) for each in sys.path if each)
        environ = {**variables, "PYTHONPATH": path, "LABELS": labels, "TZ": "UTC0"}
        words = ["unshare", "--mount", "sh", "-ec", _WITH_LABELS, "sh"]
        words += [sys.executable, "-m", Path(__file__).stem]
        self._process = lab.run(_start, words, directory, environ)

    def run(self, command: str, *, links: bool = False) -> Done:
        """Run a command.

        :param links: whether ``conntrack`` and ``nfct`` are this package's command.
        """
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps([command, links]), file=process.stdin, flush=True)
        answer = process.stdout.readline()
        assert answer, f"the worker ended at {command}"
        status, output, errors = cast("list[object]", json.loads(answer))
        return Done(cast("int", status), str(output), str(errors))

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=TIMEOUT)


def _start(
    words: Sequence[str], directory: Path, environ: Mapping[str, str]
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words,
        cwd=directory,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# -- inside of the process -----------------------------------------------------------------------


def _import_all() -> None:
    """Import what commands import, so that no child process has to."""
    for name in ("anyio._backends._asyncio", "conntrack_aio.connection", "conntrack_aio.cli"):
        import_module(name)
    for module in walk_packages(sys.modules["conntrack_aio.cli"].__path__, "conntrack_aio.cli."):
        import_module(module.name)


def _serve() -> None:
    _import_all()
    answers = sys.stdout
    for line in sys.stdin:
        command, links = json.loads(line)
        program = command.split()[0]
        own = program == "conntrack-aio" or (links and program in _LINKS)
        run = _fork if own and not _SHELL_SYNTAX.search(command) else _run_in_shell
        print(json.dumps(run(command, links)), file=answers, flush=True)


def _run_in_shell(command: str, links: bool) -> Done:
    environ = {**os.environ}
    if links:
        environ["PATH"] = f"{os.getcwd()}/links:{environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def _fork(command: str, links: bool) -> Done:
    """Run a command of this package in a child process."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = os.fork()
        if not process:
            os._exit(_main(shlex.split(command), (output.fileno(), errors.fileno())))
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        texts: list[str] = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode())
        return Done(status, *texts)


def _main(words: list[str], descriptors: tuple[int, int]) -> int:
    from conntrack_aio.cli import main

    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, standard in zip(descriptors, (1, 2), strict=True):
        os.dup2(descriptor, standard)
    sys.argv = words
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    _serve()
