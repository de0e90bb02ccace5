"""Test what the mirror does with events and look-ups while no dump is in progress."""

from __future__ import annotations

import copy

import attrs
from support.mirror_builders import (
    apply,
    flow,
    flows_by_id,
    mirror_of,
)

from conntrack_aio import (
    Cause,
    EventType,
    Flow,
    Helper,
    Status,
    UnknownAttribute,
)

# -- creation and end ------------------------------------------------------------------------


def test_a_new_event_replaces_a_silent_entry_with_the_same_tuple_and_id() -> None:
    """No event reported the end of the old entry. But a new entry cannot be the stored one."""
    mirror, recorder = mirror_of(flow(1, id=7, mark=5))
    assert mirror.without_events.keys() == mirror.entries.copy().keys()
    apply(mirror, EventType.NEW, flow(1, id=7))
    assert recorder.causes == [Cause.REPLACED, Cause.EVENT]
    assert [each.mark for each in mirror.entries.flows] == [0]
    assert not mirror.without_events


def test_a_repeated_new_event_does_not_replace_the_entry() -> None:
    """The kernel repeats events that it could not deliver to a reliable listener."""
    mirror, recorder = mirror_of()
    mirror.caught_up = True
    apply(mirror, EventType.NEW, flow(1, id=7))
    apply(mirror, EventType.NEW, flow(1, id=7, mark=5))
    assert recorder.causes == [Cause.EVENT, Cause.EVENT]
    assert [each.mark for each in mirror.entries.flows] == [5]
    assert [each.mark for each in recorder.flows.values()] == [5]


def test_an_event_of_another_entry_does_not_count_as_heard() -> None:
    mirror, _ = mirror_of(flow(1, id=7))
    apply(mirror, EventType.UPDATE, flow(1, id=6))
    apply(mirror, EventType.DESTROY, flow(1, id=6))
    assert mirror.without_events.keys() == mirror.entries.copy().keys()
    apply(mirror, EventType.UPDATE, flow(1, id=7))
    assert not mirror.without_events


def test_a_late_destroy_event_does_not_remove_the_next_entry() -> None:
    """For a reliable listener the kernel retries a destroy event until it can deliver it."""
    mirror, recorder = mirror_of(flow(1, id=8))
    apply(mirror, EventType.DESTROY, flow(1, id=7))
    assert len(mirror.entries) == 1
    assert not recorder.causes


def test_a_dying_entry_counts_as_ended() -> None:
    """The kernel sends the destroy event before it removes the entry from its table."""
    dying = flow(1, id=7, status=Status.CONFIRMED | Status.DYING)
    mirror, _ = mirror_of(copy.copy(dying))
    assert len(mirror.entries) == 0
    apply(mirror, EventType.UPDATE, flow(1, id=7))
    ((key, _),) = mirror.unresolved.items()
    mirror.resolve(key, dying)
    assert len(mirror.entries) == 0


def test_an_unresolved_entry_that_ended_is_not_looked_up() -> None:
    mirror, _ = mirror_of()
    apply(mirror, EventType.UPDATE, flow(1, id=7))
    apply(mirror, EventType.DESTROY, flow(1, id=7))
    assert not mirror.unresolved


def test_another_translation_means_another_entry() -> None:
    """The new entry may have the same tuple and the same place in memory, and so the same id."""

    def translated(port: int) -> Flow:
        created = flow(1, id=7)
        created.reply = attrs.evolve(created.reply, dport=port)
        return created

    mirror, recorder = mirror_of(translated(5000))
    apply(mirror, EventType.NEW, translated(5001))
    assert recorder.causes == [Cause.REPLACED, Cause.EVENT]
    mirror.begin_dump()
    mirror.add_dumped(translated(5002))
    assert recorder.causes[2:] == [Cause.REPLACED, Cause.RECONCILED]
    assert mirror.entries.by_reply(translated(5001).reply, 0) is None
    assert mirror.entries.by_reply(translated(5002).reply, 0) in mirror.entries.flows


def test_another_zone_means_another_entry() -> None:
    """This holds also if the original tuple has a zone of its own."""

    def zoned(**fields: object) -> Flow:
        created = flow(1, **fields)
        created.orig = attrs.evolve(created.orig, zone=3)
        created.reply = attrs.evolve(created.reply, dport=5000)
        return created

    mirror, recorder = mirror_of(zoned(id=7, zone=1))
    apply(mirror, EventType.NEW, zoned(id=7, zone=2))
    assert recorder.causes == [Cause.REPLACED, Cause.EVENT]
    apply(mirror, EventType.DESTROY, zoned(id=7, zone=2))
    assert mirror.entries.by_reply(zoned().reply, 1) is None


def test_a_new_event_without_a_mark_means_mark_zero() -> None:
    mirror, recorder = mirror_of(predicate=lambda each: each.mark == 0)
    apply(mirror, EventType.NEW, flow(1, id=7))
    mirror.begin_dump()
    apply(mirror, EventType.NEW, flow(2, id=8, mark=1))
    apply(mirror, EventType.NEW, flow(2, id=9))
    assert [each.mark for each in mirror.entries.flows] == [0, 0]
    assert recorder.causes == [Cause.EVENT] * 2


# -- updates ---------------------------------------------------------------------------------


