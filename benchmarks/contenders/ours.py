"""This library, by its public names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, NamedTuple, TypeVar

import anyio

from conntrack_aio import Connection, EventStream, EventType, Flow, FlowEvent, connect

from ..isolation import apart
from ..timing import Contender, Seen, Stopwatch, Timing
from .floor import flush

T = TypeVar("T")

BACKENDS: Final[dict[str, tuple[str, dict[str, bool]]]] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
_BITS64: Final = (1 << 64) - 1


class Reading(NamedTuple):
    """A way to read a dump."""

    name: str
    consume: Callable[[Connection], Awaitable[int]]
    """As a program would, reading four things of each flow; how many there were."""
    flows: Callable[[Connection], AsyncIterator[Flow]]
    """The same, for the sake of what it hands out."""


class Making(NamedTuple):
    """A way to make many flows."""

    name: str
    make: Callable[[Connection, Sequence[Flow]], Awaitable[tuple[int, int]]]
    """Returns how many outcomes there were, and how many of them good."""


async def _flow_by_flow(conn: Connection) -> int:
    count = 0
    async for flow in conn.dump():
        orig = flow.orig
        _ = orig.src, orig.dport, flow.mark, flow.status
        count += 1
    return count


async def _batch_by_batch(conn: Connection) -> int:
    count = 0
    async for batch in conn.dump().batches():
        for flow in batch:
            orig = flow.orig
            _ = orig.src, orig.dport, flow.mark, flow.status
        count += len(batch)
    return count


async def _of_batches(conn: Connection) -> AsyncIterator[Flow]:
    async for batch in conn.dump().batches():
        for flow in batch:
            yield flow


FLOW_BY_FLOW: Final = Reading("conntrack_aio", _flow_by_flow, Connection.dump)
BATCH_BY_BATCH: Final = Reading("conntrack_aio, in batches", _batch_by_batch, _of_batches)


def on_backend(body: Callable[[], Awaitable[T]], backend: str = "asyncio") -> T:
    """Run it on asyncio, uvloop or trio."""
    name, options = BACKENDS[backend]
    return anyio.run(body, backend=name, backend_options=options)


def digest(flow: Flow) -> int:
    """A number made of what is read of a flow; what is absent counts as 0."""
    return digest_of(int(flow.orig.src), flow.orig.dport or 0, flow.mark or 0, flow.status or 0)


def digest_of(source: int, port: int, mark: int, status: int) -> int:
    """The same of the numbers, as rival.c makes it."""
    value = source
    for part in (port, mark, status):
        value = value * 1_000_003 + part
    return value & _BITS64


async def seen(flows: AsyncIterator[Flow]) -> Seen:
    """How many, and the sum of their digests."""
    count = total = 0
    async for flow in flows:
        count += 1
        total += digest(flow)
    return Seen(count, total & _BITS64)


async def seen_in_table() -> Seen:
    async with connect() as conn:
        return await seen(conn.dump())


def dump(reading: Reading, backend: str = "asyncio") -> Contender:
    """A dump whose consumer reads source address, destination port, mark and status."""

    async def timed() -> Timing:
        async with connect() as conn:
            watch = Stopwatch()
            count = await reading.consume(conn)
            return watch.stop(count)

    async def checked() -> Seen:
        async with connect() as conn:
            return await seen(reading.flows(conn))

    return Contender(
        reading.name if backend == "asyncio" else f"{reading.name}, on {backend}",
        lambda: on_backend(timed, backend),
        lambda: on_backend(checked, backend),
    )


def first_dump() -> Contender:
    """The first dump of a process: nothing is compiled, nothing remembered."""
    return Contender(f"{FLOW_BY_FLOW.name}, for the first time", lambda: apart(_first_dump))


def _first_dump() -> Timing:
    return dump(FLOW_BY_FLOW).run()


class Following(NamedTuple):
    """A way to read events."""

    name: str
    read: Callable[[EventStream[FlowEvent], int], Awaitable[None]]
    """Read so many."""


async def _event_by_event(stream: EventStream[FlowEvent], count: int) -> None:
    async for _ in stream:
        count -= 1
        if not count:
            return


async def _events_in_batches(stream: EventStream[FlowEvent], count: int) -> None:
    async for batch in stream.batches():
        count -= len(batch)
        if not count:
            return


EVENT_BY_EVENT: Final = Following("conntrack_aio", _event_by_event)
EVENTS_IN_BATCHES: Final = Following("conntrack_aio, in batches", _events_in_batches)


def events(
    following: Following, cause: Callable[[], None], count: int, receive_buffer: int
) -> Contender:
    """Read the events that ``cause`` has queued."""

    def listening(conn: Connection) -> EventStream[FlowEvent]:
        return conn.events(EventType.NEW, receive_buffer=receive_buffer)

    async def timed() -> Timing:
        async with connect() as conn, listening(conn) as stream:
            cause()
            watch = Stopwatch()
            await following.read(stream, count)
            return watch.stop(count)

    async def checked() -> Seen:
        async with connect() as conn, listening(conn) as stream:
            cause()
            total = 0
            for _ in range(count):
                total += digest((await anext(stream)).flow)
            return Seen(count, total & _BITS64)

    return Contender(following.name, lambda: on_backend(timed), lambda: on_backend(checked))


async def _list(conn: Connection, flows: Sequence[Flow]) -> tuple[int, int]:
    outcomes = await conn.create_many(flows)
    return len(outcomes), sum(outcome.error is None for outcome in outcomes)


async def _batches(conn: Connection, flows: Sequence[Flow]) -> tuple[int, int]:
    count = made = 0
    async for batch in conn.create_many(flows).batches():
        count += len(batch)
        made += sum(outcome.error is None for outcome in batch)
    return count, made


ALL_OUTCOMES: Final = Making("conntrack_aio", _list)
OUTCOMES_IN_BATCHES: Final = Making("conntrack_aio, in batches", _batches)


def create(making: Making, flows: Sequence[Flow]) -> Contender:
    """Make flows of objects that exist, and look at the outcome of each."""

    async def timed() -> Timing:
        flush()
        async with connect() as conn:
            watch = Stopwatch()
            count, _ = await making.make(conn, flows)
            return watch.stop(count)

    async def checked() -> Seen:
        flush()
        async with connect() as conn:
            _, made = await making.make(conn, flows)
            return Seen(made)

    return Contender(making.name, lambda: on_backend(timed), lambda: on_backend(checked))
