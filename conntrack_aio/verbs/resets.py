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
from ..netlink.exchange import Outcome, Request
from ..session import Session
from .replies import flow_in
from .steps import check_same, difference, is_identified, look_up_steps, run_steps

logger = logging.getLogger("conntrack_aio")


class Resets:
    """The flows of a connection whose counters were reset and that no reader has taken yet."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: deque[Flow | ConntrackError] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    async def reset(
        self, sent: Sequence[Request], on_unsent: Callable[[int], None] | None = None
    ) -> list[Flow | ConntrackError]:
        """Send requests that read and reset, and return the flows in the same order.

        An entry that has ended is an error in its place, and so is a lost reply. If this is
        cancelled or raises, the flows that were reset are kept for the next reader.

        :param on_unsent: called if this is cancelled or raises, with the number of requests at the
            end of the list that were not sent.
        """
        answers: deque[Flow | ConntrackError] = deque()
        caller_left = False

        def take_responses(outcomes: list[Outcome]) -> None:
            """Take the responses, maybe on a worker thread and after the caller has left.

            A deque may be used from several threads.
            """
            answers.extend(map(_answer, outcomes))
            if caller_left:
                keep_for_next_reader()

        def keep_for_next_reader() -> None:
            for _ in range(len(sent)):
                try:
                    answer = answers.popleft()
                except IndexError:
                    return
                if not isinstance(answer, NotFound):
                    self._waiting.append(answer)

        try:
            await self._session.run(sent, taker=take_responses, on_unsent=on_unsent)
        except BaseException:
            caller_left = True
            keep_for_next_reader()
            raise
        return list(answers)

    async def reset_one(
        self, target: Target, zone: int | None, on_unsent: Callable[[], None] | None = None
    ) -> Flow:
        """Read and reset the entry that a target means.

        A flow is looked up first, so that the counters of another entry are not taken for its own.

        :param on_unsent: called when this is cancelled before the counters were reset.
        """
        request = requests.get_and_reset(target, zone)
        unsent = True

        def report(count: int) -> None:
            nonlocal unsent
            unsent = count > 0

        try:
            if is_identified(target):
                name, _ = await run_steps(self._session, look_up_steps(target, zone))
                if name is not None:
                    request = requests.reset_by(name)
            (answer,) = await self.reset([request], report)
        except ConntrackError:
            raise
        except BaseException:
            if unsent and on_unsent is not None:
                on_unsent()
            raise
        if isinstance(answer, ConntrackError):
            raise answer
        try:
            check_same(target, answer, request)
        except NotFound:
            self.put_back([answer])
            raise
        return answer

    async def reset_each(
        self, entries: Sequence[Flow], match: Match | None, left: list[Flow]
    ) -> list[Flow | ConntrackError]:
        """Read and reset each entry of a dump, and return the flows.

        An entry that has ended in the meantime is left out: its destroy event has its counters.

        :param match: the flows that the reader wants.
        :param left: when this is cancelled, the entries that were not reset are added to it.
        """
        results: list[Flow | ConntrackError] = []
        sent: list[Request] = []
        sent_for: list[Flow] = []
        missed: list[Flow] = []
        for entry in entries:
            if entry.orig.zone is not None or entry.reply.zone is not None:
                # Its tuple may find another entry, whose counters would be taken for its own ones.
                missed.append(entry)
                continue
            try:
                sent.append(requests.get_and_reset(entry))
                sent_for.append(entry)
            except EncodeError as error:
                # The kernel sent an entry that no request can name. Go on with the others.
                results.append(DecodeError(error.reason, error.path))
        try:
            answers = await self.reset(
                sent, lambda count: left.extend(sent_for[len(sent_for) - count :])
            )
        except BaseException:
            self.put_back(results)
            left.extend(missed)
            raise
        for entry, answer in zip(sent_for, answers, strict=True):
            if isinstance(answer, Flow) and difference(entry, answer) is not None:
                missed.append(entry)
                # Another entry has its tuple, whose counters were reset and must be reported, too.
                if match is None or match(answer):
                    results.append(answer)
                else:
                    self.put_back([answer])
            elif not isinstance(answer, NotFound):
                results.append(answer)
        while missed:
            entry = missed.pop()
            try:
                results.append(await self.reset_one(entry, None, partial(missed.append, entry)))
            except NotFound:
                continue
            except ConntrackError as error:
                results.append(error)
            except BaseException:
                self.put_back(results)
                left.extend(missed)
                raise
        return results

    async def settle(self) -> None:
        """Return once the replies to all cancelled resets have arrived."""
        await self._session.requester.settle()

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


def _answer(outcome: Outcome) -> Flow | ConntrackError:
    try:
        return flow_in(outcome)
    except ConntrackError as error:
        return error


class ResetStage:
    """The stage of a dump that resets the counters of the flows that it reads."""

    def __init__(self, resets: Resets, match: Match | None) -> None:
        self._resets = resets
        self._match = match
        self._left: list[Flow] = []
        """Entries that the dump has read, and that were not reset when it was cancelled."""

    @property
    def unfinished(self) -> bool:
        return bool(self._left)

    def waiting(self) -> list[Flow | ConntrackError]:
        return self._resets.take(self._match)

    async def process(self, entries: Sequence[Flow]) -> list[Flow | ConntrackError]:
        all_entries, self._left = [*self._left, *entries], []
        return await self._resets.reset_each(all_entries, self._match, self._left)

    async def settle(self) -> None:
        await self._resets.settle()

    def put_back(self, results: Iterable[Flow | ConntrackError]) -> None:
        self._resets.put_back(results)
