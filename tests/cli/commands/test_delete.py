"""Test the subcommand ``delete``. The kernel's table shows what it has deleted."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from functools import partial
from pathlib import Path

import attrs
import pytest
from support.command import COMMAND, count, create, do, run, table
from support.lab import Lab
from support.processes import TIMEOUT, Process
from support.terminal import END_OF_INPUT, INTERRUPT, Terminal

from conntrack_aio import Connection, Flow, Match, TCPState
from conntrack_aio.cli.confirmation import MOST_UNASKED

pytestmark = pytest.mark.kernel

TCP = Flow.tcp("10.0.0.1", 1000, "10.1.0.1", 80, timeout=600, mark=1)
CLOSED = Flow.tcp("10.0.0.2", 1000, "10.1.0.1", 80, timeout=600, state=TCPState.TIME_WAIT)
UDP = Flow.udp("fd00::1", 1000, "fd00::2", 53, timeout=600, mark=1)
IN_ZONE = Flow.udp("10.0.0.1", 1000, "10.1.0.1", 53, timeout=600, zone=7)


@pytest.fixture(autouse=True)
def buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python buffer standard output, as it does for users."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


DELETED = "conntrack-aio: 1 flow deleted\n"


def marked(number: int, mark: int = 5) -> list[Flow]:
    """Return flows with a mark."""
    return [
        Flow.udp(f"10.2.{i >> 8}.{i & 255}", 1000, "10.1.0.1", 53, timeout=600, mark=mark)
        for i in range(number)
    ]


# which flows are deleted, and what is printed


def test_it_deletes_and_prints_the_flows_that_match_and_no_others(lab: Lab) -> None:
    create(lab, TCP, CLOSED, UDP, IN_ZONE)
    status, out, err = run(lab, "delete", "mark", "1", "and", "family", "ipv6")
    assert (status, err) == (0, DELETED)
    assert re.fullmatch(
        r"udp \[fd00::1\]:1000 -> \[fd00::2\]:53 \[UNREPLIED\] timeout=\d+ mark=0x1\n", out
    )
    assert set(table(lab)) == {str(flow.orig) for flow in (TCP, CLOSED, IN_ZONE)}


def test_a_match_that_no_flow_has_is_no_failure(lab: Lab) -> None:
    create(lab, UDP)
    assert run(lab, "delete", "mark", "2") == (0, "", "conntrack-aio: 0 flows deleted\n")
    assert count(lab) == 1


def test_json_has_the_fields_of_the_flows_before_they_were_deleted(lab: Lab) -> None:
    create(lab, IN_ZONE, UDP)
    expected = {flow.id for flow in table(lab).values()}
    status, out, err = run(lab, "delete", "--json", "--quiet", "proto", "udp")
    assert (status, err) == (0, "")
    assert {json.loads(line)["id"] for line in out.splitlines()} == expected
    assert count(lab) == 0


def test_a_dry_run_prints_the_flows_and_deletes_none(lab: Lab) -> None:
    create(lab, TCP, UDP, IN_ZONE)
    status, out, err = run(lab, "delete", "--dry-run", "mark 1")
    assert (status, err) == (0, "conntrack-aio: 2 flows would be deleted\n")
    assert sorted(line.partition(" [UNREPLIED]")[0] for line in out.splitlines()) == [
        "tcp ESTABLISHED 10.0.0.1:1000 -> 10.1.0.1:80",
        "udp [fd00::1]:1000 -> [fd00::2]:53",
    ]
    assert count(lab) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "a MATCH or --tuple is required; `flush --all` deletes every flow"),
        (("all",), "it selects every flow; `flush --all` deletes every flow"),
        (("mark 1 or not mark 1",), "it selects every flow"),
        (
            ("",),
            "the match is empty; `delete` requires one, so nothing was changed; only `flush --all` "
            "deletes every flow\n",
        ),
        ((" ", ""), "the match is empty; `delete` requires one"),
        (("proto", ""), "one of the arguments is empty"),
        (("mark", "1", "--tuple", "udp 10.0.0.1:1 10.0.0.2:2"), "--tuple: not allowed"),
        (("--tuple", "udp 10.0.0.1:1 10.0.0.2"), "--tuple: udp needs a port"),
    ],
)
def test_without_a_match_that_selects_some_it_deletes_nothing(
    lab: Lab, arguments: tuple[str, ...], message: str
) -> None:
    create(lab, UDP)
    status, out, err = run(lab, "delete", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("usage: conntrack-aio delete ")
    assert message in err
    assert count(lab) == 1


# one entry


def test_a_tuple_selects_one_entry_in_its_zone_by_either_direction(lab: Lab) -> None:
    other_zone = attrs.evolve(IN_ZONE, zone=8)
    create(lab, IN_ZONE, other_zone)
    status, out, err = run(lab, "delete", "--tuple", "udp 10.1.0.1:53 10.0.0.1:1000 zone=7")
    assert (status, err) == (0, DELETED)
    assert out.startswith("udp 10.0.0.1:1000 -> 10.1.0.1:53 ")
    assert [flow.zone for flow in table(lab).values()] == [8]


def test_a_dry_run_with_a_tuple_prints_the_entry(lab: Lab) -> None:
    create(lab, UDP)
    status, out, err = run(lab, "delete", "--dry-run", "--tuple", str(UDP.orig))
    assert (status, err) == (0, "conntrack-aio: 1 flow would be deleted\n")
    assert out.startswith(str(UDP.orig))
    assert count(lab) == 1


def test_a_tuple_that_no_entry_has_is_a_failure(lab: Lab) -> None:
    create(lab, UDP)
    message = f"conntrack-aio: no entry has the tuple {TCP.orig} in either direction, in zone 0"
    assert run(lab, "delete", "--tuple", str(TCP.orig)) == (1, "", f"{message}\n")
    in_another = f"{message}; zone 3 has one: --zone 3\n"
    create(lab, attrs.evolve(TCP, zone=3))
    assert run(lab, "delete", "--tuple", str(TCP.orig)) == (1, "", in_another)
    assert run(lab, "delete", "--tuple", str(TCP.orig), "--dry-run") == (1, "", in_another)
    assert count(lab) == 2
    assert run(lab, "delete", "--tuple", str(TCP.orig), "--zone", "3", "--quiet")[0] == 0
    assert set(table(lab)) == {str(UDP.orig)}


def test_a_line_of_list_selects_its_entry(lab: Lab) -> None:
    create(lab, IN_ZONE, attrs.evolve(IN_ZONE, zone=None), TCP, UDP)
    lines = run(lab, "list").out.splitlines()
    assert len(lines) == 4
    for left, line in enumerate(reversed(lines)):
        status, out, _ = run(lab, "delete", "--tuple", line)
        assert (status, out.split(" timeout=")[0]) == (0, line.split(" timeout=")[0])
        assert out.partition("zone=")[2] == f"{line}\n".partition("zone=")[2]
        assert count(lab) == 3 - left


def test_a_zone_needs_a_tuple(lab: Lab) -> None:
    status, _, err = run(lab, "delete", "mark", "1", "--zone", "3")
    assert status == 2
    assert err.endswith("--zone: needs --tuple; in a MATCH it is a condition: zone 3\n")


# what ends connections


@pytest.mark.parametrize("arguments", [("mark", "1"), ("--tuple", str(TCP.orig))])
@pytest.mark.parametrize(
    ("loose", "outcome"),
    [
        (
            1,
            "nf_conntrack_tcp_loose is 1, so its next packet creates an entry again, unless a rule "
            "drops it: `tcp flags & (fin | syn | rst | ack) != syn ct state new drop`",
        ),
        (
            0,
            "nf_conntrack_tcp_loose is 0, so its next packet is invalid and passes, unless a rule "
            "drops it: `ct state invalid drop`",
        ),
    ],
)
def test_after_deleting_tcp_it_says_what_ends_the_connection(
    lab: Lab, arguments: tuple[str, ...], loose: int, outcome: str
) -> None:
    lab.sysctl("nf_conntrack_tcp_loose", loose)
    lab.track()
    create(lab, TCP)
    status, _, err = run(lab, "delete", *arguments)
    assert status == 0
    hint = f"conntrack-aio: deleting its entry does not end a TCP connection: {outcome}\n"
    assert err == DELETED + hint


def test_it_says_so_if_no_rule_uses_connection_tracking(lab: Lab) -> None:
    create(lab, TCP)
    err = run(lab, "delete", "mark", "1").err
    assert "no firewall rule was found here that uses connection tracking, so its packets" in err


def test_it_says_nothing_about_connections_that_have_ended_or_if_it_is_quiet(lab: Lab) -> None:
    create(lab, CLOSED)
    assert run(lab, "delete", "state", "time_wait").err == DELETED
    create(lab, TCP)
    assert run(lab, "delete", "--quiet", "mark", "1").err == ""
    create(lab, TCP)
    assert run(lab, "delete", "--dry-run", "mark", "1").err.count("\n") == 1


# asking


def test_a_script_is_not_asked(lab: Lab) -> None:
    create(lab, *marked(MOST_UNASKED + 1))
    status, out, err = run(lab, "delete", "mark", "5")
    assert (status, err) == (0, f"conntrack-aio: {MOST_UNASKED + 1} flows deleted\n")
    assert len(out.splitlines()) == MOST_UNASKED + 1


@pytest.mark.parametrize("answer", ["y\n", "YES\n"])
def test_at_a_terminal_it_asks_and_deletes_what_matches(lab: Lab, answer: str) -> None:
    create(lab, *marked(MOST_UNASKED + 1), UDP)
    with Terminal(lab, *COMMAND, "delete", "mark 5") as terminal:
        terminal.wait_for(f"conntrack-aio: delete {MOST_UNASKED + 1} flows? [y/N] ")
        assert count(lab) == MOST_UNASKED + 2
        terminal.type(answer)
        assert terminal.wait() == 0
        assert f"conntrack-aio: {MOST_UNASKED + 1} flows deleted\n" in terminal.output
    assert set(table(lab)) == {str(UDP.orig)}


@pytest.mark.parametrize("answer", ["n\n", "\n", "yep\n", END_OF_INPUT])
def test_any_other_answer_deletes_nothing(lab: Lab, answer: str) -> None:
    create(lab, *marked(MOST_UNASKED + 1))
    with Terminal(lab, *COMMAND, "delete", "mark 5") as terminal:
        terminal.wait_for("[y/N] ")
        terminal.type(answer)
        assert terminal.wait() == 1
        assert terminal.output.endswith("\nconntrack-aio: nothing was deleted\n")
    assert count(lab) == MOST_UNASKED + 1


def test_an_interrupt_at_the_question_deletes_nothing(lab: Lab) -> None:
    create(lab, *marked(MOST_UNASKED + 1))
    with Terminal(lab, *COMMAND, "delete", "mark 5") as terminal:
        terminal.wait_for("[y/N] ")
        terminal.type(INTERRUPT)
        assert terminal.wait() == 130
        assert terminal.output.endswith("\n")  # the shell's prompt has a line of its own
        assert "Traceback" not in terminal.output
    assert count(lab) == MOST_UNASKED + 1


def test_a_flow_that_no_longer_matches_after_the_question_is_kept(lab: Lab) -> None:
    flows = marked(MOST_UNASKED + 1)
    create(lab, *flows)
    with Terminal(lab, *COMMAND, "delete", "mark 5") as terminal:
        terminal.wait_for("[y/N] ")
        do(lab, lambda conn: conn.update(flows[3].orig, mark=6))
        terminal.type("y\n")
        assert terminal.wait() == 0
    assert set(table(lab)) == {str(flows[3].orig)}


@pytest.mark.parametrize(("number", "options"), [(MOST_UNASKED, ()), (MOST_UNASKED + 1, ["--yes"])])
def test_at_a_terminal_it_does_not_ask_about_few_flows_or_with_yes(
    lab: Lab, number: int, options: tuple[str, ...]
) -> None:
    create(lab, *marked(number))
    with Terminal(lab, *COMMAND, "delete", *options, "mark 5") as terminal:
        assert terminal.wait() == 0
        assert "[y/N]" not in terminal.output
    assert count(lab) == 0


# interrupts and failures in between


def test_an_interrupt_reports_how_many_were_deleted(lab: Lab) -> None:
    create(lab, *marked(5000))
    with Process(lab, *COMMAND, "delete", "mark", "5") as deletion:
        deletion.line()  # the next lines fill the pipe, and the command waits
        deletion.signal(signal.SIGINT)
        status, err = deletion.wait()
    found = re.fullmatch(r"conntrack-aio: not finished: (\d+) flows deleted\n", err)
    assert status == 130
    assert found
    assert 0 < int(found[1]) == 5000 - count(lab) < 5000


def test_it_finishes_if_the_reader_of_its_output_is_gone(lab: Lab) -> None:
    create(lab, *marked(5000))
    with Process(lab, *COMMAND, "delete", "mark", "5") as deletion:
        deletion.line()
        deletion.stop_reading()
        assert deletion.wait() == (0, "conntrack-aio: 5000 flows deleted\n")
    assert count(lab) == 0


def test_a_full_disk_deletes_nothing_more_and_reports_how_many_were(lab: Lab) -> None:
    create(lab, *marked(5000))
    with Path("/dev/full").open("wb") as output:
        start = partial(
            subprocess.run,
            (*COMMAND, "delete", "mark", "5"),
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
        )
        done = lab.run(partial(start, timeout=TIMEOUT, check=False))
    assert done.returncode == 1
    first, last = done.stderr.splitlines()
    deleted = re.fullmatch(r"conntrack-aio: not finished: (\d+) flows deleted", first)
    assert deleted
    assert last == "conntrack-aio: standard output: No space left on device"
    assert 0 < int(deleted[1]) == 5000 - count(lab) < 5000


def test_a_flow_that_ended_before_it_was_deleted_does_not_count(lab: Lab) -> None:
    """The command waits for its output to be read, and the test deletes the flows meanwhile."""
    create(lab, *marked(8000))
    with Process(lab, *COMMAND, "delete", "mark", "5") as deletion:
        deletion.line()

        async def end_all(conn: Connection) -> int:
            before = await conn.count(Match(mark=5))
            await conn.flush()
            return before

        remaining = do(lab, end_all)
        while True:
            try:
                deletion.line()
            except EOFError:
                break
        status, err = deletion.wait()
    assert status == 0
    found = re.fullmatch(r"conntrack-aio: (\d+) flows deleted(, \d+ ended before)?\n", err)
    assert found
    assert int(found[1]) <= 8000 - remaining + 1024
    assert count(lab) == 0
