"""Test how rows are aligned."""

from __future__ import annotations

import pytest

from conntrack_aio.cli.aligned import AlignedRows, printable
from conntrack_aio.cli.column_widths import Fitting, Shrinking


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


def test_cells_are_made_to_fit_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    fitting = Fitting(16, [Shrinking(4, False), None, Shrinking(4, True), None], optional=[2, 3])
    table = AlignedRows(["name", "n", "text", "last"], [False, True, False, False], fitting=fitting)
    table.add([["a", "1", "a long text", "abc"], ["much longer", "2", "x", "y"]])
    table.finish()
    assert table.left_out == {3}
    assert capsys.readouterr().out == (
        "name  n  text\n"  # the last column is left out
        "a     1  a long…\n"
        "much longer  2\n"
    )
    table.add([["b", "1", "another text", "abc"]])
    assert capsys.readouterr().out == "b     1  anothe…\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain é", "plain é"), ("\x1b[2J\n\t\x9b", r"\x1b[2J\n\t\x9b"), ("\udc80", r"\udc80")],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
