"""Selecting flows by a match: what the kernel does of it, and what is left to do here."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final, NamedTuple

from ..codec.messages import decode_flow, skip
from ..codec.requests import flows as requests
from ..dumps import Dump, Plan, Stage
from ..filters.dump import DumpFilter, compile_dump, may_be_exact, wants_features
from ..filters.match import Match
from ..filters.program import EventFilter, compile_program
from ..model.events import FlowEvent
from ..model.flow import Flow
from ..model.requests import Selection
from ..model.values import describe_value
from ..netlink.bpf import MOST
from ..session import Session
from ..subscriptions import Sieve
from .probes import Probes

_LIMITS: Final = (MOST, MOST // 2, MOST // 4, MOST // 8)
"""Instructions of the programs that are tried: ``net.core.optmem_max`` is 20 KiB on older kernels,
which is room for some 2,500."""


class _Known(NamedTuple):
    """What the kernel at hand can select by, and nothing that is of no use for that."""

    tuple_filter: bool
    reply_filter: bool
    status_filter: bool
    zone_filter: bool


class Selecting:
    """What a connection's verbs select by."""

    def __init__(self, session: Session, probes: Probes) -> None:
        self._session = session
        self._probes = probes

    def dump(
        self, match: Match | None, *, stage: Stage[Flow] | None = None, checked: bool = True
    ) -> Dump[Flow]:
        """The flows that match; or, not ``checked``, those that the kernel lets through."""
        first = DumpFilter() if match is None else compile_dump(match.node)
        keep = None if match is None or not checked or first.exact else match.predicate

        async def plan() -> Plan[Flow]:
            assert match is not None
            filter_ = await self.filter_of(match)
            asked = [requests.dump(each) for each in filter_.selections]
            return Plan(asked, None if filter_.exact else keep)

        planner = plan if match is not None and wants_features(match.node) else None
        request = requests.dump(*first.selections)
        return self._session.dump(request, decode_flow, keep, stage, planner)

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
        if not may_be_exact(match.node):
            return False
        filter_ = await self.filter_of(match)
        if not filter_.exact or Selection() in filter_.selections:
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
        if not (wants_features(match.node) or may_be_exact(match.node)):
            return compile_dump(match.node)
        return compile_dump(match.node, await self._features())

    async def _features(self) -> _Known:
        """Each is asked for once."""
        has = self._probes.has
        return _Known(*[await has(name) for name in _Known._fields])

    def sieve(self, match: Match) -> Sieve[FlowEvent]:
        """The events of flows that match."""
        predicate = match.predicate

        def keep(event: FlowEvent) -> bool:
            return predicate(event.flow)

        return Sieve(keep, partial(_filters, match, constant=False))

    def coarse_sieve(self, match: Match) -> Sieve[FlowEvent]:
        """The events of flows that may ever match, and of others."""
        return Sieve(None, partial(_filters, match, constant=True))


def _filters(match: Match, *, constant: bool) -> Iterator[EventFilter]:
    for limit in _LIMITS:
        found = compile_program(match.node, constant=constant, limit=limit)
        if found is None:
            return
        yield found


def check_match(match: Match) -> None:
    """Raises :exc:`TypeError` for what is none."""
    if not isinstance(match, Match):  # pyright: ignore[reportUnnecessaryIsInstance]
        hint = "; Match.parse() reads text" if isinstance(match, str) else ""
        raise TypeError(f"flows are chosen by a Match, not by {describe_value(match)}{hint}")
