"""The documentation site is complete and shows docstrings correctly."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import conntrack_aio
import conntrack_aio.testing

REASON = "needs the extra docs: pip install -e '.[docs]'"
yaml = pytest.importorskip("yaml", reason=REASON)
pytest.importorskip("markdown", reason=REASON)
griffe = pytest.importorskip("griffe", reason=REASON)
pytest.importorskip("mkdocstrings", reason=REASON)
pytest.importorskip("zensical", reason=REASON)

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
    """Yield the pages that a part of the navigation names."""
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
    # Of these modules, pages show only the docstring.
    for module in ("conntrack_aio", "conntrack_aio.testing", "conntrack_aio.codec.json"):
        assert shown.pop(module) == 1
    assert shown == Counter(PUBLIC)


def test_the_page_of_the_command_is_up_to_date() -> None:
    # Where argparse breaks lines depends on the version of Python.
    written = make_command_page.PAGE.read_text(encoding="utf-8").split()
    if written != make_command_page.page().split():
        pytest.fail("the page is out of date: run python docs/make_command_page.py", False)


def test_the_site_builds() -> None:
    """The site builds without warnings and has none of the problems that check_site reports."""
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
        if any(f"{module}." in markup for markup in map(_markup, pages.values()))
    ]
    assert private == []


def _private_modules() -> list[str]:
    """Return the modules that define the public names."""
    return sorted(
        {
            getattr(conntrack_aio, name).__module__
            for name in conntrack_aio.__all__
            if hasattr(getattr(conntrack_aio, name), "__module__")
        }
        - {"types", "typing", "builtins"}
    )


def _markup(page: str) -> str:
    """Return the tags of a page, without its text."""
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
def test_links_between_files_of_the_repository_become_links_of_the_site(
    text: str, shown: str
) -> None:
    assert site_links(text) == shown


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ("| `a \\| b` | c |", "| `a | b` | c |"),
        ("| a \\| b | ``c \\| `d` `` |", "| a \\| b | ``c | `d` `` |"),
        ("| `a` \\| `b` |", "| `a` \\| `b` |"),
    ],
)
def test_bars_in_the_code_of_tables_lose_their_backslash(row: str, shown: str) -> None:
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


def test_a_docstring_is_split_into_text_fields_and_rest() -> None:
    parts = site_reference.parts_of(DOCSTRING)
    assert parts.text.endswith("two lines")
    assert parts.fields.startswith(":param a: which")
    assert parts.fields.endswith("    :class:`Connection`.")
    assert parts.rest == "More in :func:`conntrack_aio.connect`."
    assert site_reference.parts_of("Only text: here.\n\nMore.").fields == ""


def test_errors_after_a_line_that_leads_to_them_become_its_list() -> None:
    parts = site_reference.parts_of(
        "Text.\n\nIterating raises:\n\n:raises anyio.X: when it is\n    closed.\n:raises Y: later."
    )
    text, fields, rest = site_reference.list_after_lead(parts)
    assert text.endswith(
        "Iterating raises:\n\n- :exc:`anyio.X`: when it is\n    closed.\n- :exc:`Y`: later."
    )
    assert (fields, rest) == ("", "")
    other = site_reference.parts_of("Text.\n\n:raises Y: later.")
    assert site_reference.list_after_lead(other) == other


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
def test_a_role_is_shown_as_code_with_its_short_name(role: str, target: str, text: str) -> None:
    assert site_reference.text_of_role(role, target) == text


@pytest.fixture(scope="module")
def package() -> griffe.Module:
    """Load the package as the site shows it."""
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
def test_a_role_links_to_the_public_path(
    package: griffe.Module, scope: str, target: str, path: str | None
) -> None:
    place = site_reference.definition(package[scope])
    assert place is not None
    assert site_reference.Names(package).public_path(target, place) == path


def test_every_role_is_replaced(package: griffe.Module) -> None:
    remaining = [
        each.canonical_path
        for each in site_reference.objects(package)
        if each.docstring is not None and re.search(r":\w+:`", each.docstring.value)
    ]
    assert remaining == []


def test_the_keywords_of_an_update_are_listed_as_parameters(package: griffe.Module) -> None:
    update = package["Connection.update"]
    assert "changes" not in update.parameters
    names = [parameter.name for parameter in update.parameters]
    assert names[-11:] == list(conntrack_aio.FlowUpdate.__annotations__)
    (section,) = [each for each in update.docstring.parsed if each.kind.value == "parameters"]
    parameters = {parameter.name: parameter for parameter in section.value}
    assert parameters["mark"].description == "The mark, 32 bits."
    assert str(parameters["mark"].annotation) == "int | None"


def test_constructors_and_defaults_are_shown_for_classes_that_users_construct(
    package: griffe.Module,
) -> None:
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


def test_internal_attributes_are_hidden(package: griffe.Module) -> None:
    assert not {"node", "compiled"} & package["Match"].all_members.keys()
    assert "socket" not in package["EventStream"].all_members
    assert "reason" in package["MatchError"].all_members


def test_private_names_in_signatures_are_replaced(package: griffe.Module) -> None:
    source = package["NATRange.of"].parameters["address"]
    assert str(source.annotation) == "str | IPv4Address | IPv6Address | None"
    raised = package["Connection.get"].docstring.parsed[-1].value
    assert [each.annotation.canonical_path for each in raised[:2]] == [
        "conntrack_aio.NotFound",
        "conntrack_aio.EncodeError",
    ]


def test_members_of_enumerations_show_their_values(package: griffe.Module) -> None:
    assert package["Status.ASSURED"].value == "0x4"
    assert package["TCPState.ESTABLISHED"].value == "3"
    assert package["EventType.DESTROY"].value == "'destroy'"


def test_text_after_the_fields_of_a_docstring_stays_after_them(package: griffe.Module) -> None:
    kinds = [section.kind.value for section in package["Connection.dump"].docstring.parsed]
    assert kinds == ["text", "parameters", "raises", "text"]
