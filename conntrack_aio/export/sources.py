"""Sources of records: async iterators of batches, which read events and the table."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator
from typing import Protocol, Self

import anyio

from conntrack_aio import Connection, EventsLost, EventType, FlowEvent, Match

from .records import EventRecord, LostRecord, Record, SnapshotRecord

Batches = AsyncGenerator[list[Record], None]
"""An async iterator of batches of records."""


class Source(Protocol):
    """Anything that yields batches of records; close it with ``aclosing()``."""

    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> list[Record]: ...
    async def aclose(self) -> None: ...


def now() -> int:
    return time.time_ns()


# Events


async def events(
    conn: Connection,
    *types: EventType,
    match: Match | None = None,
    receive_buffer: int | None = None,
    receive_buffer_max: int | None = None,
) -> Batches:
    """Yield the events of flows, and a :class:`LostRecord` where events are missing.

    The parameters are those of :meth:`Connection.events`, which also has the errors.
    """
    async with conn.events(
        *types,
        match=match,
        receive_buffer=receive_buffer,
        receive_buffer_max=receive_buffer_max,
        on_loss="item",
        receive_time=True,
    ) as stream:
        async for batch in stream.batches():
            yield [_event_record(item) for item in batch]


def _event_record(item: FlowEvent | EventsLost) -> EventRecord | LostRecord:
    if isinstance(item, EventsLost):
        return LostRecord(time=now(), events=item.lost)
    return EventRecord(event=item, time=time_of(item))


def time_of(event: FlowEvent) -> int:
    """Return the kernel's time of an event, or the time of receipt."""
    return event.timestamp or event.receive_timestamp or now()


# Snapshots


async def snapshots(conn: Connection, interval: float, *, match: Match | None = None) -> Batches:
    """Yield all flows of the table, at once and then at an interval.

    :param conn: the connection.
    :param interval: seconds from the start of one snapshot to the start of the next.
    :param match: the flows, instead of all.
    :raises ValueError: when the interval is not positive.
    """
    check_interval(interval)
    while True:
        begun = anyio.current_time()
        read = now()
        async with conn.dump(match) as dump:
            async for flows in dump.batches():
                yield [SnapshotRecord(time=read, flow=flow) for flow in flows]
        await anyio.sleep_until(begun + interval)


def check_interval(seconds: float) -> None:
    """Check an interval.

    :raises ValueError: when it is not positive or not finite.
    """
    if not 0 < seconds < math.inf:
        raise ValueError(f"an interval must be a positive number of seconds; got {seconds!r}")
