"""The documentation site: complete, and its docstrings are shown as they are meant."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import conntrack_aio
import conntrack_aio.testing

NEEDED = "needs the extra docs: pip install -e '.[docs]'"
yaml = pytest.importorskip("yaml", reason=NEEDED)
pytest.importorskip("markdown", reason=NEEDED)
griffe = pytest.importorskip("griffe", reason=NEEDED)
pytest.importorskip("mkdocstrings", reason=NEEDED)
pytest.importorskip("zensical", reason=NEEDED)

import build_site  # noqa: E402
import make_command_page  # noqa: E402
import site_reference  # noqa: E402
from site_markdown import plain_bars, site_links  # noqa: E402

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PUBLIC = [
    *(f"conntrack_aio.{name}" for name in conntrack_aio.__all__),
    *(f"conntrack_aio.testing.{name}" for name in conntrack_aio.testing.__all__),
]


def paths_in(nav: object) -> Iterator[str]:
    """The pages that a part of the navigation names."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for each in nav.values():
            yield from paths_in(each)
    elif isinstance(nav, list):
        for each in nav:
            yield from paths_in(each)


def test_the_navigation_names_every_page_once() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert Counter(paths_in(config["nav"])) == Counter(pages)


def test_every_public_name_is_on_one_page() -> None:
    shown = Counter(
        name
        for path in (DOCS / "api").glob("*.md")
        for name in re.findall(r"^::: (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    )
    # Of these, pages show the docstring alone.
    for module in ("conntrack_aio", "conntrack_aio.testing", "conntrack_aio.codec.json"):
        assert shown.pop(module) == 1
    assert shown == Counter(PUBLIC)


def test_the_page_of_the_command_is_what_its_help_says() -> None:
    if make_command_page.PAGE.read_text(encoding="utf-8") != make_command_page.page():
        pytest.fail("the page is behind the code: run python docs/make_command_page.py", False)
    assert {"list", "events", "count", "demo"} <= set(make_command_page.subcommands())


def test_the_site_builds() -> None:
    """Strictly, with links that lead somewhere, offline, and without roles as text."""
    assert build_site.build() == []
    pages = {
        path: path.read_text(encoding="utf-8") for path in (build_site.SITE / "api").glob("*.html")
    }
    for name in PUBLIC:
        assert sum(f'id="{name}"' in text for text in pages.values()) == 1, name
    flows = pages[build_site.SITE / "api" / "flows.html"]
    assert re.search(r'<a [^>]*href="#conntrack_aio.Flow.orig"[^>]*><code>orig</code></a>', flows)
    # No link, anchor or title names the module where a public class is defined.
    private = [
        module
        for module in _private_modules()
        if any(f"{module}." in t for t in map(_markup, pages.values()))
    ]
    assert private == []


def _private_modules() -> list[str]:
    """The modules that define the public names."""
    return sorted(
        {
            getattr(conntrack_aio, name).__module__
            for name in conntrack_aio.__all__
            if hasattr(getattr(conntrack_aio, name), "__module__")
        }
        - {"types", "typing", "builtins"}
    )


def _markup(page: str) -> str:
    return " ".join(re.findall(r"<[^>]*>", page))


# Markdown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[x](docs/kernels.md)", "[x](kernels.md)"),  # in CONTRIBUTING.md
        ("[x](docs/guides/nat.md#a)", "[x](guides/nat.md#a)"),
        ("[x](../docs/kernels.md)", "[x](kernels.md)"),  # in benchmarks/README.md
        ("[x](../CHANGELOG.md)", "[x](changelog.md)"),  # in docs
        ("[x](../../benchmarks/README.md#soak)", "[x](../figures.md#soak)"),  # in docs/guides
        ("[x](../README.md)", "[x](index.md)"),
        ("[x](matches.md)", "[x](matches.md)"),
        ("[x](https://example.org/docs/a.md)", "[x](https://example.org/docs/a.md)"),
    ],
)
def test_links_between_files_of_the_repository(text: str, shown: str) -> None:
    assert site_links(text) == shown


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ("| `a \\| b` | c |", "| `a | b` | c |"),
        ("| a \\| b | ``c \\| `d` `` |", "| a \\| b | ``c | `d` `` |"),
        ("| `a` \\| `b` |", "| `a` \\| `b` |"),
    ],
)
def test_bars_in_the_code_of_tables(row: str, shown: str) -> None:
    assert plain_bars(row) == shown


# Docstrings

DOCSTRING = """\
Do it, as :meth:`other` does.

It has ``code``::

    with this:

        pass

- an item of
  two lines

:param a: which; see :attr:`~conntrack_aio.Flow.orig`
    and :exc:`ValueError`.
:raises NotFound: when there is none, in
    :class:`Connection`.

More in :func:`conntrack_aio.connect`.
"""


def test_parts_of_a_docstring() -> None:
    parts = site_reference.parts_of(DOCSTRING)
    assert parts.text.endswith("two lines")
    assert parts.fields.startswith(":param a: which")
    assert parts.fields.endswith("    :class:`Connection`.")
    assert parts.rest == "More in :func:`conntrack_aio.connect`."
    assert site_reference.parts_of("Only text: here.\n\nMore.").fields == ""


