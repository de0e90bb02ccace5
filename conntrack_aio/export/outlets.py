"""Hand records to one sink: with a bounded queue, retries, and the count of what was dropped."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final

import anyio
import attrs

from .records import LostRecord, Record
from .sinks import Sink, SinkError
from .sources import now

logger = logging.getLogger(__name__)

_FIRST_DELAY: Final = 0.5
_LONGEST_DELAY: Final = 30.0
"""Seconds between two tries; each delay is twice the one before."""

_MOST_AT_ONCE: Final = 5000
"""The most records that a sink gets at once."""


@attrs.define(kw_only=True)
class SinkStatistics:
    """What one sink has done so far. :attr:`waiting` can also fall."""

    written: int = 0
    """The records that the destination has taken."""
    dropped: int = 0
    """The records that were dropped because the queue was full."""
    failures: int = 0
    """The failed tries to connect or to write."""
    waiting: int = 0
    """The records that wait in the queue."""
    last_error: str | None = None
    """Why the last try failed; ``None`` if it succeeded."""


class Outlet:
    """The queue in front of one sink.

    Putting never waits, so that a slow destination slows nothing else. What does not fit is dropped
    and counted, and a :class:`LostRecord` takes its place.
    """

    def __init__(self, sink: Sink, limit: int) -> None:
        """Create an empty queue.

        :param sink: the sink.
        :param limit: the most records that wait.
        """
        self.sink = sink
        self._limit = limit
        self._queue: deque[Record] = deque()
        self._gap = 0
        """The records that were dropped since the last one was put."""
        self._changed = anyio.Event()
        self._ended = False
        self._reopens = False
        self._statistics = SinkStatistics()

    def statistics(self) -> SinkStatistics:
        """Return what the sink has done so far."""
        return attrs.evolve(self._statistics, waiting=len(self._queue))

    # -- the reader's side --------------------------------------------------------------------

    def put(self, records: Sequence[Record]) -> None:
        """Queue records, as far as they fit."""
        room = self._limit - len(self._queue)
        if self._gap and room > 0:
            self._queue.append(LostRecord(time=now(), records=self._gap))
            self._gap = 0
            room -= 1
        self._queue.extend(records if room >= len(records) else records[: max(0, room)])
        dropped = max(0, len(records) - max(0, room))
        if dropped:
            self._gap += dropped
            self._statistics.dropped += dropped
        self._changed.set()

    def end(self) -> None:
        """Put nothing more: :meth:`run` returns when the queue is empty."""
        if self._gap:
            self._queue.append(LostRecord(time=now(), records=self._gap))
            self._gap = 0
        self._ended = True
        self._changed.set()

    def reopen(self) -> None:
        """Have the sink open its files again before the next record."""
        self._reopens = True
        self._changed.set()

    # -- the sink's side ----------------------------------------------------------------------

    async def run(self) -> None:
        """Write what is queued until :meth:`end`, trying again where the destination fails."""
        delay = _FIRST_DELAY
        is_open = False
        while True:
            try:
                if not is_open:
                    await self.sink.open()
                    is_open = True
                if not await self._write_next():
                    await self.sink.flush()
                    return
                delay = _FIRST_DELAY
                self._statistics.last_error = None
            except SinkError as error:
                self._note(error)
                await self.sink.close()
                is_open = False
                await anyio.sleep(delay)
                delay = min(2 * delay, _LONGEST_DELAY)

    async def _write_next(self) -> bool:
        """Write some of what waits; return ``False`` at the end."""
        await self._reopen_if_asked()
        while not self._queue:
            if self._ended:
                return False
            await self.sink.flush()
            if self._queue:  # put during the flush
                break
            self._changed = anyio.Event()
            await self._changed.wait()
            await self._reopen_if_asked()
        queue = self._queue
        some = list(islice(queue, _MOST_AT_ONCE))
        taken = await self.sink.write(some)
        for _ in range(taken):
            queue.popleft()
        self._statistics.written += taken
        if taken < len(some):
            raise SinkError(f"{self.sink.name} has taken {taken} of {len(some)} records")
        return True

    async def _reopen_if_asked(self) -> None:
        if self._reopens:
            self._reopens = False
            await self.sink.reopen()

    def abandon(self) -> None:
        """Drop what waits, because there is no more time, and count it."""
        if dropped := len(self._queue):
            self._queue.clear()
            self._statistics.dropped += dropped
            logger.warning("%s: %d records were dropped at the end", self.sink.name, dropped)

    def _note(self, error: SinkError) -> None:
        self._statistics.failures += 1
        text = str(error)
        if text != self._statistics.last_error:  # not once for each try
            logger.warning("%s: %s", self.sink.name, text)
        self._statistics.last_error = text
