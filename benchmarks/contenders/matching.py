"""This library, when it is asked for those flows alone that match."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from conntrack_aio import (
    Connection,
    EventFilter,
    EventStream,
    EventType,
    FlowEvent,
    Match,
    connect,
)
from conntrack_aio.filters.dump import DumpFilter, compile_dump

from ..timing import Contender, Disagreement, Seen, Stopwatch, Timing
from .floor import flush
from .ours import on_backend


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


def dump_filter(match: Match) -> DumpFilter:
    """What this kernel can do of it in a dump."""

    async def compiled() -> DumpFilter:
        async with connect() as conn:
            return compile_dump(match._node, await conn.features())  # pyright: ignore[reportPrivateUsage]

    return on_backend(compiled)


@attrs.frozen
class Audience:
    """Who listens to new flows, and wants those that match."""

    match: Match
    expected: int
    """How many match."""
    receive_buffer: int
    filtered: bool = True
    """By the kernel, as far as it can be."""

    def listen(self, conn: Connection) -> EventStream[FlowEvent]:
        match = self.match if self.filtered else None
        return conn.events(EventType.NEW, match=match, receive_buffer=self.receive_buffer)

    def read(self, stream: EventStream[FlowEvent]) -> int:
        """Read what is queued, and check each that the stream has not; how many match.

        Raises :exc:`Disagreement`, in timed runs too: a run that lost some has cost less.
        (:exc:`EventsLost` of the stream, where the buffer was too small.)
        """
        found = 0
        match = self.match
        while batch := stream.receive_batch_nowait():
            found += len(batch) if self.filtered else sum(match(event.flow) for event in batch)
        if found != self.expected:
            raise Disagreement(f"there are {self.expected}; heard of were {found}")
        return found

    def program(self) -> EventFilter | None:
        """What the kernel runs on each event."""

        async def attached() -> EventFilter | None:
            async with connect() as conn, self.listen(conn) as stream:
                return stream.kernel_filter

        return on_backend(attached)


def hear(name: str, audience: Audience, cause: Callable[[], None], count: int) -> Contender:
    """Read what was queued of so many events that ``cause`` makes."""

    async def timed() -> Timing:
        async with connect() as conn, audience.listen(conn) as stream:
            cause()
            watch = Stopwatch()
            audience.read(stream)
            return watch.stop(count)

    async def checked() -> Seen:
        async with connect() as conn, audience.listen(conn) as stream:
            cause()
            return Seen(audience.read(stream))

    return Contender(name, lambda: on_backend(timed), lambda: on_backend(checked))


def make_beside(
    name: str, audience: Audience | None, make: Callable[[], None], count: int
) -> Contender:
    """Make so many flows while somebody listens, or nobody."""

    async def alone() -> Timing:
        flush()
        watch = Stopwatch()
        make()
        return watch.stop(count)

    async def beside(audience: Audience) -> Timing:
        flush()
        async with connect() as conn, audience.listen(conn) as stream:
            watch = Stopwatch()
            make()
            timing = watch.stop(count)
            audience.read(stream)  # to drop an event is cheaper than to queue it
            return timing

    if audience is None:
        return Contender(name, lambda: on_backend(alone))
    return Contender(name, lambda: on_backend(lambda: beside(audience)))
