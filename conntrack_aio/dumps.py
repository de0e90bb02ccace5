"""A dump: the table, entry by entry, in constant memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Self

from anyio.abc import AsyncResource

from .codec.messages import decode_flow
from .errors import DecodeError
from .filters.match import Match
from .model.flow import Flow
from .model.statistics import ConnectionStatistics
from .netlink.walks import Walk


class Dump(AsyncResource):
    """The entries of the table, as an async iterator of flows; see :meth:`Connection.dump`.

    It starts at the first iteration, on a socket of its own, and may be left at any time: the
    socket closes when it is used up, closed, or dropped. The kernel walks its table bucket by
    bucket and takes no snapshot: a flow that comes or goes meanwhile may be missed, or told twice.

    Iterating raises a :exc:`KernelError` for what the kernel answers; :exc:`DecodeError` at an
    entry that is none, after which it goes on; :exc:`NoReply`;
    :exc:`anyio.ClosedResourceError` once it, or its connection, is closed; and
    :exc:`anyio.BusyResourceError` while another task iterates.
    """

    def __init__(
        self,
        walk: Walk,
        match: Match | None,
        counters: ConnectionStatistics,
        on_close: Callable[[Dump], None],
    ) -> None:
        self.walk = walk
        self._match = match
        self._counters = counters
        self._on_close = on_close
        self._pending: deque[Flow | DecodeError] = deque()
        self._ended = False
        self._retired = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Flow:
        while not self._pending:
            if not await self._refill():
                raise StopAsyncIteration
        item = self._pending.popleft()
        if isinstance(item, DecodeError):
            raise item
        return item

    def batches(self) -> Batches:
        """The same dump, a list of flows at a time (some 130), in the order of the table."""
        return Batches(self)

    async def next_batch(self) -> list[Flow]:
        """The flows up to the end of the next chunk; an empty list at the end of the dump."""
        batch: list[Flow] = []
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
        match = self._match
        for entry in entries:
            try:
                flow = decode_flow(chunk, entry)
            except DecodeError as error:
                self._counters.decode_errors += 1
                self._pending.append(error)
                continue
            if match is None or match(flow):
                self._pending.append(flow)
        self._counters.flows_decoded += len(entries)
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


class Batches:
    """A dump, a list of flows at a time; see :meth:`Dump.batches`."""

    def __init__(self, dump: Dump) -> None:
        self._dump = dump

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Flow]:
        batch = await self._dump.next_batch()
        if not batch:
            raise StopAsyncIteration
        return batch

    async def aclose(self) -> None:
        """End the dump."""
        await self._dump.aclose()
