"""The page of matches names all conditions, and its texts are what they seem."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conntrack_aio import LabelNames, Match
from conntrack_aio.filters.conditions import Conditions
from conntrack_aio.filters.fields import FIELDS

PAGE = (Path(__file__).parents[2] / "docs" / "match-reference.md").read_text(encoding="utf-8")
LABELS = LabelNames({"web": 5})


def rows() -> list[tuple[list[str], list[str]]]:
    """The parameters and the texts of each row."""
    table = PAGE.split("## Conditions\n\n")[1].split("\n\n")[0].splitlines()[2:]
    # In a table, a vertical bar stands behind a backslash, also in code.
    cells = [[cell.replace("\\|", "|") for cell in line.strip("| ").split(" | ")] for line in table]
    return [(re.findall(r"`(.+?)`", row[0]), re.findall(r"`(.+?)`", row[1])) for row in cells]


def test_every_condition_is_there() -> None:
    parameters = {name for names, _ in rows() for name in names}
    assert parameters == Conditions.__annotations__.keys() - {"label_names"}
    texts = {re.sub(r"^not ", "", text).split()[0] for _, found in rows() for text in found}
    assert texts == FIELDS.keys() | {"snat", "dnat", "assured", "unreplied"}


@pytest.mark.parametrize("text", [text for _, found in rows() for text in found])
def test_the_texts(text: str) -> None:
    match = Match.parse(text, label_names=LABELS)
    assert Match.parse(str(match)) == match


def test_the_example() -> None:
    made, parsed = re.findall(r"^Match.+$", PAGE, re.MULTILINE)
    names: dict[str, object] = {}
    exec("from conntrack_aio import Match, Status", names)
    assert eval(made, names) == eval(parsed, names)
