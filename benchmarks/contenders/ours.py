"""Time this library, by its public API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from operator import attrgetter
from typing import Final, NamedTuple, TypeVar, cast

import anyio
import attrs

from conntrack_aio import Connection, EventStream, EventType, Flow, FlowEvent, connect

from ..isolation import run_in_process
from ..timing import Contender, Observation, Stopwatch, Timing
from .floor import flush

T = TypeVar("T")

_FIELDS: Final = [field.name for field in attrs.fields(cast("type[attrs.AttrsInstance]", Flow))]
_all_fields: Final[Callable[[Flow], object]] = attrgetter(*_FIELDS)
"""Returns the values of all fields of a flow."""

BACKENDS: Final[dict[str, tuple[str, dict[str, bool]]]] = {
    "asyncio": ("asyncio", {"use_uvloop": False}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
"""The backend of anyio and its options, for each event loop."""

_BITS64: Final = (1 << 64) - 1


def on_backend(body: Callable[[], Awaitable[T]], backend: str = "asyncio") -> T:
    """Run an async function on asyncio, uvloop or trio, and return its result."""
    name, options = BACKENDS[backend]
    return anyio.run(body, backend=name, backend_options=options)


# Checksums


def digest(flow: Flow) -> int:
    """Return a number that depends on every field that consumers read; ``None`` counts as 0."""
    return digest_of(int(flow.orig.src), flow.orig.dport or 0, flow.mark or 0, flow.status or 0)


def digest_of(source: int, port: int, mark: int, status: int) -> int:
    """Return the digest of these values: the same as rival.c computes."""
    value = source
    for part in (port, mark, status):
        value = value * 1_000_003 + part
    return value & _BITS64


async def observe(flows: AsyncIterator[Flow]) -> Observation:
    """Return the number of flows and the sum of their digests."""
    count = total = 0
    async for flow in flows:
        count += 1
        total += digest(flow)
    return Observation(count, total & _BITS64)


# Dumps


class DumpMethod(NamedTuple):
    """A way to read a dump."""

    name: str
    consume: Callable[[Connection], Awaitable[int]]
    """Read four fields of each flow, as a program would; return the number of flows."""
    flows: Callable[[Connection], AsyncIterator[Flow]]
    """Iterate over the flows in the same way, to check them."""


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


async def _every_field(conn: Connection) -> int:
    count = 0
    async for flow in conn.dump():
        _all_fields(flow)
        count += 1
    return count


async def _flows_of_batches(conn: Connection) -> AsyncIterator[Flow]:
    async for batch in conn.dump().batches():
        for flow in batch:
            yield flow


FLOW_BY_FLOW: Final = DumpMethod("conntrack_aio", _flow_by_flow, Connection.dump)
BATCH_BY_BATCH: Final = DumpMethod("conntrack_aio, in batches", _batch_by_batch, _flows_of_batches)
EVERY_FIELD: Final = DumpMethod("conntrack_aio, every field", _every_field, Connection.dump)


def dump(method: DumpMethod, backend: str = "asyncio") -> Contender:
    """Time a dump whose consumer reads source address, destination port, mark and status."""

    async def timed() -> Timing:
        async with connect() as conn:
            watch = Stopwatch()
            count = await method.consume(conn)
            return watch.stop(count)

    async def checked() -> Observation:
        async with connect() as conn:
            return await observe(method.flows(conn))

    return Contender(
        method.name if backend == "asyncio" else f"{method.name}, on {backend}",
        lambda: on_backend(timed, backend),
        lambda: on_backend(checked, backend),
    )


def first_dump() -> Contender:
    """Time the first dump of a process, which has compiled no layout and cached nothing."""
    return Contender(
        f"{FLOW_BY_FLOW.name}, first dump of a process", lambda: run_in_process(_first_dump)
    )


def _first_dump() -> Timing:
    return dump(FLOW_BY_FLOW).run()


# Events


class EventMethod(NamedTuple):
    """A way to read events."""

    name: str
    read: Callable[[EventStream[FlowEvent], int], Awaitable[None]]
    """Read this number of events."""


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


EVENT_BY_EVENT: Final = EventMethod("conntrack_aio", _event_by_event)
EVENTS_IN_BATCHES: Final = EventMethod("conntrack_aio, in batches", _events_in_batches)


def events(
    method: EventMethod, cause: Callable[[], None], count: int, receive_buffer: int
) -> Contender:
    """Time reading queued events.

    :param method: the way to read them.
    :param cause: a function that causes the events.
    :param count: how many events it causes.
    :param receive_buffer: the bytes of a receive buffer that holds all of them.
    """

    def listen(conn: Connection) -> EventStream[FlowEvent]:
        return conn.events(EventType.NEW, receive_buffer=receive_buffer)

    async def timed() -> Timing:
        async with connect() as conn, listen(conn) as stream:
            cause()
            watch = Stopwatch()
            await method.read(stream, count)
            return watch.stop(count)

    async def checked() -> Observation:
        async with connect() as conn, listen(conn) as stream:
            cause()
            total = 0
            for _ in range(count):
                total += digest((await anext(stream)).flow)
            return Observation(count, total & _BITS64)

    return Contender(method.name, lambda: on_backend(timed), lambda: on_backend(checked))


# Creates


class CreateMethod(NamedTuple):
    """A way to create many flows."""

    name: str
    create: Callable[[Connection, Sequence[Flow]], Awaitable[tuple[int, int]]]
    """Return how many outcomes there were, and how many of them without an error."""


async def _all_outcomes(conn: Connection, flows: Sequence[Flow]) -> tuple[int, int]:
    outcomes = await conn.create_many(flows)
    return len(outcomes), sum(outcome.error is None for outcome in outcomes)


async def _outcomes_in_batches(conn: Connection, flows: Sequence[Flow]) -> tuple[int, int]:
    count = created = 0
    async for batch in conn.create_many(flows).batches():
        count += len(batch)
        created += sum(outcome.error is None for outcome in batch)
    return count, created


ALL_OUTCOMES: Final = CreateMethod("conntrack_aio", _all_outcomes)
OUTCOMES_IN_BATCHES: Final = CreateMethod("conntrack_aio, in batches", _outcomes_in_batches)


def create(method: CreateMethod, flows: Sequence[Flow]) -> Contender:
    """Time creating flows from existing objects, and reading the outcome of each."""

    async def timed() -> Timing:
        flush()
        async with connect() as conn:
            watch = Stopwatch()
            count, _ = await method.create(conn, flows)
            return watch.stop(count)

    async def checked() -> Observation:
        flush()
        async with connect() as conn:
            _, created = await method.create(conn, flows)
            return Observation(created)

    return Contender(method.name, lambda: on_backend(timed), lambda: on_backend(checked))
