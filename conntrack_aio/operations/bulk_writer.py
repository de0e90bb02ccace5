"""Create, change and delete many flows, by requests that are sent many at a time."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import TypeVar

from ..bulk.new_flow import NewFlow, as_range
from ..bulk.outcomes import BulkOperation, BulkWork
from ..bulk.sources import FromAsyncIterable, FromIterable, FromLists, ItemSource
from ..codec.requests.targets import Target
from ..errors import NotFound, UnsafeRequest
from ..filters.match import Match, compiled_of
from ..model.flow import Flow
from ..model.nat import NATRange
from ..model.tuples import IPAddress
from ..model.update import FlowUpdate
from ..session import Session
from .bulk_work import CreateWork, DeleteWork, UpdateWork
from .probes import Probes
from .selector import Selector, check_match
from .update_steps import CheckedUpdate

T = TypeVar("T")
F = TypeVar("F", bound=Flow | NewFlow)
D = TypeVar("D", bound=Target)


class BulkWriter:
    """Creates, changes and deletes many flows, given by the caller or selected by a match.

    Each method implements the method of :class:`Connection` with the same name, which documents it.
    """

    def __init__(self, session: Session, probes: Probes, selector: Selector) -> None:
        self._session = session
        self._probes = probes
        self._selector = selector

    def create_many(
        self,
        flows: Iterable[F] | AsyncIterable[F],
        *,
        nat_src: NATRange | IPAddress | str | None,
        nat_dst: NATRange | IPAddress | str | None,
        stop_on_error: bool,
    ) -> BulkOperation[F]:
        work: CreateWork[F] = CreateWork(as_range(nat_src), as_range(nat_dst))
        return self._session.bulk(_source(flows), work, stop_on_error=stop_on_error)

    def update_many(
        self,
        targets: Iterable[D] | AsyncIterable[D],
        update: FlowUpdate,
        *,
        zone: int | None,
        stop_on_error: bool,
    ) -> BulkOperation[D]:
        work: UpdateWork[D] = UpdateWork(CheckedUpdate.of(update, zone), self._probes)
        return self._session.bulk(_source(targets), work, stop_on_error=stop_on_error)

    def delete_many(
        self,
        targets: Iterable[D] | AsyncIterable[D],
        *,
        zone: int | None,
        stop_on_error: bool,
    ) -> BulkOperation[D]:
        work: DeleteWork[D] = DeleteWork(zone)
        return self._session.bulk(_source(targets), work, stop_on_error=stop_on_error)

    async def delete_matching(self, match: Match) -> int:
        check_match(match)
        if await compiled_of(match).compute(lambda: match.always):
            raise UnsafeRequest(
                "delete_matching with a match that is always true; flush() deletes everything"
            )
        if await self._selector.can_flush(match):
            count = await self._selector.count(match)
            await self._selector.flush(match)
            return count
        return await self._each_matching(match, DeleteWork())

    async def update_matching(self, match: Match, update: FlowUpdate) -> int:
        check_match(match)
        checked = CheckedUpdate.of(update, None)
        return await self._each_matching(match, UpdateWork(checked, self._probes))

    async def _each_matching(self, match: Match, work: BulkWork[Flow]) -> int:
        """Do the work for each flow that matches, and return how many there were.

        Flows that ended in the meantime do not count.
        """
        done = 0
        async with (
            self._selector.dump(match) as dump,
            self._session.bulk(FromLists(dump.batches()), work) as bulk,
        ):
            async for outcomes in bulk.batches():
                for outcome in outcomes:
                    if not isinstance(outcome.error, NotFound):
                        outcome.result()
                        done += 1
        return done


def _source(items: Iterable[T] | AsyncIterable[T]) -> ItemSource[T]:
    """Return where a bulk operation takes its items from.

    :raises TypeError: when ``items`` is not iterable.
    """
    if isinstance(items, AsyncIterable):
        return FromAsyncIterable(items)
    return FromIterable(items)
