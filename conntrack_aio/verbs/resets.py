"""Reading the counters of flows and setting them to zero, without losing a packet.

The kernel's own dump that does so (``IPCTNL_MSG_CT_GET_CTRZERO`` with DUMP) takes an entry's
counters before it knows whether the entry still fits into the chunk; one that does not is told
again in the next, with nothing in it (``ctnetlink_dump_acct``, on every kernel from 4.19 to 7.1).
So the entries are dumped, and each is then read and reset by a request of its own, which has room.

What was reset must be told. The answers wait here until somebody takes them: cancellation, or a
reader who leaves in the middle of a window, loses none.
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
from .answers import the_flow
from .naming import carry_out, check_same, difference, is_identified, looking

logger = logging.getLogger("conntrack_aio")


class Resets:
    """The answers of a connection's resets that nobody has taken yet."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: deque[Flow | ConntrackError] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    async def reset(
        self, asked: Sequence[Request], on_unsent: Callable[[int], None] | None = None
    ) -> list[Flow | ConntrackError]:
        """Send requests that read and reset, and return their answers in the same order.

        An entry that is gone is an error, and so is an answer that was lost.

        Whatever ends this before it returns, a cancellation above all: the answers wait then, and
        ``on_unsent`` is called with the number of requests, the last ones, that were not sent.
        """
        answers: deque[Flow | ConntrackError] = deque()
        left = False

        def take(outcomes: list[Response]) -> None:
            """Perhaps on a worker thread, and after our caller has gone: deques can stand that."""
            answers.extend(map(_answer, outcomes))
            if left:
                leave()

        def leave() -> None:
            for _ in range(len(asked)):
                try:
                    answer = answers.popleft()
                except IndexError:
                    return
                if not isinstance(answer, NotFound):
                    self._waiting.append(answer)

        try:
            await self._session.run(asked, on_responses=take, on_unsent=on_unsent)
        except BaseException:
            left = True
            leave()
            raise
        return list(answers)

    async def reset_one(
        self, target: Target, zone: int | None, on_unsent: Callable[[], None] | None = None
    ) -> Flow:
        """Read and reset the entry that a target stands for.

        A flow is looked up first, so that no other entry's counters are taken for its own.
        ``on_unsent`` is called when this is cancelled before the counters were reset.
        """
        request = requests.get_and_reset(target, zone)
        unsent = True

        def report(count: int) -> None:
            nonlocal unsent
            unsent = count > 0

        try:
            if is_identified(target):
                name, _ = await carry_out(self._session, looking(target, zone))
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
        """Read and reset each entry of a dump, and return the answers.

        What is gone by now is left out: its destroy event tells what it had counted.

        :param left: when this is cancelled, the entries that were not reset are added to it.
        """
        told: list[Flow | ConntrackError] = []
        asked: list[Request] = []
        asked_for: list[Flow] = []
        missed: list[Flow] = []
        for entry in entries:
            if entry.orig.zone is not None or entry.reply.zone is not None:
                # Its tuple may find another entry, whose counters would be taken for its own.
                missed.append(entry)
                continue
            try:
                asked.append(requests.get_and_reset(entry))
                asked_for.append(entry)
            except EncodeError as error:
                # The kernel told it, and could not be asked about it: the others are there yet.
                told.append(DecodeError(error.reason, error.path))
        try:
            answers = await self.reset(
                asked, lambda count: left.extend(asked_for[len(asked_for) - count :])
            )
        except BaseException:
            self.put_back(told)
            left.extend(missed)
            raise
        for entry, answer in zip(asked_for, answers, strict=True):
            if isinstance(answer, Flow) and difference(entry, answer) is not None:
                missed.append(entry)
                # Another entry has its tuple. What that one had counted must be told, too.
                if match is None or match(answer):
                    told.append(answer)
                else:
                    self.put_back([answer])
            elif not isinstance(answer, NotFound):
                told.append(answer)
        while missed:
            entry = missed.pop()
            try:
                told.append(await self.reset_one(entry, None, partial(missed.append, entry)))
            except NotFound:
                continue
            except ConntrackError as error:
                told.append(error)
            except BaseException:
                self.put_back(told)
                left.extend(missed)
                raise
        return told

    async def settle(self) -> None:
        """Return once no answer is still to come for a reset that was cancelled."""
        await self._session.requester.wait_until_idle()

    def take(self, match: Match | None) -> list[Flow | ConntrackError]:
        """What waits, of the flows that match; errors always do."""
        taken: list[Flow | ConntrackError] = []
        for _ in range(len(self._waiting)):
            item = self._waiting.popleft()
            wanted = match is None or isinstance(item, ConntrackError) or match(item)
            (taken if wanted else self._waiting).append(item)
        return taken

    def put_back(self, results: Iterable[Flow | ConntrackError]) -> None:
        """What was not handed out: it comes before what waits already."""
        self._waiting.extendleft(reversed(list(results)))

    def close(self) -> None:
        """Nobody will take what waits now: say so."""
        if self._waiting:
            logger.warning(
                "a connection was closed with %d flows whose counters had been reset and were "
                "not read",
                len(self._waiting),
            )
            self._waiting.clear()


def _answer(outcome: Response) -> Flow | ConntrackError:
    try:
        return the_flow(outcome)
    except ConntrackError as error:
        return error


class ResetStage:
    """The part of a dump that resets what the dump has found."""

    def __init__(self, resets: Resets, match: Match | None) -> None:
        self._resets = resets
        self._match = match
        self._left: list[Flow] = []
        """Entries that the dump has read, and that were not reset before it was cancelled."""

    @property
    def unfinished(self) -> bool:
        return bool(self._left)

    def waiting(self) -> list[Flow | ConntrackError]:
        return self._resets.take(self._match)

    async def process(self, entries: Sequence[Flow]) -> list[Flow | ConntrackError]:
        asked, self._left = [*self._left, *entries], []
        return await self._resets.reset_each(asked, self._match, self._left)

    async def settle(self) -> None:
        await self._resets.settle()

    def put_back(self, results: Iterable[Flow | ConntrackError]) -> None:
        self._resets.put_back(results)
