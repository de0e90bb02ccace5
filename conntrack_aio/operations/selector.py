"""Select flows by a match: what the kernel filters, and what the library checks itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..codec.messages import decode_flow, skip
from ..codec.requests import flows as requests
from ..model.flow import Flow
from ..model.values import describe_value
from ..session import Session
from ..streams.dump import Dump, DumpPlan, EntryProcessor
from ..uapi.nfnetlink_conntrack import IPCTNL_MSG_CT

if TYPE_CHECKING:
    from ..filters.compiled import CompiledMatch
    from ..filters.dump import DumpFeatures, DumpFilter
    from ..filters.match import Match
    from ..model.events import FlowEvent
    from ..streams.options import EventSelection
    from .probes import Probes


def _compiled_of(match: Match) -> CompiledMatch:
    # Many programs use no match, and the modules of filters take long to import.
    from ..filters.match import compiled_of

    return compiled_of(match)


class Selector:
    """Applies a match to dumps, counts, flushes and event subscriptions.

    The kernel filters as far as its version can. The library checks the rest, except where a method
    says that other flows are returned, too.
    """

    def __init__(self, session: Session, probes: Callable[[], Probes]) -> None:
        """Use a session.

        :param session: the session.
        :param probes: returns the probes of the kernel's features, whose modules take long to
            import.
        """
        self._session = session
        self._probes = probes

    def dump(
        self,
        match: Match | None,
        *,
        processor: EntryProcessor[Flow] | None = None,
        apply_predicate: bool = True,
    ) -> Dump[Flow]:
        """Dump the flows that match. The requests are determined when the dump begins.

        :param match: which flows to return; ``None`` for all.
        :param processor: processes the flows before they are handed out.
        :param apply_predicate: whether to apply the predicate of the match where the kernel does
            not filter exactly. If not, other flows are returned, too.
        """
        if match is None:
            return self._session.dump(requests.dump(), decode_flow, None, processor)
        compiled = _compiled_of(match)

        async def plan() -> DumpPlan[Flow]:
            # The features of the kernel are looked up only if the requests depend on them. Without
            # them the filter counts as inexact, and the library checks each entry.
            if await compiled.compute(lambda: compiled.depends_on_features):
                filter_ = await self.filter_of(match)
            else:
                filter_ = await compiled.compute(compiled.dump_filter)
            sent = [requests.dump(each) for each in filter_.selections]
            if filter_.exact or not apply_predicate:
                return DumpPlan(sent)
            return DumpPlan(sent, await compiled.compute(lambda: compiled.predicate))

        return self._session.dump(requests.dump(), decode_flow, None, processor, plan)

    def dump_dying_or_unconfirmed(
        self, which: IPCTNL_MSG_CT, subject: str, match: Match | None
    ) -> Dump[Flow]:
        """Dump the dying or the unconfirmed entries, which the kernel can filter only by family.

        :param which: the type of the request.
        :param subject: what the entries are, for error messages.
        :param match: which of them to return; ``None`` for all.
        """
        request = requests.dump_dying_or_unconfirmed(which, subject)
        if match is None:
            return self._session.dump(request, decode_flow)
        compiled = _compiled_of(match)

        async def plan() -> DumpPlan[Flow]:
            filter_ = await compiled.compute(compiled.dump_filter)
            sent = [
                requests.dump_dying_or_unconfirmed(which, subject, each.family)
                for each in filter_.selections
            ]
            return DumpPlan(sent, await compiled.compute(lambda: compiled.predicate))

        return self._session.dump(request, decode_flow, planner=plan)

    async def count(self, match: Match) -> int:
        """Return how many flows match."""
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
        """Return whether this kernel is known to delete exactly what matches in one request."""
        from ..model.requests import Selection

        filter_ = await self.filter_of(match)
        if not filter_.exact or not filter_.selections or Selection() in filter_.selections:
            return False
        return await self._probes().has("flush_filter")

    async def flush(self, match: Match) -> None:
        """Delete the flows that match by one request for each selection.

        Precondition: :meth:`can_flush`.
        """
        filter_ = await self.filter_of(match)
        assert filter_.exact
        sent = [requests.flush_selected(each) for each in filter_.selections]
        for response in await self._session.run(sent, walks_table=True):
            response.result()

    async def filter_of(self, match: Match) -> DumpFilter:
        """Return the filter for dumps on this kernel, probing its features only if they matter."""
        compiled = _compiled_of(match)
        if not await compiled.compute(
            lambda: compiled.depends_on_features or compiled.may_be_exact
        ):
            return compiled.dump_filter()
        features = await self._features()
        return await compiled.compute(lambda: compiled.dump_filter(features))

    async def _features(self) -> DumpFeatures:
        """Return the features of this kernel that filters of dumps depend on."""
        from ..filters.dump import DumpFeatures

        has = self._probes().has
        return DumpFeatures(*[await has(name) for name in DumpFeatures._fields])

    def event_selection(self, match: Match) -> EventSelection[FlowEvent]:
        """Select the events of flows that match."""
        from ..streams.options import EventSelection

        return EventSelection(_event_predicate(match), _compiled_of(match).programs)

    def coarse_event_selection(self, match: Match) -> EventSelection[FlowEvent]:
        """Select the events of flows that match now or may match later.

        Events of other flows may be selected, too.
        """
        from ..streams.options import EventSelection

        return EventSelection(None, partial(_compiled_of(match).programs, constant_only=True))

    async def prepare_table(self, match: Match) -> None:
        """Compile what a table of this match needs; if the match is large, on a worker thread."""
        compiled = _compiled_of(match)
        await compiled.compute(lambda: (compiled.predicate, compiled.program(constant_only=True)))


def _event_predicate(match: Match) -> Callable[[FlowEvent], bool]:
    """Return a predicate for events that compiles the match at the first event."""
    predicate: Callable[[Flow], bool] | None = None

    def matches(event: FlowEvent) -> bool:
        nonlocal predicate
        if predicate is None:
            predicate = match.predicate
        return predicate(event.flow)

    return matches


def check_match(match: Match) -> None:
    """Check that an argument is a match.

    :raises TypeError: when it is not a :class:`Match`.
    """
    from ..filters.match import Match

    if not isinstance(match, Match):  # pyright: ignore[reportUnnecessaryIsInstance]
        hint = "; Match(…) reads text" if isinstance(match, str) else ""
        raise TypeError(f"match must be a Match; got {describe_value(match)}{hint}")
