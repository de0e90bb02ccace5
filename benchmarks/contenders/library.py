"""libnetfilter_conntrack, by the program rival.c, which times itself."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..timing import Contender, Seen, Timing
from .floor import flush

NAME: Final = "libnetfilter_conntrack"
SOURCE: Final = Path(__file__).with_name("rival.c")


class NotCompiled(Exception):
    """There is no compiler, or no library; it says what to do."""


def compile_rival(directory: Path) -> Path:
    """Compile it there. Raises :exc:`NotCompiled`."""
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
    """``NFCT_Q_DUMP`` with an empty callback."""
    return Contender(
        NAME,
        lambda: _read(_output(program, "dump"))[1],
        lambda: _read(_output(program, "dump", "check"))[0],
    )


def events(program: Path, cause: Callable[[], None], count: int, receive_buffer: int) -> Contender:
    """``nfct_catch`` with an empty callback, of what ``cause`` has queued."""

    def listen(*arguments: str) -> tuple[Seen, Timing]:
        command = (str(program), "events", str(count), str(receive_buffer), *arguments)
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            cause()
            output, _ = process.communicate("now\n")
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        return _read(output)

    return Contender(NAME, lambda: listen()[1], lambda: listen("check")[0])


def create(program: Path, count: int) -> Contender:
    """``NFCT_Q_CREATE``, one after the other."""

    def run(*arguments: str) -> tuple[Seen, Timing]:
        flush()
        return _read(_output(program, "create", str(count), *arguments))

    return Contender(NAME, lambda: run()[1], lambda: Seen(run("check")[0].count))


def _output(*command: str | Path) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def _read(output: str) -> tuple[Seen, Timing]:
    count, checksum, wall, cpu = (int(word) for word in output.split())
    return Seen(count, checksum), Timing(wall / 1e9, cpu / 1e9, count)
