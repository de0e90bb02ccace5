"""Read flows, and subscribe to flow events."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Final

from ..model.enums import EventType
from ..model.flow import Flow
from ..model.values import describe_value
from ..session import Session
from ..streams.dump import Dump
from ..uapi.nfnetlink import NFNLGRP
from ..uapi.nfnetlink_conntrack import IPCTNL_MSG_CT
from .selector import Selector, check_match

if TYPE_CHECKING:
    from ..codec.arrow import Addresses
    from ..codec.arrow_table import ArrowTable
    from ..filters.match import Match
    from ..model.events import FlowEvent
    from ..streams.events import EventStream
    from ..streams.options import StreamOptions
    from .resets import Resets

_GROUPS: Final = {
    EventType.NEW: NFNLGRP.CONNTRACK_NEW,
    EventType.UPDATE: NFNLGRP.CONNTRACK_UPDATE,
    EventType.DESTROY: NFNLGRP.CONNTRACK_DESTROY,
}


class Reader:
    """Reads flows, and subscribes to flow events.

    Each method implements the method of :class:`Connection` with the same name, which documents it.
    """

    def __init__(self, session: Session, selector: Selector, resets: Callable[[], Resets]) -> None:
        self._session = session
        self._selector = selector
        self._resets = resets

    def dump(self, match: Match | None, *, reset_counters: bool) -> Dump[Flow]:
        if match is not None:
            check_match(match)
        if not reset_counters:
            return self._selector.dump(match)
        from .resets import ResetProcessor

        return self._selector.dump(match, processor=ResetProcessor(self._resets(), match))

    async def list(self, match: Match | None, *, reset_counters: bool) -> list[Flow]:
        flows: list[Flow] = []
        try:
            async with self.dump(match, reset_counters=reset_counters) as dump:
                async for batch in dump.batches():
                    flows += batch
        except BaseException:
            if reset_counters:
                self._resets().put_back(flows)
            raise
        return flows

    async def arrow(
        self, match: Match | None, names: tuple[str, ...], addresses: Addresses
    ) -> ArrowTable:
        from ..codec.arrow_table import ArrowTable
        from ..codec.column_fields import select_columns

        async with self.dump(match, reset_counters=False).columns(
            *names, addresses=addresses
        ) as batches:
            table = ArrowTable(select_columns(Flow, names), addresses)
            async for batch in batches:
                table.add(batch)
        return table

    def dying(self, match: Match | None) -> Dump[Flow]:
        return self._special(IPCTNL_MSG_CT.GET_DYING, "the dying entries", match)

    def unconfirmed(self, match: Match | None) -> Dump[Flow]:
        return self._special(IPCTNL_MSG_CT.GET_UNCONFIRMED, "the unconfirmed entries", match)

    def _special(self, which: IPCTNL_MSG_CT, subject: str, match: Match | None) -> Dump[Flow]:
        if match is not None:
            check_match(match)
        return self._selector.dump_dying_or_unconfirmed(which, subject, match)

    async def count(self, match: Match) -> int:
        check_match(match)
        return await self._selector.count(match)

    def events(
        self,
        types: Collection[EventType],
        match: Match | None,
        options: StreamOptions,
    ) -> EventStream[FlowEvent]:
        from ..codec.event_messages import decode_event

        if match is not None:
            check_match(match)
        selection = None if match is None else self._selector.event_selection(match)
        return self._session.subscribe(groups_of(types, _GROUPS), decode_event, options, selection)


def groups_of(types: Collection[EventType], groups: Mapping[EventType, int]) -> list[int]:
    """Return the multicast groups of the given event types, or all groups without a type.

    :raises TypeError: when a type is not an :class:`EventType`.
    :raises ValueError: when a type has no group.
    """
    for each in types:
        if not isinstance(each, EventType):  # pyright: ignore[reportUnnecessaryIsInstance]
            shown = describe_value(each)
            raise TypeError(f"event types must be members of EventType; got {shown}")
        if each not in groups:
            raise ValueError(f"the kernel sends no {each.name} events of expectations")
    return [groups[each] for each in types or groups]
