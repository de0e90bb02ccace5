"""Check which namespace the cache finds for an id, in each order of datagrams and notifications."""

from __future__ import annotations

import pytest

from conntrack_aio.netlink.nsid_cache import NamespaceName, NsidCache

CAPACITY = 10
"""The number of datagrams that can wait in the queue."""


def named(name: str) -> NamespaceName:
    return NamespaceName(name, (1, ord(name)), None)


@pytest.fixture
def cache() -> NsidCache:
    """Return a cache in which id 5 is namespace a, after one datagram."""
    cache = NsidCache(CAPACITY)
    cache.begin_batch(1)
    cache.store({5: named("a")}, [5], None)
    cache.end_batch(1, drained=True)
    return cache


def store_b(cache: NsidCache) -> None:
    """Check that id 5 needs a look-up, and store namespace b for it."""
    assert not cache.is_final(5)
    assert 5 not in cache.known
    cache.store({5: named("b")}, [5], None)


def test_a_name_stays_in_the_cache(cache: NsidCache) -> None:
    for drained in (False, True):
        cache.begin_batch(3)
        assert cache.name_of(5) == "a"
        cache.end_batch(3, drained=drained)
    assert cache.name_of(6) is None
    assert cache.by_name() == {"a": (5, named("a"))}


def test_waiting_datagrams_keep_the_name_of_a_freed_id(cache: NsidCache) -> None:
    cache.begin_batch(1)
    cache.id_freed(5)
    assert cache.is_final(5)
    assert cache.name_of(5) == "a"
    assert cache.by_name() == {}
    cache.end_batch(1, drained=True)
    # The notification may be newer than the read that found the queue empty.
    assert cache.name_of(5) == "a"
    cache.begin_batch(1)
    cache.end_batch(1, drained=True)
    assert cache.name_of(5) is None
    assert not cache.is_final(5)


@pytest.mark.parametrize("order", ["freed first", "assigned first"])
def test_waiting_datagrams_of_a_reassigned_id_have_no_name(cache: NsidCache, order: str) -> None:
    cache.begin_batch(1)
    if order == "freed first":
        cache.id_freed(5)
        cache.id_assigned(5)
    else:
        cache.id_assigned(5)
        cache.id_freed(5)
    assert cache.is_final(5)
    assert cache.name_of(5) is None
    cache.end_batch(1, drained=False)
    assert cache.name_of(5) is None
    cache.begin_batch(1)
    assert cache.name_of(5) is None
    cache.end_batch(1, drained=True)
    store_b(cache)
    assert cache.name_of(5) == "b"


def test_a_reassigned_id_can_be_looked_up_after_the_queue_was_empty(cache: NsidCache) -> None:
    cache.id_freed(5)
    cache.id_assigned(5)
    assert cache.name_of(5) is None
    cache.note_drained()
    store_b(cache)
    assert cache.name_of(5) == "b"


def test_a_change_before_the_last_batch_of_the_queue_leaves_no_uncertainty(
    cache: NsidCache,
) -> None:
    cache.id_freed(5)
    cache.id_assigned(5)
    cache.begin_batch(2)
    assert cache.name_of(5) is None
    cache.end_batch(2, drained=True)
    store_b(cache)


def test_a_change_after_a_batch_was_read_stays_uncertain_when_it_ends(cache: NsidCache) -> None:
    cache.begin_batch(2)
    cache.id_freed(5)
    cache.id_assigned(5)
    cache.end_batch(2, drained=True)
    assert cache.is_final(5)
    cache.note_drained()
    store_b(cache)


def test_a_reassigned_id_can_be_looked_up_even_if_the_queue_is_never_empty(
    cache: NsidCache,
) -> None:
    cache.begin_batch(2)
    cache.id_freed(5)
    cache.id_assigned(5)
    cache.end_batch(2, drained=False)
    for _ in range(CAPACITY - 1):
        cache.begin_batch(1)
        assert cache.name_of(5) is None
        cache.end_batch(1, drained=False)
    assert cache.is_final(5)
    cache.begin_batch(1)
    cache.end_batch(1, drained=False)
    store_b(cache)


def test_a_batch_that_is_begun_repeatedly_counts_once(cache: NsidCache) -> None:
    for _ in range(5):
        cache.begin_batch(1)
        cache.id_freed(5)
    cache.end_batch(1, drained=False)
    for _ in range(CAPACITY - 1):
        cache.begin_batch(1)
        cache.end_batch(1, drained=False)
    assert cache.is_final(5)
    cache.begin_batch(1)
    cache.end_batch(1, drained=False)
    assert not cache.is_final(5)


def test_an_id_that_was_never_known_needs_no_waiting(cache: NsidCache) -> None:
    cache.begin_batch(1)
    cache.id_assigned(6)
    assert not cache.is_final(6)
    cache.store({6: named("c")}, [6], None)
    assert cache.name_of(6) == "c"


def test_lost_notifications_invalidate_all_ids(cache: NsidCache) -> None:
    cache.begin_batch(1)
    cache.invalidate_all()
    assert cache.is_final(5)
    assert cache.is_final(6)
    assert cache.name_of(5) is None
    cache.end_batch(1, drained=True)
    assert cache.is_final(5)
    cache.begin_batch(1)
    cache.end_batch(1, drained=True)
    store_b(cache)


def test_the_absence_of_a_name_is_stored(cache: NsidCache) -> None:
    cache.store({}, [7], "state")
    assert cache.known[7] == NamespaceName(None, None, "state")
    assert cache.name_of(7) is None
    assert cache.by_name().keys() == {"a"}


def test_an_id_freed_after_the_capacity_grew_is_uncertain_for_longer(cache: NsidCache) -> None:
    """With a larger receive buffer, more datagrams of the freed id can wait."""
    cache.begin_batch(1)
    cache.set_capacity(3 * CAPACITY)
    cache.id_freed(5)
    for _ in range(3 * CAPACITY):
        assert cache.name_of(5) == "a"
        cache.end_batch(1, drained=False)
        cache.begin_batch(1)
    assert cache.name_of(5) == "a"
    cache.end_batch(1, drained=False)
    cache.begin_batch(1)
    cache.end_batch(1, drained=False)
    assert cache.name_of(5) is None


def test_an_id_freed_before_the_capacity_grew_is_not_uncertain_for_longer(cache: NsidCache) -> None:
    cache.begin_batch(1)
    cache.id_freed(5)
    cache.set_capacity(100 * CAPACITY)
    cache.end_batch(1, drained=False)
    for _ in range(CAPACITY + 1):
        cache.begin_batch(1)
        cache.end_batch(1, drained=False)
    assert cache.name_of(5) is None
