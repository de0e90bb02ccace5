"""Test that the files, directories and modules that the pages about the code name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "conntrack_aio"


def missing_paths(text: str) -> list[str]:
    """Return the paths in code spans that exist neither in the package nor in the repository."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    spans: list[str] = re.findall(r"`([\w./-]+)`", text)
    paths = [span for span in spans if re.search(r"\w(\.py|/)$", span) and not span.startswith("/")]
    assert paths
    return [path for path in paths if not any((top / path).exists() for top in (PACKAGE, ROOT))]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/internals.md"])
def test_named_paths_exist(page: str) -> None:
    assert missing_paths((ROOT / page).read_text()) == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/internals.md"])
def test_named_modules_exist(page: str) -> None:
    """The first column of a table of layers or modules has only their names."""
    text = (ROOT / page).read_text()
    table = text[text.index("| layer |" if "| layer |" in text else "| module |") :]
    cells = [line.split("|")[1] for line in table.partition("\n\n")[0].splitlines()[2:]]
    names = [name for cell in cells for name in re.findall(r"`([\w/]+)`", cell)]
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    packages = {f"{path.name}/" for path in PACKAGE.iterdir() if path.is_dir()}
    assert names
    assert [name for name in names if name not in modules | packages] == []


def test_a_path_that_does_not_exist_is_found() -> None:
    text = "`model/flow.py` and `model/flows.py`, in `model/`\n\n```\n`gone.py`\n```\n"
    assert missing_paths(text) == ["model/flows.py"]
