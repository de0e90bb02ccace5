"""Test how changes of many flows are counted and reported."""

from __future__ import annotations

import errno

import anyio
import pytest
from support.command import run_here

from conntrack_aio import EncodeError, Flow, Match, NoReply, NotFound, Outcome, PermissionDenied
from conntrack_aio.cli.bulk_changes import Tally, change_matching
from conntrack_aio.testing import FakeKernel

FLOWS = [Flow.udp("10.0.0.1", port, "10.1.0.1", 53, timeout=600) for port in range(1, 5)]
UDP = Match(proto="udp")


def test_flows_that_ended_and_failures_are_counted_and_failures_reported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tally = Tally("deleted")
    assert not tally
    outcomes = [
        Outcome(FLOWS[0]),
        Outcome(FLOWS[1], NotFound(errno.ENOENT, "delete it")),
        Outcome(FLOWS[2], PermissionDenied(errno.EPERM, "delete udp 10.0.0.1:3")),
        Outcome(FLOWS[3], EncodeError("must be a number", ("mark",))),
    ]
    assert tally.count(outcomes) == [FLOWS[0]]
    assert str(tally) == "1 flow deleted, 1 ended before, 2 failed"
    assert capsys.readouterr().err == ""
    tally.report_failures()
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("conntrack-aio: 1 not deleted: Operation not permitted (EPERM). ")
    assert first.endswith(f": {FLOWS[2].orig}")
    assert second == f"conntrack-aio: 1 not deleted: mark: must be a number: {FLOWS[3].orig}"
    tally.report_failures()
    assert capsys.readouterr().err == ""


def test_failures_are_grouped_by_reason_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally("updated")
    for number in range(20):
        flow = Flow.udp("10.0.0.1", number, "10.1.0.1", 53, timeout=600, zone=7)
        error = PermissionDenied(errno.EPERM, f"update {flow.orig}", hint="No.")
        tally.count([Outcome(flow, error)])
    tally.report_failures()
    names = ", ".join(f"udp 10.0.0.1:{number} -> 10.1.0.1:53 zone=7" for number in range(3))
    assert capsys.readouterr().err == (
        f"conntrack-aio: 20 not updated: Operation not permitted (EPERM). No.: {names}, …\n"
    )
    assert tally.numbers == {"updated": 0, "skipped": 0, "ended": 0, "failed": 20}


def test_an_ignored_error_counts_as_done(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally("updated", ignores=lambda error: isinstance(error, NoReply))
    done = tally.count([Outcome(FLOWS[0], NoReply("no reply"))])
    assert done == [FLOWS[0]]
    assert str(tally) == "1 flow updated"
    tally.report_failures()
    assert capsys.readouterr().err == ""


def test_a_cancellation_stops_further_changes_and_reports_what_was_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flows = [Flow.udp("10.0.0.1", port, "10.1.0.1", 53, timeout=600) for port in range(1, 1801)]
    kernel = FakeKernel(flows=flows)

    async def main() -> None:
        tally = Tally("deleted")
        async with kernel.connect() as conn:
            with anyio.CancelScope() as scope:
                await change_matching(conn, UDP, conn.delete_many, tally, lambda _: scope.cancel())
            assert scope.cancelled_caught
        assert 0 < tally.done == 1800 - len(kernel.flows) < 1800
        assert capsys.readouterr().err == f"conntrack-aio: not finished: {tally}\n"

    anyio.run(main)


def test_a_failure_reports_what_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    kernel = FakeKernel(flows=FLOWS)

    def fail(done: list[Flow]) -> None:
        raise ValueError(len(done))

    async def main() -> None:
        async with kernel.connect() as conn:
            with pytest.raises(ValueError, match="4"):
                await change_matching(conn, UDP, conn.delete_many, Tally("deleted"), fail)

    anyio.run(main)
    assert capsys.readouterr().err == "conntrack-aio: not finished: 4 flows deleted\n"


def test_a_failed_dump_is_no_half_finished_change() -> None:
    kernel = FakeKernel(flows=FLOWS)
    kernel.refuse(errno.EPERM, "dump")
    with kernel.installed():
        status, out, err = run_here("delete", "proto", "udp")
    assert (status, out) == (1, "")
    assert "EPERM" in err
    assert "not finished" not in err
    assert len(kernel.flows) == 4


@pytest.mark.parametrize(
    ("verb", "arguments", "summary"),
    [
        ("delete", ("proto", "udp"), "conntrack-aio: 3 flows deleted, 1 failed"),
        ("update", ("proto", "udp", "--mark", "1"), "conntrack-aio: 3 flows updated, 1 failed"),
    ],
)
def test_a_refused_flow_is_named_and_the_others_are_changed(
    verb: str, arguments: tuple[str, ...], summary: str
) -> None:
    kernel = FakeKernel(flows=FLOWS)
    kernel.refuse(errno.EBUSY, verb)
    with kernel.installed():
        status, _, err = run_here(verb, *arguments)
    assert status == 1
    failure, *_, last = err.splitlines()
    assert failure.startswith(f"conntrack-aio: 1 not {verb}d: ")
    assert "EBUSY" in failure
    assert ": udp 10.0.0.1:" in failure
    assert last == summary
