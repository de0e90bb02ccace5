"""A dump: a table of the kernel's, entry by entry, in constant memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, Self, TypeVar

from anyio.abc import AsyncResource

from .errors import DecodeError
from .model.statistics import ConnectionStatistics
from .netlink.attributes import Buffer
from .netlink.messages import Message
from .netlink.walks import Walk

T = TypeVar("T")

Decoder = Callable[[Buffer, Message], T]
"""Makes an object of a message. Raises :exc:`DecodeError`."""


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
    ) -> None:
        self.walk = walk
        self._decode = decode
        self._keep = keep
        self._counters = counters
        self._on_close = on_close
        self._pending: deque[T | DecodeError] = deque()
        self._ended = False
        self._retired = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._pending:
            if not await self._refill():
                raise StopAsyncIteration
        item = self._pending.popleft()
        if isinstance(item, DecodeError):
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
                if isinstance(item, DecodeError):
                    if not batch:
                        raise self._pending.popleft()  # type: ignore[misc]
                    break
                batch.append(item)
                self._pending.popleft()
        return batch

    async def _refill(self) -> bool:
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
        chunk, entries = received
        keep = self._keep
        for entry in entries:
            try:
                item = self._decode(chunk, entry)
            except DecodeError as error:
                self._counters.decode_errors += 1
                self._pending.append(error)
                continue
            if keep is None or keep(item):
                self._pending.append(item)
        self._counters.entries_decoded += len(entries)
        return True

    async def aclose(self) -> None:
        """End it. Idempotent; another task may call it while one iterates."""
        self.close()

    def close(self) -> None:
        """As :meth:`aclose`, without a checkpoint. To be called in the event loop's thread."""
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
