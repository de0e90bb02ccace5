"""This library, when it is asked for those flows alone that match."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from conntrack_aio import Connection, EventStream, EventType, FlowEvent, Match, connect

from ..timing import Contender, Disagreement, Seen, Stopwatch, Timing
from .floor import flush
from .ours import on_backend

Listening = Callable[[Connection], EventStream[FlowEvent]]


def dump(name: str, match: Match, size: int) -> Contender:
    """Read them of a table of this size."""

    async def read(conn: Connection) -> int:
        count = 0
        async for _ in conn.dump(match):
            count += 1
        return count

    return _asking(name, read, size)


def dump_and_check(name: str, match: Match, size: int) -> Contender:
    """Read all, and check each."""

    async def read(conn: Connection) -> int:
        count = 0
        async for flow in conn.dump():
            count += match(flow)
        return count

    return _asking(name, read, size)


def count(name: str, match: Match, size: int) -> Contender:
    """Count them."""
    return _asking(name, lambda conn: conn.count(match), size)


def _asking(name: str, ask: Callable[[Connection], Awaitable[int]], size: int) -> Contender:
    async def timed() -> Timing:
        async with connect() as conn:
            watch = Stopwatch()
            await ask(conn)
            return watch.stop(size)

    async def checked() -> Seen:
        async with connect() as conn:
            return Seen(await ask(conn))

    return Contender(name, lambda: on_backend(timed), lambda: on_backend(checked))


def listening(match: Match | None, receive_buffer: int) -> Listening:
    """A stream of new flows, filtered by the kernel as far as it can be."""
    return lambda conn: conn.events(EventType.NEW, match=match, receive_buffer=receive_buffer)


def hear(
    name: str, listen: Listening, match: Match, cause: Callable[[], None], count: int
) -> Contender:
    """Read what was queued of so many events that ``cause`` makes, and check each that the kernel
    has not checked."""

    async def read(stream: EventStream[FlowEvent]) -> int:
        found = 0
        checked = stream.kernel_filter is not None
        while batch := stream.batch_nowait():
            found += len(batch) if checked else sum(match(event.flow) for event in batch)
        if lost := stream.statistics().overruns:
            raise Disagreement(f"{lost} overruns")
        return found

    async def timed() -> Timing:
        async with connect() as conn, listen(conn) as stream:
            cause()
            watch = Stopwatch()
            await read(stream)
            return watch.stop(count)

    async def checked() -> Seen:
        async with connect() as conn, listen(conn) as stream:
            cause()
            return Seen(await read(stream))

    return Contender(name, lambda: on_backend(timed), lambda: on_backend(checked))


def make_beside(
    name: str, listen: Listening | None, make: Callable[[], None], count: int
) -> Contender:
    """Make so many flows while somebody listens, or nobody."""

    async def timed() -> Timing:
        flush()
        async with connect() as conn:
            stream = None if listen is None else listen(conn)
            watch = Stopwatch()
            make()
            timing = watch.stop(count)
            if stream is not None:
                await stream.aclose()
        return timing

    return Contender(name, lambda: on_backend(timed))
