"""Writing many flows: requests one behind the other, and an outcome for each."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from typing import TypeVar

from ..bulk.new_flow import NewFlow, as_range
from ..bulk.outcomes import BulkOperation, Work
from ..bulk.sources import FromAsyncIterable, FromIterable, FromLists, Source
from ..codec.requests.targets import Target
from ..errors import NotFound, UnsafeRequest
from ..filters.match import Match
from ..model.enums import Status
from ..model.flow import Flow, Helper, SeqAdj, SynProxy
from ..model.nat import NATRange
from ..model.protoinfo import ProtoInfo
from ..model.tuples import IPAddress
from .selector import check_match
from .update_steps import Change
from .windows import Creations, Deletions, Updates
from .writer import Writing

T = TypeVar("T")
F = TypeVar("F", bound=Flow | NewFlow)
D = TypeVar("D", bound=Target)


class BulkWriting(Writing):
    """The verbs of a connection that write many flows.

    Each takes any iterable or async iterable and returns a :class:`BulkOperation`: an async
    iterator of outcomes in the order of the items, or, awaited, a list of them. The items are
    pipelined, and one that fails does not stop the rest, unless ``stop_on_error``: then nothing is
    sent once an outcome of the window before has an error, and the iteration ends with that window.
    A window is 256 items, fewer where the system grants less receive buffer; those of it behind the
    error were on their way and have their outcomes. Items behind one that can't be encoded have
    none.

    Each raises :exc:`TypeError` for what is not iterable. An item that no request can be made of,
    whatever it is, has an :exc:`EncodeError` as its outcome.
    """

    def create_many(
        self,
        flows: Iterable[F] | AsyncIterable[F],
        *,
        nat_src: NATRange | IPAddress | str | None = None,
        nat_dst: NATRange | IPAddress | str | None = None,
        stop_on_error: bool = False,
    ) -> BulkOperation[F]:
        """Make new entries, each as :meth:`create` does, but for reading it back.

        A related flow needs its master in the table. Within a window of 256 items it may stand
        before its master; :func:`masters_first` orders any number of flows, as a restore needs.

        :param flows: a :class:`Flow` is made with ``nat_src`` and ``nat_dst``, a
            :class:`NewFlow` with the translation that it says itself.
        :param stop_on_error: send nothing once an outcome has an error; those of its window of
            256 behind it were on their way, and have their outcomes. Behind an item that can't be
            encoded nothing is sent.

        Outcomes have the errors that :meth:`create` raises. Raises :exc:`ValueError` or
        :exc:`TypeError` for a translation to what is no address.
        """
        work: Creations[F] = Creations(as_range(nat_src), as_range(nat_dst))
        return self._session.bulk(_source(flows), work, stop_on_error=stop_on_error)

    def update_many(
        self,
        targets: Iterable[D] | AsyncIterable[D],
        *,
        mark: int | None = None,
        mark_mask: int | None = None,
        timeout: int | None = None,
        status: Status | None = None,
        labels: int | None = None,
        labels_mask: int | None = None,
        protoinfo: ProtoInfo | None = None,
        helper: Helper | str | None = None,
        seqadj_orig: SeqAdj | None = None,
        seqadj_reply: SeqAdj | None = None,
        synproxy: SynProxy | None = None,
        zone: int | None = None,
        stop_on_error: bool = False,
    ) -> BulkOperation[D]:
        """Change the same of each target, as :meth:`update` does with the same parameters.

        Where that looks an entry up first (of a flow with an id, or for a status), a window of
        them is looked up, and then changed. Of an async iterable that waits, the flows that it gave
        are looked up meanwhile, and changed when it goes on: to follow a stream of events, update
        each by :meth:`update`, or name it by its tuple.

        :param stop_on_error: send nothing once an outcome has an error; those of its window of
            256 behind it were on their way, and have their outcomes. Behind an item that can't be
            encoded nothing is sent.

        Outcomes have the errors that :meth:`update` raises. Raises :exc:`EncodeError` if nothing
        is to be changed, and for a value that is no number.
        """
        change = Change.of(
            {
                "mark": mark,
                "mark_mask": mark_mask,
                "timeout": timeout,
                "labels": labels,
                "labels_mask": labels_mask,
                "protoinfo": protoinfo,
                "helper": helper,
                "seqadj_orig": seqadj_orig,
                "seqadj_reply": seqadj_reply,
                "synproxy": synproxy,
            },
            status,
            zone,
        )
        work: Updates[D] = Updates(change, self._probes)
        return self._session.bulk(_source(targets), work, stop_on_error=stop_on_error)

    def delete_many(
        self,
        targets: Iterable[D] | AsyncIterable[D],
        *,
        zone: int | None = None,
        stop_on_error: bool = False,
    ) -> BulkOperation[D]:
        """Delete entries, each as :meth:`delete` does.

        :param zone: the zone to look in, instead of each target's own.
        :param stop_on_error: send nothing once an outcome has an error; those of its window of
            256 behind it were on their way, and have their outcomes. Behind an item that can't be
            encoded nothing is sent.

        A flow that tells its start time is looked up first, as :meth:`delete` does it: a window of
        flows at a time. Without start times there is one request for each. One that finds nothing
        is followed by another by the reply tuple.

        Outcomes have the errors that :meth:`delete` raises: :exc:`NotFound` for what was gone, and
        :exc:`EncodeError` for an item that is not a target.
        """
        work: Deletions[D] = Deletions(zone)
        return self._session.bulk(_source(targets), work, stop_on_error=stop_on_error)

    async def delete_matching(self, match: Match) -> int:
        """Delete the flows that match, and return how many they were.

        The table is dumped, each flow checked here, and deleted by tuple, zone, id and, where it
        tells that, its start time. One that ended meanwhile is not counted. **An entry may change
        between the dump and its deletion**: one that matched when it was read is deleted, though
        its mark or state may be another by then. And without start times
        (``nf_conntrack_timestamp``) an entry that was made again at once, with the same tuple,
        can't be told from the one that was read. Where the kernel is
        known to honour every part of the match (Linux 6.12 has filters of deletes, which know
        IPv4 addresses, but not IPv6 ones; no sets, no ranges), they are counted first, and then
        deleted by one request: of a busy table, the count is that of a moment before.

        Raises :exc:`UnsafeRequest` for a match that is always true: that is :meth:`flush`; and
        :exc:`EncodeError` for a flow that the kernel tells so incompletely that it can't be named.
        """
        check_match(match)
        if await match.compiled.ready(lambda: match.always):
            raise UnsafeRequest(
                "delete_matching with a match that is always true; flush() deletes everything"
            )
        if await self._selecting.can_flush(match):
            count = await self.count(match)
            await self._selecting.flush(match)
            return count
        return await self._each_matching(match, Deletions())

    async def update_matching(
        self,
        match: Match,
        *,
        mark: int | None = None,
        mark_mask: int | None = None,
        timeout: int | None = None,  # noqa: ASYNC109 - the entry's, not ours
        status: Status | None = None,
        labels: int | None = None,
        labels_mask: int | None = None,
        protoinfo: ProtoInfo | None = None,
        helper: Helper | str | None = None,
        seqadj_orig: SeqAdj | None = None,
        seqadj_reply: SeqAdj | None = None,
        synproxy: SynProxy | None = None,
    ) -> int:
        """Change the same of each flow that matches, as :meth:`update_many` does with the same
        parameters, and return how many they were.

        The table is dumped, each flow checked here, and changed by tuple, zone, id and, where it
        tells that, its start time. One that ended meanwhile is not counted; one that has changed
        since it was read is changed all the same.

        Raises what :meth:`update` raises, for the first flow that it can't be done to: those before
        it are changed, and some behind it; and :exc:`EncodeError` if nothing is to be changed.
        """
        check_match(match)
        change = Change.of(
            {
                "mark": mark,
                "mark_mask": mark_mask,
                "timeout": timeout,
                "labels": labels,
                "labels_mask": labels_mask,
                "protoinfo": protoinfo,
                "helper": helper,
                "seqadj_orig": seqadj_orig,
                "seqadj_reply": seqadj_reply,
                "synproxy": synproxy,
            },
            status,
            None,
        )
        return await self._each_matching(match, Updates(change, self._probes))

    async def _each_matching(self, match: Match, work: Work[Flow]) -> int:
        """Do it to each flow that matches; to how many it was done."""
        done = 0
        async with (
            self.dump(match) as dump,
            self._session.bulk(FromLists(dump.batches()), work) as bulk,
        ):
            async for outcomes in bulk.batches():
                for outcome in outcomes:
                    if not isinstance(outcome.error, NotFound):
                        outcome.result()
                        done += 1
        return done


def _source(items: Iterable[T] | AsyncIterable[T]) -> Source[T]:
    """Raises :exc:`TypeError` for what is no iterable."""
    if isinstance(items, AsyncIterable):
        return FromAsyncIterable(items)
    return FromIterable(items)
