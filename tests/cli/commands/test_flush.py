"""Test the subcommand ``flush``."""

from __future__ import annotations

import pytest
from support.command import COMMAND, count, create, run
from support.lab import Lab
from support.terminal import END_OF_INPUT, INTERRUPT, Terminal

from conntrack_aio import Flow

pytestmark = pytest.mark.kernel

FLOWS = [
    Flow.tcp("10.0.0.1", 1000, "10.1.0.1", 80, timeout=600),
    Flow.udp("fd00::1", 1000, "fd00::2", 53, timeout=600, zone=7),
]


def test_a_script_deletes_every_flow(lab: Lab) -> None:
    create(lab, *FLOWS)
    assert run(lab, "flush", "--all") == (0, "", "conntrack-aio: 2 flows deleted\n")
    assert count(lab) == 0
    assert run(lab, "flush", "--all", "--quiet") == (0, "", "")
    create(lab, *FLOWS)
    assert run(lab, "flush", "--all", "--quiet", "--json") == (0, '{"deleted": 2}\n', "")
    out = run(lab, "expect", "flush", "--all", "--quiet", "--json").out
    assert out == '{"deleted": 0}\n'


def test_an_empty_table_needs_no_question(lab: Lab) -> None:
    for group in ((), ("expect",)):
        with Terminal(lab, *COMMAND, *group, "flush", "--all") as terminal:
            assert terminal.wait() == 0
            assert "[y/N]" not in terminal.output


@pytest.mark.parametrize("arguments", [(), ("--yes",), ("--dry-run",), ("mark", "1")])
def test_without_all_it_deletes_nothing(lab: Lab, arguments: tuple[str, ...]) -> None:
    create(lab, *FLOWS)
    status, out, err = run(lab, "flush", *arguments)
    assert (status, out) == (2, "")
    assert "--all is required" in err or "unrecognized arguments" in err
    assert count(lab) == 2


def test_a_dry_run_prints_the_flows_and_deletes_none(lab: Lab) -> None:
    create(lab, *FLOWS)
    status, out, err = run(lab, "flush", "--all", "--dry-run", "--json")
    assert (status, err) == (0, "conntrack-aio: 2 flows would be deleted\n")
    assert out.count('{"orig": ') == 2
    assert count(lab) == 2


@pytest.mark.parametrize(
    ("answer", "status", "remaining"),
    [("y\n", 0, 0), ("n\n", 1, 2), (END_OF_INPUT, 1, 2), (INTERRUPT, 130, 2)],
)
def test_at_a_terminal_it_asks_with_the_number_of_flows(
    lab: Lab, answer: str, status: int, remaining: int
) -> None:
    create(lab, *FLOWS)
    with Terminal(lab, *COMMAND, "flush", "--all") as terminal:
        terminal.wait_for("conntrack-aio: delete every flow (2 flows)? [y/N] ")
        terminal.type(answer)
        assert terminal.wait() == status
        assert ("nothing was deleted" in terminal.output) == (status == 1)
        assert terminal.output.endswith("\n")
    assert count(lab) == remaining


def test_with_yes_it_does_not_ask(lab: Lab) -> None:
    create(lab, *FLOWS)
    with Terminal(lab, *COMMAND, "flush", "--all", "--yes") as terminal:
        assert terminal.wait() == 0
        assert terminal.output == "conntrack-aio: 2 flows deleted\n"
    assert count(lab) == 0
