"""Test the subcommand ``expect``. The kernel's expectations show what it has changed."""

from __future__ import annotations

import json
import re
import signal

import pytest
from support.command import COMMAND, create, do, run, run_here
from support.lab import Lab
from support.processes import Process, count_subscribers, wait_until
from support.terminal import Terminal

from conntrack_aio import Expectation, ExpectFlags, Flow, Helper, Tuple
from conntrack_aio.uapi.nfnetlink import NFNLGRP

pytestmark = pytest.mark.kernel

MASTER = Flow.tcp("10.0.0.1", 1000, "10.1.0.1", 21, timeout=600)
MASTER.helper = Helper(name="ftp")
OTHER_MASTER = Flow.tcp("10.0.0.2", 1000, "10.1.0.1", 21, timeout=600, zone=7)
OTHER_MASTER.helper = Helper(name="ftp")
OF_MASTER = ("--master", str(MASTER.orig))
DATA = ("tcp", "10.1.0.1", "10.0.0.1:2000")
LINE = (
    r"tcp 10\.1\.0\.1 -> 10\.0\.0\.1:2000 timeout=\d+ helper=ftp "
    r"master=\(tcp 10\.0\.0\.1:1000 -> 10\.1\.0\.1:21\)\n"
)


def expect(lab: Lab, *flows: Flow) -> None:
    """Create flows, and an expectation of each."""
    create(lab, *flows)
    for flow in flows:
        data = Tuple.tcp("10.1.0.1", 0, str(flow.orig.src), 2000)
        new = Expectation.of(flow.orig, data, any_sport=True)
        zone = flow.zone
        do(lab, lambda conn, new=new, zone=zone: conn.expectations.create(new, zone=zone))  # type: ignore[misc]


def found(lab: Lab) -> list[Expectation]:
    """Return the kernel's expectations."""
    return do(lab, lambda conn: conn.expectations.list())


def test_expectations_are_listed_and_counted_also_of_one_flow(lab: Lab) -> None:
    expect(lab, MASTER, OTHER_MASTER)
    assert len(run(lab, "expect", "list").out.splitlines()) == 2
    status, out, err = run(lab, "expect", "list", *OF_MASTER)
    assert (status, err) == (0, "")
    assert re.fullmatch(LINE, out)
    assert run(lab, "expect", "count") == (0, "2\n", "")
    for flow in run(lab, "list").out.splitlines():
        assert run(lab, "expect", "count", "--master", flow) == (0, "1\n", "")
    in_zone = ("--master", f"{OTHER_MASTER.reply} zone=7")
    assert run(lab, "expect", "count", "--json", *in_zone) == (0, '{"count": 1}\n', "")
    assert run(lab, "expect", "count", "--family", "ipv6") == (0, "0\n", "")


