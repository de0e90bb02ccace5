"""What a live table, or who follows its changes, must have in the end: what the kernel has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Final, cast

import anyio
import attrs

from conntrack_aio import Change, ChangeType, Connection, Flow, FlowTable, Tuple

Key = tuple[Tuple, int | None]
"""The original tuple and the zone: what no two entries share at a time."""

UNTOLD: Final = frozenset({"timeout", "use", "counters_orig", "counters_reply"})
"""What changes without an event."""

_NAMES: Final = [
    field.name for field in attrs.fields(Flow) if field.name not in {*UNTOLD, "mark", "labels"}
]
_values = cast("attrgetter[tuple[object, ...]]", attrgetter(*_NAMES))


def essence(flow: Flow) -> tuple[object, ...]:
    """What two views of an entry must agree on.

    Absent and zero mean the same of a mark and of labels: events leave out the one, dumps both.
    """
    return (*_values(flow), flow.mark or 0, flow.labels or 0)


def same(one: Flow, other: Flow) -> bool:
    """Whether they agree on all that they must."""
    return one is other or essence(one) == essence(other)


def key_of(flow: Flow) -> Key:
    return flow.orig, flow.zone


def by_key(flows: Iterable[Flow]) -> dict[Key, Flow]:
    """All of them; two with one key are a mistake."""
    found: dict[Key, Flow] = {}
    for flow in flows:
        key = key_of(flow)
        assert key not in found, f"twice: {flow}"
        found[key] = flow
    return found


async def kernel_truth(conn: Connection) -> dict[Key, Flow]:
    """What the kernel has, while nothing happens to it."""
    return by_key(await conn.list())


def differences(found: Mapping[Key, Flow], truth: Mapping[Key, Flow]) -> list[str]:
    """What is wrong with what was found: the first few of each kind. Empty is good."""
    told: list[str] = []

    def tell(what: str, keys: Iterable[Key], describe: Callable[[Key], object]) -> None:
        listed = list(keys)
        told.extend(f"{what}: {describe(key)}" for key in listed[:5])
        if listed:
            told.append(f"{what}: {len(listed)} in all, beside {len(truth)} in truth")

    tell("missing", [key for key in truth if key not in found], truth.__getitem__)
    tell("gone, but still there", [key for key in found if key not in truth], found.__getitem__)
    tell(
        "different, and in truth",
        [key for key in truth if key in found and not same(found[key], truth[key])],
        lambda key: [
            (name, getattr(found[key], name), getattr(truth[key], name))
            for name in (*_NAMES, "mark", "labels")
            if getattr(found[key], name) != getattr(truth[key], name)
        ],
    )
    return told


def wrong_answers(table: FlowTable, truth: Iterable[Flow]) -> list[str]:
    """What look-ups of each entry should have found, and did not: the first few."""
    wrong: list[str] = []
    for flow in truth:
        zone = flow.zone
        found = {
            "by_orig": table.by_orig(flow.orig, zone=zone),
            "by_reply": table.by_reply(flow.reply, zone=zone),
            "get, original": table.get(flow.orig, zone=zone),
            "get, reply": table.get(flow.reply, zone=zone),
            "by_id": by_key(table.by_id(flow.id or 0)).get(key_of(flow)),
        }
        wrong += [
            f"{name}: {each}, of {flow}"
            for name, each in found.items()
            if each is None or not same(each, flow)
        ]
        if flow not in table:
            wrong.append(f"in: {flow}")
        there = table.translate(flow.orig, zone=zone)
        if there is None or there.without_zone != flow.reply.inverse.without_zone:
            wrong.append(f"translate: {there}, of {flow}")
        if len(wrong) > 5:
            break
    return wrong


class Replay:
    """What a program has that does nothing but follow the changes.

    It applies them to a dict that is empty at first, and wants each to fit what is in it: else
    they were no complete account.
    """

    def __init__(self, table: FlowTable) -> None:
        self.flows: dict[Key, Flow] = {}
        self.count = 0
        """Changes that were followed."""
        self._changes = table.changes()
        self._wanted: list[tuple[Callable[[], bool], anyio.Event]] = []

    async def follow(self) -> None:
        """Until cancelled, or the table is closed."""
        async with self._changes:
            async for change in self._changes:
                self.apply(change)

    async def read_until(self, condition: Callable[[], bool]) -> None:
        """For one whom nobody else has follow: read until it holds."""
        with anyio.fail_after(60):
            while not condition():
                self.apply(await anext(self._changes))

    async def read_until_it_has(self, key: Key) -> None:
        await self.read_until(lambda: key in self.flows)

    async def read_at_most(self, count: int) -> None:
        """The same, but nothing that does not wait already."""
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
            self._fits(change, known)
            assert change.fields, change
            self.flows[key] = change.flow
        else:
            self._fits(change, known)
            del self.flows[key]
        self.count += 1
        self._tell()

    def _fits(self, change: Change, known: Flow | None) -> None:
        """What was there before is what was told last."""
        assert known is not None, change
        assert change.before is not None, change
        assert same(change.before, known), (change, known)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return after the change that makes it hold."""
        event = anyio.Event()
        self._wanted.append((condition, event))
        self._tell()
        with anyio.fail_after(60):
            await event.wait()

    async def until_it_has(self, key: Key) -> None:
        await self.until(lambda: key in self.flows)

    def _tell(self) -> None:
        if self._wanted:
            met = [wanted for wanted in self._wanted if wanted[0]()]
            for wanted in met:
                self._wanted.remove(wanted)
                wanted[1].set()
