"""Subtract what was reported of a flow from what the kernel has counted.

Nothing here waits: :mod:`.flow_records` reads the table and the events.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from conntrack_aio import Counters, Flow, FlowEvent

from .end_reasons import end_reason
from .records import EndReason, FlowRecord, Traffic

Key = tuple[object, int | None, int | None]
"""What identifies an entry: :attr:`Flow.key`."""

_MISSED_BEFORE_END: Final = 1
"""How many readings lack an entry before one more means that it has ended without an event."""


class _Account:
    """What is known of one flow, and what was reported of it."""

    __slots__ = ("flow", "missed", "orig", "read", "reading", "reply", "reported", "start")

    def __init__(self, flow: Flow, start: int | None, time: int | None, reading: int) -> None:
        self.flow = flow
        """The flow as it was read last."""
        self.read = time
        """When it was read last."""
        self.start = start
        self.orig: Counters | None = None
        self.reply: Counters | None = None
        """What its counters were in the last record."""
        self.reported = start
        """The end of the time that the last record is about."""
        self.reading = reading
        """The number of the last reading of the table that had the flow."""
        self.missed = 0
        """How many readings have not had it since."""


class FlowAccounts:
    """Makes flow records of what the table and the events say about flows.

    Call :meth:`begin_reading`, :meth:`read` for each flow of a dump, and :meth:`end_reading` once
    the events from before its end were passed to :meth:`began` and :meth:`ended`.
    """

    def __init__(self, *, active: bool, resets: bool) -> None:
        """Create accounts without flows.

        :param active: whether there are records of flows that live on.
        :param resets: whether each reading resets the counters of the kernel, so that they are what
            passed since the reading before.
        """
        self._active = active
        self._resets = resets
        self._accounts: dict[Key, _Account] = {}
        self._reading = 0
        self._ended: set[Key] = set()
        """The flows that have ended since the present reading began. The dump may still have
        them."""

    def __len__(self) -> int:
        """Return how many flows are known."""
        return len(self._accounts)

    # -- events -------------------------------------------------------------------------------

    def began(self, event: FlowEvent, time: int) -> None:
        """Note the start of a flow.

        :param event: its event of the type NEW.
        :param time: when it happened.
        """
        flow = event.flow
        key = flow.key
        if key not in self._accounts:
            self._accounts[key] = _Account(flow, time, time, self._reading)

    def ended(self, event: FlowEvent, time: int) -> FlowRecord:
        """Return the last record of a flow.

        :param event: its event of the type DESTROY, which has the final counters.
        :param time: when it happened.
        """
        flow = event.flow
        key = flow.key
        self._ended.add(key)
        start, stop = _times(flow)
        account = self._accounts.pop(key, None)
        if account is None:  # it began after the last reading, and its first event was lost
            account = _Account(flow, start, start, self._reading)
        return self._record(account, flow, time if stop is None else stop, end_reason(event))

    # -- the table ----------------------------------------------------------------------------

    def begin_reading(self) -> None:
        """Begin a reading of the table."""
        self._reading += 1
        self._ended.clear()

    def read(self, flow: Flow, time: int) -> FlowRecord | None:
        """Return the record of a flow that lives; ``None`` if nothing has passed.

        :param flow: the flow, as the table has it now.
        :param time: when it was read.
        """
        key = flow.key
        account = self._accounts.get(key)
        if account is None:
            account = _Account(flow, _times(flow)[0], time, self._reading)
            if key in self._ended:
                # With resets, what the reading has counted is not in the event of the end.
                return self._interim(account, flow, time) if self._resets else None
            self._accounts[key] = account
            if self._reading == 1:
                # What passed before is in no record.
                account.orig, account.reply = flow.counters_orig, flow.counters_reply
                account.reported = time
                return None
        account.reading, account.missed = self._reading, 0
        if self._active or self._resets:
            return self._interim(account, flow, time)
        account.flow, account.read = flow, time
        return None

    def missing(self) -> set[Key]:
        """Return the flows that this reading and those before have lacked, so that they have ended.

        The event of an end may still come, even late: the kernel retries it while the receive
        buffer is full. Meanwhile the entry is dying.
        """
        return {
            key
            for key, account in self._accounts.items()
            if account.reading != self._reading and account.missed >= _MISSED_BEFORE_END
        }

    def end_reading(self, dying: Collection[Key] = ()) -> Iterator[FlowRecord]:
        """Yield the last records of the flows that have ended without an event.

        What passed after they were last read is in no record.

        :param dying: the flows of :meth:`missing` whose event is still to come.
        """
        ended = self.missing() - set(dying)
        for account in self._accounts.values():
            if account.reading != self._reading:
                account.missed += 1
        for key in ended:
            account = self._accounts.pop(key)
            until = account.read or account.reported or 0
            yield self._record(account, account.flow, until, EndReason.UNKNOWN, exact=False)

    # -- counters -----------------------------------------------------------------------------

    def _interim(self, account: _Account, flow: Flow, time: int) -> FlowRecord | None:
        """Return the record of a flow that lives on; ``None`` if nothing has passed."""
        account.read = time
        if self._is_silent(account, flow):
            account.flow = flow
            return None
        return self._record(account, flow, time, EndReason.ACTIVE)

    def _is_silent(self, account: _Account, flow: Flow) -> bool:
        passed = (
            self._passed(flow.counters_orig, account.orig),
            self._passed(flow.counters_reply, account.reply),
        )
        return not any(each is not None and each.packets for each in passed)

    def _record(
        self, account: _Account, flow: Flow, until: int, reason: EndReason, *, exact: bool = True
    ) -> FlowRecord:
        is_reported = self._resets and flow is account.flow and not exact
        record = FlowRecord(
            flow=flow,
            since=account.reported,
            until=until,
            orig=None if is_reported else self._passed(flow.counters_orig, account.orig),
            reply=None if is_reported else self._passed(flow.counters_reply, account.reply),
            reason=reason,
            start=account.start,
            exact=exact,
        )
        account.flow, account.reported = flow, until
        account.orig, account.reply = flow.counters_orig, flow.counters_reply
        return record

    def _passed(self, now: Counters | None, before: Counters | None) -> Traffic | None:
        """Return what was counted since the counters were read before."""
        if now is None or now.packets is None or now.bytes is None:
            return None
        packets, bytes_ = now.packets, now.bytes
        if before is None or before.packets is None or before.bytes is None or self._resets:
            return Traffic(packets=packets, bytes=bytes_)
        if packets < before.packets or bytes_ < before.bytes:  # another program has reset them
            return Traffic(packets=packets, bytes=bytes_)
        return Traffic(packets=packets - before.packets, bytes=bytes_ - before.bytes)


def _times(flow: Flow) -> tuple[int | None, int | None]:
    """Return when the kernel says that a flow began and ended."""
    timestamp = flow.timestamp
    return (None, None) if timestamp is None else (timestamp.start, timestamp.stop)