def test_blocks_become_fenced_code() -> None:
    text = site_reference.parts_of(DOCSTRING).text
    assert site_reference.fence_blocks(text).splitlines()[2:] == [
        "It has ``code``:",
        "",
        "```python",
        "with this:",
        "",
        "    pass",
        "```",
        "",
        "- an item of",
        "  two lines",
    ]
    assert site_reference.fence_blocks("::\n\n    a\n") == "```python\na\n```\n"


@pytest.mark.parametrize(
    ("role", "target", "text"),
    [
        ("class", "Flow", "Flow"),
        ("class", "~conntrack_aio.Flow", "Flow"),
        ("class", "conntrack_aio.Flow", "Flow"),
        ("meth", "Flow.translate", "Flow.translate()"),
        ("meth", "~FakeKernel.add", "add()"),
        ("func", "connect", "connect()"),
        ("attr", ".State.table", "State.table"),
        ("mod", "conntrack_aio.testing", "conntrack_aio.testing"),
    ],
)
def test_text_of_a_role(role: str, target: str, text: str) -> None:
    assert site_reference.text_of_role(role, target) == text


@pytest.fixture(scope="module")
def package() -> griffe.Module:
    """The package as the site shows it."""
    loader = griffe.GriffeLoader(
        search_paths=[ROOT], extensions=griffe.load_extensions(site_reference.SiteReference)
    )
    found = loader.load("conntrack_aio")
    loader.resolve_aliases(implicit=True)
    assert isinstance(found, griffe.Module)
    return found


@pytest.mark.parametrize(
    ("scope", "target", "path"),
    [
        ("Connection.dump", "events", "conntrack_aio.Connection.events"),
        ("Connection.dump", "Flow.nat", "conntrack_aio.Flow.nat"),
        (
            "Connection.dump",
            "~conntrack_aio.testing.FakeKernel.add",
            "conntrack_aio.testing.FakeKernel.add",
        ),
        ("Connection.dump", "conntrack_aio.testing", "conntrack_aio.testing"),
        ("Connection.dump", "_session", None),
        ("Connection.dump", "ValueError", None),
        ("Connection.dump", "Flow.none", None),
        ("connect", "dump", None),
        ("Flow", "orig", "conntrack_aio.Flow.orig"),
    ],
)
def test_what_a_role_links_to(
    package: griffe.Module, scope: str, target: str, path: str | None
) -> None:
    place = site_reference.definition(package[scope])
    assert place is not None
    assert site_reference.Names(package).public_path(target, place) == path


def test_no_role_is_left(package: griffe.Module) -> None:
    left = [
        each.canonical_path
        for each in site_reference.objects(package)
        if each.docstring is not None and re.search(r":\w+:`", each.docstring.value)
    ]
    assert left == []


def test_keywords_are_listed(package: griffe.Module) -> None:
    update = package["Connection.update"]
    assert "changes" not in update.parameters
    names = [parameter.name for parameter in update.parameters]
    assert names[-11:] == list(conntrack_aio.FlowUpdate.__annotations__)
    (section,) = [each for each in update.docstring.parsed if each.kind.value == "parameters"]
    told = {parameter.name: parameter for parameter in section.value}
    assert told["mark"].description == "The mark, 32 bits."
    assert str(told["mark"].annotation) == "int | None"


def test_constructors_and_defaults(package: griffe.Module) -> None:
    init = package["Counters"].all_members["__init__"]
    assert [(each.name, str(each.annotation), each.default) for each in init.parameters] == [
        ("self", "None", None),
        ("packets", "int | None", "None"),
        ("bytes", "int | None", "None"),
    ]
    for name in site_reference.CONSTRUCTED_ELSEWHERE & set(conntrack_aio.__all__):
        assert "__init__" not in package[name].all_members
    assert package["Flow.mark"].value == "None"
    assert package["Flow.orig"].value is None


def test_attributes_that_are_not_for_users(package: griffe.Module) -> None:
    assert not {"node", "compiled"} & package["Match"].all_members.keys()
    assert "socket" not in package["EventStream"].all_members
    assert "reason" in package["MatchError"].all_members


def test_private_names_in_signatures(package: griffe.Module) -> None:
    source = package["NATRange.of"].parameters["address"]
    assert str(source.annotation) == "str | IPv4Address | IPv6Address | None"
    raised = package["Connection.get"].docstring.parsed[-1].value
    assert [each.annotation.canonical_path for each in raised[:2]] == [
        "conntrack_aio.NotFound",
        "conntrack_aio.EncodeError",
    ]


def test_values_of_enumerations(package: griffe.Module) -> None:
    assert package["Status.ASSURED"].value == "0x4"
    assert package["TCPState.ESTABLISHED"].value == "3"
    assert package["EventType.DESTROY"].value == "'destroy'"


def test_text_behind_fields_stays_there(package: griffe.Module) -> None:
    kinds = [section.kind.value for section in package["Connection.dump"].docstring.parsed]
    assert kinds == ["text", "parameters", "raises", "text"]
