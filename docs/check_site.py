"""Checks a built site: ``python docs/check_site.py build/site``.

- Every link inside of the site leads to a file and, with a fragment, to an anchor of that file.
- No page, stylesheet or script loads anything from another server: the site reads offline.
- No page shows a role of reStructuredText as text.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

_LOADED: Final = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src", "srcset"),
    "input": ("src",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "track": ("src",),
    "use": ("href", "xlink:href"),
    "video": ("src", "poster"),
}
"""The attributes of elements by which a browser loads something at once."""

_LINKS: Final = frozenset({"alternate", "author", "canonical", "license", "next", "prev"})
"""The relations of ``<link>`` that load nothing."""

_REMOTE: Final = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)
_CSS: Final = re.compile(
    r"""(?:url\(\s*["']?|@import\s+["'])\s*(?P<url>(?:https?:)?//[^"')\s]*)""", re.IGNORECASE
)
_SCRIPT: Final = re.compile(
    r"""(?:\bimport\s*\(?|\bfrom|\bfetch\s*\(|\bimportScripts\s*\(|\bWorker\s*\(|\.src\s*=|"""
    r"""\.open\s*\(\s*["']GET["']\s*,)\s*["'`](?P<url>(?:https?:)?//[^"'`]*)"""
)
_ASSET: Final = re.compile(
    r"""["'`](?P<url>(?:https?:)?//(?:[^"'`/]*\b(?:unpkg|jsdelivr|cdnjs|googleapis|gstatic)\b[^"'`]*"""
    r"""|[^"'`]*\.(?:m?js|css|json|wasm|woff2?|ttf|svg|png)))["'`]"""
)
_THEME: Final = {
    "ace-builds": "pyodide",
    "glightbox": "glightbox",
    "mermaid": "mermaid",
    "pyodide": "pyodide",
    "resize-observer-polyfill": None,  # for browsers older than 2020
}
"""What the theme's script loads, and the class of the elements for which it does so."""
_COMMENT: Final = re.compile(r"/\*.*?\*/", re.DOTALL)
_ROLE: Final = re.compile(r":(?:attr|class|data|exc|func|meth|mod):(?:`|(?=\s*$))")


def remote_in_css(text: str) -> Iterator[str]:
    """Yield what a stylesheet loads from another server."""
    for found in _CSS.finditer(_COMMENT.sub("", text)):
        yield found["url"]


def remote_in_script(text: str) -> Iterator[str]:
    """Yield what a script loads from another server, as far as its text has the address."""
    for pattern in (_SCRIPT, _ASSET):
        for found in pattern.finditer(text):
            yield found["url"]


class Page(HTMLParser):
    """A page: its anchors, its links, what it loads, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.remote: list[str] = []
        self.roles: list[str] = []
        self.classes: set[str] = set()
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._inside = tag
        self.anchors.update(values[name] for name in ("id", "name") if values.get(name))
        if tag in ("a", "area") and "href" in values:
            self.links.append(values["href"])
        self.classes.update(values.get("class", "").split())
        loaded = [values[name] for name in _LOADED.get(tag, ()) if name in values]
        if tag == "link" and not _LINKS.intersection(values.get("rel", "").lower().split()):
            loaded.append(values.get("href", ""))
        for value in loaded:
            urls = value.split(",") if value == values.get("srcset") else [value]
            self.remote += filter(_REMOTE.match, urls)
            self.links += (url.split()[0] for url in urls if url.strip() and ":" not in url)
        self.remote += remote_in_css(values.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.remote += remote_in_css(data)
        elif self._inside == "script":
            self.remote += remote_in_script(data)
        else:
            self.roles += _ROLE.findall(data)


def broken_links(site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Yield each link that leads nowhere, after the page that has it."""
    for path, page in pages.items():
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            where = unquote(parts.path)
            base = site if where.startswith("/") else path.parent
            target = (base / where.lstrip("/")).resolve() if where else path
            if target.is_dir():
                target /= "index.html"
            fragment = unquote(parts.fragment)
            name = path.relative_to(site)
            if not target.is_file():
                yield f"{name}: {link}: no such file"
            elif fragment and target in pages and fragment not in pages[target].anchors:
                yield f"{name}: {link}: no such anchor"


def problems(site: Path) -> Iterator[str]:
    """Yield what is wrong with a built site, each as a line."""
    site = site.resolve()
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site}: no pages"
    # The error page does not know where it is shown, so its links begin at the root of a server.
    missing = site / "404.html"
    yield from broken_links(site, {path: page for path, page in pages.items() if path != missing})
    for path, page in pages.items():
        for url in page.remote:
            yield f"{path.relative_to(site)}: loads {url.strip()}"
        for role in page.roles:
            yield f"{path.relative_to(site)}: shows a role as text: {role}"
    classes = {name for page in pages.values() for name in page.classes}
    for suffix, remote in ((".css", remote_in_css), (".js", remote_in_script)):
        for path in sorted(site.rglob(f"*{suffix}")):
            for url in dict.fromkeys(remote(path.read_text(encoding="utf-8"))):
                package = next((name for name in _THEME if f"/{name}" in url), None)
                if package is not None and _THEME[package] not in classes:
                    continue
                yield f"{path.relative_to(site)}: loads {url}"


def main() -> None:
    (site,) = sys.argv[1:]
    found = list(problems(Path(site)))
    for line in found:
        print(line, file=sys.stderr)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
