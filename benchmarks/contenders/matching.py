"""Time this library with a match: filtered dumps and filtered event streams."""

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
from conntrack_aio.filters.dump import DumpFeatures, DumpFilter, compile_dump_filter

from ..timing import Contender, Disagreement, Observation, Stopwatch, Timing
from .floor import flush
from .ours import on_backend


def dump(name: str, match: Match, size: int) -> Contender:
    """Time a dump with a match, of a table of ``size`` flows."""

    async def read(conn: Connection) -> int:
        count = 0
        async for _ in conn.dump(match):
            count += 1
        return count

    return _contender(name, read, size)


def dump_and_check(name: str, match: Match, size: int) -> Contender:
    """Time a dump of all ``size`` flows whose consumer checks each flow against a match."""

    async def read(conn: Connection) -> int:
        count = 0
        async for flow in conn.dump():
            count += match(flow)
        return count

    return _contender(name, read, size)


def count(name: str, match: Match, size: int) -> Contender:
    """Time ``conn.count(match)``, for a table of ``size`` flows."""
    return _contender(name, lambda conn: conn.count(match), size)


def _contender(name: str, read: Callable[[Connection], Awaitable[int]], size: int) -> Contender:
    """Return a contender whose function returns how many flows match."""

    async def timed() -> Timing:
        async with connect() as conn:
            watch = Stopwatch()
            await read(conn)
            return watch.stop(size)

    async def checked() -> Observation:
        async with connect() as conn:
            return Observation(await read(conn))

    return Contender(name, lambda: on_backend(timed), lambda: on_backend(checked))


def dump_filter(match: Match) -> DumpFilter:
    """Return the dump filter that this kernel can apply for a match."""

    async def compiled() -> DumpFilter:
        async with connect() as conn:
            return compile_dump_filter(match._node, DumpFeatures.of(await conn.features()))  # pyright: ignore[reportPrivateUsage]

    return on_backend(compiled)


@attrs.frozen
class Listener:
    """A program that subscribes to new flows and wants those that match."""

    match: Match
    expected: int
    """How many of the new flows match."""
    receive_buffer: int
    """The bytes of a receive buffer that holds all events."""
    filtered: bool = True
    """Whether the stream filters, in the kernel as far as possible. Otherwise the program does."""

    def listen(self, conn: Connection) -> EventStream[FlowEvent]:
        """Open the event stream."""
        match = self.match if self.filtered else None
        return conn.events(EventType.NEW, match=match, receive_buffer=self.receive_buffer)

    def read(self, stream: EventStream[FlowEvent]) -> int:
        """Read the queued events, and return how many flows match.

        Timed runs check the number too: a run that loses events is cheaper.

        :raises Disagreement: when another number of flows matches than expected.
        :raises EventsLost: when the receive buffer was too small.
        """
        found = 0
        match = self.match
        while batch := stream.receive_batch_nowait():
            found += len(batch) if self.filtered else sum(match(event.flow) for event in batch)
        if found != self.expected:
            raise Disagreement(f"expected {self.expected} events that match; got {found}")
        return found

    def kernel_filter(self) -> EventFilter | None:
        """Return the program that the kernel runs on each event."""

        async def attached() -> EventFilter | None:
            async with connect() as conn, self.listen(conn) as stream:
                return stream.kernel_filter

        return on_backend(attached)


def read_events(name: str, listener: Listener, cause: Callable[[], None], count: int) -> Contender:
    """Time reading queued events.

    :param listener: the program that reads the events.
    :param cause: a function that causes the events.
    :param count: how many events it causes.
    """

    async def timed() -> Timing:
        async with connect() as conn, listener.listen(conn) as stream:
            cause()
            watch = Stopwatch()
            listener.read(stream)
            return watch.stop(count)

    async def checked() -> Observation:
        async with connect() as conn, listener.listen(conn) as stream:
            cause()
            return Observation(listener.read(stream))

    return Contender(name, lambda: on_backend(timed), lambda: on_backend(checked))


def create_while_listening(
    name: str, listener: Listener | None, create: Callable[[], None], count: int
) -> Contender:
    """Time creating flows while a program is subscribed to their events.

    :param listener: the program; ``None`` if no program listens.
    :param create: a function that creates the flows.
    :param count: how many flows it creates.
    """

    async def without_listener() -> Timing:
        flush()
        watch = Stopwatch()
        create()
        return watch.stop(count)

    async def with_listener(listener: Listener) -> Timing:
        flush()
        async with connect() as conn, listener.listen(conn) as stream:
            watch = Stopwatch()
            create()
            timing = watch.stop(count)
            # Check that no event was lost: to drop an event is cheaper than to queue it.
            listener.read(stream)
            return timing

    if listener is None:
        return Contender(name, lambda: on_backend(without_listener))
    return Contender(name, lambda: on_backend(lambda: with_listener(listener)))
