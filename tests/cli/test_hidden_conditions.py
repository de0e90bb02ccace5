"""Test the report about a match with conditions on values that a setting of the kernel hides."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from support.command import create, run_process
from support.lab import Lab

from conntrack_aio import ConntrackSysctls, Flow, Match
from conntrack_aio.cli.hidden_conditions import settings_read_by

pytestmark = pytest.mark.kernel

TCP = Flow.tcp("10.0.0.1", 1000, "10.0.0.2", 80, timeout=600, mark=5)
NO_COUNTERS = f"conntrack-aio: {ConntrackSysctls(acct=False).blind_spots()[0]}\n"


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("orig.bytes > 1K", {"acct"}),
        ("not reply.packets 1", {"acct"}),
        ("proto tcp and (mark 1 or not (zone 3 and orig.packets > 2))", {"acct"}),
        ("proto tcp and orig.dst 10.0.0.1 and timeout > 5", set[str]()),
        ("family ipv4 or zone 1 or status assured", set[str]()),
        ("all", set[str]()),
    ],
)
def test_conditions_on_counters_read_a_setting(text: str, settings: set[str]) -> None:
    assert settings_read_by(Match.parse(text)) == settings


@pytest.mark.parametrize(
    "words",
    [
        "list 'orig.bytes > 1K'",
        "list --json 'orig.bytes > 1K'",
        "list --columns bytes --sort -bytes 'not orig.bytes > 1K'",
        "count 'orig.bytes < 1K'",
        "count --json 'not orig.packets 1'",
        "delete --dry-run 'not orig.bytes > 1K'",
        "delete 'orig.bytes > 1K'",
        "update --mark 6 --dry-run 'not reply.packets > 1'",
        "update --mark 6 'not reply.packets > 1'",
    ],
)
def test_the_setting_that_hides_the_counters_is_reported_once(lab: Lab, words: str) -> None:
    create(lab, TCP)
    status, _, err = run_process(lab, *shlex.split(words))
    assert (status, err.count(NO_COUNTERS)) == (0, 1)
    assert NO_COUNTERS not in run_process(lab, *shlex.split(words), "--quiet").err
    lab.sysctl("nf_conntrack_acct", 1)
    assert NO_COUNTERS not in run_process(lab, *shlex.split(words)).err


def test_it_is_reported_beside_a_file(lab: Lab, tmp_path: Path) -> None:
    create(lab, TCP)
    file = str(tmp_path / "flows.arrows")
    assert run_process(lab, "list", "--arrow", file, "orig.bytes > 1K").err == NO_COUNTERS
    assert run_process(lab, "list", "--arrow", file, "mark 5").err == ""


def test_other_conditions_report_nothing(lab: Lab) -> None:
    create(lab, TCP)
    for words in ("list mark 5", "count mark 5"):
        assert run_process(lab, *words.split()).err == ""
