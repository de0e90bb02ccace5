"""Write manual pages in the language of man(7).

The text of a page is plain. ``--option`` and what is in backquotes is printed bold, and capital
letters between asterisks in italics: ``*NAME*``. An empty line separates paragraphs. Lines that
begin with spaces are printed as they are.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from itertools import groupby
from typing import Final

_CHARACTERS: Final = {
    "\\": r"\e",
    "-": r"\-",
    "'": r"\(aq",
    "`": r"\(ga",
    "^": r"\(ha",
    "~": r"\(ti",
    '"': r"\(dq",
}
_SPANS: Final = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\*(?P<value>\[?[A-Z][A-Z0-9=,:/\[\]-]*)\*"
    r"|(?P<option>(?<![\w-])--[a-z][a-z-]*)"
    r"|(?P<page>\b[a-z][a-z-]+(?=\([1-8]\)))"
)


def escape(text: str) -> str:
    """Return plain text as groff reads it."""
    escaped = "".join(_CHARACTERS.get(character, character) for character in text)
    return re.sub(r"[^\x00-\x7f]", lambda found: rf"\[u{ord(found[0]):04X}]", escaped)


def bold(text: str) -> str:
    """Return text in bold."""
    return rf"\fB{escape(text)}\fP"


def italic(text: str) -> str:
    """Return text in italics."""
    return rf"\fI{escape(text)}\fP"


def inline(text: str) -> str:
    """Return a text of which some words are bold or in italics."""
    parts: list[str] = []
    at = 0
    for found in _SPANS.finditer(text):
        parts.append(escape(text[at : found.start()]))
        if found["value"]:
            parts.append(italic(found["value"]))
        else:
            parts.append(bold(found["code"] or found["option"] or found["page"]))
        at = found.end()
    return "".join([*parts, escape(text[at:])])


def lines_of(written: str) -> list[str]:
    """Return the lines of what groff fills. None begins with a dot, as only a macro does.

    :param written: text as groff reads it.
    """
    lines = textwrap.wrap(written, 78, break_long_words=False, break_on_hyphens=False)
    return [_without_macro(line) for line in lines]


def _without_macro(line: str) -> str:
    return rf"\&{line}" if line.startswith(".") else line


def paragraphs(text: str) -> list[str]:
    """Return the lines of a text, without the macro that begins its first paragraph.

    :param text: paragraphs and lines that are printed as they are.
    """
    blocks: list[list[str]] = []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        for literal, group in groupby(paragraph.splitlines(), lambda line: line.startswith(" ")):
            lines = list(group)
            if literal:
                blocks.append([".EX", *map(escape, _indented(lines)), ".EE"])
            else:
                blocks.append(lines_of(inline(" ".join(line.strip() for line in lines))))
    written: list[str] = []
    for block in blocks:
        if written:
            written.append(".PP")
        written += block
    return written


def _indented(lines: list[str]) -> list[str]:
    """Return lines with two spaces before the one that is indented least."""
    indent = min(len(line) - len(line.lstrip()) for line in lines)
    return [f"  {line[indent:]}" for line in lines]


def header(name: str, date: str, source: str) -> list[str]:
    """Return the first lines of a page of section 1, whose words are not hyphenated.

    :param name: the name of the page.
    :param date: the date of the page, as ISO 8601.
    :param source: the package and its version.
    """
    return [
        f'.TH {escape(name.upper())} 1 {date} "{escape(source)}" "User Commands"',
        ".nh",
        ".ad l",
    ]


def section(title: str) -> list[str]:
    """Return the heading of a section."""
    return [f'.SH "{escape(title)}"']


def subsection(title: str) -> list[str]:
    """Return the heading of a part of a section."""
    return [f'.SS "{escape(title)}"']


def item(term: str, text: str) -> list[str]:
    """Return a term and its explanation.

    :param term: the term, as groff reads it.
    :param text: the explanation, as plain text.
    """
    lines = paragraphs(text)
    # A paragraph in an explanation is indented like the first one.
    return [".TP", term, *(".IP" if line == ".PP" else line for line in lines)]


def page(lines: Iterable[str]) -> str:
    """Return the text of a page."""
    return "\n".join(lines) + "\n"
