"""Test how commands end when output fails, at a signal, and when the table changes meanwhile."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from support.command import count, create
from support.lab import Lab
from support.processes import TIMEOUT, Process, unread_bytes, wait_until

import conntrack_aio
from conntrack_aio import Flow

pytestmark = pytest.mark.kernel

COMMAND = (sys.executable, "-W", "error::ResourceWarning", "-m", "conntrack_aio")
VERSION = f"conntrack v{conntrack_aio.__version__} (conntrack_aio)"
FULL = "conntrack-aio: standard output: No space left on device\n"
CLOSED = "conntrack-aio: standard output is closed\n"


def fill(lab: Lab, number: int) -> None:
    create(
        lab,
        *(Flow.udp("10.0.0.1", 1 + n, "10.0.0.2", 53, timeout=1000) for n in range(number)),
    )


def shell(lab: Lab, arguments: str, redirection: str) -> tuple[int, str, str]:
    """Run the command in a shell, and return its own exit status, the output and the errors."""
    line = f"set -o pipefail; {shlex.join(COMMAND)} {arguments} {redirection}"
    start = partial(
        subprocess.run,
        ["/bin/bash", "-c", line],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    done = lab.run(start)
    return done.returncode, done.stdout, done.stderr


def test_a_full_disk(lab: Lab) -> None:
    fill(lab, 2)
    for arguments in ("-L", "-C", "-S", "-D -p udp --sport 1", "-h", "-V"):
        assert shell(lab, arguments, ">/dev/full") == (1, "", FULL), arguments
    assert count(lab) == 2  # output is tried first


def test_a_closed_standard_output(lab: Lab) -> None:
    fill(lab, 1)
    for arguments in ("-L", "-D -p udp", "-C"):
        assert shell(lab, arguments, ">&-") == (1, "", CLOSED), arguments
    assert count(lab) == 1


def test_a_closed_standard_error(lab: Lab) -> None:
    fill(lab, 1)
    status, out, _ = shell(lab, "-L", "2>&-")
    assert (status, out.count("\n")) == (0, 1)
    assert shell(lab, "-L -X", "2>&-") == (2, "", "")
    assert shell(lab, "-D -p tcp", "2>/dev/full") == (1, "", "")


def test_a_reader_that_closes_the_pipe(lab: Lab) -> None:
    fill(lab, 3000)
    status, out, errors = shell(lab, "-L", "| head -1")
    assert (status, out.count("\n"), errors) == (0, 1, "")


def test_an_interrupt_ends_a_list(lab: Lab) -> None:
    fill(lab, 3000)
    with Process(lab, *COMMAND, "-L") as listing:
        wait_until(lambda: unread_bytes(listing.stdout) > 20000)
        wait_until(lambda: "pipe" in Path(f"/proc/{listing.pid}/wchan").read_text())
        listing.signal(signal.SIGINT)
        assert listing.wait() == (130, "")


def test_an_interrupt_ends_the_wait_for_commands(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    try:
        for line in ("{} -R {}", "{} -R - < {}"):
            command = line.format(f"exec {shlex.join(COMMAND)}", path)
            with Process(lab, "/bin/bash", "-c", command) as loading:
                wait_until(lambda: "pipe" in Path(f"/proc/{loading.pid}/wchan").read_text())
                loading.signal(signal.SIGINT)
                assert loading.wait() == (130, "")
    finally:
        os.close(writer)


def test_an_interrupt_ends_a_file_of_commands(lab: Lab, tmp_path: Path) -> None:
    number = 8000
    path = tmp_path / "commands"
    path.write_text(
        "".join(
            f"-I -t 1000 -p udp -s 10.0.0.1 -d 10.0.0.2 --sport {1 + n} --dport 53\n"
            for n in range(number)
        )
    )
    with Process(lab, *COMMAND, "-R", str(path)) as loading:
        wait_until(lambda: count(lab))
        loading.signal(signal.SIGINT)
        assert loading.wait() == (130, "")
    assert 0 < count(lab) < number


def test_entries_that_two_commands_delete_at_once(lab: Lab) -> None:
    """Each entry is counted and printed by the command that has deleted it."""
    fill(lab, 3000)
    deleted = 0
    with Process(lab, *COMMAND, "-D", "-p", "udp") as one, Process(lab, *COMMAND, "-D") as other:
        for process in (one, other):
            lines = process.stdout.read().count(b"\n")
            status, errors = process.wait()
            found = re.fullmatch(
                rf"{re.escape(VERSION)}: (\d+) flow entries have been deleted\.\n", errors
            )
            assert found is not None, errors
            assert int(found[1]) == lines
            assert status == (0 if lines else 1)
            deleted += lines
    assert deleted == 3000
    assert count(lab) == 0


def test_entries_that_end_during_an_update(lab: Lab) -> None:
    fill(lab, 2000)
    with (
        Process(lab, *COMMAND, "-U", "-s", "10.0.0.1", "-m", "5", merged=True) as update,
        Process(lab, *COMMAND, "-D", "-s", "10.0.0.1") as delete,
    ):
        assert delete.stdout.read().count(b"\n") == 2000
        assert delete.wait()[0] == 0
        lines = update.stdout.read().decode().splitlines()
        assert update.wait()[0] in (0, 1)
    expected = re.compile(
        rf"udp      17 .* mark=5 .*|Operation failed: No such file or directory"
        rf"|{re.escape(VERSION)}: \d+ flow entries have been updated\."
    )
    assert [line for line in lines if not expected.fullmatch(line)] == []