def test_an_update_of_an_unknown_entry_is_unresolved() -> None:
    mirror, recorder = mirror_of()
    apply(mirror, EventType.UPDATE, flow(1, id=7))
    ((key, _),) = mirror.unresolved.items()
    assert not recorder.causes
    mirror.resolve(key, flow(1, id=7, mark=3))
    assert [each.mark for each in mirror.entries.flows] == [3]
    assert recorder.causes == [Cause.RECONCILED]


def test_a_look_up_that_finds_the_reply_tuple_of_another_entry_is_ignored() -> None:
    """The kernel finds an entry by either tuple."""
    mirror, recorder = mirror_of()
    apply(mirror, EventType.UPDATE, flow(1, id=7))
    ((key, _),) = mirror.unresolved.items()
    backwards = Flow.udp("10.0.0.2", 53, "10.0.0.1", 1, timeout=30)
    backwards.id = 8
    mirror.resolve(key, backwards)
    assert len(mirror.entries) == 0
    assert recorder.causes == []


def test_updates_are_merged_over_the_known_state() -> None:
    mirror, _ = mirror_of(flow(1, id=7, mark=3, labels=1, use=1))
    apply(mirror, EventType.UPDATE, flow(1, id=7, status=Status.ASSURED, labels=1))
    (merged,) = mirror.entries.flows
    assert (merged.mark, merged.labels, merged.status) == (3, 1, Status.ASSURED)


def test_labels_that_may_be_cleared_are_looked_up() -> None:
    """An event does not report that all labels were cleared."""
    mirror, _ = mirror_of(flow(1, id=7, labels=1, status=Status(8)))
    apply(mirror, EventType.UPDATE, flow(1, id=7, status=Status(12)))
    assert not mirror.unresolved, "packets changed the status"
    apply(mirror, EventType.UPDATE, flow(1, id=7, status=Status(12)))
    assert mirror.unresolved, "packets changed something that is not reported"
    mirror.unresolved.clear()
    apply(mirror, EventType.UPDATE, flow(1, id=7, status=Status(14)), port_id=77)
    assert mirror.unresolved, "a program may have changed anything"


def test_an_update_without_a_helper_means_no_helper() -> None:
    mirror, _ = mirror_of(flow(1, id=7, helper=Helper(name="ftp")))
    apply(mirror, EventType.UPDATE, flow(1, id=7))
    (merged,) = mirror.entries.flows
    assert merged.helper is None


def test_a_change_of_an_unknown_attribute_is_a_change() -> None:
    one, two = (UnknownAttribute((99,), payload) for payload in (b"1", b"2"))
    mirror, recorder = mirror_of(flow(1, id=7, labels=1, unknown=(one,)))
    apply(mirror, EventType.UPDATE, flow(1, id=7, unknown=(two,)))
    assert recorder.causes == [Cause.EVENT]
    assert mirror.unresolved, "labels may have been cleared, too"


def test_flows_that_the_program_holds_never_change() -> None:
    mirror, recorder = mirror_of(flow(1, id=7, mark=1))
    (obtained,) = mirror.entries.flows
    copied = copy.deepcopy(obtained)
    apply(mirror, EventType.UPDATE, flow(1, id=7, mark=2))
    apply(mirror, EventType.DESTROY, flow(1, id=7))
    assert obtained == copied
    assert recorder.flows == {}


# -- predicates ------------------------------------------------------------------------------


def test_an_entry_that_no_longer_matches_is_removed() -> None:
    mirror, recorder = mirror_of(
        flow(1, id=7, mark=1), flow(2, id=8, mark=2), predicate=lambda each: each.mark == 1
    )
    assert len(mirror.entries) == 1
    apply(mirror, EventType.UPDATE, flow(1, id=7, mark=2))
    assert recorder.causes == [Cause.UNMATCHED]
    assert len(mirror.entries) == 0
    apply(mirror, EventType.NEW, flow(3, id=9, mark=2))
    assert len(mirror.entries) == 0
    assert not mirror.without_events


def test_an_updated_entry_that_comes_to_match_is_looked_up() -> None:
    mirror, _ = mirror_of(flow(1, id=7, mark=2), predicate=lambda each: each.mark == 1)
    apply(mirror, EventType.UPDATE, flow(1, id=7, mark=1))
    ((key, _),) = mirror.unresolved.items()
    mirror.resolve(key, flow(1, id=7, mark=1))
    assert len(mirror.entries) == 1


# -- ids -------------------------------------------------------------------------------------


def test_an_entry_whose_id_is_reported_later_is_found_by_it() -> None:
    mirror, _ = mirror_of(flow(1))
    apply(mirror, EventType.UPDATE, flow(1, id=7))
    assert mirror.entries.by_id(7) == list(mirror.entries.flows)
    apply(mirror, EventType.DESTROY, flow(1))
    assert not mirror.entries.by_id(7)


def test_several_entries_may_share_an_id() -> None:
    mirror, _ = mirror_of(flow(1, id=7), flow(2, id=7), flow(3, id=7))
    assert [each.orig.sport for each in flows_by_id(mirror, 7)] == [1, 2, 3]
    apply(mirror, EventType.DESTROY, flow(2, id=7))
    assert [each.orig.sport for each in flows_by_id(mirror, 7)] == [1, 3]
    apply(mirror, EventType.DESTROY, flow(1, id=7))
    assert [each.orig.sport for each in flows_by_id(mirror, 7)] == [3]
    apply(mirror, EventType.DESTROY, flow(3, id=7))
    assert mirror.entries.by_id(7) == []
