"""Test the text of manual pages."""

from __future__ import annotations

import pytest
import roff


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a-b 'c' `d ~ ^ \\", r"a\-b \(aqc\(aq \(gad \(ti \(ha \e"),
        ("caf\u00e9", r"caf\[u00E9]"),
    ],
)
def test_characters_are_escaped(text: str, written: str) -> None:
    assert roff.escape(text) == written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("use `ip netns`", r"use \fBip netns\fP"),
        ("with --json or not", r"with \fB\-\-json\fP or not"),
        ("an off--line word", r"an off\-\-line word"),
        ("see nft(8)", r"see \fBnft\fP(8)"),
        ("`--netns` *NAME*", r"\fB\-\-netns\fP \fINAME\fP"),
        ("*[TABLE]*", r"\fI[TABLE]\fP"),
        ("files *.arrows", "files *.arrows"),
    ],
)
def test_words_are_emphasized(text: str, written: str) -> None:
    assert roff.inline(text) == written


def test_no_line_begins_with_a_dot() -> None:
    lines = roff.lines_of("word " * 15 + ".profile")
    assert lines[-1].startswith(r"\&.profile")


def test_paragraphs_are_filled_and_indented_lines_are_not() -> None:
    text = "One\nparagraph.\n\nAnother:\n    first\n      second\n\nThe last."
    assert roff.paragraphs(text) == [
        "One paragraph.",
        ".PP",
        "Another:",
        ".PP",
        ".EX",
        "  first",
        "    second",
        ".EE",
        ".PP",
        "The last.",
    ]
