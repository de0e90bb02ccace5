"""Reading: the flows of the table, one or all, and what happens to them."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Mapping
from typing import Final, Literal, overload

from ..codec.messages import (
    decode_cpu_statistics,
    decode_event,
    table_statistics_of,
)
from ..codec.requests import flows as requests
from ..codec.requests.targets import Target
from ..errors import EventsLost, NoReply
from ..filters.match import Match
from ..model.enums import EventType
from ..model.events import FlowEvent
from ..model.features import Features
from ..model.flow import Flow
from ..model.statistics import CPUStatistics, TableStatistics
from ..model.values import describe_value
from ..netlink.exchange import Request
from ..session import Session
from ..streams.dump import Dump
from ..streams.events import EventStream, OnLoss
from ..uapi.nfnetlink import NFNLGRP
from ..uapi.nfnetlink_conntrack import IPCTNL_MSG_CT
from .probes import Probes
from .resets import Resets, ResetStage
from .selector import Selecting, check_match
from .steps import carry_out, looking

_GROUPS: Final = {
    EventType.NEW: NFNLGRP.CONNTRACK_NEW,
    EventType.UPDATE: NFNLGRP.CONNTRACK_UPDATE,
    EventType.DESTROY: NFNLGRP.CONNTRACK_DESTROY,
}


class Reading:
    """The verbs of a connection that read flows."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._resets = Resets(session)
        self._probes = Probes(session)
        self._selecting = Selecting(session, self._probes)

    def dump(self, match: Match | None = None, *, reset_counters: bool = False) -> Dump[Flow]:
        """The flows of the table, or those that ``match``: an async iterator.

        The kernel filters by what it can; the rest is checked here.

        :param reset_counters: set the counters of each flow to zero as it is read. Every packet is
            told once: by a flow of such a dump, or, of a flow that ends before its turn, by its
            destroy event. The flows are reset some at a time; those of them that the reader
            leaves, or is cancelled before, come first in the next such dump of this connection
            that they match. A flow whose answer was lost stands there as the error that says so.
        """
        if match is not None:
            check_match(match)
        stage = ResetStage(self._resets, match) if reset_counters else None
        return self._selecting.dump(match, stage=stage)

    async def list(self, match: Match | None = None, *, reset_counters: bool = False) -> list[Flow]:
        """The flows of :meth:`dump`, all of them."""
        flows: list[Flow] = []
        try:
            async with self.dump(match, reset_counters=reset_counters) as dump:
                async for batch in dump.batches():
                    flows += batch
        except BaseException:
            if reset_counters:
                self._resets.put_back(flows)
            raise
        return flows

    def dying(self, match: Match | None = None) -> Dump[Flow]:
        """Flows that have ended and are still kept, or those of them that ``match``.

        Since Linux 5.19 these are the ones whose destroy event could not be delivered to a
        listener that insists on it, and is tried again; before, also any that somebody still
        holds. They count in :meth:`count`. (``ctnetlink_dump_dying``)
        """
        return self._special(IPCTNL_MSG_CT.GET_DYING, "the dying entries", match)

    def unconfirmed(self, match: Match | None = None) -> Dump[Flow]:
        """Flows whose first packet is still on its way through, or those of them that ``match``.

        Always empty since Linux 5.19, which keeps no list of them any more.
        (``ctnetlink_dump_unconfirmed``)
        """
        return self._special(IPCTNL_MSG_CT.GET_UNCONFIRMED, "the unconfirmed entries", match)

    def _special(self, which: IPCTNL_MSG_CT, subject: str, match: Match | None) -> Dump[Flow]:
        if match is not None:
            check_match(match)
        return self._selecting.dump_special(which, subject, match)

    async def get(
        self, target: Target, *, zone: int | None = None, reset_counters: bool = False
    ) -> Flow:
        """Return one flow, as the kernel has it now.

        A flow as the target stands for the entry with its id and, where it tells that, its start
        time. It is looked up by its original tuple and, if that finds another entry or none, by
        its reply tuple: with a zone for each direction, two living entries may share a tuple.

        :param target: a flow, or the tuple of either direction.
        :param zone: the zone to look in, instead of the target's own.
        :param reset_counters: set its counters to zero as it is read. If this is cancelled then,
            or the entry was replaced just then, what was read comes in the next :meth:`dump` that
            does so.

        :raises NotFound: if there is no such entry, or if ``target`` is a flow and another entry
            has its tuples by now.
        :raises EncodeError: for an incomplete tuple, or a value that can't be.
        :raises TypeError: for a target that is neither a :class:`Flow` nor a :class:`Tuple`.
        """
        if reset_counters:
            return await self._resets.reset_one(target, zone)
        _, flow = await carry_out(self._session, looking(target, zone))
        return flow

    async def count(self, match: Match | None = None) -> int:
        """How many entries the namespace has, by the kernel's own count.

        That includes those that ended and whose destroy event is still to be delivered.

        :param match: how many flows match, instead. They are counted by a :meth:`dump`, which does
            not decode them where the kernel does all of the match.
        """
        if match is not None:
            check_match(match)
            return await self._selecting.count(match)
        request = requests.statistics()
        entries = (await self._global_statistics(request)).entries
        if entries is None:
            raise NoReply(f"{request}: the kernel's answer has no count")
        return entries

    async def table_statistics(self) -> TableStatistics:
        """How many entries the namespace has, and how many a namespace may have."""
        return await self._global_statistics(requests.statistics("read", "the statistics"))

    async def _global_statistics(self, request: Request) -> TableStatistics:
        replies = (await self._session.ask(request)).result()
        if not replies:
            raise NoReply(f"{request}: the kernel's answer is empty")
        return table_statistics_of(replies[0])

    async def cpu_statistics(self) -> builtins.list[CPUStatistics]:
        """What each processor has counted: one object for each that the machine could have."""
        async with self._session.dump(requests.cpu_statistics(), decode_cpu_statistics) as dump:
            return [statistics async for statistics in dump]

    async def features(self) -> Features:
        """What this kernel supports beyond Linux 4.19, by harmless questions. Asked once.

        Where it matters, the library asks by itself; this is for programs that want to know.
        Raises :exc:`PermissionDenied` without CAP_NET_ADMIN.
        """
        return await self._probes.features()

    @overload
    def events(
        self,
        *types: EventType,
        match: Match | None = None,
        receive_buffer: int | None = None,
        receive_buffer_max: int | None = None,
        all_netns: bool = False,
        on_loss: Literal["raise"] = "raise",
        reliable: bool = False,
        receive_time: bool = False,
    ) -> EventStream[FlowEvent]: ...

    @overload
    def events(
        self,
        *types: EventType,
        match: Match | None = None,
        receive_buffer: int | None = None,
        receive_buffer_max: int | None = None,
        all_netns: bool = False,
        on_loss: Literal["item"],
        reliable: bool = False,
        receive_time: bool = False,
    ) -> EventStream[FlowEvent | EventsLost]: ...

    def events(
        self,
        *types: EventType,
        match: Match | None = None,
        receive_buffer: int | None = None,
        receive_buffer_max: int | None = None,
        all_netns: bool = False,
        on_loss: OnLoss = "raise",
        reliable: bool = False,
        receive_time: bool = False,
    ) -> EventStream[FlowEvent] | EventStream[FlowEvent | EventsLost]:
        """Subscribe to events: of the ``types`` given, or of all. Subscribed when this returns.

        :attr:`EventStream.blind_spots` says what it will not hear in this namespace, and why: above
        all that no event will ever come where ``nf_conntrack_events`` is 0.

        :param match: the flows to hear of. The kernel runs a program that drops other events before
            they are queued, so that they cost neither time nor room; what it can't decide is
            decided here. Each event is judged by what it tells itself: an update has what changed,
            and few events have counters. To follow flows by what changes, keep a :meth:`table`.
        :param receive_buffer: bytes that may wait, instead of the connection's.
        :param receive_buffer_max: what that may grow to, instead of the connection's: each time it
            was full it is doubled, as far as the system grants it.
        :param all_netns: hear every network namespace that has an id in the connection's own
            (``ip netns set NAME auto`` gives one, and so does the kernel for a veth's other end),
            if this program has CAP_NET_BROADCAST there. Each event names its namespace by
            :attr:`FlowEvent.nsid` and, as ``ip netns`` does, by :attr:`FlowEvent.netns`. None of
            them is kept alive by that. Linux 5.19 to 6.5 has flows emit events only if a program
            listens in their very namespace, unless ``nf_conntrack_events`` is 1 there.
        :param on_loss: ``"item"`` has an :class:`EventsLost` stand among the events, in the place
            where it would be raised.
        :param reliable: have the kernel try again to deliver a DESTROY that found no room, at first
            after a second, then every 10 ms, until it is delivered: each arrives, once. Until then
            the flow is kept among the dying (:meth:`dying` shows them): it takes memory, and counts
            in :meth:`count` and against ``nf_conntrack_max``. **A reliable stream that is not read
            can fill the table**, so that no new connection gets in; closing it lets them go. NEW
            and UPDATE are not retried, and their loss is told. But ``EventsLost.lost`` is ``None``
            then, and ``events_lost`` in the statistics does not grow: the socket's counter has the
            failed tries as well. Of DESTROY alone nothing is lost, and no :exc:`EventsLost` comes;
            only ``overruns`` are counted. (``NETLINK_BROADCAST_ERROR``, ``ecache_work``)
        :param receive_time: set :attr:`FlowEvent.time_received` of each event to the time at which
            this program received it. The events of one read have the same.

        Raises :exc:`PermissionDenied` without CAP_NET_ADMIN, for ``all_netns`` CAP_NET_BROADCAST
        too; :exc:`TypeError` for what is no :class:`EventType`; :exc:`ValueError` for another
        ``on_loss``, or a ``receive_buffer_max`` below the receive buffer.
        """
        if match is not None:
            check_match(match)
        return self._session.subscribe(
            groups_of(types, _GROUPS),
            decode_event,
            receive_buffer=receive_buffer,
            receive_buffer_max=receive_buffer_max,
            all_netns=all_netns,
            on_loss=on_loss,
            reliable=reliable,
            receive_time=receive_time,
            sieve=None if match is None else self._selecting.sieve(match),
        )


def groups_of(types: Collection[EventType], groups: Mapping[EventType, int]) -> list[int]:
    """The multicast groups of the types chosen, or all.

    Raises :exc:`TypeError`, and :exc:`ValueError` for a type that has no group.
    """
    for kind in types:
        if not isinstance(kind, EventType):  # pyright: ignore[reportUnnecessaryIsInstance]
            shown = describe_value(kind)
            raise TypeError(f"events are chosen by members of EventType, not by {shown}")
        if kind not in groups:
            raise ValueError(f"the kernel sends no {kind.name} events here")
    return [groups[kind] for kind in types or groups]
