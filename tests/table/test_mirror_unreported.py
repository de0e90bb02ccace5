"""Test how the mirror finds changes that no event reports, and entries that have expired."""

from __future__ import annotations

import copy
from functools import partial

import pytest
from support.mirror_builders import (
    ChangeRecorder,
    apply,
    dump_into,
    flow,
    flows_of,
    mirror_of,
    mirror_with_new,
    tcp,
    unreported,
)

from conntrack_aio import (
    Cause,
    Counters,
    EventType,
    Flow,
    Helper,
    Status,
    TCPInfo,
    TCPState,
)
from conntrack_aio.table.discrepancies import MAX_DISCREPANCIES
from conntrack_aio.table.mirror import Mirror
from conntrack_aio.table.tuple_keys import orig_key


@pytest.mark.parametrize(
    ("found", "count"),
    [
        ([tcp()], 0),
        ([], 1),
        ([tcp(mark=5)], 1),
        ([tcp(mark=0)], 0),
        ([tcp(labels=1)], 1),
        ([tcp(labels=0)], 0),
        ([tcp(status=Status.CONFIRMED | Status.SEEN_REPLY)], 1),
        ([tcp(status=Status.CONFIRMED | Status.SEEN_REPLY | Status.ASSURED)], 1),
        ([tcp(status=Status.CONFIRMED | Status.HELPER)], 0),
        ([tcp(status=Status.CONFIRMED | Status.OFFLOAD | Status.SEEN_REPLY)], 0),
        ([tcp(status=None)], 0),
        ([tcp(protoinfo=TCPInfo(state=TCPState.CLOSE))], 1),
        ([tcp(protoinfo=TCPInfo(state=TCPState.ESTABLISHED, wscale_orig=7))], 0),
        ([tcp(protoinfo=None)], 0),
        ([tcp(timeout=7, use=3, counters_orig=Counters(packets=1))], 0),
        ([tcp(helper=Helper(name="ftp"))], 0),
        ([tcp(id=8)], 1),
        ([tcp(), flow(2, id=9)], 1),
    ],
)
def test_only_changes_that_have_events_count_as_unreported(found: list[Flow], count: int) -> None:
    """Timeouts, counters, offloading, helpers and others change without events."""
    mirror = mirror_with_new(tcp())
    dump_into(mirror, *[copy.copy(each) for each in found])
    assert unreported(mirror) == count
    assert unreported(mirror) == 0


@pytest.mark.parametrize("found", [[], [tcp(mark=5)], [tcp(id=8)], [tcp(), flow(2, id=9)]])
@pytest.mark.parametrize("kind", EventType)
def test_an_event_that_comes_later_removes_the_discrepancy(
    kind: EventType, found: list[Flow]
) -> None:
    """The event may come before the reconciliation, at any point of it, or after it."""
    for moment in ("begun", "dumped", "removed", "looked up"):
        mirror = mirror_with_new(tcp())
        reported = flow(2, id=9) if len(found) == 2 else tcp(mark=6)
        report = partial(apply, mirror, kind, reported)
        mirror.begin_dump(examine=True)
        if moment == "begun":
            report()
        for each in found:
            mirror.add_dumped(copy.copy(each))
        if moment == "dumped":
            report()
        for _ in mirror.remove_not_dumped():
            pass
        mirror.end_dump()
        if moment == "removed":
            report()
        for key, each in mirror.missing_entries().items():
            mirror.apply_verification(key, each, None)
        if moment == "looked up":
            report()
        assert unreported(mirror) == 0, moment


def test_a_discrepancy_is_not_evaluated_before_its_event_had_time() -> None:
    mirror = mirror_with_new(tcp())
    mirror.now = 5.0
    dump_into(mirror, tcp(mark=5))
    assert mirror.evaluate_discrepancies(4.9) == 0
    assert mirror.evaluate_discrepancies(5.0) == 1


def test_lost_events_remove_all_discrepancies() -> None:
    mirror = mirror_with_new(tcp(), flow(2, id=9))
    dump_into(mirror, tcp(mark=5))
    mirror.record_loss()
    assert unreported(mirror) == 0
    mirror.begin_dump(examine=True)
    mirror.record_loss()
    mirror.add_dumped(tcp(mark=6))
    for _ in mirror.remove_not_dumped():
        pass
    mirror.end_dump()
    assert unreported(mirror) == 0


def test_an_entry_that_a_look_up_finds_is_not_missing() -> None:
    """A dump leaves out expired entries, and may miss others."""
    mirror = mirror_with_new(tcp())
    dump_into(mirror)
    ((key, expected),) = mirror.missing_entries().items()
    mirror.apply_verification(key, expected, tcp())
    assert len(mirror.entries) == 1
    assert unreported(mirror) == 0


def test_an_entry_that_no_longer_matches_is_examined() -> None:
    """The kernel leaves such an entry out of a filtered dump.

    Its timeout or mark has changed. Only a changed mark has an event.
    """
    for fields, count in (({"timeout": 5}, 0), ({"mark": 7}, 1)):
        mirror = mirror_with_new(tcp(), predicate=lambda each: each.timeout == 30 and not each.mark)
        dump_into(mirror)
        ((key, expected),) = mirror.missing_entries().items()
        mirror.apply_verification(key, expected, tcp(**fields))
        assert len(mirror.entries) == 0
        assert unreported(mirror) == count


