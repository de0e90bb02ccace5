"""A dump: a table of the kernel's, entry by entry, in constant memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Generic, NamedTuple, Protocol, TypeVar

import anyio
import anyio.lowlevel

from ..codec.decoder import Datagram, pack_seq
from ..errors import ConntrackError, DecodeError
from ..model.statistics import ClientStatistics
from ..netlink.attributes import Buffer
from ..netlink.exchange import Request
from ..netlink.messages import Message
from ..netlink.walks import Walk
from .iterators import DecodingIterator, Reader

T = TypeVar("T")


class DumpPlan(NamedTuple, Generic[T]):
    """What a dump is to ask for, one after the other, and what of the answers it is to keep: all,
    without ``keep``. Of what needs no request, there is nothing."""

    requests: Sequence[Request]
    keep: Callable[[T], bool] | None = None


DumpPlanner = Callable[[], Awaitable[DumpPlan[T]]]
"""Makes the plan when the dump begins, of what has to be found out first."""


class DumpStage(Protocol[T]):
    """What is done with the entries of a chunk before they are handed out.

    Its results must not be lost: what a dump that is cancelled or left has not handed out waits
    for a later one.
    """

    @property
    def unfinished(self) -> bool:
        """Whether :meth:`process` was cancelled before it had done with all of its entries."""
        ...

    def waiting(self) -> list[T | ConntrackError]:
        """Take the results that an earlier dump left."""
        ...

    async def process(self, entries: Sequence[T], /) -> list[T | ConntrackError]:
        """Process entries, and those before them that are unfinished.

        Cancelled, it keeps the results for the next dump, and the rest of the entries for the next
        call.
        """
        ...

    async def settle(self) -> None:
        """Return once no thread is at work for a call of :meth:`process` that was cancelled."""
        ...

    def put_back(self, results: Iterable[T | ConntrackError], /) -> None:
        """Results that were not handed out."""
        ...


class Dump(DecodingIterator[T]):
    """The entries of a table, as an async iterator; see :meth:`Connection.dump`.

    It starts at the first iteration, on a socket of its own, and may be left at any time: the
    socket closes when it is used up, closed, or dropped. The kernel walks its table bucket by
    bucket and takes no snapshot: an entry that comes or goes meanwhile may be missed, or told
    twice.

    Iterating raises a :exc:`KernelError` for what the kernel answers; :exc:`DecodeError` at an
    entry that is none, after which it goes on; :exc:`NoReply`;
    :exc:`ResourceExhausted` for want of descriptors or threads, after which it goes on;
    :exc:`anyio.ClosedResourceError` once it, or its connection, is closed;
    :exc:`anyio.BusyResourceError` while another task iterates; and :exc:`UsedElsewhere` in another
    process or event loop.
    """

    def __init__(
        self,
        walk: Walk,
        reader: Reader[T],
        keep: Callable[[T], bool] | None,
        counters: ClientStatistics,
        on_close: Callable[[Dump[T]], None],
        stage: DumpStage[T] | None = None,
        planner: DumpPlanner[T] | None = None,
    ) -> None:
        super().__init__(walk.owner, reader, counters)
        self.walk = walk
        self._seq = pack_seq(walk.exchange.seq)
        self._keep = keep
        self._statistics = counters
        self._on_close = on_close
        self._stage = stage
        self._planner = planner
        self._busy = False
        self._walked = False
        """Whether the kernel's table has been read to its end."""
        self._ended = False
        self._retired = False

    async def _refill(self) -> bool:
        """Have more to hand out; ``False`` at the end."""
        self._owner.check()
        if self._busy:
            raise anyio.BusyResourceError("iterating over")
        self._busy = True
        try:
            if self._stage is not None and not self.walk.closed:
                self._has_errors = True
                self._pending += self._stage.waiting()
            return bool(self._pending) or await self._advance()
        finally:
            self._busy = False

    async def _advance(self) -> bool:
        """Have the next chunk ready to be handed out; ``False`` at the end."""
        if self._stage is not None and self._stage.unfinished:
            await self._process(self._stage)
            return True
        if self._ended:
            return False
        if self._walked or not await self._receive():
            self._walked = True
            if self._stage is not None:
                await self._stage.settle()
                self._has_errors = True
                self._pending += self._stage.waiting()
            self._ended = True
            return bool(self._pending)
        if self._stage is not None:
            await self._process(self._stage)
        return True

    async def _receive(self) -> bool:
        """Receive the next chunk; ``False`` at the end."""
        if self._planner is not None:
            plan = await self._planner()
            self._planner = None
            if not plan.requests:
                self._ended = True
                self._finish()
                await anyio.lowlevel.checkpoint()
                return False
            self.walk.ask(plan.requests)
            self._keep = plan.keep
        try:
            chunk = await self.walk.receive()
        finally:
            if self.walk.closed:  # at its end, or for a failure
                self._finish()
        if chunk is not None:
            self._received.append(Datagram(chunk))
        return chunk is not None

    async def _process(self, stage: DumpStage[T]) -> None:
        """Take what was received through the stage."""
        while self._received:
            self._decode()
        received = list(self._pending)
        self._pending.clear()
        errors = [item for item in received if isinstance(item, ConntrackError)]
        entries = [item for item in received if not isinstance(item, ConntrackError)]
        self._has_errors = True
        try:
            results = await stage.process(entries)
        finally:
            if not self._retired:
                self._pending += errors
        if self._retired:  # closed by another task meanwhile
            stage.put_back(results)
            raise anyio.ClosedResourceError("the dump is closed")
        self._pending += results

    def _takes(self, buffer: Buffer, message: Message) -> bool:
        return self.walk.exchange.takes(buffer, message)

    def _keeps(self, items: list[T | DecodeError]) -> list[T | DecodeError]:
        self._statistics.entries_decoded += len(items)
        keep = self._keep
        if keep is None:
            return items
        return [item for item in items if isinstance(item, DecodeError) or keep(item)]

    def _broken(self, error: DecodeError) -> None:
        self.walk.exchange.broken(error)

    async def aclose(self) -> None:
        """End it. Idempotent; another task may call it while one iterates."""
        self.close()

    def close(self) -> None:
        """As :meth:`aclose`, without a checkpoint. To be called in the event loop's thread."""
        if self._stage is not None:
            self._stage.put_back(self._pending)
        self._pending.clear()
        self._received.clear()
        self._finish()

    def _finish(self) -> None:
        self.walk.close()
        if not self._retired:
            self._retired = True
            self._on_close(self)

    def __del__(self) -> None:
        with suppress(AttributeError):  # an interrupt may have cut its making short
            self.close()
