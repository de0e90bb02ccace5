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
from typing import TypeVar

from ..codec.requests import flows as requests
from ..codec.requests.flows import Target
from ..errors import ConntrackError, DecodeError, EncodeError, NotFound
from ..filters.match import Match
from ..model.flow import Flow
from ..netlink.exchange import Outcome, Request
from ..session import Session
from .answers import the_flow

T = TypeVar("T", bound=Target)

logger = logging.getLogger("conntrack_aio")


class Resets:
    """The answers of a connection's resets that nobody has taken yet."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: deque[Flow | ConntrackError] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    async def reset(
        self,
        targets: Sequence[T],
        zone: int | None = None,
        on_unsent: Callable[[Sequence[T]], None] | None = None,
    ) -> list[Flow | ConntrackError]:
        """Read and reset each. One that is gone, or whose answer was lost, is an error; so is one
        that can't be asked about.

        Whatever ends this before it returns, a cancellation above all: the answers wait then, and
        ``on_unsent`` is called with the targets that will not be reset.
        """
        asked: list[Request] = []
        askable: list[T] = []
        answers: deque[Flow | ConntrackError] = deque()
        for target in targets:
            try:
                asked.append(requests.get_and_reset(target, zone))
                askable.append(target)
            except EncodeError as error:
                # The kernel told it, and could not be asked about it: the others are there yet.
                answers.append(DecodeError(error.reason, error.path))
        left = False

        def take(outcomes: list[Outcome]) -> None:
            """Perhaps on a worker thread, and after our caller has gone: deques can stand that."""
            answers.extend(map(_answer, outcomes))
            if left:
                leave()

        def leave() -> None:
            for _ in range(len(targets)):
                try:
                    answer = answers.popleft()
                except IndexError:
                    return
                if not isinstance(answer, NotFound):
                    self._waiting.append(answer)

        def report_unsent(count: int) -> None:
            if on_unsent is not None:
                on_unsent(askable[len(askable) - count :])

        try:
            await self._session.run(asked, taker=take, on_unsent=report_unsent)
        except BaseException:
            left = True
            leave()
            raise
        return list(answers)

    async def settle(self) -> None:
        """Return once no answer is still to come for a reset that was cancelled."""
        await self._session.requester.settle()

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


def _answer(outcome: Outcome) -> Flow | ConntrackError:
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
        targets, self._left = [*self._left, *entries], []
        answers = await self._resets.reset(targets, on_unsent=self._left.extend)
        # One that is gone has ended, and its destroy event tells what it had counted.
        return [answer for answer in answers if not isinstance(answer, NotFound)]

    async def settle(self) -> None:
        await self._resets.settle()

    def put_back(self, results: Iterable[Flow | ConntrackError]) -> None:
        self._resets.put_back(results)
