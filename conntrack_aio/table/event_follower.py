"""Follow the kernel's events: apply them to the mirror, and look up the entries that need it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final

import anyio
import anyio.lowlevel

from ..errors import DecodeError, EventsLost, KernelError, NoReply, ResourceExhausted
from ..model.flow import Flow
from ..model.table import FlowTableStatistics
from .failures import is_temporary
from .kernel_table import KernelTable
from .mirror import Mirror
from .reconciliation_requests import ReconciliationRequests
from .states import State
from .tuple_keys import Key
from .waiters import Waiters

_LOOK_UPS_PER_CALL: Final = 256
"""Entries that one call looks up."""

_READ_RETRY_DELAY: Final = 0.1
"""Seconds before events are read again after a shortage."""


class EventFollower:
    """Applies events while its :meth:`run` is running.

    Only the task that runs it looks entries up, so that no events are applied during a look-up.
    """

    def __init__(
        self,
        kernel_table: KernelTable,
        mirror: Mirror,
        waiters: Waiters,
        requests: ReconciliationRequests,
        statistics: FlowTableStatistics,
    ) -> None:
        """Initialize without reading events.

        :param kernel_table: the kernel's table, whose event stream is read.
        :param mirror: the mirror to update.
        :param waiters: the tasks to wake when events were applied.
        :param requests: where a loss of events requests a reconciliation.
        :param statistics: where look-ups are counted.
        """
        self._kernel_table = kernel_table
        self._mirror = mirror
        self._waiters = waiters
        self._requests = requests
        self._statistics = statistics
        self.applying = False
        """Whether events that were received are being applied, or entries looked up."""
        self._read_position: int | None = None
        """The position in the event stream at the time of the last dump or look-up. Events after
        it are newer than what was read."""
        self._to_verify: dict[Key, State] = {}
        """Entries to look up because their timeout has expired, or because a dump lacked them."""
        self._waiting: anyio.CancelScope | None = None
        """The scope in which the task waits for more events."""

    @property
    def has_entries_to_verify(self) -> bool:
        """Whether entries of :meth:`verify_later` have not been looked up yet."""
        return bool(self._to_verify)

    def clear(self) -> None:
        """Drop the entries to check."""
        self._to_verify = {}

    def is_applied(self, position: int) -> bool:
        """Return whether all events are applied that were queued before a stream position."""
        return not self.applying and self._kernel_table.stream.has_passed(position)

    def verify_later(self, entries: dict[Key, State]) -> None:
        """Have the task look up whether these entries still exist.

        :param entries: entries of :meth:`Mirror.overdue` or :meth:`Mirror.missing_entries`.
        """
        self._to_verify = entries
        self.wake()

    def wake(self) -> None:
        """Make the task look up entries now, even if no event comes."""
        if self._waiting is not None:
            self._waiting.cancel()

    def record_read(self) -> None:
        """Record that the mirror may be ahead of events that still wait to be read."""
        self._mirror.caught_up = False
        self._read_position = self._kernel_table.stream.position()

    async def run(self) -> None:
        """Apply events until an error ends the table."""
        stream = self._kernel_table.stream
        while True:
            try:
                batch = self._kernel_table.receive_batch_nowait()
            except (EventsLost, DecodeError):
                self._handle_loss()  # an event that cannot be decoded is lost, too
                await anyio.lowlevel.checkpoint()
                continue
            except ResourceExhausted:
                self._handle_loss()
                await anyio.sleep(_READ_RETRY_DELAY)
                continue
            # If the predicate of the program raises, this stays set: the events count as pending.
            self.applying = True
            if batch:
                self._mirror.now = time.monotonic()
            self._mirror.apply_all(batch)
            if self._mirror.unresolved or self._to_verify:
                await self._look_up()
            self.applying = False
            if self._read_position is not None and stream.has_passed(self._read_position):
                self._read_position = None
                self._mirror.caught_up = not self._mirror.dump_in_progress
            self._waiters.wake()
            if batch or self._mirror.unresolved or self._to_verify:
                await anyio.lowlevel.checkpoint()
            else:
                with anyio.CancelScope() as self._waiting:
                    await self._kernel_table.wait_readable()
                self._waiting = None

    def _handle_loss(self) -> None:
        self._mirror.record_loss()
        self._requests.request_by_loss()

    async def _look_up(self) -> None:
        """Look up the unresolved entries and those to check, and apply the results."""
        unresolved, self._mirror.unresolved = self._mirror.unresolved, {}
        to_check, self._to_verify = self._to_verify, {}
        try:
            await self._look_up_each(unresolved, self._mirror.resolve)
            await self._look_up_each(
                to_check,
                lambda key, flow: self._mirror.apply_verification(key, to_check[key], flow),
            )
        except (KernelError, DecodeError, NoReply) as error:
            if not is_temporary(error):
                raise
            self._handle_loss()
        self.record_read()

    async def _look_up_each(
        self, states: Mapping[Key, State], apply: Callable[[Key, Flow | None], None]
    ) -> None:
        remaining, flow_of = iter(states.items()), self._mirror.states.flow_of
        # Some at a time, so that requests of other tasks get their turn.
        while batch := dict(islice(remaining, _LOOK_UPS_PER_CALL)):
            flows = {key: flow_of(state) for key, state in batch.items()}
            found = await self._kernel_table.look_up(flows)
            self._statistics.looked_up += len(found)
            for key, flow in found.items():
                apply(key, flow)
