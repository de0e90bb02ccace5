"""What keeps a mirror true: it follows the events, and compares with the kernel's table.

Comparisons have numbers. One that is asked for must begin after that: the number up to which all
are done says whether it was. After a loss, one is asked for when the stream says that the gap lies
behind; the kernel drops silently until then.
"""

from __future__ import annotations

import errno
import logging
import math
import time
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Final

import anyio
import anyio.lowlevel

from ..errors import (
    ConntrackError,
    DecodeError,
    DumpInterrupted,
    EventsLost,
    KernelError,
    NoReply,
    ResourceExhausted,
)
from ..eventloop import Work, wake
from ..model.table import TableMode, TableStatistics
from .mirror import Mirror
from .upstream import Upstream

logger = logging.getLogger("conntrack_aio")

_AT_ONCE: Final = 256
"""Entries that are looked up by one call."""

_LONGEST_PAUSE: Final = 5.0
"""Seconds between two comparisons that follow each other, at most."""

_ATTEMPTS: Final = 5
"""Comparisons in a row that may fail: for want of memory, for an answer that was lost, or because
the table was rehashed meanwhile."""

_RETRY: Final = 0.1
"""Seconds before the first is tried again; each further one waits twice as long."""


def _may_pass(error: ConntrackError) -> bool:
    """Whether another attempt may do better: there was no memory, or the answer was damaged."""
    if isinstance(error, KernelError):
        return isinstance(error, ResourceExhausted) or error.errno == errno.EBADMSG
    return True


