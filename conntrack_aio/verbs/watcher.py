"""Watching: the live table."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Final, Literal

from ..filters.match import Match
from ..model.flow import Flow
from ..model.settings import EventMode
from ..model.values import as_seconds, describe_value
from ..plain import as_str
from ..session import Session
from ..table.table import FlowTable
from ..table.upstream import Buffering, Upstream
from .bulk_writer import BulkWriting
from .sysctls import Sysctls

_LONGEST: Final = 366 * 86400
"""Seconds between two comparisons, at most."""


class Watching(BulkWriting):
    """The verb of a connection that keeps a table."""

    sysctls: Sysctls
    """The settings of connection tracking in this namespace."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.sysctls = Sysctls(session)

    def table(
        self,
        match: Match | Callable[[Flow], bool] | None = None,
        *,
        reconcile: float | Literal["auto"] | None = "auto",
        enable_events: bool = False,
        receive_buffer: int | None = None,
        receive_buffer_max: int | None = None,
        reliable: bool = False,
    ) -> FlowTable:
        """A live mirror of the kernel's table: ``async with conn.table() as table:``.

        It is true from the first moment: it subscribes, then reads the table, and applies what
        happened meanwhile. Lost events are repaired by reading it again. The connection lasts
        longer than the table, which is closed with it. It needs its privileges as long as it lives:
        each comparison opens a socket.

        :param match: the flows to have: a :class:`Match`, of which the kernel does what it can when
            the table is read, or any function, which must not change the flow and is asked again
            whenever one changes. A flow that matches no more leaves the table. Events are dropped
            in the kernel by what never changes (the tuples, the zone, the id); but each update of a
            flow that passes there and does not match costs a request. Conditions on timeouts and
            counters are judged by what the last comparison, or an event, told.
        :param reconcile: seconds between two comparisons with the kernel's table, by which the
            changes and ends of flows are found that emit no events; each costs some 8 µs a flow. A
            number is always followed. ``"auto"`` compares every 60 seconds, but only while the
            table knows of entries that may be silent: until each was heard of, by what the setting
            ``nf_conntrack_events`` says, or once events were found to be missing
            (:attr:`FlowTable.mode`). ``None``: none but after losses and by
            :meth:`FlowTable.reconcile`. The table can't see rules that choose which events a flow
            emits: nftables' ``ct event set``, iptables' ``CT --ctevents``, and Open vSwitch, which
            does so with every flow. Give a number where such rules are used. Without one, such a
            flow is stale until its timeout has run out as last reported: it is then looked up, and
            removed if it is gone. That takes some seconds, and some minutes at a million entries.
        :param enable_events: set ``nf_conntrack_events`` to 1 in the connection's namespace first,
            and leave it so: flows made from then on emit events, whoever listens.
        :param receive_buffer: bytes of events that may wait, instead of the connection's.
        :param receive_buffer_max: see :meth:`events`.
        :param reliable: see :meth:`events`.

        :raises TypeError: when a parameter is of the wrong type.
        :raises ValueError: when ``reconcile`` is not above 0 and at most 366 days, or a buffer has
            a size that can't be.
        :raises anyio.ClosedResourceError: when the connection is closed.
        :raises UsedElsewhere: in another process or event loop.

        For what entering it raises see :meth:`FlowTable.__aenter__`.
        """
        if match is not None and not callable(match):  # pyright: ignore[reportUnnecessaryComparison]
            shown = describe_value(match)
            raise TypeError(f"flows are chosen by a Match or a function, not by {shown}")
        if inspect.iscoroutinefunction(match):
            shown = describe_value(match)
            raise TypeError(f"match must be a plain function, not an async one; got {shown}")
        interval = _interval_of(reconcile)
        self._session.check_open()
        self._session.buffer_of(receive_buffer, receive_buffer_max)
        filter_ = match if isinstance(match, Match) else None
        # Whether a large match is always true takes long to find out, and need not be known here.
        fast = filter_ is not None and not filter_.compiled.is_large
        keep = None if fast and filter_ is not None and filter_.always else match
        sieve = None if filter_ is None else self._selecting.coarse_sieve(filter_)
        buffering = Buffering(receive_buffer, receive_buffer_max, reliable)

        async def prepare() -> None:
            if filter_ is not None:
                await self._selecting.prepare_table(filter_)
            if enable_events:
                await self._enable_events()

        dump = partial(self._selecting.dump, filter_, checked=False)
        return FlowTable(
            Upstream(self._session, dump, sieve, buffering),
            keep,
            interval,
            prepare,
            choice_is_fixed=match is None or (filter_ is not None and filter_.compiled.constant),
        )

    async def _enable_events(self) -> None:
        await self.sysctls.set(events=EventMode.ALWAYS)


def _interval_of(reconcile: float | Literal["auto"] | None) -> float | Literal["auto"] | None:
    """Check an interval. Raises :exc:`TypeError` and :exc:`ValueError`."""
    if reconcile is None:
        return None
    if issubclass(type(reconcile), str) and as_str(reconcile) == "auto":
        return "auto"
    try:
        seconds = as_seconds(reconcile)
    except TypeError:
        shown = describe_value(reconcile)
        raise TypeError(
            f'reconcile must be a number of seconds, "auto" or None; got {shown}'
        ) from None
    if not 0 < seconds <= _LONGEST:
        shown = describe_value(seconds)
        raise ValueError(f"reconcile must be above 0 seconds and at most 366 days; got {shown}")
    return float(seconds)
