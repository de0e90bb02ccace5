"""Test files of commands: how lines are split, and that all lines are parsed first."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conntrack_aio.cli.conntrack8.actions import Action
from conntrack_aio.cli.conntrack8.load_file import read_commands, split_parameters
from conntrack_aio.cli.conntrack8.messages import CommandFailure


def commands(path: Path, data: bytes) -> list[Action]:
    path.write_bytes(data)
    return [command.action for command in read_commands(str(path))]


def failure(path: Path, data: bytes) -> str:
    with pytest.raises(CommandFailure) as caught:
        commands(path, data)
    assert caught.value.status == 2
    return caught.value.text


def test_parameters() -> None:
    for line, parameters in (
        ("", []),
        (" \t\n", []),
        ("-D -p tcp\n", ["-D", "-p", "tcp"]),
        ("  -D\t-p  tcp", ["-D", "-p", "tcp"]),
        ('-D "-p" "tcp"\n', ["-D", "-p", "tcp"]),
        ('-D "a b"', ["-D", "a b"]),
        ('-D ""', ["-D", ""]),
        ('a"b c"d', ["ab c", "d"]),
        (r'"a\"b\\c\d"', ['a"b\\cd']),
        (r"a\ b", ["a\\", "b"]),
        ('"a\n', ["a\n"]),
        ("-D # x", ["-D", "#", "x"]),
        ("a\rb\r\n", ["a\rb\r"]),
    ):
        assert [*split_parameters(line)] == parameters, line


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "commands"
    for data, actions in (
        (b"", []),
        (b"\n\n", []),
        (b"# -F\n  # -F\n\t\n", []),
        (b"-F\n-D -p tcp\n", [Action.FLUSH, Action.DELETE]),
        (b"-F", [Action.FLUSH]),
        (b"-F # -D", None),
        (b"-F -- # -D", [Action.FLUSH]),
        (b"-F \0 -X\n-D -p tcp", [Action.FLUSH, Action.DELETE]),
        (b"-D -m 1\r\n-F\n", [Action.DELETE, Action.FLUSH]),
        (b"#" + b"x" * 20000 + b"-F\n", []),
    ):
        if actions is None:
            assert failure(path, data) == "unknown type `#'"
        else:
            assert commands(path, data) == actions, data


def test_files_that_are_not_valid(tmp_path: Path) -> None:
    path = tmp_path / "commands"
    for data, message in (
        (b"-F\n-L\n", "Cannot use command `-L' with --load-file"),
        (b"-F\nword\n", "Cannot use command `unknown' with --load-file"),
        (b"-F\n  ", "Cannot use command `unknown' with --load-file"),
        (b"-L\n-X\n", "unknown option `-X'"),  # all lines are parsed first
        (b"-F expect\n", "Cannot use command `-F expect' with --load-file"),
        (b"-F\r\n", "unknown option `-F\r'"),
        (b'-D -p "tcp\n', "`tcp\n' unsupported protocol"),
        (b"-D -p " + b"x" * 1024, "Parameter too long!"),
        (b"-D" + b" -m 1" * 127, "too many arguments"),
    ):
        assert failure(path, data) == message, data


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (str(tmp_path / "nosuch"), "", "\udcff", "a\0b"):
        with pytest.raises(CommandFailure) as caught:
            read_commands(path)
        assert caught.value.text == f"Failed to open file {path} for reading"
        assert caught.value.status == 2
    assert read_commands(str(tmp_path)) == []  # a directory


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"-F\n-D -p tcp\n")))
    assert [command.action for command in read_commands("-")] == [Action.FLUSH, Action.DELETE]
    monkeypatch.setattr(sys, "stdin", None)  # it was closed
    assert read_commands("-") == []


PIECES = st.sampled_from(
    [b"-D ", b"-I ", b"-F\n", b'"', b"\\", b"\n", b"\0", b"#", b"-p tcp ", b"-s "]
)


@given(st.lists(PIECES | st.binary(max_size=6)).map(b"".join))
@example(b'-D "')
@example(b"\xff\xfe\n")
def test_no_file_raises_anything_else(data: bytes) -> None:
    stdin = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(data))
    try:
        with suppress(CommandFailure):
            read_commands("-")
    finally:
        sys.stdin = stdin
