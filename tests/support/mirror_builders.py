"""Build mirrors without a kernel, pass them events, and record what they report."""

from __future__ import annotations

import copy
from collections.abc import Callable

from conntrack_aio import Cause, EventType, Flow, FlowEvent, Status
from conntrack_aio.table.mirror import Mirror
from conntrack_aio.table.states import State
from conntrack_aio.table.tuple_keys import Key


def flow(number: int, **fields: object) -> Flow:
    """Return a UDP flow whose source port is this number, with these fields."""
    created = Flow.udp("10.0.0.1", number, "10.0.0.2", 53, timeout=30)
    for name, value in fields.items():
        setattr(created, name, value)
    return created


TCP = Flow.tcp("10.0.0.1", 1, "10.0.0.2", 80, timeout=30, status=Status.CONFIRMED)
TCP.id = 7


def tcp(**fields: object) -> Flow:
    """Return a copy of :data:`TCP` with these fields."""
    copied = copy.copy(TCP)
    for name, value in fields.items():
        setattr(copied, name, value)
    return copied


class ChangeRecorder:
    """A reader that applies each change of a mirror to a dict of its own."""

    def __init__(self, mirror: Mirror) -> None:
        self.flows: dict[Key, Flow] = {}
        self.causes: list[Cause] = []
        self._mirror = mirror
        mirror.readers = (*mirror.readers, self)

    def record_change(
        self, key: Key, before: State | None, final: State | None, cause: Cause
    ) -> None:
        self.causes.append(cause)
        assert (key in self.flows) == (before is not None)
        if final is not None:
            del self.flows[key]
            return
        present = self._mirror.entries.get(key)
        assert present is not None
        self.flows[key] = self._mirror.states.flow_of(present)


def flows_of(mirror: Mirror) -> dict[Key, Flow]:
    """Return the flows of a mirror by their keys."""
    return {key: mirror.states.flow_of(state) for key, state in mirror.entries.copy().items()}


def flows_by_id(mirror: Mirror, id: int) -> list[Flow]:
    """Return the flows of a mirror with this id."""
    return [mirror.states.flow_of(state) for state in mirror.entries.by_id(id)]


def mirror_of(
    *flows: Flow, predicate: Callable[[Flow], bool] | None = None
) -> tuple[Mirror, ChangeRecorder]:
    """Return a mirror that has read these flows by a dump, and that events have caught up with."""
    mirror = Mirror(predicate)
    recorder = ChangeRecorder(mirror)
    mirror.begin_dump()
    for reported in flows:
        mirror.add_dumped(reported)
    mirror.end_dump()
    mirror.caught_up = True
    recorder.causes.clear()
    return mirror, recorder


def mirror_with_new(*flows: Flow, predicate: Callable[[Flow], bool] | None = None) -> Mirror:
    """Return a mirror that has received a NEW event of each of these flows."""
    mirror, _ = mirror_of(predicate=predicate)
    mirror.new_entries_emit = True
    for reported in flows:
        apply(mirror, EventType.NEW, reported)
    return mirror


def apply(mirror: Mirror, kind: EventType, reported: Flow, *, port_id: int = 0) -> None:
    """Apply an event of this type, with this flow, to a mirror."""
    mirror.apply(FlowEvent(type=kind, flow=reported, port_id=port_id))


def dump_into(mirror: Mirror, *flows: Flow) -> None:
    """Compare a mirror with a kernel that has exactly these flows."""
    mirror.begin_dump(examine=True)
    for reported in flows:
        mirror.add_dumped(reported)
    for _ in mirror.remove_not_dumped():
        pass
    mirror.end_dump()


def unreported(mirror: Mirror) -> int:
    """Return how many changes no event reported, after all events have come.

    Look-ups confirm that the entries which a dump lacked do not exist.
    """
    for key, missing in mirror.missing_entries().items():
        mirror.apply_verification(key, missing, None)
    mirror.now += 10
    return mirror.evaluate_discrepancies(mirror.now)
