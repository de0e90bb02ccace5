"""Test the subcommand ``update``. The kernel's table shows what it has changed."""

from __future__ import annotations

import json
import re

import attrs
import pytest
from support.command import COMMAND, count, create, run, run_here, table
from support.lab import Lab
from support.terminal import Terminal

from conntrack_aio import Flow, Helper, SeqAdj, Status, SynProxy, TCPInfo, TCPState
from conntrack_aio.cli.confirmation import MOST_UNASKED

pytestmark = pytest.mark.kernel

TCP = Flow.tcp("10.0.0.1", 1000, "10.1.0.1", 80, timeout=600, mark=0x11)
UDP = Flow.udp("fd00::1", 1000, "fd00::2", 53, timeout=600, mark=0x22)
UPDATED = "conntrack-aio: 1 flow updated\n"
USES_LABELS = "table inet t {\nchain c {\nct label set 1\n}\n}\n"


def updated(lab: Lab, flow: Flow, *arguments: str) -> Flow:
    """Update a flow by its mark, and return it as the kernel then has it."""
    match = f"mark {flow.mark:#x}"
    assert run(lab, "update", match, *arguments) == (0, "", UPDATED)
    return table(lab)[str(flow.orig)]


def test_only_the_flows_that_match_change_and_only_in_the_given_field(lab: Lab) -> None:
    create(lab, TCP, UDP)
    before = table(lab)
    after = updated(lab, TCP, "--mark", "7")
    assert after.mark == 7
    assert table(lab)[str(UDP.orig)].mark == UDP.mark
    assert (after.id, after.status) == (before[str(TCP.orig)].id, before[str(TCP.orig)].status)
    assert after.protoinfo == before[str(TCP.orig)].protoinfo


def test_a_mask_keeps_the_other_bits_of_the_mark(lab: Lab) -> None:
    create(lab, TCP)
    assert updated(lab, TCP, "--mark", "0x20/0xf0").mark == 0x21


def test_timeout_status_and_state(lab: Lab) -> None:
    create(lab, TCP)
    arguments = ("--timeout", "2h", "--status", "assured,seen_reply", "--state", "fin_wait")
    flow = updated(lab, TCP, *arguments)
    assert flow.timeout is not None
    assert 7000 < flow.timeout <= 7200
    assert flow.status is not None
    assert flow.status & Status.ASSURED
    assert flow.status & Status.SEEN_REPLY
    assert isinstance(flow.protoinfo, TCPInfo)
    assert flow.protoinfo.state is TCPState.FIN_WAIT


def test_objects_are_written_as_json(lab: Lab) -> None:
    create(lab, TCP)
    flow = updated(
        lab,
        TCP,
        *("--protoinfo", '{"kind": "tcp", "state": "CLOSE_WAIT"}'),
        *("--synproxy", '{"isn": 1, "its": 2, "tsoff": 3}'),
        *("--seqadj-orig", '{"correction_pos": 4, "offset_before": -5, "offset_after": 6}'),
        *("--seqadj-reply", '{"correction_pos": 7, "offset_before": 8, "offset_after": 9}'),
    )
    assert isinstance(flow.protoinfo, TCPInfo)
    assert flow.protoinfo.state is TCPState.CLOSE_WAIT
    assert flow.synproxy == SynProxy(isn=1, its=2, tsoff=3)
    assert flow.seqadj_orig == SeqAdj(correction_pos=4, offset_before=-5, offset_after=6)
    assert flow.seqadj_reply == SeqAdj(correction_pos=7, offset_before=8, offset_after=9)


@pytest.mark.program("nft", "nftables")
def test_labels_are_set_added_removed_and_cleared(lab: Lab) -> None:
    lab.program("nft", "-f", "-", input=USES_LABELS)
    create(lab, TCP)
    assert updated(lab, TCP, "--labels", "1,2,127").labels == 1 << 1 | 1 << 2 | 1 << 127
    flow = updated(lab, TCP, "--add-label", "3", "--add-label", "4", "--remove-label", "2")
    assert flow.labels == 1 << 1 | 1 << 3 | 1 << 4 | 1 << 127
    assert updated(lab, TCP, "--labels", "5").labels == 1 << 5
    assert updated(lab, TCP, "--clear-labels").labels in (None, 0)


