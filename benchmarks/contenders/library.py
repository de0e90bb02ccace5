"""Time libnetfilter_conntrack, by the program rival.c, which measures its own time."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..timing import Contender, Observation, Timing
from .floor import flush

NAME: Final = "libnetfilter_conntrack"
SOURCE: Final = Path(__file__).with_name("rival.c")


class NotCompiled(Exception):
    """The rival cannot be compiled. The message says what to install."""


def compile_rival(directory: Path) -> Path:
    """Compile rival.c and return the path of the program.

    :param directory: where to put it.

    :raises NotCompiled: when there is no compiler, or no library.
    """
    program = directory / "rival"
    command = ("cc", "-O2", "-Wall", "-o", str(program), str(SOURCE), "-lnetfilter_conntrack")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NotCompiled("no C compiler: apt-get install gcc libc6-dev") from None
    if done.returncode and "libnetfilter_conntrack.h" in done.stderr:
        raise NotCompiled("no headers: apt-get install libnetfilter-conntrack-dev")
    if done.returncode:
        raise NotCompiled(done.stderr.strip())
    return program


def dump(program: Path) -> Contender:
    """Time ``NFCT_Q_DUMP`` with a callback that only counts."""
    return Contender(
        NAME,
        lambda: _parse(_output(program, "dump"))[1],
        lambda: _parse(_output(program, "dump", "check"))[0],
    )


def events(program: Path, cause: Callable[[], None], count: int, receive_buffer: int) -> Contender:
    """Time ``nfct_catch`` of queued events, with a callback that only counts.

    :param cause: a function that causes the events.
    :param count: how many events it causes.
    :param receive_buffer: the bytes of a receive buffer that holds all of them.
    """

    def run(*arguments: str) -> tuple[Observation, Timing]:
        command = (str(program), "events", str(count), str(receive_buffer), *arguments)
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()  # it has subscribed
            cause()
            output, _ = process.communicate("read\n")
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        return _parse(output)

    return Contender(NAME, lambda: run()[1], lambda: run("check")[0])


def create(program: Path, count: int) -> Contender:
    """Time ``NFCT_Q_CREATE``, which creates one flow at a time."""

    def run(*arguments: str) -> tuple[Observation, Timing]:
        flush()
        return _parse(_output(program, "create", str(count), *arguments))

    return Contender(NAME, lambda: run()[1], lambda: Observation(run("check")[0].count))


def _output(*command: str | Path) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def _parse(output: str) -> tuple[Observation, Timing]:
    count, checksum, wall, cpu = map(int, output.split())
    return Observation(count, checksum), Timing(wall / 1e9, cpu / 1e9, count)
