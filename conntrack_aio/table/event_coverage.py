"""Determine whether all entries of a live table emit events.

A silent entry emits no events. The setting ``nf_conntrack_events`` can make entries silent, and so
can firewall rules. The kernel does not report which entries its rules make silent.
"""

from __future__ import annotations

from ..model.table import FlowTableStatistics, TableMode
from .kernel_table import KernelTable
from .mirror import Mirror
from .reconciliation_requests import ReconciliationRequests


class EventCoverage:
    """Which entries emit events, according to the setting and to what the table has found."""

    def __init__(
        self,
        kernel_table: KernelTable,
        mirror: Mirror,
        requests: ReconciliationRequests,
        statistics: FlowTableStatistics,
        *,
        constant_match: bool,
    ) -> None:
        """Initialize without reading the setting.

        :param kernel_table: the kernel's table, and its settings.
        :param mirror: the mirror that uses the setting.
        :param requests: where a change of the setting requests a reconciliation.
        :param statistics: where unreported changes are counted.
        :param constant_match: whether an entry that does not match never comes to match.
        """
        self._kernel_table = kernel_table
        self._mirror = mirror
        self._requests = requests
        self._statistics = statistics
        self._constant_match = constant_match
        self._setting: int | None = None
        """``nf_conntrack_events`` as it was read last; ``None`` if it cannot be read."""
        self._older_entries_emit = False
        """Whether all entries older than the table emit events, according to the setting."""

    @property
    def mode(self) -> TableMode:
        """How complete the events are; see :class:`TableMode`."""
        if self.new_entries_are_silent:
            return TableMode.POLLED
        return TableMode.PARTIAL if self.entries_may_be_silent else TableMode.FOLLOWED

    @property
    def new_entries_are_silent(self) -> bool:
        """Whether the setting makes all new entries silent."""
        return self._setting == 0

    @property
    def entries_may_be_silent(self) -> bool:
        """Whether the table may have silent entries, or miss some that match."""
        if self._setting is None or self._statistics.unreported_changes:
            return True
        return not self._older_entries_emit and (
            bool(self._mirror.without_events) or not self._constant_match
        )

    async def read_setting_first_time(self) -> None:
        """Read the setting before the table subscribes to events.

        :raises ResourceExhausted: when a shortage prevents it.
        """
        await self.read_setting()
        self._older_entries_emit = self._setting == 1

    async def read_setting(self) -> None:
        """Read the setting, and request a reconciliation if it has changed.

        :raises ResourceExhausted: when a shortage prevents it.
        """
        before, self._setting = self._setting, await self._kernel_table.read_setting("events")
        if self._setting == 0:
            # Entries that are created now stay silent, whatever the setting becomes.
            self._older_entries_emit = False
        self._mirror.older_entries_emit = self._older_entries_emit
        self._mirror.new_entries_emit = bool(self._setting) and self._setting == before
        if self._setting != before and self._requests.completed:
            # The kernel decides about events when it creates an entry, and adds the entry to the
            # table a little later. So silent entries may still be added after this reconciliation.
            self._requests.request()
