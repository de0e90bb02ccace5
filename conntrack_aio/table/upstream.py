"""What a live table reads of the kernel: events, dumps, single entries and settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from ..codec.messages import decode_event, flow_of
from ..codec.requests import flows as requests
from ..dumps import Dump
from ..errors import EncodeError, NoReply, NotFound
from ..events import EventStream
from ..model.events import FlowEvent
from ..model.flow import Flow
from ..model.statistics import StreamStatistics
from ..netlink.exchange import Outcome, Request
from ..netlink.owner import Owner
from ..session import Session, Table
from ..subscriptions import Sieve
from ..sysctls import CONNTRACK, read_number
from ..uapi.nfnetlink import NFNLGRP

_GROUPS: Final = (
    NFNLGRP.CONNTRACK_NEW,
    NFNLGRP.CONNTRACK_UPDATE,
    NFNLGRP.CONNTRACK_DESTROY,
)


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
        sieve: Sieve[FlowEvent] | None,
        buffering: Buffering,
    ) -> None:
        """``dump`` reads all entries that may be wanted, and ``sieve`` is for what is heard."""
        self._session = session
        self._sieve = sieve
        self.dump = dump
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
        """Raises :exc:`PermissionDenied` and :exc:`anyio.ClosedResourceError`."""
        self._stream = self._session.subscribe(
            _GROUPS, decode_event, sieve=self._sieve, **attrs.asdict(self._buffering)
        )

    def statistics(self) -> StreamStatistics:
        return StreamStatistics() if self._stream is None else self._stream.statistics()

    async def look_up(self, strangers: Mapping[int, Flow]) -> dict[int, Flow | None]:
        """What the kernel has now in the place of each; ``None`` where that is nothing.

        One whose tuple can't be asked for is left out. Raises :exc:`KernelError`,
        :exc:`DecodeError` and :exc:`NoReply`.
        """
        asked = {key: request for key, flow in strangers.items() if (request := _get(flow))}
        outcomes = await self._session.run(list(asked.values()))
        return {key: _found(outcome) for key, outcome in zip(asked, outcomes, strict=True)}

    async def read_number(self, setting: str) -> int | None:
        """A setting of connection tracking, by the rest of its name; ``None`` if it has none."""
        tree = self._session.endpoint.sysctls
        return await self._session.aside(lambda: read_number(tree, CONNTRACK + setting))

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


def _get(flow: Flow) -> Request | None:
    try:
        return requests.get(flow)
    except EncodeError:  # its tuple lacks something, which no real one does
        return None


def _found(outcome: Outcome) -> Flow | None:
    if isinstance(outcome.error, NotFound):
        return None
    replies = outcome.result()
    if not replies:
        raise NoReply(f"{outcome.request}: the kernel's answer has no entry")
    return flow_of(replies[0])
