"""Test how the command line of ``conntrack-aio COMMAND`` is parsed."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from conntrack_aio import Match, NetNS, __version__
from conntrack_aio.cli.command import build_parser, parse
from conntrack_aio.cli.flow_columns import COLUMNS
from conntrack_aio.cli.parsing import Parser

QUIET: dict[str, object] = {"quiet": False}
PLAIN: dict[str, object] = {"netns": None, "json": False, "match": None}
LIST = (
    PLAIN
    | QUIET
    | {
        "command": "list",
        "dying": False,
        "unconfirmed": False,
        "reset_counters": False,
        "verbose": False,
        "arrow": None,
        "parquet": None,
        "columns": (),
        "no_header": False,
        "sort": (),
        "reverse": False,
        "limit": None,
        "numeric": False,
    }
)
COUNT = PLAIN | QUIET | {"command": "count"}
SQL = PLAIN | QUIET | {"command": "sql", "query": "from flows"}
EVENTS = (
    PLAIN
    | QUIET
    | {
        "command": "events",
        "type": [],
        "all_netns": False,
        "reliable": False,
        "receive_buffer": None,
        "receive_time": False,
        "numeric": False,
    }
)
MATCHING = ("list", "events", "count", "watch", "explain")
MARK_3 = Match(mark=3)
WEB = Match(proto="tcp", orig_dport=[80, 443])


def options_of(arguments: Sequence[str]) -> dict[str, object]:
    """Return the options that the user can give."""
    options = vars(parse(arguments))
    return {name: value for name, value in options.items() if name not in ("run", "parser")}


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("list", LIST),
        ("list --json --netns blue", LIST | {"netns": NetNS.from_name("blue"), "json": True}),
        ("list proto tcp and orig.dport in {80, 443} --json", LIST | {"match": WEB, "json": True}),
        ("events", EVENTS),
        (
            "list --columns mark,id --no-header --sort -bytes --limit 5 --numeric",
            LIST
            | {
                "columns": (COLUMNS["mark"], COLUMNS["id"]),
                "no_header": True,
                "sort": ((COLUMNS["bytes"], True),),
                "limit": 5,
                "numeric": True,
            },
        ),
        ("list --sort mark", LIST | {"sort": ((COLUMNS["mark"], False),)}),
        (
            "list --sort state,-bytes",
            LIST | {"sort": ((COLUMNS["state"], False), (COLUMNS["bytes"], True))},
        ),
        ("list -jq", LIST | {"json": True, "quiet": True}),
        ("list -n", LIST | {"numeric": True}),
        ("list --verbose", LIST | {"verbose": True}),
        ("events --type new --type=destroy", EVENTS | {"type": ["new", "destroy"]}),
        ("events --type new,update", EVENTS | {"type": ["new", "update"]}),
        (
            "events --type new,update --type destroy mark 3",
            EVENTS | {"type": ["new", "update", "destroy"], "match": Match(mark=3)},
        ),
        (
            "events --all-netns --reliable --receive-time",
            EVENTS | {"all_netns": True, "reliable": True, "receive_time": True},
        ),
        ("events --receive-buffer 4096", EVENTS | {"receive_buffer": 4096}),
        ("events --receive-buffer 512K", EVENTS | {"receive_buffer": 512 << 10}),
        ("events --receive-buffer=64M", EVENTS | {"receive_buffer": 64 << 20}),
        (
            "events --type new proto tcp and orig.dport in {443, 80}",
            EVENTS | {"type": ["new"], "match": WEB},
        ),
        (
            "count --netns /proc/1/ns/net",
            COUNT | {"netns": NetNS.from_path("/proc/1/ns/net")},
        ),
        ("count mark 3", COUNT | {"match": Match(mark=3)}),
        ("count --quiet --json", COUNT | {"quiet": True, "json": True}),
        (
            "explain --program mark 3",
            {"command": "explain", "netns": None, "match": Match(mark=3), "program": True} | QUIET,
        ),
        ("explain", {"command": "explain", "netns": None, "match": None, "program": False} | QUIET),
        ("list --arrow flows.arrows mark 3", LIST | {"arrow": "flows.arrows", "match": MARK_3}),
        ("list --parquet=flows.parquet", LIST | {"parquet": "flows.parquet"}),
        ("demo", QUIET | {"command": "demo", "json": False}),
        ("demo --json", QUIET | {"command": "demo", "json": True}),
    ],
)
def test_valid_command_lines_are_parsed(line: str, options: dict[str, object]) -> None:
    assert options_of(line.split()) == options


def test_a_query_and_its_match_are_one_argument_each() -> None:
    assert options_of(["sql", "from flows"]) == SQL
    arguments = ["sql", "from flows", "--match", "mark 3", "--json", "--netns", "blue"]
    netns = NetNS.from_name("blue")
    assert options_of(arguments) == SQL | {"match": MARK_3, "json": True, "netns": netns}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "COMMAND"),
        ("nonsense", "invalid choice: 'nonsense'"),
        ("list --nonsense", "unrecognized arguments: --nonsense"),
        ("list --netns", "--netns: expected one argument"),
        ("list --netns ..", "--netns: '..' is not the name of a network namespace"),
        ("list --type new", "unrecognized arguments: --type"),
        ("events --type nonsense", "--type: invalid choice: 'nonsense'"),
        ("events --type new,nonsense", "--type: invalid choice: 'nonsense'"),
        ("events --type new,", "--type: invalid choice: ''"),
        *(
            (f"events --receive-buffer {size}", f"invalid size {size!r}; expected 1 to ")
            for size in ("many", "0", "1G", "1073741824", "8m", "1.5M", "8MB", "-5", "٣")
        ),
        ("explain --json", "unrecognized arguments: --json"),
        ("demo --netns blue", "unrecognized arguments: --netns blue"),
    ],
)
def test_invalid_command_lines_are_errors(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(line.split())
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("usage: conntrack-aio ")
    assert message in output.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("line", "option"),
    [
        *((f"{command} --netns a --netns b", "--netns") for command in MATCHING),
        ("list --arrow a --arrow=b", "--arrow"),
        ("list --parquet a mark 3 --parquet a", "--parquet"),
        ("events --receive-buffer 8M --receive-buffer 4M", "--receive-buffer"),
        ("sql q --match proto=tcp --match proto=tcp", "--match"),
        ("sql --netns a q --netns a", "--netns"),
    ],
)
def test_an_option_with_one_value_may_be_given_only_once(
    line: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(line.split())
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert errors.endswith(f": error: argument {option}: may be given only once\n")


@pytest.mark.parametrize(
    ("line", "command", "message"),
    [
        ("lst", "", "argument COMMAND: invalid choice: 'lst'; did you mean 'list'?"),
        ("expect lits", "expect", "argument COMMAND: invalid choice: 'lits'; did you mean 'list'?"),
        ("list --netsn blue", "list", "unrecognized arguments: --netsn; did you mean '--netns'?"),
        ("list --netsn=a b", "list", "unrecognized arguments: --netsn=a; did you mean '--netns'?"),
        ("count mark 3 -n", "count", "unrecognized arguments: -n"),
        ("who --prto tcp", "who", "unrecognized arguments: --prto; did you mean '--proto'?"),
        ("completion -x", "completion", "unrecognized arguments: -x"),
        ("expect get --direction orig", "expect get", "unrecognized arguments: --direction"),
        ("helpers --name ftp", "helpers", "unrecognized arguments: --name"),
        ("create -q --timeout=5", "create", "the following arguments are required: TUPLE"),
        ("who --proto=tcp", "who", "the following arguments are required: ADDRESS[:PORT]"),
        *(
            (line, "expect list", "unrecognized arguments: --jsno; did you mean '--json'?")
            for line in ("expect list --jsno", "expect --jsno list")
        ),
        *(
            (line, line.split()[0], f"argument {argument}: invalid choice: {word}")
            for line, argument, word in (
                ("events --type nwe", "--type", "'nwe'; did you mean 'new'?"),
                ("get --direction rely tcp a b", "--direction", "'rely'; did you mean 'reply'?"),
                ("completion fsh", "SHELL", "'fsh'; did you mean 'fish' or 'zsh'?"),
                ("completion power", "SHELL", "'power' (choose from bash, zsh, fish)"),
            )
        ),
    ],
)
def test_errors_suggest_what_was_meant(
    line: str, command: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(line.split())
    assert caught.value.code == 2
    program = f"conntrack-aio {command}".rstrip()
    error = capsys.readouterr().err
    assert error.startswith(f"usage: {program} ")
    assert error.splitlines()[-1].startswith(f"{program}: error: {message}")


def test_without_arguments_the_help_is_printed_as_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([])
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    last = "conntrack-aio: error: the following arguments are required: COMMAND\n"
    assert err == f"{build_parser().format_help()}\n{last}"


@pytest.mark.parametrize("command", ["", "list", "expect", "expect create", "install-links"])
def test_help_is_also_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    texts: list[str] = []
    for line in (f"help {command}", f"{command} --help"):
        with pytest.raises(SystemExit) as caught:
            parse(line.split())
        assert caught.value.code == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert texts[0].startswith(f"usage: conntrack-aio {command}")


def test_help_of_an_unknown_command_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["help", "lst"])
    assert caught.value.code == 2
    assert "invalid choice: 'lst'; did you mean 'list'?" in capsys.readouterr().err


def test_every_subcommand_with_a_match_points_to_its_mistake(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parsers = build_parser().subcommands
    matching = [name for name, parser in parsers.items() if parser.parses_match]
    assert set(matching) >= {*MATCHING, "sql", "delete", "update"}
    for name in matching:
        match = ["q", "--match", "proto tpc"] if name == "sql" else ["proto", "tpc"]
        with pytest.raises(SystemExit):
            parse([name, *match])
        *_, error, text, pointer = capsys.readouterr().err.splitlines()
        argument = "--match" if name == "sql" else "MATCH"
        assert f"error: argument {argument}: unknown protocol 'tpc'; " in error
        assert "did you mean 'tcp'?" in error
        assert error.endswith("at column 7:")
        assert pointer.index("^") == text.index("tpc")


def test_the_empty_match_of_a_query_is_blamed_on_its_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parse(["sql", "from flows", "--match", ""])
    assert "argument --match: the match is empty" in capsys.readouterr().err


def _every_command() -> dict[str, Parser]:
    """Return the parsers of all subcommands, also of those of a group, by their names."""
    found: dict[str, Parser] = {}
    for name, parser in build_parser().subcommands.items():
        of_group = {f"{name} {verb}": each for verb, each in parser.subcommands.items()}
        found |= of_group or {name: parser}
    return found


def test_options_have_the_same_short_form_everywhere() -> None:
    forms = {"--quiet": "-q", "--json": "-j", "--yes": "-y", "--numeric": "-n", "--help": "-h"}
    for name, parser in _every_command().items():
        options = {
            long: [short for short in action.option_strings if not short.startswith("--")]
            for action in parser.arguments
            for long in action.option_strings
            if long.startswith("--")
        }
        assert "--quiet" in options, name
        for option, short in options.items():
            assert short == ([forms[option]] if option in forms else []), name


@pytest.mark.parametrize("command", MATCHING)
@pytest.mark.parametrize("match", [[""], ["  "], ["", ""], ["proto tcp", ""], ["", "proto", "tcp"]])
def test_an_empty_match_argument_is_an_error(
    command: str, match: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([command, *match])
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"usage: conntrack-aio {command} ")
    assert "argument MATCH: " in errors.splitlines()[-1]
    assert "empty" in errors.splitlines()[-1]


@pytest.mark.parametrize("command", MATCHING)
def test_without_a_match_all_flows_are_selected(command: str) -> None:
    assert parse([command]).match is None


@pytest.mark.parametrize("command", MATCHING)
def test_the_help_says_how_to_quote_a_match(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse([command, "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "The shell interprets braces, parentheses, < and >" in text
    for quoted in re.findall(r"'(.+?)'", text[text.index("The shell interprets") :]):
        assert parse([command, quoted]).match is not None


def test_types_may_be_separated_by_spaces() -> None:
    assert parse(["events", "--type", "new, destroy"]).type == ["new", "destroy"]


def test_the_match_may_be_one_argument() -> None:
    assert parse(["list", "proto tcp and orig.dport in {80, 443}"]).match == WEB


def test_the_error_points_to_the_mistake_in_a_match(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["list", "proto", "tcp", "and", "something"])
    assert caught.value.code == 2
    usage, *_, error, text, pointer = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: conntrack-aio list ")
    assert error.startswith("conntrack-aio list: error: argument MATCH: ")
    assert error.endswith(", at column 15:")
    assert text == "  proto tcp and something"
    assert pointer.index("^") == text.index("something")


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"conntrack-aio {__version__}\n"


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for command in ("list", "events", "count", "explain", "demo"):
        assert f"\n    {command} " in text
