"""Compare live tables, and programs that apply their changes, with the kernel's table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Final, cast

import anyio
import attrs

from conntrack_aio import Change, ChangeType, Connection, Flow, FlowTable, Tuple

Key = tuple[Tuple, int | None]
"""The original tuple and the zone of an entry. No two entries share them at the same time."""

UNREPORTED_FIELDS: Final = frozenset({"timeout", "use", "counters_orig", "counters_reply"})
"""Fields that change without an event."""

_NAMES: Final = [
    field.name
    for field in attrs.fields(Flow)
    if field.name not in {*UNREPORTED_FIELDS, "mark", "labels"}
]
_values = cast("attrgetter[tuple[object, ...]]", attrgetter(*_NAMES))


def comparable(flow: Flow) -> tuple[object, ...]:
    """Return the values in which two reports of an entry must be equal.

    A mark or labels of zero are equal to absent ones: events leave them out, dumps do not.
    """
    return (*_values(flow), flow.mark or 0, flow.labels or 0)


def equal_as_reported(one: Flow, other: Flow) -> bool:
    """Return whether two reports of an entry are equal in everything that events report."""
    return one is other or comparable(one) == comparable(other)


def key_of(flow: Flow) -> Key:
    return flow.orig, flow.zone


def by_key(flows: Iterable[Flow]) -> dict[Key, Flow]:
    """Return the flows by key, and check that no two have the same key."""
    found: dict[Key, Flow] = {}
    for flow in flows:
        key = key_of(flow)
        assert key not in found, f"twice: {flow}"
        found[key] = flow
    return found


async def kernel_flows(conn: Connection) -> dict[Key, Flow]:
    """Return the flows of the kernel's table. Precondition: the table does not change."""
    return by_key(await conn.list())


def differences(found: Mapping[Key, Flow], truth: Mapping[Key, Flow]) -> list[str]:
    """Describe how the flows that were found differ from the kernel's.

    :returns: up to five examples of each kind, and how many there are. An empty list if the flows
        are equal.
    """
    lines: list[str] = []

    def add(label: str, keys: Iterable[Key], describe: Callable[[Key], object]) -> None:
        listed = list(keys)
        lines.extend(f"{label}: {describe(key)}" for key in listed[:5])
        if listed:
            lines.append(f"{label}: {len(listed)} in total; the kernel has {len(truth)} entries")

    add("missing", [key for key in truth if key not in found], truth.__getitem__)
    add("not in the kernel", [key for key in found if key not in truth], found.__getitem__)
    add(
        "different (name, found, kernel)",
        [key for key in truth if key in found and not equal_as_reported(found[key], truth[key])],
        lambda key: [
            (name, getattr(found[key], name), getattr(truth[key], name))
            for name in (*_NAMES, "mark", "labels")
            if getattr(found[key], name) != getattr(truth[key], name)
        ],
    )
    return lines


def wrong_look_ups(table: FlowTable, truth: Iterable[Flow]) -> list[str]:
    """Look up each entry in every way, and describe the first few wrong results."""
    wrong: list[str] = []
    for flow in truth:
        zone = flow.zone
        results = {
            "by_orig": table.by_orig(flow.orig, zone=zone),
            "by_reply": table.by_reply(flow.reply, zone=zone),
            "get, original": table.get(flow.orig, zone=zone),
            "get, reply": table.get(flow.reply, zone=zone),
            "by_id": by_key(table.by_id(flow.id or 0)).get(key_of(flow)),
        }
        wrong += [
            f"{name}: {result}, of {flow}"
            for name, result in results.items()
            if result is None or not equal_as_reported(result, flow)
        ]
        if flow not in table:
            wrong.append(f"in: {flow}")
        translated = table.translate(flow.orig, zone=zone)
        if translated is None or translated.without_zone != flow.reply.inverse.without_zone:
            wrong.append(f"translate: {translated}, of {flow}")
        if len(wrong) > 5:
            break
    return wrong


class Replay:
    """Applies the changes of a live table to a dict that is empty at first.

    It checks that each change fits what the dict has. Otherwise changes were missing.
    """

    def __init__(self, table: FlowTable) -> None:
        self.flows: dict[Key, Flow] = {}
        self.count = 0
        """How many changes were applied."""
        self._changes = table.changes()
        self._waiting: list[tuple[Callable[[], bool], anyio.Event]] = []

    async def follow(self) -> None:
        """Read and apply changes until cancelled, or until the table is closed."""
        async with self._changes:
            async for change in self._changes:
                self.apply(change)

    async def read_until(self, condition: Callable[[], bool]) -> None:
        """Read and apply changes until a condition is true, while :meth:`follow` does not run."""
        with anyio.fail_after(60):
            while not condition():
                self.apply(await anext(self._changes))

    async def read_until_present(self, key: Key) -> None:
        """Read and apply changes until the dict has this key."""
        await self.read_until(lambda: key in self.flows)

    async def read_at_most(self, count: int) -> None:
        """Read and apply some changes, but only changes that wait already."""
        for _ in range(min(count, self._changes.waiting)):
            with anyio.move_on_after(0):
                self.apply(await anext(self._changes))

    async def aclose(self) -> None:
        await self._changes.aclose()

    def apply(self, change: Change) -> None:
        key = key_of(change.flow)
        known = self.flows.get(key)
        if change.type is ChangeType.ADDED:
            assert known is change.before is None, change
            self.flows[key] = change.flow
        elif change.type is ChangeType.CHANGED:
            self._check_before(change, known)
            assert change.fields, change
            self.flows[key] = change.flow
        else:
            self._check_before(change, known)
            del self.flows[key]
        self.count += 1
        self._wake()

    def _check_before(self, change: Change, known: Flow | None) -> None:
        """Check that the state before the change is the one that was reported last."""
        assert known is not None, change
        assert change.before is not None, change
        assert equal_as_reported(change.before, known), (change, known)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for the change that makes a condition true, while :meth:`follow` runs."""
        event = anyio.Event()
        self._waiting.append((condition, event))
        self._wake()
        with anyio.fail_after(60):
            await event.wait()

    async def wait_until_present(self, key: Key) -> None:
        """Wait until the dict has this key, while :meth:`follow` runs."""
        await self.wait_until(lambda: key in self.flows)

    def _wake(self) -> None:
        if self._waiting:
            met = [waiting for waiting in self._waiting if waiting[0]()]
            for waiting in met:
                self._waiting.remove(waiting)
                waiting[1].set()
