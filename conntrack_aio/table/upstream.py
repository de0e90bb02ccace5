"""What a live table reads of the kernel: events, dumps, single entries and settings."""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Final

import anyio
import attrs

from ..codec.messages import decode_event, flow_of
from ..codec.requests import flows as requests
from ..errors import (
    SHORTAGES,
    ConntrackError,
    EncodeError,
    NoReply,
    NotFound,
    NotSupported,
    ResourceExhausted,
)
from ..model.events import FlowEvent
from ..model.flow import Flow
from ..model.statistics import StreamStatistics
from ..netlink.exchange import Outcome, Request
from ..netlink.owner import Owner
from ..netlink.threads import is_no_thread
from ..proc_sys import CONNTRACK
from ..session import Session, Table
from ..streams.dump import Dump
from ..streams.events import EventStream
from ..streams.subscription import EventSelection
from ..uapi.nfnetlink import NFNLGRP
from .keys import orig_key

_GROUPS: Final = (
    NFNLGRP.CONNTRACK_NEW,
    NFNLGRP.CONNTRACK_UPDATE,
    NFNLGRP.CONNTRACK_DESTROY,
)


_MOMENT: Final = 0.1
"""Seconds after which events are looked for when nothing can wait for them."""


@contextmanager
def shortages(what: str) -> Generator[None]:
    """Raise :exc:`ResourceExhausted` for a shortage that Python reports otherwise: no descriptors,
    no memory, or no thread."""
    try:
        yield
    except ConntrackError:
        raise
    except OSError as error:
        if error.errno not in SHORTAGES:
            raise
        raise ResourceExhausted(error.errno, what) from error
    except RuntimeError as error:
        if not is_no_thread(error):
            raise
        raise ResourceExhausted(errno.EAGAIN, what, str(error)) from error


def chain_of(error: BaseException) -> list[BaseException]:
    """Return an error and all that caused it, which may be itself (``raise error from error``)."""
    chain: list[BaseException] = []
    part: BaseException | None = error
    while part is not None and part not in chain:
        chain.append(part)
        part = part.__cause__ or part.__context__
    return chain


@attrs.frozen
class Buffering:
    """How the events of a table wait; see :meth:`Connection.events`."""

    receive_buffer: int | None = None
    receive_buffer_max: int | None = None
    reliable: bool = False


class Upstream:
    """One namespace's connection tracking, as far as a table needs it."""

    def __init__(
        self,
        session: Session,
        dump: Callable[[], Dump[Flow]],
        sieve: EventSelection[FlowEvent] | None,
        buffering: Buffering,
    ) -> None:
        """``dump`` reads all entries that may be wanted, and ``sieve`` is for what is heard."""
        self._session = session
        self._sieve = sieve
        self._dump = dump
        self._buffering = buffering
        self._stream: EventStream[FlowEvent] | None = None

    @property
    def owner(self) -> Owner:
        """The process and the event loop that opened the connection."""
        return self._session.owner

    @property
    def is_subscribed(self) -> bool:
        return self._stream is not None

    @property
    def stream(self) -> EventStream[FlowEvent]:
        """Once it is subscribed."""
        assert self._stream is not None
        return self._stream

    def subscribe(self) -> None:
        """Raises :exc:`PermissionDenied`, :exc:`ResourceExhausted` and
        :exc:`anyio.ClosedResourceError`."""
        with shortages("subscribe to events"):
            self._stream = self._session.subscribe(
                _GROUPS, decode_event, event_selection=self._sieve, **attrs.asdict(self._buffering)
            )

    def statistics(self) -> StreamStatistics:
        return StreamStatistics() if self._stream is None else self._stream.statistics()

    def receive_batch_nowait(self) -> list[FlowEvent]:
        """As :meth:`EventStream.receive_batch_nowait`; every shortage is a
        :exc:`ResourceExhausted`."""
        with shortages("read events"):
            return self.stream.receive_batch_nowait()

    async def wait_readable(self) -> None:
        """Return when events may have come, or sooner: a moment later under a shortage."""
        try:
            with shortages("wait for events"):
                await self.stream.wait_readable()
        except ResourceExhausted:
            await anyio.sleep(_MOMENT)

    def dump(self) -> Dump[Flow]:
        """Read all entries, by :meth:`receive_batch`."""
        return self._dump()

    async def receive_batch(self, dump: Dump[Flow]) -> list[Flow]:
        """As :meth:`Dump.receive_batch`; every shortage is a :exc:`ResourceExhausted`."""
        with shortages("dump the table"):
            return await dump.receive_batch()

    async def look_up(self, strangers: Mapping[int, Flow]) -> dict[int, Flow | None]:
        """What the kernel has now in the place of each; ``None`` where that is nothing.

        One whose tuple can't be asked for is left out. Raises :exc:`KernelError`,
        :exc:`DecodeError` and :exc:`NoReply`.
        """
        found = await self._ask(strangers, requests.get)
        # The kernel finds an entry by either tuple, and with a zone per direction the reply tuple
        # of one may be the original tuple of another.
        others = {
            key: strangers[key]
            for key, flow in found.items()
            if flow is not None and orig_key(flow) != key
        }
        if others:
            found |= await self._ask(others, requests.get_by_original_tuple)
        return found

    async def _ask(
        self, strangers: Mapping[int, Flow], make: Callable[[Flow], Request]
    ) -> dict[int, Flow | None]:
        asked: dict[int, Request] = {}
        for key, flow in strangers.items():
            try:
                asked[key] = make(flow)
            except EncodeError:  # its tuple lacks something, which no real one does
                continue
        with shortages("look entries up"):
            outcomes = await self._session.run(list(asked.values()))
        return {key: _found(outcome) for key, outcome in zip(asked, outcomes, strict=True)}

    async def read_number(self, setting: str) -> int | None:
        """A setting of connection tracking, by the rest of its name; ``None`` if it can't be read.

        Raises :exc:`ResourceExhausted`.
        """
        tree = self._session.endpoint.sysctls

        def read() -> int | None:
            try:
                return int(tree.read(CONNTRACK + setting))
            except ValueError:
                return None
            except OSError as error:
                if error.errno in SHORTAGES:
                    raise
                return None

        with shortages(f"read nf_conntrack_{setting}"):
            return await self._session.run_on_thread(read)

    def begin(self, table: Table) -> None:
        """Have the table end with the connection. Raises :exc:`anyio.ClosedResourceError`."""
        self._session.keep(table)

    def end(self, table: Table) -> None:
        """The table has ended."""
        self._session.forget(table)

    def close(self) -> None:
        """To be called in the event loop's thread. Idempotent."""
        if self._stream is not None:
            self._stream.close()


def _found(outcome: Outcome) -> Flow | None:
    # A kernel without zones has none inside a tuple.
    if isinstance(outcome.error, NotFound | NotSupported):
        return None
    replies = outcome.result()
    if not replies:
        raise NoReply(f"{outcome.request}: the kernel's answer has no entry")
    return flow_of(replies[0])
