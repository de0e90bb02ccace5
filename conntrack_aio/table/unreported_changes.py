"""Find changes that no event reported: overdue entries, and differences that a dump showed."""

from __future__ import annotations

import logging
import time
from typing import Final

import anyio

from ..model.table import FlowTableStatistics
from .event_follower import EventFollower
from .kernel_table import KernelTable
from .mirror import Mirror
from .reconciliation_requests import ReconciliationRequests
from .waiters import Waiters

logger = logging.getLogger("conntrack_aio")

_CHECK_INTERVAL: Final = 0.5
"""Seconds between two scans for entries whose timeout has expired."""

_CHECKS_PER_SCAN: Final = 128
"""Expired entries that are looked up after one scan, at most. That takes a thousandth of the
interval."""

_MAX_EVENT_DELAY: Final = 1.0
"""Seconds within which the kernel queues the event of a change. It sends the events of a packet
after the packet has passed, for example through a queue to user space."""


class UnreportedChangeFinder:
    """Finds unreported changes while its :meth:`run` is running."""

    def __init__(
        self,
        kernel_table: KernelTable,
        mirror: Mirror,
        waiters: Waiters,
        requests: ReconciliationRequests,
        follower: EventFollower,
        statistics: FlowTableStatistics,
    ) -> None:
        """Initialize without looking for changes.

        :param kernel_table: the kernel's table, whose events should report the changes.
        :param mirror: the mirror with the entries and discrepancies to examine.
        :param waiters: lets the task wait until there are entries.
        :param requests: shows whether events were lost.
        :param follower: looks up the entries that may have ended.
        :param statistics: where the changes are counted.
        """
        self._kernel_table = kernel_table
        self._mirror = mirror
        self._waiters = waiters
        self._requests = requests
        self._follower = follower
        self._statistics = statistics

    async def run(self) -> None:
        """Find unreported changes until the table ends."""
        mirror, follower = self._mirror, self._follower
        while True:
            await self._waiters.wait_until(
                lambda: bool(mirror.discrepancies) or len(mirror.entries) > 0
            )
            await anyio.sleep(_CHECK_INTERVAL)
            mirror.now = time.monotonic()
            if mirror.discrepancies:
                await self._evaluate_discrepancies()
            if not (mirror.dump_in_progress or follower.has_entries_to_verify):
                entries = mirror.missing_entries() or mirror.overdue(_CHECKS_PER_SCAN)
                if entries:
                    follower.verify_later(entries)

    async def _evaluate_discrepancies(self) -> None:
        """Count the discrepancies that no event has reported in time, if no event was lost."""
        found_before = self._mirror.now - _MAX_EVENT_DELAY
        requested = self._requests.requested_by_loss
        position = self._kernel_table.stream.position()
        await self._waiters.wait_until(
            lambda: self._follower.is_applied(position) and not self._follower.has_entries_to_verify
        )
        if self._requests.requested_by_loss == requested:
            self._count(self._mirror.evaluate_discrepancies(found_before))

    def _count(self, changes: int) -> None:
        """Count changes that an event should have reported."""
        if not changes:
            return
        if not self._statistics.unreported_changes:
            logger.info(
                "live table: found changes that no event reported; rules such as `ct event set` "
                'suppress events; reconcile="auto" reconciles at intervals from now on'
            )
        self._statistics.unreported_changes += changes
        self._waiters.wake()
