"""Test what the mirror does with dumped entries, and with events during a dump."""

from __future__ import annotations

import pytest
from support.mirror_builders import (
    apply,
    flow,
    mirror_of,
)

from conntrack_aio import (
    Cause,
    EventType,
    Status,
    Timestamp,
)
from conntrack_aio.table.mirror import REMOVALS_PER_TURN, Mirror


def test_an_entry_that_ended_during_the_dump_is_not_added_again() -> None:
    mirror = Mirror(None)
    mirror.begin_dump()
    apply(mirror, EventType.DESTROY, flow(1, id=7))
    mirror.add_dumped(flow(1, id=7))
    mirror.end_dump()
    assert len(mirror.entries) == 0


def test_a_newer_entry_with_the_tuple_of_an_ended_one_is_added() -> None:
    mirror = Mirror(None)
    mirror.begin_dump()
    apply(mirror, EventType.DESTROY, flow(1, id=7))
    mirror.add_dumped(flow(1, id=8))
    mirror.end_dump()
    assert [each.id for each in mirror.entries.flows] == [8]


def test_updates_are_merged_over_what_the_dump_returned() -> None:
    """Only what the events reported counts.

    What the mirror knew before may be wrong after a loss.
    """
    mirror, _ = mirror_of(flow(1, id=7, mark=1, status=Status(8)))
    mirror.begin_dump()
    apply(mirror, EventType.UPDATE, flow(1, id=7, status=Status(12)))
    mirror.add_dumped(flow(1, id=7, mark=2, status=Status(8)))
    mirror.end_dump()
    (merged,) = mirror.entries.flows
    assert (merged.mark, merged.status) == (2, Status(12))


def test_an_entry_that_is_created_again_behind_the_dump_is_not_removed() -> None:
    mirror, _ = mirror_of(flow(1, id=7))
    mirror.begin_dump()
    apply(mirror, EventType.DESTROY, flow(1, id=7))
    apply(mirror, EventType.NEW, flow(1, id=7))
    assert list(mirror.remove_not_dumped()) == []
    mirror.end_dump()
    assert len(mirror.entries) == 1


def test_the_end_of_another_entry_does_not_keep_one_that_the_dump_lacks() -> None:
    """The stored entry may be older than the lost events."""
    mirror, _ = mirror_of(flow(1, id=7))
    mirror.begin_dump()
    apply(mirror, EventType.DESTROY, flow(1, id=8))
    assert list(mirror.remove_not_dumped()) == []
    mirror.end_dump()
    assert len(mirror.entries) == 0


def test_a_look_up_is_newer_than_the_dump() -> None:
    mirror, _ = mirror_of(flow(1, id=7))
    mirror.begin_dump()
    apply(mirror, EventType.UPDATE, flow(1, id=8))
    ((key, _),) = mirror.unresolved.items()
    mirror.resolve(key, None)
    mirror.add_dumped(flow(1, id=8))
    mirror.end_dump()
    assert len(mirror.entries) == 0


def test_an_updated_entry_that_the_dump_lacks_is_unresolved() -> None:
    mirror, _ = mirror_of()
    mirror.begin_dump()
    apply(mirror, EventType.UPDATE, flow(1, id=8))
    assert not mirror.unresolved
    mirror.end_dump()
    assert mirror.unresolved


def test_all_entries_that_ended_during_the_dump_are_ignored() -> None:
    """The dump may have read the first of them long before."""
    mirror, _ = mirror_of(flow(1, id=7))
    mirror.begin_dump()
    apply(mirror, EventType.DESTROY, flow(1, id=7))
    apply(mirror, EventType.NEW, flow(1, id=8))
    apply(mirror, EventType.DESTROY, flow(1, id=8))
    mirror.add_dumped(flow(1, id=7))
    mirror.end_dump()
    assert len(mirror.entries) == 0


@pytest.mark.parametrize("ends", [10, 1000])
def test_any_number_of_entries_that_ended_during_the_dump_are_ignored(ends: int) -> None:
    mirror, _ = mirror_of()
    mirror.begin_dump()
    for id in range(ends):
        apply(mirror, EventType.NEW, flow(1, id=id))
        apply(mirror, EventType.DESTROY, flow(1, id=id))
    for id in range(ends):
        mirror.add_dumped(flow(1, id=id))
    mirror.end_dump()
    assert len(mirror.entries) == 0


