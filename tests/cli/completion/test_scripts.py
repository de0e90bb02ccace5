"""Test by the shells themselves how the scripts complete command lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.shells import Bash, Fish, Shell, Zsh

from conntrack_aio.cli.command import COMMANDS, build_parser
from conntrack_aio.cli.completion.match_words import match_words
from conntrack_aio.cli.completion.scripts import PARSERS, SHELLS, installed_path, make_script

FIELDS = set(match_words().fields)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.program(name, name)) for name in SHELLS],
)
def shell(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shell]:
    """A shell that has read the scripts."""
    directory = tmp_path_factory.mktemp(request.param)
    namespaces = directory / "netns"
    namespaces.mkdir()
    (namespaces / "blue-tenant").touch()
    scripts: list[Path] = []
    for program in PARSERS:
        script = directory / installed_path(request.param, program).rpartition("/")[2]
        text = make_script(request.param, program)
        script.write_text(text.replace("/run/netns", str(namespaces)))
        scripts.append(script)
    if request.param == "zsh":
        with Zsh(directory, directory) as zsh:
            yield zsh
    else:
        yield Bash(scripts) if request.param == "bash" else Fish(scripts)


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


@pytest.mark.parametrize(
    ("typed", "proposed"),
    [
        ("conntrack --du", {"--dump"}),
        ("conntrack -L exp", {"expect"}),
        ("conntrack -L -p icm", {"icmp", "icmpv6"}),
        ("conntrack -L -f ipv4 --orig-port-s", {"--orig-port-src"}),
        ("nfct default-", {"default-set", "default-get"}),
        ("nfct flush h", {"helper"}),
        ("nfct disable t", set()),
        ("nfct add timeout slow in", {"inet", "inet6"}),
        ("nfct default-get timeout inet gen", {"generic"}),
    ],
)
def test_the_other_languages_are_completed(shell: Shell, typed: str, proposed: set[str]) -> None:
    assert shell.complete(typed) == proposed


def test_lists_of_words_of_conntrack_are_completed(shell: Shell) -> None:
    (word,) = shell.complete("conntrack -E -e NEW,DES")
    assert word.rpartition(",")[2] == "DESTROY"
    (word,) = shell.complete("conntrack -L -o ext")
    assert word == "extended"


@pytest.mark.parametrize(
    ("typed", "proposed"),
    [
        ("conntrack-aio expect del", {"delete"}),
        ("conntrack-aio expect events --type ne", {"new"}),
        ("conntrack-aio expect events --type up", set()),
        ("conntrack-aio expect create --nat-direction rep", {"reply"}),
        ("conntrack-aio update --status ASS", {"ASSURED"}),
        ("conntrack-aio sysctl timest", {"timestamp"}),
        ("conntrack-aio completion bash nf", {"nfct"}),
    ],
)
def test_subcommands_of_subcommands_and_values_are_completed(
    shell: Shell, typed: str, proposed: set[str]
) -> None:
    assert shell.complete(typed) == proposed
