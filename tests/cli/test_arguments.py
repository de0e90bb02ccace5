"""What the command line means."""

from __future__ import annotations

import pytest

from conntrack_aio import Match, NetNS, __version__
from conntrack_aio.cli.arguments import parse

LIST: dict[str, object] = {"command": "list", "netns": None, "json": False, "match": None}
EVENTS = LIST | {"command": "events", "type": []}
WEB = Match(proto="tcp", orig_dport=[80, 443])


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("list", LIST),
        ("list --json --netns blue", LIST | {"netns": NetNS.from_name("blue"), "json": True}),
        ("list proto tcp and orig.dport in {80, 443} --json", LIST | {"match": WEB, "json": True}),
        ("events", EVENTS),
        ("events --type new --type=destroy", EVENTS | {"type": ["new", "destroy"]}),
        (
            "events --type new proto tcp and orig.dport in {443, 80}",
            EVENTS | {"type": ["new"], "match": WEB},
        ),
        (
            "count --netns /proc/1/ns/net",
            {"command": "count", "netns": NetNS.from_path("/proc/1/ns/net"), "match": None},
        ),
        ("count mark 3", {"command": "count", "netns": None, "match": Match(mark=3)}),
        (
            "explain --program mark 3",
            {"command": "explain", "netns": None, "match": Match(mark=3), "program": True},
        ),
        ("demo", {"command": "demo", "json": False}),
        ("demo --json", {"command": "demo", "json": True}),
    ],
)
def test_what_is_understood(line: str, options: dict[str, object]) -> None:
    assert vars(parse(line.split())) == options


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "COMMAND"),
        ("nonsense", "invalid choice: 'nonsense'"),
        ("list --nonsense", "unrecognized arguments: --nonsense"),
        ("list --netns", "--netns: expected one argument"),
        ("list --netns ..", "--netns: '..' is not the name of a network namespace"),
        ("list --type new", "unrecognized arguments: --type"),
        ("events --type nonsense", "--type: invalid choice: 'nonsense'"),
        ("explain", "the following arguments are required: MATCH"),
        ("count --json", "unrecognized arguments: --json"),
        ("demo --netns blue", "unrecognized arguments: --netns blue"),
    ],
)
def test_what_is_not(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(line.split())
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("usage: conntrack-aio ")
    assert words in output.err.splitlines()[-1]


def test_the_match_may_be_one_argument() -> None:
    assert parse(["list", "proto tcp and orig.dport in {80, 443}"]).match == WEB


def test_a_mistake_in_the_match_is_pointed_at(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["list", "proto", "tcp", "and", "something"])
    assert caught.value.code == 2
    *_, said, text, pointer = capsys.readouterr().err.splitlines()
    assert said.startswith("conntrack-aio: error: argument MATCH: ")
    assert said.endswith(", at column 15:")
    assert text == "  proto tcp and something"
    assert pointer.index("^") == text.index("something")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"conntrack-aio {__version__}\n"


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--help"])
    assert caught.value.code == 0
    told = capsys.readouterr().out
    for command in ("list", "events", "count", "demo"):
        assert f"\n    {command} " in told
