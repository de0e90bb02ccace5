"""Read the counters of flows and reset them, without losing a packet.

The kernel's own dump for this (``IPCTNL_MSG_CT_GET_CTRZERO`` with DUMP) resets an entry's counters
before it knows whether the entry still fits into the chunk. An entry that does not fit is sent
again in the next chunk, with counters of zero (``ctnetlink_dump_acct``, on every kernel from 4.19
to 7.1). So the library dumps the entries, and then reads and resets each by a request of its own,
whose reply has room.

Counters that were reset must be reported. The flows wait here until a reader takes them, so neither
a cancellation nor a reader who leaves in the middle of a window loses any.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from ..codec.requests import flows as requests
from ..codec.requests.targets import Target
from ..errors import ConntrackError, DecodeError, EncodeError, NotFound
from ..filters.match import Match
from ..model.flow import Flow
from ..netlink.exchange import Request, Response
from ..session import Session
from .replies import flow_in
from .steps import check_same, difference, is_identified, look_up_steps, run_steps

logger = logging.getLogger("conntrack_aio")


class Resets:
    """Reset counters, and keep the flows that were reset until a reader takes them."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: deque[Flow | ConntrackError] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    async def reset(
        self, sent: Sequence[Request], on_unsent: Callable[[int], None] | None = None
    ) -> list[Flow | ConntrackError]:
        """Send requests that read and reset, and return the flows in the same order.

        If an entry has ended or its reply was lost, an error is in its place. If this is
        cancelled or raises, the flows that were reset are kept for the next reader.

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
                keep_for_next_reader()

        def keep_for_next_reader() -> None:
            for _ in range(len(sent)):
                try:
                    result = results.popleft()
                except IndexError:
                    return
                if not isinstance(result, NotFound):
                    self._waiting.append(result)

        try:
            await self._session.run(sent, on_responses=take_responses, on_unsent=on_unsent)
        except BaseException:
            caller_left = True
            keep_for_next_reader()
            raise
        return list(results)

    async def reset_one(
        self, target: Target, zone: int | None, on_unsent: Callable[[], None] | None = None
    ) -> Flow:
        """Read and reset the entry that a target means.

        A flow is looked up first: its tuple may find another entry, whose counters must not be
        reset.

        :param on_unsent: called when this is cancelled before the counters were reset.
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

        :param match: selects the flows that the reader wants.
        :param unprocessed: the entries that were not reset are added to it if this is cancelled.
        """
        results: list[Flow | ConntrackError] = []
        sent: list[Request] = []
        sent_for: list[Flow] = []
        to_look_up: list[Flow] = []
        for entry in entries:
            if entry.orig.zone is not None or entry.reply.zone is not None:
                # Its tuple may find another entry, so it is looked up first.
                to_look_up.append(entry)
                continue
            try:
                sent.append(requests.get_and_reset(entry))
                sent_for.append(entry)
            except EncodeError as error:
                # No request can name the entry that the kernel sent. Go on with the others.
                results.append(DecodeError(error.reason, error.path))
        try:
            reset_results = await self.reset(
                sent, lambda count: unprocessed.extend(sent_for[len(sent_for) - count :])
            )
        except BaseException:
            self.put_back(results)
            unprocessed.extend(to_look_up)
            raise
        for entry, result in zip(sent_for, reset_results, strict=True):
            if isinstance(result, Flow) and difference(entry, result) is not None:
                to_look_up.append(entry)
                # Another entry has this tuple. Its counters were reset, so report them, too.
                if match is None or match(result):
                    results.append(result)
                else:
                    self.put_back([result])
            elif not isinstance(result, NotFound):
                results.append(result)
        while to_look_up:
            entry = to_look_up.pop()
            try:
                results.append(await self.reset_one(entry, None, partial(to_look_up.append, entry)))
            except NotFound:
                continue
            except ConntrackError as error:
                results.append(error)
            except BaseException:
                self.put_back(results)
                unprocessed.extend(to_look_up)
                raise
        return results

    async def wait_until_idle(self) -> None:
        """Return once the replies to all cancelled resets have arrived."""
        await self._session.requester.wait_until_idle()

    def take(self, match: Match | None) -> list[Flow | ConntrackError]:
        """Return and remove the flows that wait and match, and all errors that wait."""
        taken: list[Flow | ConntrackError] = []
        for _ in range(len(self._waiting)):
            item = self._waiting.popleft()
            wanted = match is None or isinstance(item, ConntrackError) or match(item)
            (taken if wanted else self._waiting).append(item)
        return taken

    def put_back(self, results: Iterable[Flow | ConntrackError]) -> None:
        """Keep flows that were not handed out, in front of those that wait already."""
        self._waiting.extendleft(reversed(list(results)))

    def close(self) -> None:
        """Drop the flows that wait, and log how many there were."""
        if self._waiting:
            logger.warning(
                "a connection was closed with %d flows whose counters had been reset and were "
                "not read",
                len(self._waiting),
            )
            self._waiting.clear()


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
        return self._resets.take(self._match)

    async def process(self, entries: Sequence[Flow]) -> list[Flow | ConntrackError]:
        all_entries, self._unprocessed = [*self._unprocessed, *entries], []
        return await self._resets.reset_each(all_entries, self._match, self._unprocessed)

    async def wait_until_idle(self) -> None:
        await self._resets.wait_until_idle()

    def put_back(self, results: Iterable[Flow | ConntrackError]) -> None:
        self._resets.put_back(results)