def test_to_clear_labels_succeeds_without_room_for_labels_and_to_set_them_fails(lab: Lab) -> None:
    create(lab, TCP, UDP)
    updated(lab, TCP, "--remove-label", "3")
    status, out, err = run(lab, "update", "all", "--add-label", "3")
    assert (status, out) == (1, "")
    *failures, summary = err.splitlines()
    assert summary == "conntrack-aio: 0 flows updated, 2 failed"
    for flow in (TCP, UDP):
        assert any(str(flow.orig) in line and "ENOSPC" in line for line in failures)


def test_a_helper_is_detached(lab: Lab) -> None:
    flow = Flow.tcp("10.0.0.1", 1000, "10.1.0.1", 21, timeout=600, mark=9)
    flow.helper = Helper(name="ftp")
    create(lab, flow)
    assert table(lab)[str(flow.orig)].helper == Helper(name="ftp")
    assert updated(lab, flow, "--no-helper").helper is None


def test_a_state_changes_only_in_flows_of_its_protocol(lab: Lab) -> None:
    create(lab, TCP, UDP)
    ran = run(lab, "update", "all", "--state", "close", "--dry-run")
    assert ran.err == "conntrack-aio: 1 flow would be updated\n"
    summary = "1 flow updated, 1 skipped: only flows of tcp have this state"
    for option in (("--state", "close"), ("--protoinfo", '{"kind": "tcp", "state": "CLOSE"}')):
        ran = run(lab, "update", "all", *option)
        assert ran == (0, "", f"conntrack-aio: {summary}\n")
    protoinfo = table(lab)[str(TCP.orig)].protoinfo
    assert isinstance(protoinfo, TCPInfo)
    assert protoinfo.state is TCPState.CLOSE
    status, out, err = run(lab, "update", "--tuple", str(UDP.orig), "--state", "close")
    assert (status, out) == (2, "")
    assert "argument --state: only flows of tcp have this" in err
    status, out, err = run(lab, "update", "proto udp", "--state", "close")
    assert (status, out) == (0, "")
    assert err.startswith("conntrack-aio: 0 flows updated, 1 skipped: ")


def test_failures_are_grouped_by_reason_and_name_the_options(lab: Lab) -> None:
    with_helper = Flow.tcp("10.0.0.1", 1000, "10.1.0.1", 21, timeout=600)
    with_helper.helper = Helper(name="ftp")
    create(lab, TCP, UDP, with_helper)
    status, out, err = run(lab, "update", "all", "--helper", "irc", "--json")
    assert (status, json.loads(out)) == (1, {"updated": 0, "skipped": 0, "ended": 0, "failed": 3})
    *failures, summary = sorted(err.splitlines(), key=lambda line: "flows updated" in line)
    assert summary == "conntrack-aio: 0 flows updated, 3 failed"
    assert sorted(line.split(": ")[1] for line in failures) == ["1 not updated", "2 not updated"]
    assert "cannot be replaced, only detached, with --no-helper. " in err


def test_the_numbers_are_an_object_of_json(lab: Lab) -> None:
    create(lab, TCP, UDP)
    status, out, err = run(lab, "update", "all", "--mark", "3", "--json")
    assert (status, err) == (0, "conntrack-aio: 2 flows updated\n")
    assert json.loads(out) == {"updated": 2, "skipped": 0, "ended": 0, "failed": 0}
    ran = run(lab, "update", "--tuple", str(TCP.orig), "--mark", "3", "--json", "--quiet")
    assert json.loads(ran.out)["updated"] == 1
    assert ran.err == ""


def test_a_dry_run_prints_the_flows_and_changes_none(lab: Lab) -> None:
    create(lab, TCP, UDP)
    status, out, err = run(lab, "update", "--dry-run", "mark 0x11", "--mark", "3")
    assert (status, err) == (0, "conntrack-aio: 1 flow would be updated\n")
    assert out.startswith("tcp ESTABLISHED 10.0.0.1:1000 -> 10.1.0.1:80 ")
    assert table(lab)[str(TCP.orig)].mark == 0x11


