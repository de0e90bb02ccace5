"""What the command line means."""

from __future__ import annotations

import pytest

from conntrack_aio import NetNS, __version__
from conntrack_aio.cli.arguments import parse

EVENTS: dict[str, object] = {"command": "events", "netns": None, "json": False, "type": []}


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("list", {"command": "list", "netns": None, "json": False}),
        (
            "list --json --netns blue",
            {"command": "list", "netns": NetNS.from_name("blue"), "json": True},
        ),
        (
            "count --netns /proc/1/ns/net",
            {"command": "count", "netns": NetNS.from_path("/proc/1/ns/net")},
        ),
        ("events", EVENTS),
        ("events --type new --type=destroy", EVENTS | {"type": ["new", "destroy"]}),
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
        ("list something", "unrecognized arguments: something"),
        ("list --netns", "--netns: expected one argument"),
        ("list --netns ..", "--netns: '..' is not the name of a network namespace"),
        ("list --type new", "unrecognized arguments: --type new"),
        ("events --type nonsense", "--type: invalid choice: 'nonsense'"),
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
