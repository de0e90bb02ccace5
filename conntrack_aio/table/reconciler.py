"""Reconcile a mirror with the kernel's table: dump the kernel's table and apply the differences.

- After lost events, a reconciliation is requested when the stream reports the gap. The kernel may
  drop further events until then without reporting it.
- A reconciliation that fails for a temporary reason is retried until it succeeds or the table is
  closed.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Final, Literal

import anyio
import anyio.lowlevel

from ..error_chains import without_traceback
from ..errors import (
    ConntrackError,
    DecodeError,
    DumpInterrupted,
    KernelError,
    NoReply,
    ResourceExhausted,
)
from ..model.table import FlowTableStatistics
from .event_coverage import EventCoverage
from .event_follower import EventFollower
from .failures import ReconciliationFailures, is_temporary
from .kernel_table import KernelTable
from .mirror import Mirror
from .reconciliation_requests import ReconciliationRequests
from .waiters import Waiters

logger = logging.getLogger("conntrack_aio")

_MAX_PAUSE: Final = 5.0
"""The longest pause in seconds before a reconciliation that was requested during another one."""

_AUTO_INTERVAL: Final = 60.0
"""Seconds between two reconciliations if entries may be silent and no interval was given."""

Interval = float | Literal["auto"] | None
"""Seconds between two reconciliations. ``"auto"`` means :data:`_AUTO_INTERVAL`, but only while
entries may be silent. ``None`` means no periodic reconciliations."""


class Reconciler:
    """Reconciles on request and at intervals while its :meth:`run` is running."""

    def __init__(
        self,
        kernel_table: KernelTable,
        mirror: Mirror,
        waiters: Waiters,
        requests: ReconciliationRequests,
        coverage: EventCoverage,
        follower: EventFollower,
        statistics: FlowTableStatistics,
        interval: Interval,
    ) -> None:
        """Initialize without reading anything.

        :param kernel_table: the kernel's table.
        :param mirror: the mirror to update.
        :param waiters: the tasks to wake after each reconciliation.
        :param requests: the requests for reconciliations.
        :param coverage: shows whether entries may be silent.
        :param follower: applies the events that arrive in the meantime.
        :param statistics: where reconciliations are counted.
        :param interval: the time between two reconciliations.
        """
        self._kernel_table = kernel_table
        self._mirror = mirror
        self._waiters = waiters
        self._requests = requests
        self._coverage = coverage
        self._follower = follower
        self._statistics = statistics
        self._interval: Interval = interval
        self.failures = ReconciliationFailures(statistics)

    @property
    def behind(self) -> bool:
        """See :attr:`FlowTable.behind`."""
        return self._requests.loss_pending or self.failures.in_a_row > 0

    async def run(self) -> None:
        """Reconcile after each loss, on request, and at the interval.

        With ``"auto"`` the interval applies only while entries may be silent.

        :raises KernelError: when the kernel refuses and a retry cannot succeed, or when it refuses
            the last attempt while the table is being opened.
        :raises NoReply: when the kernel does not reply to the last attempt while the table is being
            opened.
        """
        while True:
            pause = await self._attempt()
            if self.failures.in_a_row:
                await anyio.sleep(self.failures.retry_delay)
            elif self._requests.pending:
                # Pause for as long as the reconciliation took, but not longer than _MAX_PAUSE.
                # Otherwise a program that reads events too slowly would lose still more of them.
                await anyio.sleep(min(pause, _MAX_PAUSE))
            else:
                await self._wait_for_need()

    async def _attempt(self) -> float:
        """Reconcile once, count the attempt, and return the seconds that it took."""
        started, number = time.monotonic_ns(), self._requests.requested
        for_loss = self._requests.loss_pending
        if for_loss and not self.failures.in_a_row:
            logger.warning("live table: events were lost; reading the kernel's table again")
        last = self.failures.next_is_last
        error: ConntrackError | None = None
        try:
            if not await self._reconcile(last=last, examine=self._requests.completed > 0):
                error = DumpInterrupted("dump the table: the dump was not complete")
        except (KernelError, NoReply) as raised:
            opening = not self._requests.completed and last
            if opening or not is_temporary(raised):
                raise
            error = without_traceback(raised)
        took = time.monotonic_ns() - started
        self._statistics.resyncs += for_loss
        self._statistics.reconciliations += 1
        self._statistics.last_reconciliation_ns = took
        self.failures.record(error)
        if error is None:
            self._requests.completed = number
        self._waiters.wake()
        return took / 1e9

    async def _wait_for_need(self) -> None:
        """Wait until a reconciliation is requested, or due by the interval."""
        automatic = self._interval == "auto"
        interval = _AUTO_INTERVAL if self._interval == "auto" else self._interval or math.inf
        while not self._requests.pending:
            with anyio.move_on_after(interval):
                await self._waiters.wait_until(lambda: self._requests.pending)
                return
            try:
                await self._coverage.read_setting()
            except ResourceExhausted:
                # The reconciliation reads the setting again, and is retried if that fails.
                self._requests.request()
            silent = (
                self._coverage.new_entries_are_silent
                or self._coverage.entries_may_be_silent
                or self._mirror.without_events
            )
            if silent or not automatic:
                self._requests.request()

    async def _reconcile(self, *, last: bool, examine: bool) -> bool:
        """Dump the kernel's table, and apply the differences.

        :param last: whether to use the result even if the dump was incomplete.
        :param examine: whether events were followed before, so that they should have reported the
            differences.
        :returns: whether the result was used.
        """
        await self._coverage.read_setting()
        buckets = await self._kernel_table.read_setting("buckets")
        self._mirror.begin_dump(examine=examine and not self.behind)
        try:
            complete, readable = await self._read_table()
            # A dump can miss entries while the kernel resizes the hash table.
            complete = complete and buckets == await self._kernel_table.read_setting("buckets")
            if complete or last:
                for _ in self._mirror.remove_not_dumped(complete=complete and readable):
                    await anyio.lowlevel.checkpoint()
        finally:
            self._mirror.end_dump()
        self._follower.record_read()
        self._follower.wake()
        await self._waiters.wait_until(
            lambda: not (self._mirror.unresolved or self._follower.applying)
        )
        return complete or last

    async def _read_table(self) -> tuple[bool, bool]:
        """Dump the kernel's table into the mirror.

        :returns: whether the dump was complete, and whether every entry could be decoded.
        """
        readable = True
        async with self._kernel_table.dump() as dump:
            while True:
                try:
                    batch = await self._kernel_table.receive_batch(dump)
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
                self._mirror.add_all_dumped(batch)
