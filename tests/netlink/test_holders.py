"""Who holds an id, in every order in which datagrams and notices can be read."""

from __future__ import annotations

import pytest

from conntrack_aio.netlink.holders import Holders, Name

BACKLOG = 10


def named(name: str) -> Name:
    return Name(name, (1, ord(name)), None)


@pytest.fixture
def holders() -> Holders:
    """The id 5 is a's, as was seen when one datagram had been read."""
    holders = Holders(BACKLOG)
    holders.begin(1)
    holders.learn({5: named("a")}, [5], None)
    holders.end(1, dry=True)
    return holders


def learn_b(holders: Holders) -> None:
    assert not holders.is_settled(5)
    assert 5 not in holders.known
    holders.learn({5: named("b")}, [5], None)


def test_what_is_known_stays_known(holders: Holders) -> None:
    for dry in (False, True):
        holders.begin(3)
        assert holders.name_of(5) == "a"
        holders.end(3, dry=dry)
    assert holders.name_of(6) is None
    assert holders.by_name() == {"a": (5, named("a"))}


def test_what_waits_when_a_holder_goes_is_its_own(holders: Holders) -> None:
    holders.begin(1)
    holders.freed(5)
    assert holders.is_settled(5)
    assert holders.name_of(5) == "a"
    assert holders.by_name() == {}
    holders.end(1, dry=True)
    # The notice may be younger than the look that found nothing more.
    assert holders.name_of(5) == "a"
    holders.begin(1)
    holders.end(1, dry=True)
    assert holders.name_of(5) is None
    assert not holders.is_settled(5)


@pytest.mark.parametrize("order", ["freed first", "assigned first"])
def test_what_waits_when_an_id_changes_hands_is_in_doubt(holders: Holders, order: str) -> None:
    holders.begin(1)
    if order == "freed first":
        holders.freed(5)
        holders.assigned(5)
    else:
        holders.assigned(5)
        holders.freed(5)
    assert holders.is_settled(5)
    assert holders.name_of(5) is None
    holders.end(1, dry=False)
    assert holders.name_of(5) is None
    holders.begin(1)
    assert holders.name_of(5) is None
    holders.end(1, dry=True)
    learn_b(holders)
    assert holders.name_of(5) == "b"


def test_a_change_that_was_heard_before_nothing_waited_is_behind(holders: Holders) -> None:
    holders.freed(5)
    holders.assigned(5)
    assert holders.name_of(5) is None
    holders.idle()
    learn_b(holders)
    assert holders.name_of(5) == "b"


def test_a_change_that_was_heard_before_the_last_was_read_is_behind(holders: Holders) -> None:
    holders.freed(5)
    holders.assigned(5)
    holders.begin(2)
    assert holders.name_of(5) is None
    holders.end(2, dry=True)
    learn_b(holders)


def test_a_change_that_was_heard_after_the_last_was_read_is_not(holders: Holders) -> None:
    holders.begin(2)
    holders.freed(5)
    holders.assigned(5)
    holders.end(2, dry=True)
    assert holders.is_settled(5)
    holders.idle()
    learn_b(holders)


def test_a_queue_that_never_runs_dry_is_left_behind_too(holders: Holders) -> None:
    holders.begin(2)
    holders.freed(5)
    holders.assigned(5)
    holders.end(2, dry=False)
    for _ in range(BACKLOG - 1):
        holders.begin(1)
        assert holders.name_of(5) is None
        holders.end(1, dry=False)
    assert holders.is_settled(5)
    holders.begin(1)
    holders.end(1, dry=False)
    learn_b(holders)


def test_a_batch_that_is_begun_again_counts_once(holders: Holders) -> None:
    for _ in range(5):
        holders.begin(1)
        holders.freed(5)
    holders.end(1, dry=False)
    for _ in range(BACKLOG - 1):
        holders.begin(1)
        holders.end(1, dry=False)
    assert holders.is_settled(5)
    holders.begin(1)
    holders.end(1, dry=False)
    assert not holders.is_settled(5)


def test_a_new_id_is_in_no_doubt(holders: Holders) -> None:
    holders.begin(1)
    holders.assigned(6)
    assert not holders.is_settled(6)
    holders.learn({6: named("c")}, [6], None)
    assert holders.name_of(6) == "c"


def test_lost_notices_may_have_been_of_any_id(holders: Holders) -> None:
    holders.begin(1)
    holders.doubt_all()
    assert holders.is_settled(5)
    assert holders.is_settled(6)
    assert holders.name_of(5) is None
    holders.end(1, dry=True)
    assert holders.is_settled(5)
    holders.begin(1)
    holders.end(1, dry=True)
    learn_b(holders)


def test_that_there_is_no_name_is_known_too(holders: Holders) -> None:
    holders.learn({}, [7], "state")
    assert holders.known[7] == Name(None, None, "state")
    assert holders.name_of(7) is None
    assert holders.by_name().keys() == {"a"}


def test_more_can_wait_after_the_buffer_grew(holders: Holders) -> None:
    """What is freed then is doubtful for as much longer; what was freed before is not."""
    holders.begin(1)
    holders.grow(3 * BACKLOG)
    holders.freed(5)
    for _ in range(3 * BACKLOG):
        assert holders.name_of(5) == "a"
        holders.end(1, dry=False)
        holders.begin(1)
    assert holders.name_of(5) == "a"
    holders.end(1, dry=False)
    holders.begin(1)
    holders.end(1, dry=False)
    assert holders.name_of(5) is None


def test_what_was_freed_before_the_buffer_grew(holders: Holders) -> None:
    holders.begin(1)
    holders.freed(5)
    holders.grow(100 * BACKLOG)
    holders.end(1, dry=False)
    for _ in range(BACKLOG + 1):
        holders.begin(1)
        holders.end(1, dry=False)
    assert holders.name_of(5) is None
