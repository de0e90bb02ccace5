"""Test how rows are aligned."""

from __future__ import annotations

import pytest

from conntrack_aio.cli.aligned import AlignedRows, printable


def test_rows_are_aligned_when_all_of_them_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    table = AlignedRows(["name", "n"], [False, True])
    table.add([["a", "1000"], ["longer", "2"]])
    assert capsys.readouterr().out == ""
    table.finish()
    assert capsys.readouterr().out == "name       n\na       1000\nlonger     2\n"


def test_long_tables_are_printed_meanwhile(capsys: pytest.CaptureFixture[str]) -> None:
    table = AlignedRows(["name", "n"], [False, True])
    table.add([["a", "1"]] * 1000)
    assert capsys.readouterr().out.count("\n") == 1001
    table.add([["longer", "2"]])
    assert capsys.readouterr().out == "longer  2\n"
    table.finish()
    assert capsys.readouterr().out == ""


def test_styles_do_not_count_as_width(capsys: pytest.CaptureFixture[str]) -> None:
    table = AlignedRows(["a", "b"], [False, False], heading_style="1")
    table.add([["x", "yes"], ["long", "n"]], [["32", ""], ["", "33"]])
    table.finish()
    assert capsys.readouterr().out == (
        "\x1b[1ma   \x1b[0m  \x1b[1mb\x1b[0m\n\x1b[32mx   \x1b[0m  yes\nlong  \x1b[33mn\x1b[0m\n"
    )


def test_without_rows_and_headings_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    AlignedRows(["a"], [False], show_headings=False).finish()
    assert capsys.readouterr().out == ""


def test_where_there_is_no_room_few_long_cells_do_not_widen_all_rows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for room, width in ((20, 5), (50, 43), (None, 43)):
        table = AlignedRows(["a", "b"], [False, False], room=room)
        table.add([*[["x" * 2, "y"]] * 3, ["x" * 40, "y"], ["x" * 2, "y"]])
        table.finish()
        lines = capsys.readouterr().out.splitlines()
        assert {len(line) for line in lines} == {width, 43}


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain é", "plain é"), ("\x1b[2J\n\t\x9b", r"\x1b[2J\n\t\x9b"), ("\udc80", r"\udc80")],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