class Keeper:
    """Keeps a mirror true, while :meth:`run` runs."""

    def __init__(
        self,
        upstream: Upstream,
        mirror: Mirror,
        interval: float | None,
        check: Callable[[], None],
    ) -> None:
        """``interval`` is of seconds between two looks for what silent flows did; ``check`` raises
        why there is nothing to wait for any more."""
        self._upstream = upstream
        self._check = check
        self._mirror = mirror
        self._interval = math.inf if interval is None else interval
        self._counters = TableStatistics()
        self._setting: int | None = None
        self._covered: bool = False
        """Whether all flows emit events that were made before, as far as the setting tells."""
        self._requested, self._completed = 1, 0
        """Comparisons: the number of the last that was asked for, and of the last that is done."""
        self._lost_at = 0
        """The number of the one that the last loss asked for."""
        self._mark: int | None = None
        """When this has passed, what events tell is younger than what was read."""
        self._comparing = self._looking_up = False
        self._idle: anyio.CancelScope | None = None
        """The follower's waiting for more."""
        self._progress: anyio.Event | None = None

    # -- what is known ----------------------------------------------------------------------

    @property
    def mode(self) -> TableMode:
        if self._setting == 0:
            return TableMode.POLLED
        heard = self._covered or not self._mirror.unheard
        return TableMode.FOLLOWED if heard and self._setting is not None else TableMode.PARTLY

    @property
    def behind(self) -> bool:
        return self._lost_at > self._completed

    def statistics(self) -> TableStatistics:
        """Its own part of them."""
        return self._counters

    # -- waiting ----------------------------------------------------------------------------

    async def begun(self) -> None:
        """Return when the kernel's table was read, and what was lost meanwhile is repaired."""
        await self.until(lambda: self._completed > 0)
        await self.synced()

    async def synced(self) -> None:
        """See :meth:`FlowTable.synced`."""
        stream = self._upstream.stream
        mark = stream.mark()
        await self.until(lambda: not self._looking_up and stream.passed(mark))
        lost_at = self._lost_at
        if self._mirror.puzzled:
            done = self._counters.comparisons
            await self.until(lambda: self._counters.comparisons > done)
        await self.until(lambda: self._completed >= lost_at)

    async def reconciled(self) -> None:
        """See :meth:`FlowTable.reconcile`."""
        wanted = self._want()
        await self.until(lambda: self._completed >= wanted)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once it holds."""
        await anyio.lowlevel.checkpoint()
        self._check()
        while not condition():
            if self._progress is None:
                self._progress = anyio.Event()
            await self._progress.wait()
            self._check()

    def announce(self) -> None:
        """Have those who wait look again."""
        progress, self._progress = self._progress, None
        if progress is not None:
            wake(progress)

    # -- following --------------------------------------------------------------------------

    async def subscribe(self, prepare: Callable[[], Awaitable[None]] | None) -> None:
        """Have the kernel tell of what happens from now on, after a look at its settings."""
        await self._read_setting()
        self._covered = self._setting == 1
        if prepare is not None:
            await prepare()
        self._upstream.subscribe()

    async def _read_setting(self) -> None:
        self._setting = await self._upstream.read_number("events")
        if self._setting == 0:
            self._covered = False  # what is made now stays silent, whatever the setting is later

    @property
    def works(self) -> tuple[Work, ...]:
        """What keeps the mirror true: each is to run in a task of its own while the table is open.

        They return only by raising what the table can't go on for.
        """
        return self._follow, self._compare_at_need

    async def _follow(self) -> None:
        """Apply what events tell."""
        stream = self._upstream.stream
        while True:
            try:
                batch = stream.batch_nowait()
            except (EventsLost, DecodeError):
                self._lose()  # something happened, and it can't be read what
                await anyio.lowlevel.checkpoint()
                continue
            for item in batch:
                self._mirror.apply(item)
            if self._mirror.strangers:
                await self._look_up()
            if self._mark is not None and stream.passed(self._mark):
                self._mark = None
                self._mirror.settled = not self._comparing
            self.announce()
            if batch or self._mirror.strangers:
                await anyio.lowlevel.checkpoint()
            else:
                with anyio.CancelScope() as self._idle:
                    await stream.socket.wait_readable()
                self._idle = None

    def _lose(self) -> None:
        self._lost_at = self._want()

    def _want(self) -> int:
        """Ask for a comparison that begins from now on; its number."""
        self._requested += 1
        self.announce()
        return self._requested

    async def _look_up(self) -> None:
        """Ask for the entries that updates told of and that are not known."""
        strangers, self._mirror.strangers = self._mirror.strangers, {}
        asked = iter(strangers.items())
        self._looking_up = True
        try:
            # Some at a time: other tasks have requests, too.
            while some := dict(islice(asked, _AT_ONCE)):
                found = await self._upstream.look_up(some)
                self._counters.looked_up += len(found)
                for key, flow in found.items():
                    self._mirror.looked_up(key, flow)
        except (KernelError, DecodeError, NoReply) as error:
            if not _may_pass(error):
                raise
            self._lose()
        finally:
            self._looking_up = False
        self._unsettle()

    def _unsettle(self) -> None:
        """What was just read may be ahead of events that still wait."""
        self._mirror.settled = False
        self._mark = self._upstream.stream.mark()

    # -- comparing --------------------------------------------------------------------------

    async def _compare_at_need(self) -> None:
        """After each loss, at request, and every so often while there may be silent flows."""
        failures = 0
        while True:
            started, number = time.monotonic_ns(), self._requested
            for_loss = self.behind
            if for_loss:
                logger.warning("the live table has lost events: the kernel's is read again")
            try:
                whole = await self._compare(last=failures == _ATTEMPTS - 1)
            except (KernelError, NoReply) as error:
                if failures == _ATTEMPTS - 1 or not _may_pass(error):
                    raise
                whole = False
            failures = 0 if whole else failures + 1
            took = time.monotonic_ns() - started
            self._counters.resyncs += for_loss
            self._counters.comparisons += 1
            self._counters.last_comparison = took
            if whole:
                self._completed = number
            self.announce()
            if not whole:
                await anyio.sleep(_RETRY * 2 ** (failures - 1))
            elif self._requested > self._completed:
                # Half of the time at most, so that who can't keep up with events is not kept from
                # them by what they made necessary.
                await anyio.sleep(min(took / 1e9, _LONGEST_PAUSE))
            else:
                await self._need()

    async def _need(self) -> None:
        while self._requested == self._completed:
            with anyio.move_on_after(self._interval):
                await self.until(lambda: self._requested > self._completed)
                return
            await self._read_setting()
            if self._mirror.unheard or self._setting == 0:
                self._want()

    async def _compare(self, *, last: bool) -> bool:
        """Read the kernel's table, and find the differences.

        Whether it was read as a whole; of the ``last`` attempt that is taken as it is.
        """
        await self._read_setting()
        buckets = await self._upstream.read_number("buckets")
        self._comparing = True
        self._mirror.open_window()
        try:
            whole, readable = await self._read_all()
            # While the table is rehashed a walk can miss entries.
            whole = whole and buckets == await self._upstream.read_number("buckets")
            if whole or last:
                for _ in self._mirror.sweep(certain=whole and readable):
                    await anyio.lowlevel.checkpoint()
        finally:
            self._mirror.close_window()
            self._comparing = False
        self._unsettle()
        # Only the follower may ask for them: nobody else applies events meanwhile.
        if self._idle is not None:
            self._idle.cancel()
        await self.until(lambda: not (self._mirror.strangers or self._looking_up))
        return whole or last

    async def _read_all(self) -> tuple[bool, bool]:
        """Whether all entries were told, and whether they could be read."""
        readable = True
        async with self._upstream.dump() as dump:
            while True:
                try:
                    batch = await dump.next_batch()
                except DecodeError:
                    readable = False  # of an entry that is known, perhaps
                    if dump.walk.closed:
                        return False, readable
                    continue
                except DumpInterrupted:
                    return False, readable
                if not batch:
                    return True, readable
                for flow in batch:
                    self._mirror.found(flow)