@pytest.mark.parametrize("ends", [64, 65, 640])
def test_64_ended_ids_per_tuple_are_recorded_separately(ends: int) -> None:
    """Beyond 64, each entry of the dump with that tuple counts as ended.

    If it exists, the next dump adds it.
    """
    mirror, _ = mirror_of()
    mirror.begin_dump()
    for number in range(ends):
        apply(mirror, EventType.NEW, flow(1, id=number))
        apply(mirror, EventType.DESTROY, flow(1, id=number))
    assert mirror._dump is not None
    (reported,) = mirror._dump.reported.values()
    assert len(reported.ended_ids) <= 64
    mirror.add_dumped(flow(1, id=0))
    assert len(mirror.entries) == 0
    mirror.add_dumped(flow(1, id=ends))
    assert len(mirror.entries) == (ends == 64)
    mirror.end_dump()


def test_a_new_entry_with_the_id_of_an_ended_one_has_none_of_its_fields() -> None:
    mirror, _ = mirror_of()
    mirror.begin_dump()
    apply(mirror, EventType.DESTROY, flow(1, id=7))
    apply(mirror, EventType.NEW, flow(1, id=7))
    mirror.add_dumped(flow(1, id=7, mark=5, labels=1, timestamp=Timestamp(start=1)))
    mirror.end_dump()
    (found,) = mirror.entries.flows
    assert (found.mark, found.labels, found.timestamp) == (0, None, None)
    assert not mirror.unresolved


def test_labels_cleared_during_the_dump_stay_cleared() -> None:
    mirror, _ = mirror_of(flow(1, id=7, labels=1))
    mirror.begin_dump()
    apply(mirror, EventType.UPDATE, flow(1, id=7), port_id=77)
    ((key, _),) = mirror.unresolved.items()
    mirror.unresolved.clear()
    mirror.resolve(key, flow(1, id=7))
    mirror.add_dumped(flow(1, id=7, labels=1))
    mirror.end_dump()
    assert [each.labels for each in mirror.entries.flows] == [None]


def test_an_entry_whose_labels_an_update_may_have_cleared_is_unresolved() -> None:
    mirror, _ = mirror_of()
    mirror.begin_dump()
    apply(mirror, EventType.UPDATE, flow(1, id=7), port_id=77)
    mirror.add_dumped(flow(1, id=7, labels=1))
    assert mirror.unresolved


def test_an_update_that_is_queued_behind_the_destroy_event() -> None:
    """Another processor may queue it there.

    The dump may return the entry if it read the entry before.
    """
    mirror = Mirror(None)
    mirror.begin_dump()
    apply(mirror, EventType.DESTROY, flow(1, id=7))
    apply(mirror, EventType.UPDATE, flow(1, id=7))
    ((key, _),) = mirror.unresolved.items()
    mirror.add_dumped(flow(1, id=7))
    mirror.resolve(key, None)
    mirror.end_dump()
    assert len(mirror.entries) == 0
    assert not mirror.unresolved or mirror.unresolved.keys() == {key}


def test_an_entry_that_comes_to_match_during_the_dump_is_added() -> None:
    """Events since the beginning of the dump reported all fields. So no look-up is needed."""
    mirror, recorder = mirror_of(predicate=lambda each: each.mark == 1)
    mirror.begin_dump()
    apply(mirror, EventType.NEW, flow(1, id=7))
    mirror.add_dumped(flow(1, id=7))
    apply(mirror, EventType.UPDATE, flow(1, id=7, mark=1))
    mirror.end_dump()
    assert [each.mark for each in mirror.entries.flows] == [1]
    assert recorder.causes == [Cause.EVENT]


def test_start_times_distinguish_entries_with_the_same_id() -> None:
    mirror, recorder = mirror_of(flow(1, id=7, timestamp=Timestamp(start=1)))
    mirror.begin_dump()
    mirror.add_dumped(flow(1, id=7, timestamp=Timestamp(start=2)))
    mirror.end_dump()
    assert recorder.causes == [Cause.REPLACED, Cause.RECONCILED]


def test_removing_entries_lets_other_tasks_run() -> None:
    mirror, recorder = mirror_of(
        *(flow(number, id=number) for number in range(3 * REMOVALS_PER_TURN))
    )
    mirror.begin_dump()
    assert sum(1 for _ in mirror.remove_not_dumped()) == 3
    mirror.end_dump()
    assert len(mirror.entries) == 0
    assert set(recorder.causes) == {Cause.RECONCILED}
