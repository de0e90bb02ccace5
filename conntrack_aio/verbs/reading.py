"""Reading: the flows of the table, one or all, and what happens to them."""

from __future__ import annotations

import errno
from collections.abc import Collection, Mapping
from typing import Final

from ..codec.messages import decode_event, decode_flow, flow_of, global_statistics_of
from ..codec.requests import flows as requests
from ..codec.requests.flows import Target
from ..dumps import Dump
from ..errors import NoReply, kernel_error
from ..events import EventStream
from ..filters.dump import compile_dump
from ..filters.match import Match
from ..model.events import EventType, FlowEvent
from ..model.flow import Flow
from ..netlink.exchange import Outcome
from ..session import Session
from ..uapi.nfnetlink import NFNLGRP

_GROUPS: Final = {
    EventType.NEW: NFNLGRP.CONNTRACK_NEW,
    EventType.UPDATE: NFNLGRP.CONNTRACK_UPDATE,
    EventType.DESTROY: NFNLGRP.CONNTRACK_DESTROY,
}


class Reading:
    """The verbs of a connection that read flows."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def dump(self, match: Match | None = None) -> Dump[Flow]:
        """The flows of the table, or those that ``match``: an async iterator.

        The kernel filters by what it can; the rest is checked here.
        """
        if match is not None:
            check_match(match)
        return self._session.dump(requests.dump(*compile_dump(match)), decode_flow, match)

    async def list(self, match: Match | None = None) -> list[Flow]:
        """The flows of :meth:`dump`, all of them."""
        flows: list[Flow] = []
        async with self.dump(match) as dump:
            async for batch in dump.batches():
                flows += batch
        return flows

    async def get(self, target: Target, *, zone: int | None = None) -> Flow:
        """One flow, as the kernel has it now.

        :param target: a flow, or the tuple of either direction.
        :param zone: the zone to look in, instead of the target's own.

        Raises :exc:`NotFound` if there is none, or if ``target`` is a flow and another one has
        its tuple by now; :exc:`EncodeError` for an incomplete tuple.
        """
        request = requests.get(target, zone)
        outcome = await self._session.ask(request)
        flow = the_flow(outcome)
        if isinstance(target, Flow) and target.id is not None and flow.id != target.id:
            raise kernel_error(
                errno.ENOENT, str(request), hint="Another flow, with another id, has this tuple now"
            )
        return flow

    async def count(self) -> int:
        """How many entries the namespace has, by the kernel's own count.

        That includes those that ended and whose destroy event is still to be delivered.
        """
        request = requests.statistics()
        outcome = await self._session.ask(request)
        replies = outcome.result()
        entries = global_statistics_of(replies[0]).entries if replies else None
        if entries is None:
            raise NoReply(f"{request}: the kernel's answer has no count")
        return entries

    def events(
        self, *types: EventType, receive_buffer: int | None = None
    ) -> EventStream[FlowEvent]:
        """Subscribe to events: of the ``types`` given, or of all. Subscribed when this returns.

        :param receive_buffer: bytes that may wait, instead of the connection's.

        Raises :exc:`PermissionDenied` without CAP_NET_ADMIN, and :exc:`TypeError` for what is no
        :class:`EventType`.
        """
        return self._session.subscribe(groups_of(types, _GROUPS), decode_event, receive_buffer)


def groups_of(types: Collection[EventType], groups: Mapping[EventType, int]) -> list[int]:
    """The multicast groups of the types chosen, or all. Raises :exc:`TypeError`."""
    for kind in types:
        if not isinstance(kind, EventType):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"events are chosen by members of EventType, not by {kind!r}")
    return [groups[kind] for kind in types or groups]


def check_match(match: Match) -> None:
    """Raises :exc:`TypeError` for what is none."""
    if not isinstance(match, Match):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"flows are chosen by a Match, not by {match!r}")


def the_flow(outcome: Outcome) -> Flow:
    """The entry in the answer to a request. Raises what was refused, or :exc:`NoReply`."""
    replies = outcome.result()
    if not replies:
        raise NoReply(f"{outcome.request}: the kernel's answer has no entry")
    return flow_of(replies[0])