def test_a_missing_entry_is_looked_up_only_once() -> None:
    mirror = mirror_with_new(tcp())
    dump_into(mirror)
    assert len(mirror.missing_entries()) == 1
    assert not mirror.missing_entries()
    assert unreported(mirror) == 0
    assert not mirror.discrepancies


def test_older_entries_may_be_silent_according_to_the_setting() -> None:
    for emit in (False, True):
        mirror, _ = mirror_of(tcp())
        mirror.older_entries_emit = emit
        dump_into(mirror)
        assert unreported(mirror) == emit


def test_new_entries_may_be_silent_according_to_the_setting() -> None:
    mirror = mirror_with_new()
    mirror.new_entries_emit = False
    dump_into(mirror, tcp())
    assert unreported(mirror) == 0


def test_an_entry_may_come_to_match_without_an_event() -> None:
    """A predicate may depend on the timeout, which changes without an event."""
    mirror = mirror_with_new(predicate=lambda each: each.timeout == 30)
    dump_into(mirror, tcp())
    assert unreported(mirror) == 0
    dump_into(mirror, tcp(mark=5))
    assert unreported(mirror) == 0, "no event has reported the entry"
    apply(mirror, EventType.UPDATE, tcp(mark=6))
    dump_into(mirror, tcp(mark=7))
    assert unreported(mirror) == 1


def test_the_number_of_discrepancies_is_limited() -> None:
    mirror = mirror_with_new(*(flow(number, id=number) for number in range(2 * MAX_DISCREPANCIES)))
    dump_into(mirror)
    assert len(mirror.discrepancies) == MAX_DISCREPANCIES
    assert unreported(mirror) == MAX_DISCREPANCIES


# -- expired entries -------------------------------------------------------------------------


def overdue(mirror: Mirror, seconds: float) -> list[Flow]:
    """Return the entries that are overdue after some more seconds."""
    mirror.now += seconds
    mirror._expiry.start_round()
    return list(mirror.overdue(10).values())


def test_timeouts_count_from_the_last_report() -> None:
    mirror = mirror_with_new(flow(1, id=7, timeout=30), flow(2, id=8, timeout=90))
    assert overdue(mirror, 20) == []
    apply(mirror, EventType.UPDATE, flow(1, id=7, timeout=25))
    assert overdue(mirror, 20) == []
    assert [each.id for each in overdue(mirror, 20)] == [7]
    dump_into(mirror, flow(1, id=7, timeout=5), flow(2, id=8, timeout=30))
    assert overdue(mirror, 5) == []
    assert [each.id for each in overdue(mirror, 3)] == [7]
    mirror.apply_verification(orig_key(flow(1)), *[flow(1, id=7, timeout=30)] * 2)
    assert overdue(mirror, 31) == [mirror.entries.by_id(8)[0]]


def test_an_entry_without_a_timeout_is_looked_up_every_600_seconds() -> None:
    mirror = mirror_with_new(flow(1, id=7, timeout=None))
    assert overdue(mirror, 500) == []
    assert len(overdue(mirror, 500)) == 1


def test_a_scan_returns_a_limited_number_of_entries() -> None:
    mirror = mirror_with_new(*(flow(number, id=number, timeout=0) for number in range(100)))
    mirror.now += 10
    found = [mirror.overdue(30) for _ in range(4)]
    assert [len(each) for each in found] == [30, 30, 30, 10]
    assert len({key for each in found for key in each}) == 100


def test_an_ended_entry_is_removed_after_its_event_had_time() -> None:
    mirror = mirror_with_new(flow(1, id=7), flow(2, id=8), flow(3, id=9))
    recorder = ChangeRecorder(mirror)
    recorder.flows = flows_of(mirror)
    for key, each in mirror.entries.copy().items():
        mirror.apply_verification(key, each, None)
    assert len(mirror.entries) == 3
    apply(mirror, EventType.DESTROY, flow(1, id=7))
    apply(mirror, EventType.UPDATE, flow(2, id=8, timeout=90))
    assert recorder.causes == [Cause.EVENT]
    assert unreported(mirror) == 1
    assert recorder.causes == [Cause.EVENT, Cause.RECONCILED]
    assert [each.id for each in mirror.entries.flows] == [8]


def test_an_older_dump_does_not_add_an_entry_that_a_look_up_did_not_find() -> None:
    mirror = mirror_with_new(flow(1, id=7))
    for key, each in mirror.entries.copy().items():
        mirror.apply_verification(key, each, None)
    mirror.begin_dump()
    assert unreported(mirror) == 1
    mirror.add_dumped(flow(1, id=7))
    assert len(mirror.entries) == 0
    mirror.add_dumped(flow(1, id=8))
    assert [each.id for each in mirror.entries.flows] == [8]
    mirror.end_dump()


def test_a_look_up_finds_an_unreported_change() -> None:
    mirror = mirror_with_new(tcp())
    ((key, expected),) = mirror.entries.copy().items()
    mirror.apply_verification(key, expected, tcp(mark=5))
    assert [each.mark for each in mirror.entries.flows] == [5]
    assert unreported(mirror) == 1
