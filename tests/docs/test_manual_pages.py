"""The manual pages are complete, and man reads them without warnings."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import manual_pages
import pytest
import roff

from conntrack_aio import __version__
from conntrack_aio.cli.command import COMMANDS, build_parser, parse
from conntrack_aio.cli.nfct.grammar import COMMANDS as NFCT_COMMANDS
from conntrack_aio.cli.parsing import Parser

PAGES = manual_pages.manual_pages()
TEXTS = manual_pages.texts()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with all pages."""
    directory = tmp_path_factory.mktemp("man1")
    for name, text in PAGES.items():
        (directory / name).write_text(text, encoding="utf-8")
    return directory


def parsers(parser: Parser) -> Iterator[Parser]:
    """Yield a parser and those of its subcommands."""
    yield parser
    for subcommand in parser.subcommands.values():
        yield from parsers(subcommand)


@pytest.mark.program("groff", "groff-base")
def test_groff_warns_of_nothing(directory: Path) -> None:
    for name in PAGES:
        command = ["groff", "-man", "-Tutf8", "-ww", "-z", str(directory / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.program("mandoc", "mandoc")
def test_mandoc_warns_of_nothing(directory: Path) -> None:
    command = ["mandoc", "-T", "lint", "-W", "style", *(str(directory / name) for name in PAGES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.program("man", "man-db")
def test_man_shows_a_page(directory: Path) -> None:
    command = ["man", "--warnings", "-l", str(directory / "conntrack-aio-list.1")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80"},
    )
    assert done.stderr == ""
    assert "conntrack-aio-list - print the flows in the kernel's table" in done.stdout
    assert f"conntrack_aio {__version__}" in done.stdout


def test_there_is_a_page_for_every_subcommand_and_language() -> None:
    names = [*COMMANDS, "conntrack", "nfct"]
    assert set(PAGES) == {"conntrack-aio.1", *(f"conntrack-aio-{name}.1" for name in names)}


def test_every_option_and_its_explanation_are_on_the_page() -> None:
    for name, command in build_parser().subcommands.items():
        page = PAGES[f"conntrack-aio-{name}.1"]
        words = " ".join(page.split())
        for parser in parsers(command):
            for action in parser.arguments:
                assert all(roff.bold(option) in page for option in action.option_strings)
                if action.help and not parser.subcommands:
                    explanation = " ".join(roff.inline(action.help.replace("%%", "%")).split())
                    assert explanation[1:] in words
        for verb in command.subcommands:
            assert roff.escape(f"conntrack-aio {name} {verb}") in page


def test_every_command_of_nfct_is_on_its_page() -> None:
    page = PAGES["conntrack-aio-nfct.1"]
    assert all(roff.escape(command) in page for command in NFCT_COMMANDS)


def test_the_texts_are_about_subcommands_that_exist() -> None:
    assert set(TEXTS["commands"]) <= set(COMMANDS)


def test_every_page_refers_to_pages_that_exist() -> None:
    own = re.compile(r"(conntrack\\-aio[a-z\\-]*)(?:\\fP| )\(1\)")
    for page in PAGES.values():
        for name in own.findall(page):
            assert f"{name}.1".replace("\\", "") in PAGES


@pytest.mark.parametrize(
    "command",
    [
        command
        for own in (TEXTS["main"], *TEXTS["commands"].values())
        for command, _ in own.get("examples", [])
        if command.startswith("conntrack-aio ") and not command.startswith("conntrack-aio -")
    ],
)
def test_the_examples_are_valid(command: str) -> None:
    words = shlex.split(command.partition("|")[0])
    assert parse(words[1:]).command == words[1]


def test_the_date_is_that_of_the_release_or_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    if ".dev" in __version__:
        assert manual_pages.date_of_pages() == "2023-11-14"
    monkeypatch.setattr(manual_pages, "__version__", "0.0.1")
    monkeypatch.setattr(manual_pages, "changelog", lambda: "## [0.0.1] - 2020-01-02\n")
    assert manual_pages.date_of_pages() == "2020-01-02"
