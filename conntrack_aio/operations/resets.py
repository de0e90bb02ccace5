"""Read the counters of flows and reset them, without losing a packet.

The kernel's own dump for this (``IPCTNL_MSG_CT_GET_CTRZERO`` with DUMP) resets an entry's counters
before it knows whether the entry still fits into the chunk. An entry that does not fit is sent
again in the next chunk, with counters of zero (``ctnetlink_dump_acct``, on every kernel from 4.19
to 7.1). So the library dumps the entries, and then reads and resets each by a request of its own,
whose reply has room.

Counters that were reset must be reported. The flows are kept here until a program gets them, so
neither a cancellation nor a program that leaves a dump early loses any.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..codec.requests import flows as requests
from ..codec.requests.targets import Target
from ..errors import ConntrackError, DecodeError, EncodeError, NotFound
from ..model.flow import Flow
from ..netlink.exchange import Request, Response
from ..session import Session
from .replies import flow_in
from .steps import check_same, describe_difference, is_identified, look_up_steps, run_steps

if TYPE_CHECKING:
    from ..filters.match import Match

logger = logging.getLogger("conntrack_aio")


class Resets:
    """Reset counters, and keep the flows that were reset until a program gets them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._undelivered: deque[Flow | ConntrackError] = deque()
        """Flows whose counters were reset, and errors, that no program has got yet."""

    def __len__(self) -> int:
        return len(self._undelivered)

    async def reset(
        self, to_send: Sequence[Request], on_unsent: Callable[[int], None] | None = None
    ) -> list[Flow | ConntrackError]:
        """Send requests that read and reset, and return the flows in the same order.

        If an entry has ended or its reply was lost, an error is in its place. If this is
        cancelled or raises, the flows that were reset are kept for the next call.

        :param to_send: the requests.
        :param on_unsent: called if this is cancelled or raises, with the number of requests at the
            end of the list that were not sent.
        """
        results: deque[Flow | ConntrackError] = deque()
        caller_left = False

        def take_responses(responses: list[Response]) -> None:
            """Take the responses.

            This may run on a worker thread, and after the caller was cancelled. The results are
            in a deque, because several threads may use a deque.
            """
            results.extend(map(_result_of, responses))
            if caller_left:
                keep_for_next_call()

        def keep_for_next_call() -> None:
            for _ in range(len(to_send)):
                try:
                    result = results.popleft()
                except IndexError:
                    return
                if not isinstance(result, NotFound):
                    self._undelivered.append(result)

        try:
            await self._session.run(to_send, on_responses=take_responses, on_unsent=on_unsent)
        except BaseException:
            caller_left = True
            keep_for_next_call()
            raise
        return list(results)

    async def reset_one(
        self, target: Target, zone: int | None, on_unsent: Callable[[], None] | None = None
    ) -> Flow:
        """Read and reset the entry that a target means.

        A flow is looked up first: its tuple may find another entry, whose counters must not be
        reset.

        :param target: a flow or a tuple.
        :param zone: the zone to look in, instead of the target's own.
        :param on_unsent: called when this is cancelled, or raises an error that is not a
            :exc:`ConntrackError`, before the request that resets the counters was sent.

        :raises NotFound: when there is no such entry.
        :raises KernelError: when the kernel refuses a request.
        :raises NoReply: when the kernel does not reply in time.
        :raises DecodeError: when a reply cannot be decoded.
        :raises EncodeError: when a tuple is incomplete, or when a field holds no valid value.
        :raises TypeError: when the target is neither a :class:`Flow` nor a :class:`Tuple`.
        """
        request = requests.get_and_reset(target, zone)
        unsent = True

        def note_unsent(count: int) -> None:
            nonlocal unsent
            unsent = count > 0

        try:
            if is_identified(target):
                key, _ = await run_steps(self._session, look_up_steps(target, zone))
                if key is not None:
                    request = requests.reset_by_key(key)
            (result,) = await self.reset([request], note_unsent)
        except ConntrackError:
            raise
        except BaseException:
            if unsent and on_unsent is not None:
                on_unsent()
            raise
        if isinstance(result, ConntrackError):
            raise result
        try:
            check_same(target, result, request)
        except NotFound:
            self.put_back([result])
            raise
        return result

    async def reset_each(
        self, entries: Sequence[Flow], match: Match | None, unprocessed: list[Flow]
    ) -> list[Flow | ConntrackError]:
        """Read and reset each entry of a dump, and return the flows.

        An entry that has ended in the meantime is left out: its destroy event has its counters.

        :param entries: the entries.
        :param match: decides whether the flow of another entry, which was reset because it has the
            same tuple, is returned or kept for a later dump; ``None`` to return it.
        :param unprocessed: the entries that were not reset are added to it if this is cancelled or
            raises.
        """
        planned = _ResetRequests(entries)
        sent_for, to_look_up = planned.entries, planned.to_look_up
        results: list[Flow | ConntrackError] = [*planned.errors]
        try:
            reset_results = await self.reset(
                planned.requests,
                lambda count: unprocessed.extend(sent_for[len(sent_for) - count :]),
            )
        except BaseException:
            self.put_back(results)
            unprocessed.extend(to_look_up)
            raise
        for entry, result in zip(sent_for, reset_results, strict=True):
            if isinstance(result, Flow) and describe_difference(entry, result) is not None:
                to_look_up.append(entry)
                # Another entry has this tuple. Its counters were reset, so report them, too.
                if match is None or match(result):
                    results.append(result)
                else:
                    self.put_back([result])
            elif not isinstance(result, NotFound):
                results.append(result)
        await self._reset_after_look_up(to_look_up, results, unprocessed)
        return results

    async def _reset_after_look_up(
        self,
        entries: list[Flow],
        results: list[Flow | ConntrackError],
        unprocessed: list[Flow],
    ) -> None:
        """Look up each entry of a dump, and reset the one that is found.

        :param entries: the entries. They are removed from the list.
        :param results: the flows and errors are added to it.
        :param unprocessed: the entries that were not reset are added to it if this is cancelled or
            raises.
        """
        while entries:
            entry = entries.pop()
            try:
                results.append(await self.reset_one(entry, None, partial(entries.append, entry)))
            except NotFound:
                continue
            except ConntrackError as error:
                results.append(error)
            except BaseException:
                self.put_back(results)
                unprocessed.extend(entries)
                raise

    async def wait_until_idle(self) -> None:
        """Return once the replies to all cancelled resets have arrived."""
        await self._session.requester.wait_until_idle()

    def take_undelivered(self, match: Match | None) -> list[Flow | ConntrackError]:
        """Return and remove the undelivered flows that match, and all undelivered errors."""
        taken: list[Flow | ConntrackError] = []
        for _ in range(len(self._undelivered)):
            item = self._undelivered.popleft()
            wanted = match is None or isinstance(item, ConntrackError) or match(item)
            (taken if wanted else self._undelivered).append(item)
        return taken

    def put_back(self, results: Iterable[Flow | ConntrackError]) -> None:
        """Keep flows that were not handed out, before the other undelivered ones."""
        self._undelivered.extendleft(reversed(list(results)))

    def close(self) -> None:
        """Drop the undelivered flows and errors, and log how many there were."""
        if self._undelivered:
            logger.warning(
                "a connection was closed with %d undelivered results of resetting counters",
                len(self._undelivered),
            )
            self._undelivered.clear()


