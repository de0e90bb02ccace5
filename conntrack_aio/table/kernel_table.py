"""Read what a live table needs from the kernel: events, dumps, single entries and settings."""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Final

import anyio

from ..codec.event_messages import decode_event
from ..codec.messages import flow_of
from ..codec.requests import flows as requests
from ..errors import (
    EXHAUSTION_ERRNOS,
    ConntrackError,
    EncodeError,
    NoReply,
    NotFound,
    NotSupported,
    ResourceExhausted,
)
from ..model.client_statistics import StreamStatistics
from ..model.events import FlowEvent
from ..model.flow import Flow
from ..model.sysctl_names import CONNTRACK
from ..netlink.exchange import Request, Response
from ..netlink.owner import Owner
from ..netlink.threads import is_no_thread
from ..session import Session, Table
from ..streams.dump import Dump
from ..streams.events import EventStream
from ..streams.options import EventSelection, StreamOptions
from ..uapi.nfnetlink import NFNLGRP
from .tuple_keys import Key, orig_key

_GROUPS: Final = (
    NFNLGRP.CONNTRACK_NEW,
    NFNLGRP.CONNTRACK_UPDATE,
    NFNLGRP.CONNTRACK_DESTROY,
)

_POLL_DELAY: Final = 0.1
"""Seconds after which events are read when a shortage prevents waiting for the socket."""


@contextmanager
def shortages_as_resource_exhausted(request: str) -> Generator[None]:
    """Convert each error that reports a shortage to :exc:`ResourceExhausted`.

    Python raises :exc:`OSError` for a lack of file descriptors or kernel memory, and
    :exc:`RuntimeError` for a lack of threads.

    :param request: what was attempted, for the text of the error.
    """
    try:
        yield
    except ConntrackError:
        raise
    except OSError as error:
        if error.errno not in EXHAUSTION_ERRNOS:
            raise
        raise ResourceExhausted(error.errno, request) from error
    except RuntimeError as error:
        if not is_no_thread(error):
            raise
        raise ResourceExhausted(errno.EAGAIN, request, str(error)) from error


