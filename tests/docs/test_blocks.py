"""Blocks of code are found, and their output is compared strictly enough."""

from __future__ import annotations

import re

import pytest
from blocks import commands_of, pattern_of


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("2 flows\n", "2 flows\n"),
        ("a … c\n", "a b c\n"),
        ("a\n…\nz\n", "a\nb\nc\nz\n"),
        ("a\n…\nz\n", "a\nz\n"),
        ("1.2.3.4:40000 -> 5.6.7.8:80\n", "1.2.3.4:33000 -> 5.6.7.8:80\n"),
        ("40000 40001 40000\n", "50000 33000 50000\n"),
        ("id 3341281481\n", "id 17\n"),
        ("2026-11-29T16:31:48.385460Z\n", "2027-01-02T03:04:05.000001Z\n"),
        ("timeout=120 mark=7\n", "timeout=118 mark=7\n"),
        ("portid=388\n", "portid=4023451\n"),
    ],
)
def test_output_as_shown_matches(expected: str, printed: str) -> None:
    assert re.fullmatch(pattern_of(expected), printed)


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("2 flows\n", "3 flows\n"),
        ("2 flows\n", "2 flows\nand more\n"),
        ("a\nb\n", "a\n"),
        ("40000 40001 40000\n", "50000 33000 33000\n"),
        ("port 80\n", "port 81\n"),
        ("1.2.3.4\n", "1.2.3.5\n"),
        ("timeout=120\n", "timeout=60\n"),
        ("mark=0x10/0xf0\n", "mark=0x10/0xf1\n"),
    ],
)
def test_other_output_does_not_match(expected: str, printed: str) -> None:
    assert not re.fullmatch(pattern_of(expected), printed)


def test_commands_are_separated_from_their_output() -> None:
    text = "$ one\n1\n2\n$ two \\\n    three\n$ cat <<X\n> four\n> X\nfour\n"
    assert list(commands_of(text)) == [
        ("one", "1\n2\n"),
        ("two \\\n    three", ""),
        ("cat <<X\nfour\nX", "four\n"),
    ]


def test_output_before_the_first_command_is_an_error() -> None:
    with pytest.raises(AssertionError, match="before the first command"):
        list(commands_of("1\n$ one\n"))