def test_one_is_read_by_its_tuple_or_found_by_a_packet(lab: Lab) -> None:
    expect(lab, MASTER)
    status, out, err = run(lab, "expect", "get", *DATA, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["id"] == found(lab)[0].id
    packet = ("tcp", "10.1.0.1:20", "10.0.0.1:2000")
    assert re.fullmatch(LINE, run(lab, "expect", "find", *packet).out)
    for verb in ("get", "delete"):
        status, out, err = run(lab, "expect", verb, *packet)
        assert (status, out) == (1, "")
        assert "The mask of another one covers its packets" in err
    assert len(found(lab)) == 1


def test_one_is_created_changed_and_deleted(lab: Lab) -> None:
    create(lab, MASTER)
    status, out, err = run(lab, "expect", "create", *DATA, *OF_MASTER)
    assert (status, err) == (0, "conntrack-aio: 1 expectation created\n")
    assert re.fullmatch(LINE, out)
    status, out, err = run(lab, "expect", "update", *DATA, "--timeout", "70")
    assert (status, err) == (0, "conntrack-aio: 1 expectation updated\n")
    assert "timeout=70 " in out
    (changed,) = found(lab)
    assert changed.timeout is not None
    assert 40 < changed.timeout <= 70
    status, out, err = run(lab, "expect", "delete", "--dry-run", *DATA)
    assert (status, err) == (0, "conntrack-aio: 1 expectation would be deleted\n")
    assert found(lab)
    status, out, err = run(lab, "expect", "delete", *DATA)
    assert (status, err) == (0, "conntrack-aio: 1 expectation deleted\n")
    assert re.fullmatch(LINE, out)
    assert not found(lab)


def test_a_dry_run_creates_and_changes_nothing(lab: Lab) -> None:
    create(lab, MASTER)
    arguments = ("expect", "create", *DATA, *OF_MASTER, "--timeout", "50", "--dry-run")
    status, out, err = run(lab, *arguments)
    assert (status, err) == (0, "conntrack-aio: 1 expectation would be created\n")
    assert out.startswith("tcp 10.1.0.1 -> 10.0.0.1:2000 timeout=50 ")
    assert not found(lab)
    run(lab, "expect", "create", *DATA, *OF_MASTER)
    status, out, err = run(lab, *arguments)
    assert (status, out) == (1, "")
    assert "there is one with this tuple" in err
    status, out, err = run(lab, "expect", "update", *DATA, "--timeout", "7", "--dry-run")
    assert (status, err) == (0, "conntrack-aio: 1 expectation would be updated\n")
    assert "timeout=7 " in out
    (kept,) = found(lab)
    assert kept.timeout is not None
    assert kept.timeout > 7
    assert run(lab, "expect", "delete", "--helper", "ftp", "--dry-run").err == (
        "conntrack-aio: 1 expectation would be deleted\n"
    )
    assert run(lab, "expect", "flush", "--all", "--dry-run").err == (
        "conntrack-aio: 1 expectation would be deleted\n"
    )
    assert found(lab) == [kept]


@pytest.mark.parametrize(
    ("master", "more", "status", "message"),
    [
        ("tcp 10.0.0.9:1000 10.1.0.1:21", [], 1, "no entry has the tuple tcp 10.0.0.9:1000"),
        ("tcp 10.0.0.8:1000 10.1.0.1:21", [], 1, "its master has no helper"),
        (str(MASTER.orig), ["--zone", "9"], 1, "in zone 9; zone 0 has one"),
        (str(MASTER.orig), ["--helper", "a" * 16], 2, "argument --helper: "),
        ("tcp [fd00::1]:1000 [fd00::2]:21", [], 2, "the family of its master"),
    ],
)
def test_a_dry_run_fails_as_the_creation_would(
    lab: Lab, master: str, more: list[str], status: int, message: str
) -> None:
    create(lab, MASTER, Flow.tcp("10.0.0.8", 1000, "10.1.0.1", 21, timeout=600))
    for dry_run in (["--dry-run"], []):
        ran = run(lab, "expect", "create", *DATA, "--master", master, *more, *dry_run)
        assert (ran.status, ran.out) == (status, "")
        if dry_run:
            assert message in ran.err
    assert not found(lab)


def test_all_fields_are_set(lab: Lab) -> None:
    create(lab, MASTER)
    status, _, err = run(
        lab,
        *("expect", "create", "tcp", "10.1.0.1:20", "10.0.0.1:2000", *OF_MASTER, "--quiet"),
        *("--any-src", "--flags", "permanent,inactive", "--timeout", "50", "--class", "0"),
        *("--nat", "10.0.0.9:2222", "--nat-direction", "reply"),
        *("--function", "nat-follow-master"),
    )
    assert (status, err) == (0, "")
    (created,) = found(lab)
    assert created.flags == ExpectFlags.PERMANENT | ExpectFlags.INACTIVE
    assert str(created.mask.src) == "0.0.0.0"
    assert (created.mask.sport, created.tuple.sport) == (0xFFFF, 20)
    assert created.function == "nat-follow-master"
    assert created.nat is not None
    assert (str(created.nat.tuple.src), created.nat.tuple.sport) == ("10.0.0.9", 2222)
    assert str(created.nat.direction) == "REPLY"


def test_an_expectation_that_exists_is_a_failure_that_says_how_to_change_it(lab: Lab) -> None:
    expect(lab, MASTER)
    status, out, err = run(lab, "expect", "create", *DATA, *OF_MASTER)
    assert (status, out) == (1, "")
    assert err.endswith("conntrack-aio expect update TUPLE --timeout SECONDS\n")


def test_those_of_a_helper_are_deleted(lab: Lab) -> None:
    expect(lab, MASTER, OTHER_MASTER)
    status, out, err = run(lab, "expect", "delete", "--helper", "irc")
    assert (status, out, err) == (0, "", "conntrack-aio: 0 expectations deleted\n")
    assert len(found(lab)) == 2
    status, out, err = run(lab, "expect", "delete", "--helper", "ftp")
    assert (status, err) == (0, "conntrack-aio: 2 expectations deleted\n")
    assert len(out.splitlines()) == 2
    assert not found(lab)


def test_flush_deletes_every_one_and_asks_at_a_terminal(lab: Lab) -> None:
    expect(lab, MASTER, OTHER_MASTER)
    status, out, err = run(lab, "expect", "flush", "--all", "--dry-run")
    assert (status, err) == (0, "conntrack-aio: 2 expectations would be deleted\n")
    assert len(out.splitlines()) == 2
    with Terminal(lab, *COMMAND, "expect", "flush", "--all") as terminal:
        terminal.wait_for("conntrack-aio: delete every expectation (2 expectations)? [y/N] ")
        terminal.type("n\n")
        assert terminal.wait() == 1
    assert len(found(lab)) == 2
    assert run(lab, "expect", "flush", "--all") == (
        0,
        "",
        "conntrack-aio: 2 expectations deleted\n",
    )
    assert not found(lab)


def test_stats_count_what_was_created_and_deleted(lab: Lab) -> None:
    expect(lab, MASTER)
    counters = [json.loads(line) for line in run(lab, "expect", "stats", "--json").out.splitlines()]
    assert sum(each["create"] for each in counters) == 1
    text = run(lab, "expect", "stats").out.splitlines()
    assert sum(int(re.search(r"create=(\d+)", line)[1]) for line in text) == 1  # type: ignore[index]


def test_events_are_printed_until_an_interrupt(lab: Lab) -> None:
    groups = 1 << NFNLGRP.CONNTRACK_EXP_NEW - 1 | 1 << NFNLGRP.CONNTRACK_EXP_DESTROY - 1
    create(lab, MASTER)
    with Process(lab, *COMMAND, "expect", "events", "--json", "--quiet") as events:
        wait_until(lambda: count_subscribers(lab, groups))
        run(lab, "expect", "create", *DATA, *OF_MASTER)
        run(lab, "expect", "delete", *DATA)
        lines = [json.loads(events.line()) for _ in range(2)]
        events.signal(signal.SIGINT)
        assert events.wait() == (130, "")
    assert [line["type"] for line in lines] == ["new", "destroy"]
    assert lines[0]["expectation"]["tuple"]["dport"] == 2000


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("nonsense", "invalid choice: 'nonsense'"),
        ("get tcp 10.0.0.1", "expected the destination: ADDRESS:PORT"),
        ("create tcp 10.0.0.1:1 10.0.0.2:2", "the following arguments are required: --master"),
        ("update tcp 10.0.0.1:1 10.0.0.2:2", "the following arguments are required: --timeout"),
        ("delete", "pass either a TUPLE or --helper"),
        ("delete tcp 10.0.0.1:1 10.0.0.2:2 --helper ftp", "pass either a TUPLE or --helper"),
        ("delete --helper ftp --zone 3", "argument --zone: not allowed with --helper"),
        ("flush", "--all is required, for this deletes every expectation"),
        ("events --type update", "invalid choice: 'update'"),
        ("list --family ipv5", "unknown family 'ipv5'"),
    ],
)
def test_wrong_arguments_are_errors(line: str, message: str) -> None:
    status, out, err = run_here("expect", *line.split())
    assert (status, out) == (2, "")
    assert message in err
