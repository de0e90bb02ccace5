"""docs/match-reference.md names all conditions, and its match texts are valid."""

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
    """Return the parameters and the match texts of each row of the conditions."""
    table = PAGE.split("## Conditions\n\n")[1].split("\n\n")[0].splitlines()[2:]
    # In a table a vertical bar has a backslash before it, also in code.
    cells = [[cell.replace("\\|", "|") for cell in line.strip("| ").split(" | ")] for line in table]
    return [(re.findall(r"`(.+?)`", row[0]), re.findall(r"`(.+?)`", row[1])) for row in cells]


def test_every_condition_is_on_the_page() -> None:
    parameters = {name for names, _ in rows() for name in names}
    assert parameters == Conditions.__annotations__.keys() - {"label_names"}
    texts = {re.sub(r"^not ", "", text).split()[0] for _, found in rows() for text in found}
    assert texts == FIELDS.keys() | {"snat", "dnat", "assured", "unreplied"}


@pytest.mark.parametrize("text", [text for _, found in rows() for text in found])
def test_every_match_text_is_valid(text: str) -> None:
    match = Match.parse(text, label_names=LABELS)
    assert Match.parse(str(match)) == match


def test_both_matches_of_the_example_are_equal() -> None:
    constructed, parsed = re.findall(r"^Match.+$", PAGE, re.MULTILINE)
    names: dict[str, object] = {}
    exec("from conntrack_aio import Match, Status", names)
    assert eval(constructed, names) == eval(parsed, names)
