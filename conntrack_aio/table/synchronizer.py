"""Synchronize a mirror with the kernel's table: follow events, reconcile, and look entries up.

- A reconciliation dumps the kernel's table and applies the differences. Reconciliations have
  numbers. A requested reconciliation must begin after the request. It is done when the number of
  the last completed reconciliation has reached that of the request.
- After lost events, a reconciliation is requested when the stream reports the gap. The kernel may
  drop further events until then without reporting it.
- A reconciliation that fails for a temporary reason is retried until it succeeds or the table is
  closed.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Final, Literal

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
from ..eventloop import Work
from ..model.flow import Flow
from ..model.table import FlowTableStatistics, TableMode
from .attempts import Attempts, is_temporary, without_traceback
from .mirror import Mirror
from .upstream import Upstream
from .waiting import Waiters

logger = logging.getLogger("conntrack_aio")

_LOOK_UPS_PER_CALL: Final = 256
"""Entries that one call looks up."""

_MAX_PAUSE: Final = 5.0
"""Seconds between two reconciliations that follow each other, at most."""

_READ_RETRY_DELAY: Final = 0.1
"""Seconds before events are read again after a shortage."""

_AUTO_INTERVAL: Final = 60.0
"""Seconds between two reconciliations if entries may be silent and no interval was given."""

_CHECK_INTERVAL: Final = 0.5
"""Seconds between two scans for entries whose timeout has expired."""

_CHECKS_PER_SCAN: Final = 128
"""Expired entries that are looked up after one scan, at most. That takes a thousandth of the
interval."""

_MAX_EVENT_DELAY: Final = 1.0
"""Seconds after which the event of a change must be queued. The kernel sends the events of a packet
after the packet has passed, for example through a queue to user space."""

Interval = float | Literal["auto"] | None
"""Seconds between two reconciliations. ``"auto"`` means :data:`_AUTO_INTERVAL`, but only while
entries may be silent. A silent entry emits no events. ``None`` means no periodic
reconciliations."""


class Synchronizer:
    """Synchronizes a mirror with the kernel's table while its :attr:`works` run."""

    def __init__(
        self,
        upstream: Upstream,
        mirror: Mirror,
        interval: Interval,
        check: Callable[[], None],
        *,
        constant_match: bool = True,
    ) -> None:
        """Initialize without reading anything.

        :param upstream: the kernel's connection tracking.
        :param mirror: the mirror to update.
        :param interval: the time between two reconciliations.
        :param check: a method of the table that raises an error if the table has ended. The table
            is not kept alive.
        :param constant_match: whether an entry that does not match never comes to match.
        """
        self._upstream = upstream
        self._mirror = mirror
        self._interval: Interval = interval
        self._constant_match = constant_match
        self._waiters = Waiters(check)
        self._counters = FlowTableStatistics()
        self._attempts = Attempts(self._counters)
        self._setting: int | None = None
        """``nf_conntrack_events`` as it was read last; ``None`` if it cannot be read."""
        self._older_entries_emit = False
        """Whether all entries older than the table emit events, according to the setting."""
        self._requested, self._completed = 1, 0
        """The numbers of the last requested and of the last completed reconciliation."""
        self._requested_by_loss = 0
        """The number of the reconciliation that the last loss requested."""
        self._read_position: int | None = None
        """The position in the event stream at the time of the last dump or look-up. Events behind
        it are newer than what was read."""
        self._reconciling = self._applying = False
        self._to_check: dict[int, Flow] = {}
        """Entries to look up because their timeout has expired, or because a dump lacked them."""
        self._idle: anyio.CancelScope | None = None
        """The scope in which the task that follows events waits for more."""

    # -- state ------------------------------------------------------------------------------

    @property
    def mode(self) -> TableMode:
        """How complete the events are; see :class:`TableMode`."""
        if self._setting == 0:
            return TableMode.POLLED
        return TableMode.PARTIAL if self._entries_may_be_silent else TableMode.FOLLOWED

    @property
    def _entries_may_be_silent(self) -> bool:
        if self._setting is None or self._counters.unreported_changes:
            return True
        return not self._older_entries_emit and (
            bool(self._mirror.without_events) or not self._constant_match
        )

    @property
    def behind(self) -> bool:
        """See :attr:`FlowTable.behind`."""
        return self._requested_by_loss > self._completed or self._attempts.failed_in_a_row > 0

    @property
    def attempts(self) -> Attempts:
        """The attempts to reconcile."""
        return self._attempts

    def statistics(self) -> FlowTableStatistics:
        """Return the statistics that the synchronizer counts. The other fields are zero."""
        return self._counters

    def clear(self) -> None:
        """Drop all entries and errors."""
        self._to_check = {}
        self._attempts.clear_error()

    # -- waiting ----------------------------------------------------------------------------

    async def wait_opened(self) -> None:
        """Wait for the first reconciliation, and for the repair of losses during it."""
        await self._waiters.wait_until(lambda: self._completed > 0)
        await self.wait_synced()

    async def wait_synced(self) -> None:
        """See :meth:`FlowTable.synced`."""
        position = self._upstream.stream.position()
        await self._wait_or_raise(lambda: self._is_applied(position))
        requested = self._requested_by_loss
        if self._mirror.needs_look_up:
            done = self._counters.reconciliations
            await self._waiters.wait_until(lambda: self._counters.reconciliations > done)
        await self._wait_or_raise(lambda: self._completed >= requested)

    async def reconcile(self) -> None:
        """Request a reconciliation, and wait for it; see :meth:`FlowTable.reconcile`."""
        requested = self._request_reconciliation()
        await self._wait_or_raise(lambda: self._completed >= requested)

    def wake_waiters(self) -> None:
        """Wake the waiting tasks, so that they evaluate their conditions again."""
        self._waiters.wake()

    def _is_applied(self, position: int) -> bool:
        """Return whether all events are applied that were queued before a stream position."""
        return not self._applying and self._upstream.stream.has_passed(position)

    async def _wait_or_raise(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition is true.

        Raises the error of the last reconciliation if too many in a row have failed, and one of
        them during this call.
        """
        failures = self._counters.failures

        def gave_up() -> bool:
            return self._attempts.exhausted and self._counters.failures > failures

        await self._waiters.wait_until(lambda: condition() or gave_up())
        error = self._attempts.last_error
        if not condition() and error is not None:
            # A copy: the traceback of the raised error refers to this frame.
            raise copy.copy(error)

    # -- following events -------------------------------------------------------------------

    async def subscribe(self, prepare: Callable[[], Awaitable[None]] | None) -> None:
        """Read the settings, and subscribe to events.

        :param prepare: called in between.
        """
        await self._read_setting()
        self._older_entries_emit = self._setting == 1
        if prepare is not None:
            await prepare()
        self._upstream.subscribe()

    async def _read_setting(self) -> None:
        before, self._setting = self._setting, await self._upstream.read_number("events")
        if self._setting == 0:
            # Entries that are created now stay silent, whatever the setting becomes.
            self._older_entries_emit = False
        self._mirror.older_entries_emit = self._older_entries_emit
        self._mirror.new_entries_emit = bool(self._setting) and self._setting == before
        if self._setting != before and self._completed:
            # The kernel decides about events when it creates an entry, and adds the entry to the
            # table a little later. So silent entries may still be added after this reconciliation.
            self._request_reconciliation()

    @property
    def works(self) -> tuple[Work, ...]:
        """The functions to run, each in a task of its own, while the table is open.

        Each returns only by raising an error that ends the table.
        """
        return self._follow_events, self._reconcile_when_needed, self._find_unreported_changes

    async def _follow_events(self) -> None:
        """Apply events."""
        stream = self._upstream.stream
        while True:
            try:
                batch = self._upstream.receive_batch_nowait()
            except (EventsLost, DecodeError):
                self._handle_loss()  # an event that cannot be decoded is lost, too
                await anyio.lowlevel.checkpoint()
                continue
            except ResourceExhausted:
                self._handle_loss()
                await anyio.sleep(_READ_RETRY_DELAY)
                continue
            # If the predicate of the program raises, this stays set: the events count as pending.
            self._applying = True
            if batch:
                self._mirror.now = time.monotonic()
            for event in batch:
                self._mirror.apply(event)
            if self._mirror.unresolved or self._to_check:
                await self._look_up()
            self._applying = False
            if self._read_position is not None and stream.has_passed(self._read_position):
                self._read_position = None
                self._mirror.caught_up = not self._reconciling
            self.wake_waiters()
            if batch or self._mirror.unresolved or self._to_check:
                await anyio.lowlevel.checkpoint()
            else:
                with anyio.CancelScope() as self._idle:
                    await self._upstream.wait_readable()
                self._idle = None

    def _handle_loss(self) -> None:
        self._mirror.record_loss()
        self._requested_by_loss = self._request_reconciliation()

    def _request_reconciliation(self) -> int:
        """Request a reconciliation that begins after this call, and return its number."""
        self._requested += 1
        self.wake_waiters()
        return self._requested

    async def _look_up(self) -> None:
        """Look up the unresolved entries and those to check, and apply the results."""
        unresolved, self._mirror.unresolved = self._mirror.unresolved, {}
        to_check, self._to_check = self._to_check, {}
        try:
            await self._look_up_each(unresolved, self._mirror.resolve)
            await self._look_up_each(
                to_check, lambda key, flow: self._mirror.apply_check(key, to_check[key], flow)
            )
        except (KernelError, DecodeError, NoReply) as error:
            if not is_temporary(error):
                raise
            self._handle_loss()
        self._record_read()

    async def _look_up_each(
        self, flows: Mapping[int, Flow], apply: Callable[[int, Flow | None], None]
    ) -> None:
        remaining = iter(flows.items())
        # Some at a time, so that requests of other tasks get their turn.
        while batch := dict(islice(remaining, _LOOK_UPS_PER_CALL)):
            found = await self._upstream.look_up(batch)
            self._counters.looked_up += len(found)
            for key, flow in found.items():
                apply(key, flow)

    def _wake_follower(self) -> None:
        """Make the task that follows events look entries up.

        Only that task does, so that no events are applied during a look-up.
        """
        if self._idle is not None:
            self._idle.cancel()

    def _record_read(self) -> None:
        """Record that the mirror may be ahead of events that still wait to be read."""
        self._mirror.caught_up = False
        self._read_position = self._upstream.stream.position()

    # -- reconciling ------------------------------------------------------------------------

    async def _reconcile_when_needed(self) -> None:
        """Compare after each loss, on request, and periodically while entries may be silent."""
        while True:
            started, number = time.monotonic_ns(), self._requested
            for_loss = self._requested_by_loss > self._completed
            if for_loss and not self._attempts.failed_in_a_row:
                logger.warning("live table: events were lost; reading the kernel's table again")
            error: ConntrackError | None = None
            try:
                if not await self._reconcile(
                    last=self._attempts.is_last, examine=self._completed > 0
                ):
                    error = DumpInterrupted("dump the table: the dump was not complete")
            except (KernelError, NoReply) as raised:
                opening = not self._completed and self._attempts.is_last
                if opening or not is_temporary(raised):
                    raise
                error = without_traceback(raised)
            took = time.monotonic_ns() - started
            self._counters.resyncs += for_loss
            self._counters.reconciliations += 1
            self._counters.last_reconciliation_ns = took
            self._attempts.record(error)
            if error is None:
                self._completed = number
            self.wake_waiters()
            if self._attempts.failed_in_a_row:
                await anyio.sleep(self._attempts.retry_delay)
            elif self._requested > self._completed:
                # Reconciliations take half of the time at most. Otherwise a program that reads
                # events too slowly would lose still more of them.
                await anyio.sleep(min(took / 1e9, _MAX_PAUSE))
            else:
                await self._wait_for_need()

    async def _wait_for_need(self) -> None:
        """Wait until a reconciliation is requested, or due by the interval."""
        automatic = self._interval == "auto"
        interval = _AUTO_INTERVAL if self._interval == "auto" else self._interval or math.inf
        while self._requested == self._completed:
            with anyio.move_on_after(interval):
                await self._waiters.wait_until(lambda: self._requested > self._completed)
                return
            try:
                await self._read_setting()
            except ResourceExhausted:
                # The reconciliation reads the setting again, and is retried if that fails.
                self._request_reconciliation()
            silent = (
                self._setting == 0 or self._entries_may_be_silent or self._mirror.without_events
            )
            if silent or not automatic:
                self._request_reconciliation()

    async def _reconcile(self, *, last: bool, examine: bool) -> bool:
        """Dump the kernel's table, and apply the differences.

        :param last: whether to use the result even if the dump was incomplete.
        :param examine: whether events were followed before, so that they should have reported the
            differences.
        :returns: whether the result was used.
        """
        await self._read_setting()
        buckets = await self._upstream.read_number("buckets")
        self._reconciling = True
        self._mirror.begin_dump(examine=examine and not self.behind)
        try:
            complete, readable = await self._read_table()
            # A dump can miss entries while the kernel resizes the hash table.
            complete = complete and buckets == await self._upstream.read_number("buckets")
            if complete or last:
                for _ in self._mirror.remove_not_dumped(complete=complete and readable):
                    await anyio.lowlevel.checkpoint()
        finally:
            self._mirror.end_dump()
            self._reconciling = False
        self._record_read()
        self._wake_follower()
        await self._waiters.wait_until(lambda: not (self._mirror.unresolved or self._applying))
        return complete or last

    async def _read_table(self) -> tuple[bool, bool]:
        """Dump the kernel's table into the mirror.

        :returns: whether the dump was complete, and whether every entry could be decoded.
        """
        readable = True
        async with self._upstream.dump() as dump:
            while True:
                try:
                    batch = await self._upstream.receive_batch(dump)
                except DecodeError:
                    readable = False  # the mirror may have this entry
                    if dump.closed:
                        return False, readable
                    continue
                except DumpInterrupted:
                    return False, readable
                if not batch:
                    return True, readable
                self._mirror.now = time.monotonic()
                for flow in batch:
                    self._mirror.add_dumped(flow)

    # -- changes without events -------------------------------------------------------------

    async def _find_unreported_changes(self) -> None:
        """Find entries that ended without an event, and changes that no event reported."""
        mirror, stream = self._mirror, self._upstream.stream
        while True:
            await self._waiters.wait_until(
                lambda: bool(mirror.discrepancies) or len(mirror.entries) > 0
            )
            await anyio.sleep(_CHECK_INTERVAL)
            mirror.now = time.monotonic()
            if mirror.discrepancies:
                found_before = mirror.now - _MAX_EVENT_DELAY
                requested, position = self._requested_by_loss, stream.position()
                await self._waiters.wait_until(
                    lambda: self._is_applied(position) and not self._to_check  # noqa: B023
                )
                if self._requested_by_loss == requested:  # no event was lost in the meantime
                    self._count_unreported(mirror.evaluate_discrepancies(found_before))
            if not (self._reconciling or self._to_check):
                self._to_check = mirror.missing_entries() or mirror.overdue(_CHECKS_PER_SCAN)
                if self._to_check:
                    self._wake_follower()

    def _count_unreported(self, changes: int) -> None:
        """Count changes that an event should have reported."""
        if not changes:
            return
        if not self._counters.unreported_changes:
            logger.info(
                "live table: found changes that no event reported; rules such as `ct event set` "
                'suppress events; reconcile="auto" reconciles at intervals from now on'
            )
        self._counters.unreported_changes += changes
        self.wake_waiters()
