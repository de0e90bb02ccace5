"""Test that labels are printed by name where ``connlabel.conf`` has one, else by number."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from support import flows
from support.command import create, do, run
from support.lab import Lab
from support.processes import Process, count_subscribers, wait_until

from conntrack_aio import Flow
from conntrack_aio.cli.flow_columns import FlowTexts, column_named
from conntrack_aio.cli.label_texts import LabelTexts
from conntrack_aio.cli.render import renderer
from conntrack_aio.model import labels
from conntrack_aio.uapi.nfnetlink import NFNLGRP

USES_LABELS = "table inet t {\nchain c {\nct label set 1\n}\n}\n"
WEB = Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 80, timeout=600)
WEB.labels = 1 << 3 | 1 << 5
TUPLE = ("tcp", "10.0.0.1:1000", "10.0.0.2:80")


GROUPS = sum(
    1 << group - 1
    for group in (NFNLGRP.CONNTRACK_NEW, NFNLGRP.CONNTRACK_UPDATE, NFNLGRP.CONNTRACK_DESTROY)
)
"""The groups of all events of flows, as a bitmap."""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file with names of labels, which is the one that is read."""
    file = tmp_path / "connlabel.conf"
    file.write_text("3 web\n4 two words\n6 a,b\n7 \x1b[2J\n127 last\n")
    monkeypatch.setattr(labels, "PATHS", (str(file),))
    return file


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        ((3,), "web"),
        ((3, 5), "web,5"),
        ((5, 127), "5,last"),
        ((4, 6, 7), "4,6,7"),  # these names would end early in a line of words
        ((), ""),
    ],
)
def test_labels_have_names_or_numbers(file: Path, bits: tuple[int, ...], text: str) -> None:
    found = LabelTexts()
    assert found.text(sum(1 << bit for bit in bits)) == text
    if bits:
        line = f"tcp a -> b mark=0x1 labels={','.join(map(str, bits))} helper=ftp\n"
        expected = f"tcp a -> b mark=0x1 labels={text} helper=ftp\n"
        assert found.in_lines(line * 2) == expected * 2


def test_nothing_else_of_a_line_is_replaced(file: Path) -> None:
    for line in ("tcp a -> b helper=labels=3", "labels=3x", "xlabels=3", "labels=", "labels=<odd>"):
        assert LabelTexts().in_lines(line) == line


def test_the_file_is_read_only_for_a_label(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("nonsense\n")
    render = renderer(json=False)
    assert render([flows.tcp(1)])
    assert capsys.readouterr().err == ""
    assert "labels=3,5" in render([WEB])
    assert "labels=3,5" in render([WEB])
    error = capsys.readouterr().err
    assert error.startswith(f"conntrack-aio: labels are printed by number: {file}, line 1: ")
    assert error.count("\n") == 1


def test_without_a_file_there_are_numbers(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.unlink()
    assert "labels=3,5\n" in renderer(json=False)([WEB])
    assert capsys.readouterr().err == ""


def test_columns_have_names_unless_they_are_numeric(file: Path) -> None:
    columns = [column_named("labels"), column_named("details")]
    row = (WEB.labels, "mark=0x1 labels=3,5 helper=x")
    for short in (False, True):
        texts = FlowTexts(columns, short=short, colors=False)
        assert texts.cells(row) == ["web,5", "mark=0x1 labels=web,5 helper=x"]
        assert texts.cells((0, "[UNREPLIED]")) == ["-", "[UNREPLIED]"]
        texts = FlowTexts(columns, short=short, colors=False, numeric=True)
        assert texts.cells(row) == ["3,5", row[1]]


@pytest.fixture
def labeled(lab: Lab, file: Path) -> Lab:
    """Return a namespace with a flow that has labels, of which one has a name."""
    lab.program("nft", "-f", "-", input=USES_LABELS)
    create(lab, WEB)
    return lab


@pytest.mark.kernel
def test_every_command_that_prints_flows_prints_names(labeled: Lab) -> None:
    for command in (
        ("list",),
        ("list", "--sort", "mark"),
        ("list", "--columns", "details"),
        ("get", *TUPLE),
        ("delete", "proto", "tcp", "--dry-run"),
        ("delete", "--tuple", " ".join(TUPLE), "--dry-run"),
        ("flush", "--all", "--dry-run"),
    ):
        assert "labels=web,5" in run(labeled, *command).out
        if command[0] in ("list", "get"):
            assert "labels=3,5" in run(labeled, *command, "--numeric").out
    assert "web,5\n" in run(labeled, "list", "--columns", "mark,labels").out
    assert "3,5\n" in run(labeled, "list", "--columns", "mark,labels", "-n").out
    (line,) = run(labeled, "list", "--json").out.splitlines()
    assert json.loads(line)["labels"] == [3, 5]
    line = run(labeled, "list", "--columns", "labels", "--json").out
    assert json.loads(line) == {"labels": [3, 5]}


@pytest.mark.kernel
def test_a_line_with_names_names_its_entry(labeled: Lab) -> None:
    line = run(labeled, "list").out.strip()
    assert "labels=web,5" in line
    assert run(labeled, "get", line).status == 0


PROGRAM = """\
import sys
from conntrack_aio.cli import main
from conntrack_aio.model import labels

labels.PATHS = (sys.argv[1],)
sys.exit(main(sys.argv[2:]))
"""
"""Runs the command with another file of names."""


@pytest.mark.kernel
@pytest.mark.parametrize("numeric", [False, True])
def test_events_and_changes_have_names(labeled: Lab, file: Path, numeric: bool) -> None:
    program = (sys.executable, "-c", PROGRAM, str(file))
    more = ["--numeric"] if numeric else []
    with (
        Process(labeled, *program, "events", "--quiet", *more) as events,
        Process(labeled, *program, "watch", *more, merged=True) as watch,
    ):
        assert "watching: 1 flows" in watch.line()
        wait_until(lambda: count_subscribers(labeled, GROUPS) == 2)
        do(labeled, lambda conn: conn.add_labels(WEB, 127))
        expected = " labels=3,5,127" if numeric else " labels=web,5,last"
        assert expected in events.line()
        assert expected in watch.line()
