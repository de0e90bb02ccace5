"""What keeps a mirror true: it follows the events, and compares with the kernel's table.

Comparisons have numbers. One that is asked for must begin after that: the number up to which all
are done says whether it was. After a loss, one is asked for when the stream says that the gap lies
behind; the kernel drops silently until then.

A comparison that fails for something that may pass is tried again for as long as it takes.
"""

from __future__ import annotations

import copy
import errno
import logging
import math
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Final, Literal

import anyio
import anyio.lowlevel

from ..errors import (
    SHORTAGES,
    ConntrackError,
    DecodeError,
    DumpInterrupted,
    EventsLost,
    KernelError,
    NoReply,
    ResourceExhausted,
)
from ..eventloop import Work, wake
from ..model.flow import Flow
from ..model.table import FlowTableStatistics, TableMode
from .mirror import Mirror
from .upstream import Upstream, chain_of

logger = logging.getLogger("conntrack_aio")

_AT_ONCE: Final = 256
"""Entries that are looked up by one call."""

_LONGEST_PAUSE: Final = 5.0
"""Seconds between two comparisons that follow each other, at most."""

_ATTEMPTS: Final = 5
"""Attempts in a row to read the kernel's table. If the last of them could not read it as a whole,
what it read is taken; if all of them failed, whoever waits for it gets the error."""

_RETRY: Final = 0.1
"""Seconds before the first is tried again; each further one waits twice as long."""

_LONGEST_RETRY: Final = 2.0
"""Seconds between two attempts, at most."""

_INTERVAL: Final = 60.0
"""Seconds between two comparisons where entries may be silent and no interval was asked for."""

_TICK: Final = 0.5
"""Seconds between two looks for entries whose timeout has run out."""

_OVERDUE_AT_ONCE: Final = 128
"""Entries that are looked up in a tick because of that, which takes a thousandth of its time."""

_RIPE: Final = 1.0
"""Seconds after which a change that was found must have been reported by an event. The kernel
sends the events of a packet when it has passed, be it through a queue to user space."""

Interval = float | Literal["auto"] | None
"""Seconds between two comparisons; ``"auto"`` for :data:`_INTERVAL`, but only while there may be
entries that emit no events; ``None`` for no comparisons of this kind."""


def _may_pass(error: ConntrackError) -> bool:
    """Whether another attempt may do better: something was short, or the answer was damaged."""
    if isinstance(error, KernelError):
        return error.errno in SHORTAGES or error.errno == errno.EBADMSG
    return True


def _without_frames(error: ConntrackError) -> ConntrackError:
    """Have it, and what caused it, hold no stack frames: those hold whatever was in use."""
    for part in chain_of(error):
        part.__traceback__ = None
    return error


