"""Test what flow records say, from events and readings of the table that the tests make up."""

from __future__ import annotations

import attrs
import pytest

from conntrack_aio import Counters, EventType, Flow, FlowEvent, TCPState, Timestamp
from conntrack_aio.export.flow_accounts import FlowAccounts
from conntrack_aio.export.records import EndReason, FlowRecord, Traffic


def flow(packets: int | None, number: int = 1, **changes: object) -> Flow:
    """Return a flow that has passed packets of 100 bytes, half as many of them in reply."""
    counted = packets is not None
    return attrs.evolve(
        Flow.tcp("10.0.0.1", number, "10.0.0.2", 80, timeout=60, state=TCPState.ESTABLISHED),
        id=number,
        counters_orig=Counters(packets=packets, bytes=100 * (packets or 0)) if counted else None,
        counters_reply=Counters(packets=(packets or 0) // 2, bytes=50 * (packets or 0))
        if counted
        else None,
        **changes,
    )


def new(flow: Flow) -> FlowEvent:
    return FlowEvent(type=EventType.NEW, flow=flow)


def destroy(flow: Flow, port_id: int = 0) -> FlowEvent:
    return FlowEvent(type=EventType.DESTROY, flow=flow, port_id=port_id)


def accounts(*, active: bool = True, resets: bool = False) -> FlowAccounts:
    """Return accounts after the first reading, of an empty table, at the time 0."""
    result = FlowAccounts(active=active, resets=resets)
    read(result, 0)
    return result


def read(accounts: FlowAccounts, time: int, *flows: Flow) -> list[FlowRecord]:
    """Read a table, and return the records."""
    accounts.begin_reading()
    records = [record for each in flows if (record := accounts.read(each, time)) is not None]
    return [*records, *accounts.end_reading()]


def packets(*records: FlowRecord) -> list[int | None]:
    return [None if record.orig is None else record.orig.packets for record in records]


def test_a_flow_that_ends_has_one_record() -> None:
    known = accounts()
    known.began(new(flow(None)), 5)
    record = known.ended(destroy(flow(10)), 50)
    assert (record.orig, record.reply) == (
        Traffic(packets=10, bytes=1000),
        Traffic(packets=5, bytes=500),
    )
    assert (record.start, record.since, record.until, record.duration) == (5, 5, 50, 45)
    assert record.is_final
    assert record.exact
    assert len(known) == 0


def test_the_records_of_a_flow_that_lives_on_add_up() -> None:
    known = accounts()
    known.began(new(flow(None)), 5)
    (first,) = read(known, 10, flow(4))
    assert read(known, 20, flow(4)) == []  # nothing has passed
    (second,) = read(known, 30, flow(9))
    last = known.ended(destroy(flow(12)), 35)
    assert packets(first, second, last) == [4, 5, 3]
    assert [each.since for each in (first, second, last)] == [5, 10, 30]
    assert [each.until for each in (first, second, last)] == [10, 30, 35]
    assert [each.reason for each in (first, second)] == [EndReason.ACTIVE] * 2
    assert {each.start for each in (first, second, last)} == {5}


def test_what_passed_before_the_first_reading_is_in_no_record() -> None:
    known = FlowAccounts(active=True, resets=False)
    assert read(known, 10, flow(100)) == []
    (record,) = read(known, 20, flow(103))
    assert packets(record, known.ended(destroy(flow(105)), 30)) == [3, 2]
    assert (record.start, record.since) == (None, 10)


def test_the_kernels_times_are_those_of_the_record() -> None:
    known = FlowAccounts(active=True, resets=False)
    read(known, 10, flow(1, timestamp=Timestamp(start=3)))
    record = known.ended(destroy(flow(2, timestamp=Timestamp(start=3, stop=40))), 99)
    assert (record.start, record.since, record.until, record.duration) == (3, 10, 40, 37)


def test_a_flow_whose_first_event_was_lost_is_counted_from_its_start() -> None:
    record = accounts().ended(destroy(flow(7)), 50)
    assert packets(record) == [7]
    assert (record.start, record.since) == (None, None)


def test_counters_that_another_program_has_reset_are_what_passed_since() -> None:
    known = accounts()
    read(known, 10, flow(50))
    assert packets(*read(known, 20, flow(3))) == [3]
    assert packets(known.ended(destroy(flow(4)), 30)) == [1]


def test_without_counters_there_is_no_traffic() -> None:
    known = accounts()
    assert read(known, 10, flow(None)) == []
    record = known.ended(destroy(flow(None)), 30)
    assert (record.orig, record.reply) == (None, None)


def test_without_an_active_timeout_only_ends_have_records() -> None:
    known = accounts(active=False)
    assert read(known, 10, flow(4)) == read(known, 20, flow(9)) == []
    assert packets(known.ended(destroy(flow(12)), 30)) == [12]


@pytest.mark.parametrize("active", [True, False])
def test_a_flow_that_ends_without_an_event_is_counted_up_to_the_last_reading(active: bool) -> None:
    known = accounts(active=active)
    records = [*read(known, 10, flow(4)), *read(known, 20, flow(9))]
    assert read(known, 30) == []  # its event may still come
    (last,) = read(known, 40)
    assert sum(number or 0 for number in packets(*records, last)) == 9
    assert (last.until, last.exact, last.reason) == (20, False, EndReason.UNKNOWN)
    assert len(known) == 0


def test_an_event_that_comes_after_a_reading_without_the_flow_is_its_end() -> None:
    known = accounts()
    read(known, 10, flow(4))
    read(known, 20)
    record = known.ended(destroy(flow(6)), 25)
    assert (packets(record), record.exact) == ([2], True)
    assert read(known, 30) == read(known, 40) == []


def test_a_dump_that_still_has_an_ended_flow_counts_nothing_twice() -> None:
    known = accounts()
    read(known, 10, flow(4))
    known.begin_reading()
    assert packets(known.ended(destroy(flow(6)), 25)) == [2]
    assert known.read(flow(5), 26) is None
    assert list(known.end_reading()) == []
    assert len(known) == 0


def test_another_flow_with_the_tuple_of_an_ended_one_is_counted_by_itself() -> None:
    known = accounts()
    known.began(new(flow(None)), 5)
    known.ended(destroy(flow(6)), 25)
    again = attrs.evolve(flow(3), id=2)
    known.began(new(again), 30)
    assert packets(known.ended(destroy(again), 40)) == [3]


def test_with_resets_each_reading_is_what_passed() -> None:
    known = accounts(resets=True)
    known.began(new(flow(None)), 5)
    assert packets(*read(known, 10, flow(4)), *read(known, 20, flow(4))) == [4, 4]
    assert packets(known.ended(destroy(flow(2)), 30)) == [2]


def test_with_resets_what_a_dump_has_counted_of_an_ended_flow_is_not_lost() -> None:
    known = accounts(resets=True)
    known.begin_reading()
    assert packets(known.ended(destroy(flow(6)), 25)) == [6]
    record = known.read(flow(5), 26)
    assert record is not None
    assert packets(record) == [5]
    assert list(known.end_reading()) == []
    assert len(known) == 0


@pytest.mark.parametrize("resets", [True, False])
def test_a_silent_end_reports_nothing_twice(resets: bool) -> None:
    known = accounts(resets=resets)
    known.began(new(flow(None)), 5)
    first = read(known, 10, flow(4))
    last = [*read(known, 20), *read(known, 30)]
    assert sum(number or 0 for number in packets(*first, *last)) == 4
