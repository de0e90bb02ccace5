"""The connection: ``connect()`` and the verbs."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Generator, Sequence
from types import TracebackType
from weakref import WeakSet

import anyio
import attrs
from anyio import CapacityLimiter
from anyio.abc import AsyncResource

from .codec import requests
from .codec.messages import flow_of, global_statistics_of
from .codec.requests import Target
from .dumps import Dump
from .errors import (
    EncodeError,
    InvalidRequest,
    NoReply,
    NotFound,
    NotSupported,
    ResourceBusy,
    UnsafeRequest,
    kernel_error,
)
from .events import DEFAULT_RECEIVE_BUFFER, EventStream, subscribe
from .filters.dump import compile_dump
from .filters.match import Match
from .model.events import EventType
from .model.flow import Flow, Helper, SeqAdj, Status, SynProxy
from .model.protoinfo import ProtoInfo
from .model.requests import NATRange
from .model.statistics import ConnectionStatistics
from .model.tuples import IPAddress
from .netlink.endpoint import Endpoint, Kernel
from .netlink.exchange import Outcome, Request
from .netlink.namespaces import NetNS
from .netlink.requester import Requester
from .netlink.socket import NetlinkSocket
from .netlink.walks import Walk

_ATTEMPTS = 5
"""At an update of the status, which packets may change between our look and our request."""

_CONNECT = ("connect to", "connection tracking")
"""What the first request is called in errors."""

_WALKERS = 16
"""Worker threads that the dumps of one connection may occupy at a time."""


def connect(
    *,
    netns: str | os.PathLike[str] | NetNS | None = None,
    receive_buffer: int = DEFAULT_RECEIVE_BUFFER,
    offload: bool = False,
    reply_timeout: float = 5.0,
) -> Connecting:
    """Connect to the kernel's connection tracking, in this network namespace or another.

    Use it as ``async with connect() as conn:``, or ``conn = await connect()`` and, in whatever
    task, ``await conn.aclose()``.

    :param netns: a name that ``ip netns`` knows, a path (with a slash), or a :class:`NetNS`. The
        connection keeps that namespace alive, as any socket does. Needs CAP_SYS_ADMIN.
    :param receive_buffer: bytes of events that may wait in a stream's socket, unless
        :meth:`Connection.events` says otherwise. The kernel doubles the number and takes some
        1,280 for an event. More than ``net.core.rmem_max`` is granted to root alone.
    :param offload: run every request on a worker thread. The kernel blocks a request while any
        program walks the table, for up to hundreds of milliseconds at a million flows. Requests
        beside this process's own walks are offloaded in any case.
    :param reply_timeout: seconds after which a request without an answer raises
        :exc:`NoReply`. The kernel answers at once; this is for one that doesn't.

    Entering or awaiting it raises :exc:`PermissionDenied` without CAP_NET_ADMIN;
    :exc:`NotSupported` on a kernel without ctnetlink; :exc:`NamespaceError`;
    :exc:`UnsupportedPlatform` outside Linux. ``connect`` itself raises :exc:`TypeError` or
    :exc:`ValueError` for a ``netns`` that can't name one, or another parameter that can't be.
    """
    if not reply_timeout > 0:
        raise ValueError(f"reply_timeout is a number of seconds, not {reply_timeout!r}")
    endpoint = Kernel(None if netns is None else NetNS.of(netns))
    return Connecting(endpoint, _check_buffer(receive_buffer), offload, reply_timeout)


class Connecting:
    """What :func:`connect` returns: to be awaited, or entered."""

    def __init__(
        self, endpoint: Endpoint, receive_buffer: int, offload: bool, reply_timeout: float
    ) -> None:
        self._endpoint = endpoint
        self._receive_buffer = receive_buffer
        self._offload = offload
        self._reply_timeout = reply_timeout
        self._connection: Connection | None = None

    def __await__(self) -> Generator[object, None, Connection]:
        return self._open().__await__()

    async def _open(self) -> Connection:
        socket = self._endpoint.open_first()
        requester = Requester(socket, offload=self._offload, reply_timeout=self._reply_timeout)
        connection = Connection(
            self._endpoint, requester, self._receive_buffer, self._reply_timeout
        )
        try:
            (outcome,) = await requester.run([requests.statistics(*_CONNECT)])
            outcome.result()
        except InvalidRequest as error:
            connection.close()
            raise NotSupported(
                errno.EOPNOTSUPP,
                " ".join(_CONNECT),
                hint="This kernel was built without ctnetlink (CONFIG_NF_CT_NETLINK), or its "
                "module can't be loaded",
            ) from error
        except BaseException:
            connection.close()
            raise
        return connection

    async def __aenter__(self) -> Connection:
        if self._connection is not None:
            raise RuntimeError("this connect() was entered before; call it again for another")
        self._connection = await self._open()
        return self._connection

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            await self._connection.aclose()


class Connection(AsyncResource):
    """A connection to the connection tracking of one network namespace; see :func:`connect`.

    Any number of tasks may use it. Requests share one socket and are answered in turn; every dump
    and every event stream has its own. It holds no task group: what a body raises leaves as it
    is, and one task may close what another opened.

    A request that is cancelled may or may not have been carried out; the connection is good for
    the next one either way. Every verb raises :exc:`anyio.ClosedResourceError` once the
    connection is closed, a :exc:`KernelError` for what the kernel refuses, and :exc:`NoReply` if
    it does not answer.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        requester: Requester,
        receive_buffer: int = DEFAULT_RECEIVE_BUFFER,
        reply_timeout: float = 5.0,
    ) -> None:
        self._endpoint = endpoint
        self._requester = requester
        self._receive_buffer = receive_buffer
        self._reply_timeout = reply_timeout
        self._limiter = CapacityLimiter(_WALKERS)
        self._counters = ConnectionStatistics()
        self._dumps: WeakSet[Dump] = WeakSet()
        self._streams: WeakSet[EventStream] = WeakSet()

    # -- life -------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Close it, with its dumps and streams. Idempotent."""
        self.close()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """As :meth:`aclose`, without a checkpoint. To be called in the event loop's thread."""
        for dump in tuple(self._dumps):
            dump.close()
        for stream in tuple(self._streams):
            stream.close()
        self._requester.close()

    def __del__(self) -> None:
        if not self._requester.socket.closed:
            warnings.warn(
                "a conntrack_aio connection was never closed",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
            self._requester.close()

    def _check_open(self) -> None:
        if self._requester.socket.closed:
            raise anyio.ClosedResourceError

    async def _ask(self, request: Request) -> Outcome:
        (outcome,) = await self._requester.run([request])
        return outcome

    # -- reading ----------------------------------------------------------------------------

    def dump(self, match: Match | None = None) -> Dump:
        """The flows of the table, or those that ``match``: an async iterator.

        The kernel filters by what it can; the rest is checked here.
        """
        self._check_open()
        if match is not None:
            _check_match(match)
        request = requests.dump(*compile_dump(match))
        walk = Walk(self._open_beside, request, self._limiter, self._reply_timeout)
        dump = Dump(walk, match, self._counters, self._retire_dump)
        self._dumps.add(dump)
        return dump

    async def list(self, match: Match | None = None) -> list[Flow]:
        """The flows of :meth:`dump`, all of them."""
        flows: list[Flow] = []
        async with self.dump(match) as dump:
            async for batch in dump.batches():
                flows += batch
        return flows

    async def get(self, target: Target, *, zone: int | None = None) -> Flow:
        """One flow, as the kernel has it now.

        :param target: a flow, or the tuple of either direction.
        :param zone: the zone to look in, instead of the target's own.

        Raises :exc:`NotFound` if there is none, or if ``target`` is a flow and another one has
        its tuple by now; :exc:`EncodeError` for an incomplete tuple.
        """
        request = requests.get(target, zone)
        outcome = await self._ask(request)
        flow = _the_flow(outcome)
        if isinstance(target, Flow) and target.id is not None and flow.id != target.id:
            raise kernel_error(
                errno.ENOENT, str(request), hint="Another flow, with another id, has this tuple now"
            )
        return flow

    async def count(self) -> int:
        """How many entries the namespace has, by the kernel's own count.

        That includes those that ended and whose destroy event is still to be delivered.
        """
        request = requests.statistics()
        outcome = await self._ask(request)
        replies = outcome.result()
        entries = global_statistics_of(replies[0]).entries if replies else None
        if entries is None:
            raise NoReply(f"{request}: the kernel's answer has no count")
        return entries

    def events(self, *types: EventType, receive_buffer: int | None = None) -> EventStream:
        """Subscribe to events: of the ``types`` given, or of all. Subscribed when this returns.

        :param receive_buffer: bytes that may wait, instead of the connection's.

        Raises :exc:`PermissionDenied` without CAP_NET_ADMIN.
        """
        self._check_open()
        size = self._receive_buffer if receive_buffer is None else _check_buffer(receive_buffer)
        subscription = self._endpoint.beside(
            self._requester.socket,
            lambda: subscribe(self._endpoint, types or tuple(EventType), size),
        )
        stream = EventStream(subscription, self._counters, self._retire_stream)
        self._streams.add(stream)
        return stream

    # -- writing ----------------------------------------------------------------------------

    async def create(
        self,
        flow: Flow,
        *,
        nat_src: NATRange | IPAddress | str | None = None,
        nat_dst: NATRange | IPAddress | str | None = None,
    ) -> Flow:
        """Make a new entry, and return it as the kernel then has it, id included.

        A TCP flow without a state gets ESTABLISHED, and both sides BE_LIBERAL: without window
        data its packets would be invalid otherwise. Of the status only what
        :data:`~conntrack_aio.codec.requests.SETTABLE` has is taken; the kernel sets the rest.

        :param nat_src: translate the source to this address, or to one of this range. Give the
            flow with its untranslated inverse as the reply.
        :param nat_dst: translate the destination.

        The kernel cuts a timeout to 2^31 of its ticks (8,589,934 seconds at 250 a second), and
        leaves out labels where no rule of the namespace uses any.

        Raises :exc:`AlreadyExists` if an entry has one of its tuples; :exc:`EncodeError`;
        :exc:`ResourceExhausted` if the table is full; :exc:`NotFound` if its master is missing, or
        if it was gone (its timeout 0) before it could be read back.
        """
        made = requests.create(flow, nat_src, nat_dst)
        created, read = await self._requester.run([made, requests.get(flow)])
        created.result()
        try:
            return _the_flow(read)
        except NotFound as error:
            hint = "It was made, and was gone before it could be read back"
            raise NotFound(errno.ENOENT, str(made), hint=hint) from error

    async def update(
        self,
        target: Target,
        *,
        mark: int | None = None,
        mark_mask: int | None = None,
        timeout: int | None = None,  # noqa: ASYNC109 - the entry's, not ours
        status: Status | None = None,
        labels: int | None = None,
        labels_mask: int | None = None,
        protoinfo: ProtoInfo | None = None,
        helper: Helper | str | None = None,
        seqadj_orig: SeqAdj | None = None,
        seqadj_reply: SeqAdj | None = None,
        synproxy: SynProxy | None = None,
        zone: int | None = None,
    ) -> None:
        """Change what is named, and nothing else. ``None`` leaves a thing as it is; 0 is zero.

        A flow as the target is the one with its id: it is looked up first. (The kernel does not
        compare ids in updates; should the entry be replaced just in between, its successor is
        changed.) The kernel applies the parts one after the other, and what came before a part
        that it refuses stays.

        :param target: a flow, or the tuple of either direction.
        :param mark_mask: only these bits of the mark change.
        :param timeout: seconds from now.
        :param status: bits to set, of SEEN_REPLY, ASSURED, FIXED_TIMEOUT and HELPER. No bit can
            be cleared; those that are set already may be named.
        :param labels: 128 bits; with ``labels_mask`` only those in it change.
        :param helper: the name that the entry has already, to pass on ``info``; an empty name
            detaches it.
        :param zone: the zone to look in, instead of the target's own.

        Raises :exc:`NotFound`; :exc:`EncodeError`; :exc:`ResourceExhausted` for labels on an
        entry without room for them; :exc:`PermissionDenied` for the timeout of one with
        FIXED_TIMEOUT.
        """
        values: dict[str, object] = {
            "mark": mark,
            "mark_mask": mark_mask,
            "timeout": timeout,
            "labels": labels,
            "labels_mask": labels_mask,
            "protoinfo": protoinfo,
            "helper": Helper(name=helper) if isinstance(helper, str) else helper,
            "seqadj_orig": seqadj_orig,
            "seqadj_reply": seqadj_reply,
            "synproxy": synproxy,
        }
        if status is None and all(value is None for value in values.values()):
            raise EncodeError("an update that changes nothing")
        if status is not None:
            await self._update_with_status(target, values, status, zone)
            return
        request = requests.update(target, values, zone)
        if isinstance(target, Flow) and target.id is not None:
            await self.get(target, zone=zone)
        outcome = await self._ask(request)
        outcome.result()

    async def _update_with_status(
        self, target: Target, values: dict[str, object], wanted: Status, zone: int | None
    ) -> None:
        """The kernel wants the bits repeated that may not change; packets may change them."""
        for attempt in range(_ATTEMPTS):
            current = (await self.get(target, zone=zone)).status or Status(0)
            status = requests.updated_status(current, wanted)
            request = requests.update(target, {**values, "status": status}, zone)
            outcome = await self._ask(request)
            if not isinstance(outcome.error, ResourceBusy) or attempt == _ATTEMPTS - 1:
                outcome.result()
                return

    async def delete(self, target: Target, *, zone: int | None = None) -> None:
        """Delete one entry. A flow as the target is deleted only if its id is still the same.

        :param target: a flow, or the tuple of either direction.
        :param zone: the zone to look in, instead of the target's own.

        Raises :exc:`NotFound`; :exc:`EncodeError` for an incomplete tuple.
        """
        outcome = await self._ask(requests.delete(target, zone))
        outcome.result()

    async def flush(self) -> None:
        """Delete every entry of the namespace. To delete some: :meth:`delete_matching`."""
        (outcome,) = await self._requester.run([requests.flush()], walk=True)
        outcome.result()

    async def delete_matching(self, match: Match) -> int:
        """Delete the flows that match, and return how many they were.

        The table is dumped, each flow checked here, and deleted by tuple, zone and id: what does
        not match is never touched.

        Raises :exc:`UnsafeRequest` for a match that is always true: that is :meth:`flush`.
        """
        _check_match(match)
        if match.always:
            raise UnsafeRequest(
                "delete_matching with a match that is always true; flush() deletes everything"
            )
        deleted = 0
        async with self.dump(match) as dump:
            async for batch in dump.batches():
                deleted += await self._delete_all(batch)
        return deleted

    async def _delete_all(self, flows: Sequence[Flow]) -> int:
        outcomes = await self._requester.run([requests.delete(flow) for flow in flows])
        deleted = 0
        for outcome in outcomes:
            # One that ended meanwhile is not there any more, which is what was wanted.
            if not isinstance(outcome.error, NotFound):
                outcome.result()
                deleted += 1
        return deleted

    # -- counting ---------------------------------------------------------------------------

    def statistics(self) -> ConnectionStatistics:
        """What this connection has done so far."""
        sockets = [self._requester.socket]
        sockets += [dump.walk.socket for dump in self._dumps if dump.walk.socket is not None]
        sockets += [stream.socket for stream in self._streams]
        counters = self._counters
        return attrs.evolve(
            counters,
            requests=self._requester.requests,
            requests_offloaded=self._requester.offloaded,
            stray_replies=counters.stray_replies + self._requester.strays,
            overruns=counters.overruns + self._requester.overruns,
            datagrams_received=counters.datagrams_received
            + sum(socket.datagrams_received for socket in sockets),
            bytes_received=counters.bytes_received
            + sum(socket.bytes_received for socket in sockets),
            forged=counters.forged + sum(socket.forged for socket in sockets),
            open_dumps=len(self._dumps),
            open_streams=len(self._streams),
        )

    def _open_beside(self) -> NetlinkSocket:
        self._check_open()
        return self._endpoint.beside(self._requester.socket, self._endpoint.open)

    def _retire_dump(self, dump: Dump) -> None:
        self._dumps.discard(dump)
        self._counters.stray_replies += dump.walk.exchange.strays
        self._add_traffic(dump.walk.socket)

    def _retire_stream(self, stream: EventStream) -> None:
        self._streams.discard(stream)
        self._add_traffic(stream.socket)

    def _add_traffic(self, socket: NetlinkSocket | None) -> None:
        if socket is not None:
            self._counters.datagrams_received += socket.datagrams_received
            self._counters.bytes_received += socket.bytes_received
            self._counters.forged += socket.forged


def _check_match(match: Match) -> None:
    if not isinstance(match, Match):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"flows are chosen by a Match, not by {match!r}")


def _check_buffer(size: int) -> int:
    """The kernel doubles the size, in 32 bits."""
    if not isinstance(size, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"receive_buffer is a number of bytes, not {size!r}")
    if not 0 < size < 1 << 30:
        raise ValueError(f"receive_buffer is a number of bytes from 1 to 2^30, not {size}")
    return size


def _the_flow(outcome: Outcome) -> Flow:
    replies = outcome.result()
    if not replies:
        raise NoReply(f"{outcome.request}: the kernel's answer has no entry")
    return flow_of(replies[0])
