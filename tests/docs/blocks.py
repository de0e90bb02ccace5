"""Find the code blocks of the documentation, classify them, and compare them with their output.

A page is Markdown. Its fenced blocks follow these conventions:

- A ``python`` block with a function ``test_*`` is a test module. One that starts an event loop with
  ``anyio.run(``, ``asyncio.run(``, ``trio.run(`` or ``run_app(`` is a program. Any other is a
  fragment, which runs inside ``async with conntrack_aio.connect() as conn:``.
- A ``console`` block has commands after ``$``, whose further lines are after ``>``. Its output
  follows each command.
- A ``text`` block is the output of the Python block before it.
- ``toml``, ``ini``, ``yaml``, ``json`` and ``nft`` blocks are parsed.
- ``title="name.py"`` after the language names the file that the block is saved as.

Some output differs from run to run. Expected output is compared by these rules:

- ``…`` matches any part of a line. As a line of its own it matches any number of lines.
- A number from 32768 to 60999 is a port that the kernel chose, and one of nine digits or more is an
  id or a time. It matches any number, but the same one wherever the page shows the same.
- A date with a time matches any other.
- ``timeout=N`` matches a timeout that has run for up to 3 seconds.
- ``portid=N`` matches any port id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"

PAGES: Final = tuple(
    sorted(
        str(path.relative_to(ROOT))
        for path in (
            *(DOCS / f"{name}.md" for name in ("index", "install", "tutorial", "privileges")),
            *(DOCS / f"{name}.md" for name in ("troubleshooting", "internals", "glossary")),
            *(DOCS / "guides").glob("*.md"),
            ROOT / "README.md",
        )
    )
)
"""The pages whose blocks are run."""

_FENCE: Final = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_HEADING: Final = re.compile(r"^#{1,3} (.+)$", re.MULTILINE)
_RUNS: Final = ("anyio.run(", "asyncio.run(", "trio.run(", "run_app(")

_VARYING: Final = re.compile(
    r"(?P<any>…)"
    r"|(?P<date>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?)"
    r"|(?P<timeout>\btimeout\S?[=:] ?\d+)"
    r"|(?P<portid>portid=\d+)"
    r"|(?P<number>(?<![\d.])\d+(?![\d]|\.\d))"
)


@attrs.frozen
class Block:
    """A fenced block of a page."""

    page: str
    heading: str
    number: int
    """The position among the blocks of the page, from 1."""
    language: str
    title: str
    """The name of the file that the block is saved as; empty without one."""
    text: str
    line: int

    @property
    def name(self) -> str:
        """Return the name of the block in tests."""
        return f"{self.page}:{self.heading}:{self.number}"

    @property
    def is_program(self) -> bool:
        """Return whether the block starts an event loop."""
        runs = any(each in self.text for each in _RUNS)
        return self.language == "python" and runs and not self.is_test

    @property
    def is_test(self) -> bool:
        """Return whether the block is a test module."""
        return self.language == "python" and bool(
            re.search(r"^ *(async )?def test_", self.text, re.MULTILINE)
        )

    @property
    def is_fragment(self) -> bool:
        """Return whether the block runs inside an open connection."""
        return self.language == "python" and not self.is_program and not self.is_test


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page, by its path from the root of the repository."""
    text = (ROOT / page).read_text(encoding="utf-8")
    fences = list(_FENCE.finditer(text))
    headings = [
        (each.start(), each[1])
        for each in _HEADING.finditer(text)
        # A comment in a program is not a heading.
        if not any(fence.start() < each.start() < fence.end() for fence in fences)
    ]
    found: list[Block] = []
    for number, fence in enumerate(fences, 1):
        heading = [name for start, name in headings if start < fence.start()][-1]
        info = fence["info"].strip()
        title = re.search(r'title="([^"]+)"', info)
        body = re.sub(f"^{fence['indent']}", "", fence["body"], flags=re.MULTILINE)
        language = info.split()[0] if info else ""
        line = text.count("\n", 0, fence.start()) + 1
        found.append(Block(page, heading, number, language, title[1] if title else "", body, line))
    return found


def output_of(block: Block) -> str | None:
    """Return the expected output: the ``text`` block after this block, if there is one."""
    following = blocks_of(block.page)[block.number :]
    if following and following[0].language == "text" and following[0].heading == block.heading:
        return following[0].text
    return None


def commands_of(text: str) -> Iterator[tuple[str, str]]:
    """Yield the commands of a ``console`` block, each with its expected output."""
    command, output = "", ""
    for line in text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, output
            command, output = line[2:], ""
        elif line.startswith("> ") and not output:
            command += f"\n{line[2:]}"
        elif command.endswith("\\") and not output:
            command += f"\n{line}"
        else:
            assert command, f"output before the first command: {line}"
            output += f"{line}\n"
    if command:
        yield command, output


def pattern_of(expected: str) -> str:
    """Return a regular expression for the output that a page shows."""
    groups: dict[str, str] = {}
    parts: list[str] = []
    for line in expected.splitlines():
        if line.strip() == "…":
            parts.append(r"(?:.*\n)*?")
            continue
        position = 0
        for found in _VARYING.finditer(line):
            parts.append(re.escape(line[position : found.start()]))
            parts.append(_varying(found, groups))
            position = found.end()
        parts.append(re.escape(line[position:]) + r"[ ]*\n")
    return "".join(parts)


def _varying(found: re.Match[str], groups: dict[str, str]) -> str:
    """Return a regular expression for a part that differs from run to run.

    :param groups: the groups of numbers so far, by the number that the page shows.
    """
    text = found[0]
    if found["any"]:
        return ".*?"
    if found["date"]:
        return re.sub(r"\d+", r"\\d+", re.escape(text).replace(r"\-", "-"))
    if found["portid"]:
        return r"portid=\d+"
    if found["timeout"]:
        start, number = re.fullmatch(r"(.*?)(\d+)", text, re.DOTALL).groups()  # type: ignore[union-attr]
        seconds = "|".join(str(max(0, int(number) - run)) for run in range(4))
        return f"{re.escape(start)}(?:{seconds})"
    number = int(text)
    if not (32768 <= number <= 60999 or number >= 10**8):
        return re.escape(text)
    if text in groups:
        return f"(?P={groups[text]})"
    groups[text] = f"n{len(groups)}"
    return rf"(?P<{groups[text]}>\d+)"
