"""Selecting flows by a match: what the kernel does of it, and what is left to do here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ..codec.messages import decode_flow, skip
from ..codec.requests import flows as requests
from ..filters.dump import DumpFilter
from ..filters.match import Match
from ..model.events import FlowEvent
from ..model.flow import Flow
from ..model.requests import Selection
from ..model.values import describe_value
from ..session import Session
from ..streams.dump import Dump, DumpPlan, DumpStage
from ..streams.subscription import EventSelection
from ..uapi.nfnetlink_conntrack import IPCTNL_MSG_CT
from .probes import Probes


class _Known(NamedTuple):
    """What the kernel at hand can select by, and nothing that is of no use for that."""

    tuple_filter: bool
    reply_filter: bool
    status_filter: bool
    zone_filter: bool


class Selector:
    """What a connection's verbs select by."""

    def __init__(self, session: Session, probes: Probes) -> None:
        self._session = session
        self._probes = probes

    def dump(
        self, match: Match | None, *, stage: DumpStage[Flow] | None = None, checked: bool = True
    ) -> Dump[Flow]:
        """The flows that match; or, not ``checked``, those that the kernel lets through.

        What to ask for is found out when the dump begins.
        """
        if match is None:
            return self._session.dump(requests.dump(), decode_flow, None, stage)
        compiled = match.compiled

        async def plan() -> DumpPlan[Flow]:
            # What the kernel may do exactly is checked here all the same: not worth a question.
            wants = await compiled.ready(lambda: compiled.wants_features)
            filter_ = await (self.filter_of(match) if wants else compiled.ready(compiled.dump))
            asked = [requests.dump(each) for each in filter_.selections]
            if filter_.exact or not checked:
                return DumpPlan(asked)
            return DumpPlan(asked, await compiled.ready(lambda: compiled.predicate))

        return self._session.dump(requests.dump(), decode_flow, None, stage, plan)

    def dump_special(self, which: IPCTNL_MSG_CT, subject: str, match: Match | None) -> Dump[Flow]:
        """The entries of a list that the kernel filters by family alone."""
        request = requests.dump_special(which, subject)
        if match is None:
            return self._session.dump(request, decode_flow)
        compiled = match.compiled

        async def plan() -> DumpPlan[Flow]:
            filter_ = await compiled.ready(compiled.dump)
            asked = [
                requests.dump_special(which, subject, each.family) for each in filter_.selections
            ]
            return DumpPlan(asked, await compiled.ready(lambda: compiled.predicate))

        return self._session.dump(request, decode_flow, planner=plan)

    async def count(self, match: Match) -> int:
        """How many flows match."""
        filter_ = await self.filter_of(match)
        count = 0
        if filter_.exact:
            for each in filter_.selections:
                async with self._session.dump(requests.dump(each), skip) as messages:
                    async for batch in messages.batches():
                        count += len(batch)
        else:
            async with self.dump(match) as flows:
                async for flow_batch in flows.batches():
                    count += len(flow_batch)
        return count

    async def can_flush(self, match: Match) -> bool:
        """Whether this kernel is known to delete just what matches, asked to do so."""
        filter_ = await self.filter_of(match)
        if not filter_.exact or not filter_.selections or Selection() in filter_.selections:
            return False
        return await self._probes.has("flush_filter")

    async def flush(self, match: Match) -> None:
        """Have it do so."""
        filter_ = await self.filter_of(match)
        assert filter_.exact
        asked = [requests.flush_selected(each) for each in filter_.selections]
        for outcome in await self._session.run(asked, walk=True):
            outcome.result()

    async def filter_of(self, match: Match) -> DumpFilter:
        """What this kernel can do of a match; it is asked only where that makes a difference."""
        compiled = match.compiled
        if not await compiled.ready(lambda: compiled.wants_features or compiled.may_be_exact):
            return compiled.dump()
        features = await self._features()
        return await compiled.ready(lambda: compiled.dump(features))

    async def _features(self) -> _Known:
        """Each is asked for once."""
        has = self._probes.has
        return _Known(*[await has(name) for name in _Known._fields])

    def event_selection(self, match: Match) -> EventSelection[FlowEvent]:
        """The events of flows that match."""
        return EventSelection(_judge(match), match.compiled.programs)

    def coarse_event_selection(self, match: Match) -> EventSelection[FlowEvent]:
        """The events of flows that may ever match, and of others."""
        return EventSelection(None, partial(match.compiled.programs, constant=True))

    async def prepare_table(self, match: Match) -> None:
        """Work out what a table of a large match needs, so that it costs the event loop nothing."""
        compiled = match.compiled
        await compiled.ready(lambda: (compiled.predicate, compiled.program(constant=True)))


def _judge(match: Match) -> Callable[[FlowEvent], bool]:
    """Whether the flow of an event matches. Nothing is worked out before there is one."""
    predicate: Callable[[Flow], bool] | None = None

    def keep(event: FlowEvent) -> bool:
        nonlocal predicate
        if predicate is None:
            predicate = match.predicate
        return predicate(event.flow)

    return keep


def check_match(match: Match) -> None:
    """Raises :exc:`TypeError` for what is none."""
    if not isinstance(match, Match):  # pyright: ignore[reportUnnecessaryIsInstance]
        hint = "; Match(…) reads text" if isinstance(match, str) else ""
        raise TypeError(f"flows are chosen by a Match, not by {describe_value(match)}{hint}")
