"""Keep a mirror synchronized with the kernel's table, and wait until it is.

Three tasks do the work: :mod:`~conntrack_aio.table.event_follower`,
:mod:`~conntrack_aio.table.reconciler` and :mod:`~conntrack_aio.table.unreported_changes`.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable

from ..errors import ConntrackError
from ..eventloop import TaskFunction
from ..model.table import FlowTableStatistics, TableMode
from .event_coverage import EventCoverage
from .event_follower import EventFollower
from .kernel_table import KernelTable
from .mirror import Mirror
from .reconciler import Interval, Reconciler
from .reconciliation_requests import ReconciliationRequests
from .unreported_changes import UnreportedChangeFinder
from .waiters import Waiters


class Synchronizer:
    """Synchronizes a mirror with the kernel's table while its :attr:`task_functions` run."""

    def __init__(
        self,
        kernel_table: KernelTable,
        mirror: Mirror,
        interval: Interval,
        check: Callable[[], None],
        *,
        constant_match: bool = True,
    ) -> None:
        """Initialize without reading anything.

        :param kernel_table: the kernel's table.
        :param mirror: the mirror to update.
        :param interval: the time between two reconciliations.
        :param check: a method of the table that raises an error if the table has ended. The table
            is not kept alive.
        :param constant_match: whether an entry that does not match never comes to match.
        """
        self._kernel_table = kernel_table
        self._mirror = mirror
        self._statistics = statistics = FlowTableStatistics()
        self._waiters = waiters = Waiters(check)
        self._requests = requests = ReconciliationRequests(waiters)
        self._coverage = coverage = EventCoverage(
            kernel_table, mirror, requests, statistics, constant_match=constant_match
        )
        self._follower = follower = EventFollower(
            kernel_table, mirror, waiters, requests, statistics
        )
        self._reconciler = Reconciler(
            kernel_table, mirror, waiters, requests, coverage, follower, statistics, interval
        )
        self._failures = self._reconciler.failures
        self._unreported = UnreportedChangeFinder(
            kernel_table, mirror, waiters, requests, follower, statistics
        )

    # -- state ------------------------------------------------------------------------------

    @property
    def mode(self) -> TableMode:
        """How complete the events are; see :class:`TableMode`."""
        return self._coverage.mode

    @property
    def behind(self) -> bool:
        """See :attr:`FlowTable.behind`."""
        return self._reconciler.behind

    @property
    def last_error(self) -> ConntrackError | None:
        """See :attr:`FlowTable.last_error`."""
        return self._failures.last_error

    @property
    def statistics(self) -> FlowTableStatistics:
        """The statistics that the tasks count. The other fields are zero."""
        return self._statistics

    def clear(self) -> None:
        """Drop the entries that wait for a look-up, and the last error."""
        self._follower.clear()
        self._failures.clear_error()

    # -- tasks ------------------------------------------------------------------------------

    async def subscribe(self, prepare: Callable[[], Awaitable[None]] | None) -> None:
        """Read the settings, and subscribe to events.

        :param prepare: called in between; may send requests.

        :raises PermissionDenied: when the program has no CAP_NET_ADMIN.
        :raises KernelError: when the kernel refuses for another reason.
        :raises ResourceExhausted: when there are no file descriptors or threads left.
        """
        await self._coverage.read_setting_first_time()
        if prepare is not None:
            await prepare()
        self._kernel_table.subscribe()

    @property
    def task_functions(self) -> tuple[TaskFunction, ...]:
        """The functions to run, each in a task of its own, while the table is open.

        None of them returns. An error that one of them raises ends the table.
        """
        return self._follower.run, self._reconciler.run, self._unreported.run

    # -- waiting ----------------------------------------------------------------------------

    async def wait_opened(self) -> None:
        """Wait for the first reconciliation, and for the repair of losses during it."""
        await self._waiters.wait_until(lambda: self._requests.completed > 0)
        await self.wait_synced()

    async def wait_synced(self) -> None:
        """See :meth:`FlowTable.synced`."""
        position = self._kernel_table.stream.position()
        await self._wait_or_raise(lambda: self._follower.is_applied(position))
        requested = self._requests.requested_by_loss
        if self._mirror.needs_look_up:
            done = self._statistics.reconciliations
            await self._waiters.wait_until(lambda: self._statistics.reconciliations > done)
        await self._wait_or_raise(lambda: self._requests.completed >= requested)

    async def reconcile(self) -> None:
        """Request a reconciliation, and wait for it; see :meth:`FlowTable.reconcile`."""
        requested = self._requests.request()
        await self._wait_or_raise(lambda: self._requests.completed >= requested)

    def wake_waiters(self) -> None:
        """Wake the waiting tasks, so that they evaluate their conditions again."""
        self._waiters.wake()

    async def _wait_or_raise(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition is true.

        Raises the error of the last reconciliation if too many in a row have failed, and one of
        them during this call.
        """
        failures = self._statistics.failures

        def gave_up() -> bool:
            return self._failures.too_many and self._statistics.failures > failures

        await self._waiters.wait_until(lambda: condition() or gave_up())
        error = self._failures.last_error
        if not condition() and error is not None:
            # A copy: the traceback of the raised error refers to this frame.
            raise copy.copy(error)
