"""A Markdown extension of the site, for pages that are written to be read in the repository, too.

``CHANGELOG.md``, ``CONTRIBUTING.md`` and ``benchmarks/README.md`` are pages of the site, included
and not copied. Links to them, and theirs to files in ``docs``, are written as paths in the
repository, where they work too. This extension changes them to paths in the site.

In a table, GitHub wants a backslash before each vertical bar, also in code. Python's Markdown shows
that backslash in code, so the extension removes it.
"""

from __future__ import annotations

import re
from typing import Final

from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

PAGES: Final = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "benchmarks/README.md": "figures.md",
}
"""The page that includes a file, or stands in its place."""

_FILES: Final = "|".join(map(re.escape, PAGES))
_LINK: Final = re.compile(rf"\]\((?P<up>(?:\.\./)*)(?P<path>docs/[^)#]+\.md|{_FILES})(?=[)#])")

_CODE: Final = re.compile(r"(?P<ticks>`+).+?(?P=ticks)(?!`)")


def site_links(text: str) -> str:
    """Return the text with its links to files of the repository as links to pages.

    The pages that include a file are in the top folder of the site. A link from a page in a
    folder, such as ``docs/guides``, goes up once more than one from the top folder.
    """

    def page(link: re.Match[str]) -> str:
        path = PAGES.get(link["path"]) or link["path"].removeprefix("docs/")
        return f"]({link['up'].removeprefix('../')}{path}"

    return _LINK.sub(page, text)


def plain_bars(line: str) -> str:
    """Return a row of a table with the vertical bars in its code as they are."""
    return _CODE.sub(lambda code: code[0].replace("\\|", "|"), line)


class _Repository(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        lines = [plain_bars(line) if line.startswith("|") else line for line in lines]
        return site_links("\n".join(lines)).split("\n")


class SiteExtension(Extension):
    """Registers the changes behind the inclusion of files."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        # Snippets are included at priority 32, and fenced code is taken out of the text at 25.
        md.preprocessors.register(_Repository(md), "site_repository", 30)


def makeExtension(**options: object) -> SiteExtension:  # noqa: N802
    """Return the extension; Markdown calls this function."""
    return SiteExtension(**options)