class _ResetRequests:
    """The requests that read and reset the entries of a dump."""

    def __init__(self, entries: Sequence[Flow]) -> None:
        self.requests: list[Request] = []
        self.entries: list[Flow] = []
        """The entry of each request."""
        self.to_look_up: list[Flow] = []
        """Entries that must be looked up first, because their tuple may find another entry."""
        self.errors: list[ConntrackError] = []
        """The errors of entries that the kernel sent, and that no request can name."""
        for entry in entries:
            if entry.orig.zone is not None or entry.reply.zone is not None:
                self.to_look_up.append(entry)
                continue
            try:
                self.requests.append(requests.get_and_reset(entry))
            except EncodeError as error:
                self.errors.append(DecodeError(error.reason, error.path))
            else:
                self.entries.append(entry)


def _result_of(response: Response) -> Flow | ConntrackError:
    try:
        return flow_in(response)
    except ConntrackError as error:
        return error


class ResetProcessor:
    """Resets the counters of the flows that a dump reads."""

    def __init__(self, resets: Resets, match: Match | None) -> None:
        self._resets = resets
        self._match = match
        self._unprocessed: list[Flow] = []
        """Entries that the dump has read and that were not reset, because it was cancelled."""

    @property
    def has_unprocessed(self) -> bool:
        return bool(self._unprocessed)

    def take_waiting(self) -> list[Flow | ConntrackError]:
        return self._resets.take_undelivered(self._match)

    async def process(self, entries: Sequence[Flow]) -> list[Flow | ConntrackError]:
        all_entries, self._unprocessed = [*self._unprocessed, *entries], []
        return await self._resets.reset_each(all_entries, self._match, self._unprocessed)

    async def wait_until_idle(self) -> None:
        await self._resets.wait_until_idle()

    def put_back(self, results: Iterable[Flow | ConntrackError]) -> None:
        self._resets.put_back(results)