class KernelTable:
    """The kernel's table in one network namespace: its events, dumps, entries and settings."""

    def __init__(
        self,
        session: Session,
        dump: Callable[[], Dump[Flow]],
        selection: EventSelection[FlowEvent] | None,
        options: StreamOptions,
    ) -> None:
        """Initialize without a subscription.

        :param session: the session of the connection.
        :param dump: starts a dump of all entries that may match.
        :param selection: which events to receive; ``None`` for all.
        :param options: the options of the event stream.
        """
        self._session = session
        self._selection = selection
        self._dump = dump
        self._options = options
        self._stream: EventStream[FlowEvent] | None = None

    @property
    def owner(self) -> Owner:
        """The process and the event loop that opened the connection."""
        return self._session.owner

    @property
    def is_subscribed(self) -> bool:
        """Whether :meth:`subscribe` has succeeded."""
        return self._stream is not None

    @property
    def stream(self) -> EventStream[FlowEvent]:
        """The event stream. Precondition: :attr:`is_subscribed`."""
        assert self._stream is not None
        return self._stream

    def subscribe(self) -> None:
        """Subscribe to the events of flows.

        :raises PermissionDenied: when the program lacks CAP_NET_ADMIN.
        :raises KernelError: when the kernel refuses for another reason.
        :raises ResourceExhausted: when there are no file descriptors or no memory left.
        :raises anyio.ClosedResourceError: when the connection is closed.
        """
        with shortages_as_resource_exhausted("subscribe to events"):
            self._stream = self._session.subscribe(
                _GROUPS, decode_event, self._options, self._selection
            )

    def statistics(self) -> StreamStatistics:
        """Return the statistics of the event stream; zeros before the subscription."""
        return StreamStatistics() if self._stream is None else self._stream.statistics()

    def receive_batch_nowait(self) -> list[FlowEvent]:
        """Return events without waiting, as :meth:`EventStream.receive_batch_nowait` does.

        Raises what that method raises.

        :raises ResourceExhausted: when there is a shortage of any kind.
        """
        with shortages_as_resource_exhausted("read events"):
            return self.stream.receive_batch_nowait()

    async def wait_readable(self) -> None:
        """Wait until events may be readable.

        It may return early. Under a shortage it returns after 0.1 seconds.
        """
        try:
            with shortages_as_resource_exhausted("wait for events"):
                await self.stream.wait_readable()
        except ResourceExhausted:
            await anyio.sleep(_POLL_DELAY)

    def dump(self) -> Dump[Flow]:
        """Start a dump of the table, to be read by :meth:`receive_batch`."""
        return self._dump()

    async def receive_batch(self, dump: Dump[Flow]) -> list[Flow]:
        """Return the next entries of a dump, as :meth:`Dump.receive_batch` does.

        Raises what that method raises.

        :raises ResourceExhausted: when there is a shortage of any kind.
        """
        with shortages_as_resource_exhausted("dump the table"):
            return await dump.receive_batch()

    async def look_up(self, flows: Mapping[Key, Flow]) -> dict[Key, Flow | None]:
        """Look up the entries with the original tuples of these flows.

        :param flows: flows by the key of their original tuple.
        :returns: what the kernel has now, by the same keys; ``None`` where it has no entry. Flows
            with an incomplete tuple are left out.

        :raises KernelError: when the kernel refuses a request, :exc:`ResourceExhausted` for every
            kind of shortage.
        :raises DecodeError: when a reply cannot be decoded.
        :raises NoReply: when a reply does not come, or has no entry.
        """
        found = await self._request_each(flows, requests.get)
        # The kernel finds an entry by either tuple. Where zones apply to one direction only, the
        # reply tuple of one entry may be the original tuple of another.
        others = {
            key: flows[key]
            for key, flow in found.items()
            if flow is not None and orig_key(flow) != key
        }
        if others:
            found |= await self._request_each(others, requests.get_by_original_tuple)
        return found

    async def _request_each(
        self, flows: Mapping[Key, Flow], request_for: Callable[[Flow], Request]
    ) -> dict[Key, Flow | None]:
        to_send: dict[Key, Request] = {}
        for key, flow in flows.items():
            try:
                to_send[key] = request_for(flow)
            except EncodeError:  # an incomplete tuple, which no real entry has
                continue
        with shortages_as_resource_exhausted("look entries up"):
            responses = await self._session.run(list(to_send.values()))
        return {key: _flow_from(response) for key, response in zip(to_send, responses, strict=True)}

    async def read_setting(self, setting: str) -> int | None:
        """Return a setting of connection tracking; ``None`` if it is not readable or not a number.

        :param setting: its name without ``nf_conntrack_``.

        :raises ResourceExhausted: when there is a shortage of any kind.
        """
        tree = self._session.socket_factory.sysctls

        def read() -> int | None:
            try:
                return int(tree.read(CONNTRACK + setting))
            except ValueError:
                return None
            except OSError as error:
                if error.errno in EXHAUSTION_ERRNOS:
                    raise
                return None

        with shortages_as_resource_exhausted(f"read nf_conntrack_{setting}"):
            return await self._session.run_on_thread(read)

    def register(self, table: Table) -> None:
        """Register the table with the connection, which closes the table when it is closed.

        :raises anyio.ClosedResourceError: when the connection is closed.
        """
        self._session.register_table(table)

    def unregister(self, table: Table) -> None:
        """Remove the table from the connection, because it has ended."""
        self._session.unregister_table(table)

    def close(self) -> None:
        """Close the event stream. Idempotent. Call it in the event loop's thread."""
        if self._stream is not None:
            self._stream.close()


def _flow_from(response: Response) -> Flow | None:
    """Return the flow of a reply; ``None`` if there is no such entry."""
    # A kernel without zones refuses tuples with zones, and has no entries with them.
    if isinstance(response.error, NotFound | NotSupported):
        return None
    replies = response.result()
    if not replies:
        raise NoReply(f"{response.request}: the kernel's reply has no entry")
    return flow_of(replies[0])
