"""check_site reports broken links, requests to other hosts, and roles that are shown as text."""

from __future__ import annotations

from pathlib import Path

import pytest
from check_site import problems

PAGE = """<!doctype html>
<html>
<head>
<link rel="stylesheet" href="style.css">
<link rel="canonical" href="https://example.org/index.html">
</head>
<body>
<h1 id="top">Title</h1>
<p>{body}</p>
<a href="https://example.org/">elsewhere</a>
<script src="script.js"></script>
</body>
</html>
"""


def problems_of(
    site: Path, body: str = "", style: str = "", script: str = "", **pages: str
) -> list[str]:
    """Return the problems of a site with these files."""
    (site / "index.html").write_text(PAGE.format(body=body))
    (site / "style.css").write_text(style)
    (site / "script.js").write_text(script)
    for name, text in pages.items():
        (site / f"{name}.html").write_text(PAGE.format(body=text))
    return list(problems(site))


@pytest.mark.parametrize(
    "body",
    [
        "",
        '<a href="#top">here</a>',
        '<a href="other.html#there">there</a>',
        '<a href="other.html?q=1">there</a>',
        '<a href="mailto:someone@example.org">mail</a>',
        '<a href=".">the folder</a>',
        '<img src="data:image/png;base64,AAAA">',
        "<code>:not a role:</code> https://example.org/style.css",
    ],
)
def test_a_correct_page_has_no_problems(tmp_path: Path, body: str) -> None:
    assert problems_of(tmp_path, body, other='<b id="there"></b>') == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="none.html">x</a>', "index.html: none.html: no such file"),
        ('<a href="#none">x</a>', "index.html: #none: no such anchor"),
        ('<a href="other.html#none">x</a>', "index.html: other.html#none: no such anchor"),
        ('<img src="none.png">', "index.html: none.png: no such file"),
        (
            '<img src="https://example.org/a.png">',
            "index.html: loads https://example.org/a.png",
        ),
        ('<script src="//cdn.test/a.js"></script>', "index.html: loads //cdn.test/a.js"),
        (
            '<link rel="preconnect" href="https://fonts.test">',
            "index.html: loads https://fonts.test",
        ),
        (
            '<link rel="stylesheet" href="https://fonts.test/css">',
            "index.html: loads https://fonts.test/css",
        ),
        (
            '<b style="background: url(https://example.org/a.png)"></b>',
            "index.html: loads https://example.org/a.png",
        ),
        (
            "<style>@import 'http://example.org/a.css';</style>",
            "index.html: loads http://example.org/a.css",
        ),
        (
            '<script>fetch("https://example.org/data")</script>',
            "index.html: loads https://example.org/data",
        ),
        (
            '<img srcset="a.png 1x, https://example.org/b.png 2x">',
            "index.html: loads https://example.org/b.png 2x",
        ),
        (
            "see :class:`Flow`, which is one",
            "index.html: shows a role as text: :class:`",
        ),
        ("see :meth:<code>Flow.x</code>", "index.html: shows a role as text: :meth:"),
    ],
)
def test_a_problem_of_a_page_is_reported(tmp_path: Path, body: str, problem: str) -> None:
    assert problem in problems_of(tmp_path, body, other="")


@pytest.mark.parametrize(
    "style",
    [
        "@font-face { src: url('https://fonts.test/a.woff2') }",
        '@import "https://fonts.test/a.woff2";',
        "a { background: URL(https://fonts.test/a.woff2) }",
    ],
)
def test_a_stylesheet_that_loads_from_another_host_is_reported(tmp_path: Path, style: str) -> None:
    assert problems_of(tmp_path, style=style) == ["style.css: loads https://fonts.test/a.woff2"]


def test_comments_of_stylesheets_load_nothing(tmp_path: Path) -> None:
    assert problems_of(tmp_path, style="/* url(https://example.org/) */ a { color: red }") == []


@pytest.mark.parametrize(
    "script",
    [
        'import x from "https://unpkg.com/x/y.js"',
        'import("https://unpkg.com/x/y.js")',
        "element.src = 'https://unpkg.com/x/y.js'",
        "load(`https://unpkg.com/x/y.js`)",
    ],
)
def test_a_script_that_loads_from_another_host_is_reported(tmp_path: Path, script: str) -> None:
    assert problems_of(tmp_path, script=script) == ["script.js: loads https://unpkg.com/x/y.js"]


def test_the_diagram_script_of_the_theme_is_a_problem_only_with_diagrams(tmp_path: Path) -> None:
    script = 'load("https://unpkg.com/mermaid@12/dist/mermaid.min.js")'
    assert problems_of(tmp_path, script=script) == []
    (problem,) = problems_of(tmp_path, '<pre class="mermaid">graph</pre>', script=script)
    assert problem.startswith("script.js: loads https://unpkg.com/mermaid")


def test_a_site_without_pages_is_reported(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path)
    assert problem.endswith("no pages")
