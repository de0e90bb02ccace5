"""Test the progress that is shown at a terminal."""

from __future__ import annotations

import io
import re
import sys

import pytest
from support.lab import Lab
from support.terminal import Terminal

from conntrack_aio.cli.progress import progress_line, shown_progress, shows_progress

pytestmark = pytest.mark.kernel

PROGRAM = """
import itertools, sys
from conntrack_aio.cli.progress import shown_progress
from conntrack_aio.cli.output import standard_streams
numbers = itertools.count(1)
with standard_streams():
    with shown_progress("entries", lambda: next(numbers), 1000, quiet="quiet" in sys.argv):
        input() if "slow" in sys.argv else None
    print("done", flush=True)
"""


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


ERASE = "\r\x1b[K"


def test_progress_is_shown_and_erased(lab: Lab) -> None:
    with Terminal(lab, sys.executable, "-c", PROGRAM, "slow") as terminal:
        terminal.wait_for("3 of 1000 entries")
        text = terminal.output
        assert text.startswith(f"{ERASE}1 of 1000 entries, 1/s{ERASE}2 of 1000 entries, ")
        terminal.type("\n")
        status, text = terminal.wait(), terminal.output
        assert status == 0
        assert re.search(r"entries, \d+/s\n?\r\x1b\[Kdone\n$", text)


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [(["quick"], {}), (["quick", "quiet"], {}), (["quick"], {"TERM": "dumb"})],
)
def test_what_takes_less_than_a_second_shows_no_progress(
    lab: Lab, arguments: list[str], environment: dict[str, str]
) -> None:
    command = (sys.executable, "-c", PROGRAM, *arguments)
    with Terminal(lab, *command, environment=environment) as terminal:
        assert (terminal.wait(), terminal.output) == (0, "done\n")


@pytest.mark.parametrize(
    ("quiet", "term", "shown"),
    [(False, "xterm", True), (True, "xterm", False), (False, "dumb", False)],
)
def test_where_progress_is_shown(
    quiet: bool, term: str, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys, "stderr", FakeTerminal())
    assert shows_progress(quiet=quiet) is shown


def test_progress_is_only_for_terminals(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress("entries", lambda: pytest.fail("not to be called"), 5, quiet=False):
        pass
    assert capsys.readouterr().err == ""


def test_the_text_of_a_progress() -> None:
    assert progress_line("entries", 1500, 2000, 2.0) == "1500 of 2000 entries, 750/s"
    assert progress_line("entries", 1500, None, 2.0) == "1500 entries, 750/s"
    assert progress_line("entries", 2100, 2000, 2.0) == "2100 of 2100 entries, 1050/s"