class Keeper:
    """Keeps a mirror true, while :meth:`run` runs."""

    def __init__(
        self,
        upstream: Upstream,
        mirror: Mirror,
        interval: Interval,
        check: Callable[[], None],
        *,
        choice_is_fixed: bool = True,
    ) -> None:
        """
        :param check: raises why there is nothing to wait for any more. It is a method of the
            keeper's owner, which it does not keep alive.
        :param choice_is_fixed: whether an entry that is not one to keep never becomes one.
        """
        self._upstream = upstream
        self._check_owner = weakref.WeakMethod(check)
        self._mirror = mirror
        self._interval: Interval = interval
        self._choice_is_fixed = choice_is_fixed
        self._counters = FlowTableStatistics()
        self._setting: int | None = None
        self._covered: bool = False
        """Whether all flows emit events that were made before, as far as the setting tells."""
        self._requested, self._completed = 1, 0
        """Comparisons: the number of the last that was asked for, and of the last that is done."""
        self._lost_at = 0
        """The number of the one that the last loss asked for."""
        self._failures = 0
        """Attempts that failed, since the last that did not."""
        self._last_error: ConntrackError | None = None
        self._mark: int | None = None
        """When this has passed, what events tell is younger than what was read."""
        self._comparing = self._applying = False
        self._doubtful: dict[int, Flow] = {}
        """Entries to be looked up: their timeout has run out, or a dump lacked them."""
        self._idle: anyio.CancelScope | None = None
        """The follower's waiting for more."""
        self._progress: anyio.Event | None = None

    # -- what is known ----------------------------------------------------------------------

    @property
    def mode(self) -> TableMode:
        if self._setting == 0:
            return TableMode.POLLED
        return TableMode.PARTIAL if self._some_may_be_silent else TableMode.FOLLOWED

    @property
    def _some_may_be_silent(self) -> bool:
        if self._setting is None or self._counters.unreported_changes:
            return True
        return not self._covered and (bool(self._mirror.unheard) or not self._choice_is_fixed)

    @property
    def behind(self) -> bool:
        return self._lost_at > self._completed or self._failures > 0

    @property
    def last_error(self) -> ConntrackError | None:
        return self._last_error

    def statistics(self) -> FlowTableStatistics:
        """Its own part of them."""
        return self._counters

    def clear(self) -> None:
        """Let go of what it holds of the table."""
        self._doubtful = {}
        self._last_error = self._counters.last_error = None

    # -- waiting ----------------------------------------------------------------------------

    async def begun(self) -> None:
        """Return when the kernel's table was read, and what was lost meanwhile is repaired."""
        await self.until(lambda: self._completed > 0)
        await self.synced()

    async def synced(self) -> None:
        """See :meth:`FlowTable.synced`."""
        mark = self._upstream.stream.position()
        await self._soon(lambda: self._is_applied(mark))
        lost_at = self._lost_at
        if self._mirror.puzzled:
            done = self._counters.comparisons
            await self.until(lambda: self._counters.comparisons > done)
        await self._soon(lambda: self._completed >= lost_at)

    async def reconciled(self) -> None:
        """See :meth:`FlowTable.reconcile`."""
        wanted = self._want()
        await self._soon(lambda: self._completed >= wanted)

    def _is_applied(self, mark: int) -> bool:
        """Whether all events are applied that were queued at a mark."""
        return not self._applying and self._upstream.stream.has_passed(mark)

    async def _soon(self, condition: Callable[[], bool]) -> None:
        """Return once it holds.

        Raises what the last attempt to compare failed for, if too many in a row have.
        """
        failed = self._counters.failures

        def in_vain() -> bool:
            return self._failures >= _ATTEMPTS and self._counters.failures > failed

        await self.until(lambda: condition() or in_vain())
        if not condition() and self.last_error is not None:
            raise copy.copy(self.last_error)  # raised as it is, it would hold this frame

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once it holds."""
        await anyio.lowlevel.checkpoint()
        self._check()
        while not condition():
            if self._progress is None:
                self._progress = anyio.Event()
            await self._progress.wait()
            self._check()

    def _check(self) -> None:
        check = self._check_owner()
        if check is not None:
            check()

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
        before, self._setting = self._setting, await self._upstream.read_number("events")
        if self._setting == 0:
            self._covered = False  # what is made now stays silent, whatever the setting is later
        self._mirror.older_emit = self._covered
        self._mirror.new_emit = bool(self._setting) and self._setting == before
        if self._setting != before and self._completed:
            # An entry gets its events when it is made, and is in the table a little later.
            self._want()

    @property
    def works(self) -> tuple[Work, ...]:
        """What keeps the mirror true: each is to run in a task of its own while the table is open.

        They return only by raising what the table can't go on for.
        """
        return self._follow, self._compare_at_need, self._look_for_silent

    async def _follow(self) -> None:
        """Apply what events tell."""
        stream = self._upstream.stream
        while True:
            try:
                batch = self._upstream.receive_batch_nowait()
            except (EventsLost, DecodeError):
                self._lose()  # something happened, and it can't be read what
                await anyio.lowlevel.checkpoint()
                continue
            except ResourceExhausted:
                self._lose()
                await anyio.sleep(_RETRY)
                continue
            # Still set if a function of the user's raises: then nobody may think that it was done.
            self._applying = True
            if batch:
                self._mirror.now = time.monotonic()
            for item in batch:
                self._mirror.apply(item)
            if self._mirror.strangers or self._doubtful:
                await self._look_up()
            self._applying = False
            if self._mark is not None and stream.has_passed(self._mark):
                self._mark = None
                self._mirror.settled = not self._comparing
            self.announce()
            if batch or self._mirror.strangers or self._doubtful:
                await anyio.lowlevel.checkpoint()
            else:
                with anyio.CancelScope() as self._idle:
                    await self._upstream.wait_readable()
                self._idle = None

    def _lose(self) -> None:
        self._mirror.lose()
        self._lost_at = self._want()

    def _want(self) -> int:
        """Ask for a comparison that begins from now on; its number."""
        self._requested += 1
        self.announce()
        return self._requested

    async def _look_up(self) -> None:
        """Ask for the entries that updates told of and that are not known; and for those of which
        it is doubtful whether they are there."""
        strangers, self._mirror.strangers = self._mirror.strangers, {}
        doubtful, self._doubtful = self._doubtful, {}
        try:
            await self._ask_for(strangers, self._mirror.looked_up)
            await self._ask_for(
                doubtful, lambda key, flow: self._mirror.checked(key, doubtful[key], flow)
            )
        except (KernelError, DecodeError, NoReply) as error:
            if not _may_pass(error):
                raise
            self._lose()
        self._unsettle()

    async def _ask_for(
        self, flows: Mapping[int, Flow], take: Callable[[int, Flow | None], None]
    ) -> None:
        asked = iter(flows.items())
        # Some at a time: other tasks have requests, too.
        while some := dict(islice(asked, _AT_ONCE)):
            found = await self._upstream.look_up(some)
            self._counters.looked_up += len(found)
            for key, flow in found.items():
                take(key, flow)

    def _ask_follower(self) -> None:
        """Have entries looked up by the follower alone: nobody applies events meanwhile."""
        if self._idle is not None:
            self._idle.cancel()

    def _unsettle(self) -> None:
        """What was just read may be ahead of events that still wait."""
        self._mirror.settled = False
        self._mark = self._upstream.stream.position()

    # -- comparing --------------------------------------------------------------------------

    async def _compare_at_need(self) -> None:
        """After each loss, at request, and every so often while there may be silent flows."""
        while True:
            started, number = time.monotonic_ns(), self._requested
            for_loss = self._lost_at > self._completed
            if for_loss and not self._failures:
                logger.warning("live table: events were lost; reading the kernel's table again")
            error: ConntrackError | None = None
            try:
                if not await self._compare(
                    last=self._failures >= _ATTEMPTS - 1, examining=self._completed > 0
                ):
                    error = DumpInterrupted("dump the table: it could not be read as a whole")
            except (KernelError, NoReply) as raised:
                opening = not self._completed and self._failures >= _ATTEMPTS - 1
                if opening or not _may_pass(raised):
                    raise
                error = _without_frames(raised)
            took = time.monotonic_ns() - started
            self._counters.resyncs += for_loss
            self._counters.comparisons += 1
            self._counters.last_comparison = took
            self._note(error)
            if error is None:
                self._completed = number
            self.announce()
            if self._failures:
                await anyio.sleep(min(_RETRY * 2 ** min(self._failures - 1, 10), _LONGEST_RETRY))
            elif self._requested > self._completed:
                # Half of the time at most, so that who can't keep up with events is not kept from
                # them by what they made necessary.
                await anyio.sleep(min(took / 1e9, _LONGEST_PAUSE))
            else:
                await self._need()

    def _note(self, error: ConntrackError | None) -> None:
        """An attempt has failed, or has not."""
        if error is None:
            if self._failures:
                logger.info(
                    "the live table was compared with the kernel's, after %d failed attempts",
                    self._failures,
                )
            self._failures = 0
        else:
            if not self._failures:
                logger.warning(
                    "live table: it can't be compared with the kernel's, and will retry: %s",
                    error,
                )
            self._failures += 1
            self._counters.failures += 1
        self._last_error = error
        self._counters.last_error = None if error is None else str(error)

    async def _need(self) -> None:
        automatic = self._interval == "auto"
        interval = _INTERVAL if self._interval == "auto" else self._interval or math.inf
        while self._requested == self._completed:
            with anyio.move_on_after(interval):
                await self.until(lambda: self._requested > self._completed)
                return
            try:
                await self._read_setting()
            except ResourceExhausted:
                self._want()  # which fails for the same, and is tried again
            silent = self._setting == 0 or self._some_may_be_silent or self._mirror.unheard
            if silent or not automatic:
                self._want()

    async def _compare(self, *, last: bool, examining: bool) -> bool:
        """Read the kernel's table, and find the differences.

        Whether it was read as a whole; of the ``last`` attempt that is taken as it is.
        ``examining`` says that events were followed before.
        """
        await self._read_setting()
        buckets = await self._upstream.read_number("buckets")
        self._comparing = True
        self._mirror.open_window(examining=examining and not self.behind)
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
        self._ask_follower()
        await self.until(lambda: not (self._mirror.strangers or self._applying))
        return whole or last

    async def _read_all(self) -> tuple[bool, bool]:
        """Whether all entries were told, and whether they could be read."""
        readable = True
        async with self._upstream.dump() as dump:
            while True:
                try:
                    batch = await self._upstream.receive_batch(dump)
                except DecodeError:
                    readable = False  # of an entry that is known, perhaps
                    if dump.closed:
                        return False, readable
                    continue
                except DumpInterrupted:
                    return False, readable
                if not batch:
                    return True, readable
                self._mirror.now = time.monotonic()
                for flow in batch:
                    self._mirror.found(flow)

    # -- what no event reports --------------------------------------------------------------

    async def _look_for_silent(self) -> None:
        """Look for entries that have ended without an event, and for changes of others."""
        mirror, stream = self._mirror, self._upstream.stream
        while True:
            await self.until(lambda: bool(mirror.suspects) or len(mirror.entries) > 0)
            await anyio.sleep(_TICK)
            mirror.now = time.monotonic()
            if mirror.suspects:
                found_before, lost_at, mark = mirror.now - _RIPE, self._lost_at, stream.position()
                await self.until(lambda: self._is_applied(mark) and not self._doubtful)  # noqa: B023
                if self._lost_at == lost_at:
                    self._count(mirror.judge(found_before))
            if not (self._comparing or self._doubtful):
                self._doubtful = mirror.unconfirmed() or mirror.overdue(_OVERDUE_AT_ONCE)
                if self._doubtful:
                    self._ask_follower()

    def _count(self, changes: int) -> None:
        """So many changes were found that no event has reported."""
        if not changes:
            return
        if not self._counters.unreported_changes:
            logger.info(
                "live table: found changes without events, as where a rule such as `ct event set` "
                "suppresses them; comparing with the kernel's table at intervals"
            )
        self._counters.unreported_changes += changes
        self.announce()
