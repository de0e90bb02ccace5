"""A dump: a table of the kernel's, entry by entry, in constant memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, Self, TypeVar

import anyio
from anyio.abc import AsyncResource

from .errors import ConntrackError, DecodeError
from .model.statistics import ConnectionStatistics
from .netlink.attributes import Buffer
from .netlink.messages import Message
from .netlink.walks import Walk

T = TypeVar("T")

Decoder = Callable[[Buffer, Message], T]
"""Makes an object of a message. Raises :exc:`DecodeError`."""


class Stage(Protocol[T]):
    """What is done with the entries of a chunk before they are handed out.

    Its results must not be lost: what a dump that is cancelled or left has not handed out waits
    for a later one.
    """

    def waiting(self) -> list[T | ConntrackError]:
        """Take the results that an earlier dump left."""
        ...

    async def process(self, entries: Sequence[T], /) -> list[T | ConntrackError]:
        """Do it. Cancelled, its results wait."""
        ...

    def put_back(self, results: Iterable[T | ConntrackError], /) -> None:
        """Results that were not handed out."""
        ...


class Dump(AsyncResource, Generic[T]):
    """The entries of a table, as an async iterator; see :meth:`Connection.dump`.

    It starts at the first iteration, on a socket of its own, and may be left at any time: the
    socket closes when it is used up, closed, or dropped. The kernel walks its table bucket by
    bucket and takes no snapshot: an entry that comes or goes meanwhile may be missed, or told
    twice.

    Iterating raises a :exc:`KernelError` for what the kernel answers; :exc:`DecodeError` at an
    entry that is none, after which it goes on; :exc:`NoReply`;
    :exc:`anyio.ClosedResourceError` once it, or its connection, is closed; and
    :exc:`anyio.BusyResourceError` while another task iterates.
    """

    def __init__(
        self,
        walk: Walk,
        decode: Decoder[T],
        keep: Callable[[T], bool] | None,
        counters: ConnectionStatistics,
        on_close: Callable[[Dump[T]], None],
        stage: Stage[T] | None = None,
    ) -> None:
        self.walk = walk
        self._decode = decode
        self._keep = keep
        self._counters = counters
        self._on_close = on_close
        self._stage = stage
        self._pending: deque[T | ConntrackError] = deque()
        self._busy = False
        self._ended = False
        self._retired = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._pending:
            if not await self._refill():
                raise StopAsyncIteration
        item = self._pending.popleft()
        if isinstance(item, ConntrackError):
            raise item
        return item

    def batches(self) -> Batches[T]:
        """The same dump, a list at a time (some 130), in the order of the table."""
        return Batches(self)

    async def next_batch(self) -> list[T]:
        """The entries up to the end of the next chunk; an empty list at the end of the dump."""
        batch: list[T] = []
        while not batch:
            if not self._pending and not await self._refill():
                break
            while self._pending:
                item = self._pending[0]
                if isinstance(item, ConntrackError):
                    if batch:
                        break
                    self._pending.popleft()
                    raise item
                batch.append(item)
                self._pending.popleft()
        return batch

    async def _refill(self) -> bool:
        """Have more to hand out; ``False`` at the end."""
        if self._busy:
            raise anyio.BusyResourceError("iterating over")
        self._busy = True
        try:
            if self._stage is not None and not self.walk.closed:
                self._pending += self._stage.waiting()
            return bool(self._pending) or await self._advance()
        finally:
            self._busy = False

    async def _advance(self) -> bool:
        """Decode the next chunk; ``False`` at the end."""
        if self._ended:
            return False
        try:
            received = await self.walk.receive()
        finally:
            if self.walk.closed:  # at its end, or for a failure
                self._finish()
        if received is None:
            self._ended = True
            return False
        entries = self._take(*received)
        if self._stage is not None:
            errors: list[T | ConntrackError] = [
                entry for entry in entries if isinstance(entry, ConntrackError)
            ]
            results = await self._stage.process(
                [entry for entry in entries if not isinstance(entry, ConntrackError)]
            )
            if self._retired:  # closed by another task meanwhile
                self._stage.put_back(results)
                raise anyio.ClosedResourceError("the dump is closed")
            entries = errors + results
        self._pending += entries
        return True

    def _take(self, chunk: bytes, messages: Sequence[Message]) -> list[T | ConntrackError]:
        """The entries of a chunk that are to be kept, and errors in the place of what is none."""
        entries: list[T | ConntrackError] = []
        keep = self._keep
        for message in messages:
            try:
                entry = self._decode(chunk, message)
            except DecodeError as error:
                self._counters.decode_errors += 1
                entries.append(error)
                continue
            if keep is None or keep(entry):
                entries.append(entry)
        self._counters.entries_decoded += len(messages)
        return entries

    async def aclose(self) -> None:
        """End it. Idempotent; another task may call it while one iterates."""
        self.close()

    def close(self) -> None:
        """As :meth:`aclose`, without a checkpoint. To be called in the event loop's thread."""
        if self._stage is not None:
            self._stage.put_back(self._pending)
        self._pending.clear()
        self._finish()

    def _finish(self) -> None:
        self.walk.close()
        if not self._retired:
            self._retired = True
            self._on_close(self)

    def __del__(self) -> None:
        self.close()


class Batches(Generic[T]):
    """A dump, a list at a time; see :meth:`Dump.batches`."""

    def __init__(self, dump: Dump[T]) -> None:
        self._dump = dump

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[T]:
        batch = await self._dump.next_batch()
        if not batch:
            raise StopAsyncIteration
        return batch

    async def aclose(self) -> None:
        """End the dump."""
        await self._dump.aclose()
