"""Test by the shells themselves how the scripts complete command lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.shells import Bash, Fish, Shell, Zsh

from conntrack_aio.cli.command import COMMANDS, build_parser
from conntrack_aio.cli.completion.match_words import match_words
from conntrack_aio.cli.completion.scripts import SHELLS, installed_path, make_script

FIELDS = set(match_words().fields)


@pytest.fixture(scope="module", params=SHELLS)
def shell(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shell]:
    """A shell that has read its script."""
    directory = tmp_path_factory.mktemp(request.param)
    script = directory / installed_path(request.param, "conntrack-aio").rpartition("/")[2]
    namespaces = directory / "netns"
    namespaces.mkdir()
    (namespaces / "blue-tenant").touch()
    text = make_script(request.param, "conntrack-aio")
    assert "/run/netns" in text
    script.write_text(text.replace("/run/netns", str(namespaces)))
    if request.param == "zsh":
        with Zsh(directory, directory) as zsh:
            yield zsh
    else:
        yield Bash(script) if request.param == "bash" else Fish(script)


def test_every_subcommand_is_proposed(shell: Shell) -> None:
    assert shell.complete("conntrack-aio ") >= set(COMMANDS)
    assert shell.complete("conntrack-aio li") == {"list"}
    assert shell.complete("conntrack-aio ex") >= {"explain"}


def test_every_option_of_every_subcommand_is_proposed(shell: Shell) -> None:
    for name, parser in build_parser().subcommands.items():
        options = {
            option
            for action in parser.arguments
            for option in action.option_strings
            if option.startswith("--")
        }
        assert shell.complete(f"conntrack-aio {name} --") >= options


def test_an_option_is_completed_between_the_words_of_a_match(shell: Shell) -> None:
    assert shell.complete("conntrack-aio list proto tcp --netn") == {"--netns"}


@pytest.mark.parametrize(
    ("words", "proposed"),
    [
        ("pro", {"proto"}),
        ("proto sct", {"sctp"}),
        ("proto != ud", {"udp", "udplite"}),
        ("proto udp a", {"and"}),
        ("state estab", {"established"}),
        ("status seen", {"seen_reply"}),
        ("status helper o", {"or"}),
        ("not assur", {"assured"}),
        ("proto tcp and state in time", {"time_wait", "timewait"}),
        ("--json proto tcp or orig.dp", {"orig.dport"}),
        ("--netns blue dna", {"dnat"}),
        ("dnat t", {"to"}),
    ],
)
def test_words_of_matches_are_proposed(shell: Shell, words: str, proposed: set[str]) -> None:
    assert shell.complete(f"conntrack-aio list {words}") == proposed


def test_conditions_and_operators_are_proposed_where_they_can_stand(shell: Shell) -> None:
    begin = shell.complete("conntrack-aio list ")
    assert begin >= FIELDS | {"assured", "snat", "not"}
    assert not begin & {"and", "or", "in"}
    assert shell.complete("conntrack-aio list proto tcp and ") >= FIELDS
    assert shell.complete("conntrack-aio list mark ") >= {"in", ">="}
    assert shell.complete("conntrack-aio list assured ") == {"and", "or"}


@pytest.mark.parametrize(
    ("typed", "proposed"),
    [("--type n", "new"), ("--type new,upd", "update"), ("--type=d", "destroy")],
)
def test_types_of_events_are_proposed(shell: Shell, typed: str, proposed: str) -> None:
    (word,) = shell.complete(f"conntrack-aio events {typed}")
    assert word.rpartition("=")[2].rpartition(",")[2] == proposed


@pytest.mark.parametrize("typed", ["--arrow {}", "--arrow={}"])
def test_files_are_proposed_for_files(shell: Shell, tmp_path: Path, typed: str) -> None:
    (tmp_path / "flows.arrows").touch()
    (word,) = shell.complete(f"conntrack-aio list {typed.format(tmp_path / 'fl')}")
    assert word.endswith("flows.arrows")


def test_the_choices_of_an_argument_are_proposed(shell: Shell) -> None:
    assert shell.complete("conntrack-aio completion f") == {"fish"}


@pytest.mark.parametrize("typed", ["--netns blue", "--netns=blue"])
def test_names_of_namespaces_are_proposed(shell: Shell, typed: str) -> None:
    (word,) = shell.complete(f"conntrack-aio count {typed}")
    assert word.rpartition("=")[2] == "blue-tenant"
