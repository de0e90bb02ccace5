"""Flow records: what passed in each flow, read from events and from the table."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

import anyio
import anyio.lowlevel

from conntrack_aio import Connection, EventsLost, EventStream, EventType, FlowEvent, Match

from .flow_accounts import FlowAccounts, Key
from .records import LostRecord, Record, ResynchronizedRecord
from .sources import Batches, check_interval, now, time_of

_SILENT_INTERVAL: Final = 60.0
"""Seconds between two readings of the table, if flows that live on have no records. They find the
flows that end without an event."""


class FlowRecords:
    """Yields a record of each flow that ends and, at an interval, of each that lives on.

    Enter it with ``async with``, then iterate: ``async for batch in records``. From the moment it
    is entered, each packet of a flow that emits events is counted in one record. What passed before
    is in none, so that a program which is restarted does not count it twice.

    Events of ends are reliable: the kernel retries each until it is delivered. So read the records
    all the time; while nobody does, flows that have ended fill the kernel's table.
    """

    def __init__(
        self,
        conn: Connection,
        *,
        active_timeout: float | None = 60.0,
        match: Match | None = None,
        reset_counters: bool = False,
        receive_buffer: int | None = None,
        receive_buffer_max: int | None = None,
    ) -> None:
        """Set up the records. Nothing is read yet.

        :param conn: the connection.
        :param active_timeout: seconds between two records of a flow that lives on; ``None`` for
            records of ended flows only.
        :param match: the flows, instead of all, by conditions on the tuples and the zone.
        :param reset_counters: whether to reset the kernel's counters at each reading, instead of
            subtracting what was read before. Other programs read the same counters.
        :param receive_buffer: see :meth:`Connection.events`.
        :param receive_buffer_max: see :meth:`Connection.events`.
        :raises ValueError: when ``active_timeout`` is not positive.
        """
        if active_timeout is not None:
            check_interval(active_timeout)
        self._conn = conn
        self._interval = _SILENT_INTERVAL if active_timeout is None else active_timeout
        self._match = match
        self._resets = reset_counters
        self._buffers = receive_buffer, receive_buffer_max
        self._accounts = FlowAccounts(active=active_timeout is not None, resets=reset_counters)
        self._has_gap = False
        """Whether events were lost since the last reading of the table began."""
        self._exit_stack = AsyncExitStack()
        self._batches: Batches | None = None

    @property
    def known_flows(self) -> int:
        """How many flows are followed at the moment; each takes about a kilobyte."""
        return len(self._accounts)

    async def __aenter__(self) -> Self:
        """Subscribe to events, and read the table.

        :raises ConntrackError: what :meth:`Connection.events` and :meth:`Connection.dump` raise.
        """
        receive_buffer, receive_buffer_max = self._buffers
        async with AsyncExitStack() as stack:
            stream = await stack.enter_async_context(
                self._conn.events(
                    EventType.NEW,
                    EventType.DESTROY,
                    match=self._match,
                    receive_buffer=receive_buffer,
                    receive_buffer_max=receive_buffer_max,
                    on_loss="item",
                    reliable=True,
                    receive_time=True,
                )
            )
            first = [records async for records in self._read_table(stream)]
            self._batches = self._generate(stream, first)
            stack.push_async_callback(self._batches.aclose)
            self._exit_stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._exit_stack.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Record]:
        """Return the next records.

        :raises RuntimeError: when the records were not entered.
        :raises ConntrackError: when the table or the events cannot be read.
        """
        if self._batches is None:
            raise RuntimeError("enter the records first: async with FlowRecords(conn) as records")
        return await anext(self._batches)

    async def _generate(
        self, stream: EventStream[FlowEvent | EventsLost], first: Iterable[list[Record]]
    ) -> AsyncGenerator[list[Record], None]:
        for records in first:
            yield records
        due = anyio.current_time() + self._interval
        while True:
            events: list[FlowEvent | EventsLost] = []
            with anyio.move_on_after(max(0.0, due - anyio.current_time())):
                events = await stream.receive_batch()
            if records := self._process(events):
                yield records
            if anyio.current_time() >= due:
                due = anyio.current_time() + self._interval
                async for records in self._read_table(stream):
                    yield records

    # -- events and the table -----------------------------------------------------------------

    def _process(self, events: Iterable[FlowEvent | EventsLost]) -> list[Record]:
        """Return the records that events cause."""
        records: list[Record] = []
        for event in events:
            if isinstance(event, EventsLost):
                self._has_gap = True
                records.append(LostRecord(time=now(), events=event.lost))
            elif event.type is EventType.NEW:
                self._accounts.began(event, time_of(event))
            else:
                records.append(self._accounts.ended(event, time_of(event)))
        return records

    async def _waiting(
        self, stream: EventStream[FlowEvent | EventsLost]
    ) -> AsyncGenerator[list[Record], None]:
        """Yield the records of all events that have happened until now."""
        position = stream.position()
        while not stream.has_passed(position):
            if records := self._process(stream.receive_batch_nowait()):
                yield records
            await anyio.lowlevel.checkpoint()

    async def _read_table(
        self, stream: EventStream[FlowEvent | EventsLost]
    ) -> AsyncGenerator[list[Record], None]:
        """Read the table, and yield the records of its flows and of the events meanwhile."""
        had_gap, self._has_gap = self._has_gap, False
        accounts = self._accounts
        accounts.begin_reading()
        count = 0
        async with self._conn.dump(self._match, reset_counters=self._resets) as dump:
            async for flows in dump.batches():
                time = now()
                count += len(flows)
                read = [accounts.read(flow, time) for flow in flows]
                records: list[Record] = [record for record in read if record is not None]
                records += self._process(stream.receive_batch_nowait())
                if records:
                    yield records
        async for records in self._waiting(stream):
            yield records
        dying: set[Key] = set()
        if accounts.missing():
            dying = {flow.key async for flow in self._conn.dying()}
            async for records in self._waiting(stream):
                yield records
        ended: list[Record] = list(accounts.end_reading(dying))
        if ended:
            yield ended
        if had_gap:
            yield [ResynchronizedRecord(time=now(), flows=count)]
