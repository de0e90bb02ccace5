"""The objects that are open, while some of them are dropped."""

from __future__ import annotations

import gc

from conntrack_aio.registry import Registry


class Thing:
    """Removes itself when it is dropped, as a stream does."""

    def __init__(self, registry: Registry[Thing, int]) -> None:
        self._registry = registry
        registry.add(self, 7)

    def __del__(self) -> None:
        self._registry.discard(self)


def test_members_are_there_until_they_are_dropped() -> None:
    registry: Registry[Thing, int] = Registry()
    one, two = Thing(registry), Thing(registry)
    assert registry.members() == [(one, 7), (two, 7)]
    del one
    assert registry.members() == [(two, 7)]
    assert len(registry) == 1
    registry.discard(two)
    registry.discard(two)
    assert registry.members() == []
    assert two not in registry


def test_they_may_be_dropped_while_they_are_looked_at() -> None:
    registry: Registry[Thing, int] = Registry()
    things = [Thing(registry) for _ in range(10)]
    for member, _ in registry.members():
        things.clear()
        Thing(registry)
        gc.collect()
        del member
    assert registry.members() == []


def test_a_cycle_is_forgotten_by_the_collector() -> None:
    class Plain:
        pass

    registry: Registry[Plain, str] = Registry()
    plain = Plain()
    vars(plain)["self"] = plain
    registry.add(plain, "detail")
    assert plain in registry
    del plain
    gc.collect()
    assert len(registry) == 0


def test_another_object_may_have_the_number_of_one_that_was_dropped() -> None:
    registry: Registry[Thing, int] = Registry()
    for _ in range(100):
        thing = Thing(registry)
        assert registry.members() == [(thing, 7)]
        del thing
        assert registry.members() == []