def test_a_tuple_selects_one_entry(lab: Lab) -> None:
    create(lab, TCP, UDP)
    assert run(lab, "update", "--tuple", str(TCP.reply), "--mark", "3") == (0, "", UPDATED)
    assert {flow.mark for flow in table(lab).values()} == {3, UDP.mark}
    status, out, err = run(lab, "update", "--tuple", "tcp 10.9.9.9:1 10.9.9.8:2", "--mark", "3")
    assert (status, out) == (1, "")
    assert err == (
        "conntrack-aio: no entry has the tuple tcp 10.9.9.9:1 -> 10.9.9.8:2 in either direction, "
        "in zone 0\n"
    )
    assert run(lab, "update", "--quiet", "--tuple", str(TCP.orig), "--remove-label", "1") == (
        0,
        "",
        "",
    )


def test_a_line_of_list_and_a_zone_select_one_entry(lab: Lab) -> None:
    in_zone = attrs.evolve(TCP, zone=3)
    create(lab, TCP, in_zone)
    (line,) = run(lab, "list", "zone", "3").out.splitlines()
    assert run(lab, "update", "--tuple", line, "--mark", "3") == (0, "", UPDATED)
    tuple_ = ("--tuple", str(TCP.orig))
    assert run(lab, "update", *tuple_, "--zone", "3", "--timeout", "9") == (0, "", UPDATED)
    (line,) = run(lab, "list", "zone", "3").out.splitlines()
    assert re.search(r"timeout=\d mark=0x3 zone=3$", line)
    assert run(lab, "count", f"mark {TCP.mark}").out == "1\n"
    err = run(lab, "update", *tuple_, "--zone", "4", "--mark", "3").err
    assert err.endswith("in zone 4; zones 0, 3 have one: --zone 0\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mark 1", "nothing to change; pass at least one of the fields"),
        ("--mark 1", "a MATCH or --tuple is required; the MATCH `all` selects every flow"),
        ("all --labels 1 --add-label 2", "argument --add-label: not allowed with --labels"),
        ("all --labels 0 --clear-labels", "argument --clear-labels: not allowed with --labels"),
        ("all --add-label 2 --remove-label 2", "a label cannot be added and removed"),
        ("all --helper ftp --no-helper", "argument --no-helper: not allowed with --helper"),
        ("all --helper-info 00", "argument --helper-info: needs --helper NAME"),
        ("all --helper=", "argument --helper: the name is empty"),
        ('all --state close --protoinfo {"kind":"tcp"}', "not allowed with --state"),
        ("all --mark 3/1", "invalid mark '3/1'; it has bits beside its mask"),
    ],
)
def test_wrong_arguments_are_errors_before_anything_is_changed(line: str, message: str) -> None:
    status, out, err = run_here("update", *line.split())
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].endswith(message)


def test_an_empty_match_changes_nothing_and_no_advice_leads_to_every_flow() -> None:
    status, out, err = run_here("update", "", "--mark", "4")
    assert (status, out) == (2, "")
    assert err.endswith("the match is empty; `update` requires one, so nothing was changed\n")
    assert "all" not in err.splitlines()[-1]


@pytest.mark.parametrize(("answer", "status", "marks"), [("y\n", 0, {6}), ("n\n", 1, {5})])
def test_at_a_terminal_it_asks_before_it_changes_many(
    lab: Lab, answer: str, status: int, marks: set[int]
) -> None:
    number = MOST_UNASKED + 1
    create(
        lab,
        *(Flow.udp(f"10.2.0.{i}", 1, "10.1.0.1", 53, timeout=600, mark=5) for i in range(number)),
    )
    with Terminal(lab, *COMMAND, "update", "mark 5", "--mark", "6") as terminal:
        terminal.wait_for(f"conntrack-aio: update {number} flows? [y/N] ")
        terminal.type(answer)
        assert terminal.wait() == status
        last = "nothing was updated" if status else f"{number} flows updated"
        assert terminal.output.endswith(f"conntrack-aio: {last}\n")
    assert {flow.mark for flow in table(lab).values()} == marks
    assert count(lab) == number
