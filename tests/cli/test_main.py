"""The process of the command: how it starts, and that it ends at once with all output written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import create, run_process
from support.lab import Lab
from support.processes import TIMEOUT

from conntrack_aio import Flow
from conntrack_aio.cli import main

pytestmark = pytest.mark.kernel

PROGRAM = (sys.executable, "-m", "conntrack_aio")
"""The command as users start it. That of :mod:`support.command` has warnings switched on."""

NUMBER = 3000
"""The lines of so many flows do not fit into a pipe, nor into the buffer of standard output."""

AT_EXIT = """\
import atexit, sys, threading
atexit.register(print, "exit handler", file=sys.stderr)
sys.argv = [{program!r}, *sys.argv[1:]]
from conntrack_aio.cli import main
sys.exit(main())
"""
"""A program that shows whether Python runs the functions that are registered for its exit."""


@pytest.fixture(autouse=True)
def buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python buffer standard output, whose buffer would be lost."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


def create_many(lab: Lab) -> None:
    create(
        lab, *(Flow.udp("10.0.0.1", port, "10.0.0.2", 53, timeout=600) for port in range(NUMBER))
    )


@pytest.mark.parametrize("words", [("list", "--quiet"), ("list", "--json", "--quiet"), ("-L",)])
def test_all_output_is_written_before_the_process_ends(lab: Lab, words: tuple[str, ...]) -> None:
    create_many(lab)
    done = run_process(lab, *words, command=PROGRAM)
    assert done.status == 0
    assert len(done.out.splitlines()) == NUMBER


def test_a_file_is_complete_when_the_process_has_ended(lab: Lab, tmp_path: Path) -> None:
    create_many(lab)
    file = tmp_path / "table"
    assert run_process(lab, "save", "--output", str(file), command=PROGRAM).status == 0
    assert len(file.read_text().splitlines()) >= NUMBER


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("-C",), 0),
        (
            ("-G", "-p", "tcp", "-s", "10.9.9.9", "-d", "10.9.9.8", "--sport", "1", "--dport", "2"),
            1,
        ),
        (("-L", "--nonsense"), 2),
        (("count",), 0),
        (("get", "tcp", "10.9.9.9:1", "10.9.9.8:2"), 1),
        (("count", "--nonsense"), 2),
        (("nfct", "list", "timeout"), 0),
        (("nfct", "nonsense"), 1),
        (("--version",), 0),
    ],
)
def test_the_exit_status_is_that_of_a_process_with_warnings(
    lab: Lab, words: tuple[str, ...], status: int
) -> None:
    fast, slow = run_process(lab, *words, command=PROGRAM), run_process(lab, *words)
    assert (fast.status, slow.status) == (status, status)
    assert (fast.out, fast.err) == (slow.out, slow.err)


@pytest.mark.parametrize(
    ("program", "options", "runs"),
    [
        ("/usr/bin/conntrack-aio", [], False),
        ("/usr/bin/conntrack", [], False),
        ("/usr/bin/nfct", [], False),
        ("/usr/bin/other", [], True),  # a profiler, or a program that calls main()
        ("/usr/bin/conntrack-aio", ["-W", "default"], True),
        ("/usr/bin/conntrack-aio", ["-X", "dev"], True),
    ],
)
def test_only_the_command_ends_without_pythons_exit(
    program: str, options: list[str], runs: bool
) -> None:
    done = subprocess.run(
        (sys.executable, *options, "-c", AT_EXIT.format(program=program), "--version"),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": ""},
    )
    assert ("exit handler" in done.stderr) == runs


def test_main_with_arguments_returns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("conntrack-aio ")
