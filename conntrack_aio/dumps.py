"""A dump: a table of the kernel's, entry by entry, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

import anyio

from .codec.decoder import pack_seq
from .errors import ConntrackError, DecodeError
from .items import Items, Reader
from .model.statistics import ConnectionStatistics
from .netlink.walks import Walk

T = TypeVar("T")


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


class Dump(Items[T]):
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
        reader: Reader[T],
        keep: Callable[[T], bool] | None,
        counters: ConnectionStatistics,
        on_close: Callable[[Dump[T]], None],
        stage: Stage[T] | None = None,
    ) -> None:
        super().__init__()
        self.walk = walk
        self._reader = reader
        self._seq = pack_seq(walk.exchange.seq)
        self._keep = keep
        self._counters = counters
        self._on_close = on_close
        self._stage = stage
        self._busy = False
        self._ended = False
        self._retired = False

    async def _refill(self) -> bool:
        """Have more to hand out; ``False`` at the end."""
        if self._busy:
            raise anyio.BusyResourceError("iterating over")
        self._busy = True
        try:
            if self._stage is not None and not self.walk.closed:
                self._flawed = True
                self._pending += self._stage.waiting()
            while not self._pending:
                if not await self._advance():
                    return False
            return True
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
        errors = self._counters.decode_errors
        entries = self._take(received)
        self._flawed = self._stage is not None or self._counters.decode_errors > errors
        self._pending += await self._staged(entries)
        return True

    def _take(self, chunk: bytes) -> list[T | DecodeError]:
        """The entries of a chunk that are to be kept, and errors in the place of what is none."""
        entries: list[T | DecodeError] = []
        exchange, keep = self.walk.exchange, self._keep
        try:
            self._reader.read_all(chunk, exchange.takes, self._seq, entries, self._counters)
        except DecodeError as error:
            exchange.broken(error)
        self._counters.entries_decoded += len(entries)
        if keep is None:
            return entries
        return [entry for entry in entries if isinstance(entry, DecodeError) or keep(entry)]

    async def _staged(self, entries: list[T | DecodeError]) -> Sequence[T | ConntrackError]:
        if self._stage is None:
            return entries
        errors = [entry for entry in entries if isinstance(entry, DecodeError)]
        results = await self._stage.process(
            [entry for entry in entries if not isinstance(entry, DecodeError)]
        )
        if self._retired:  # closed by another task meanwhile
            self._stage.put_back(results)
            raise anyio.ClosedResourceError("the dump is closed")
        return [*errors, *results]

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
