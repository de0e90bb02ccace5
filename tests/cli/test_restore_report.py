"""Check the counts, problems and lines of a restore."""

from __future__ import annotations

import json

import pytest
from support import expectations, flows

from conntrack_aio import EncodeError
from conntrack_aio.cli import restore_report
from conntrack_aio.cli.output import OutputError, ReaderGone
from conntrack_aio.cli.problems import reason_of
from conntrack_aio.cli.restore_report import RestoreReport, Result, count_items
from conntrack_aio.errors import kernel_error

FULL = kernel_error(12, "create tcp a -> b", hint="The table is full")


def test_items_are_counted_in_words() -> None:
    assert count_items(0, 0) == "0 flows"
    assert count_items(1, 0) == "1 flow"
    assert count_items(0, 1) == "1 expectation"
    assert count_items(2, 3) == "2 flows and 3 expectations"


def test_a_reason_does_not_name_the_flow() -> None:
    assert reason_of(FULL) == "Cannot allocate memory (ENOMEM). The table is full"
    assert reason_of(EncodeError("is wrong", ("orig",))) == "orig: is wrong"
    assert reason_of("text") == "text"


def test_problems_are_reported_once_for_each_reason(capsys: pytest.CaptureFixture[str]) -> None:
    report = RestoreReport(json=False, quiet=False, dry_run=False)
    report.add(Result.CREATED, flows.tcp(1))
    for number in range(2, 7):
        report.fail(flows.tcp(number), FULL)
    report.fail(expectations.data_connection(expectations.ftp()), "no master")
    report.lack(flows.tcp(1), "master", "it has ended", is_failure=False)
    assert report.done == 7
    assert report.finish() == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "conntrack-aio: 5 not restored: Cannot allocate memory (ENOMEM). The table is full: "
        "tcp 10.1.0.2:40000 -> 10.2.0.1:80, tcp 10.1.0.3:40000 -> 10.2.0.1:80, "
        "tcp 10.1.0.4:40000 -> 10.2.0.1:80, …",
        "conntrack-aio: 1 not restored: no master: expectation tcp 10.0.0.1:0 -> 10.0.0.2:2050",
        "conntrack-aio: 1 created without the master: it has ended: "
        "tcp 10.1.0.1:40000 -> 10.2.0.1:80",
        "conntrack-aio: created 1 flow; failed to restore 5 flows and 1 expectation",
    ]


def test_a_missing_master_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    report = RestoreReport(json=False, quiet=True, dry_run=False)
    report.add(Result.CREATED, flows.tcp(1))
    report.lack(flows.tcp(1), "master", "it has ended", is_failure=False)
    assert report.finish() == 0
    assert capsys.readouterr().err == ""


def test_a_stopped_restore_says_so_even_if_it_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    report = RestoreReport(json=True, quiet=True, dry_run=False)
    report.add(Result.CREATED, flows.tcp(1))
    report.finish(stopped=True)
    captured = capsys.readouterr()
    assert json.loads(captured.out)["stopped"] is True
    assert captured.err == "conntrack-aio: stopped before the end: created 1 flow\n"


@pytest.mark.parametrize("error", [OutputError("full"), ReaderGone()], ids=["full", "gone"])
def test_output_that_cannot_be_written_is_reported_at_the_end(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    lines: list[object] = []

    def write(line: object) -> None:
        lines.append(line)
        raise error

    monkeypatch.setattr(restore_report, "write_line", write)
    report = RestoreReport(json=True, quiet=True, dry_run=False)
    for number in range(3):
        report.add(Result.EXISTING, flows.tcp(number))
    assert report.numbers == {"existing": 3}
    assert len(lines) == 1  # the first that failed was the last
    with pytest.raises(type(error)):
        report.finish()
    report.fail(flows.tcp(4), FULL)
    assert report.finish() == 1  # the failure counts more
