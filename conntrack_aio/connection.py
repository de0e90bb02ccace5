"""The connection: ``connect()``, and one object with all the verbs."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Generator
from types import TracebackType
from typing import NoReturn, Self

import anyio
from anyio.abc import AsyncResource

from .codec.requests import flows as requests
from .errors import InvalidRequest, NotSupported
from .model.statistics import ClientStatistics
from .model.values import as_seconds, describe_value
from .netlink.modules import MISSING
from .netlink.namespaces import NetNS
from .netlink.requester import Requester
from .netlink.socket_factory import SocketFactory, socket_factory_for
from .session import Session, check_buffers
from .subscriptions import DEFAULT_RECEIVE_BUFFER, Buffer
from .verbs.expectations import Expectations
from .verbs.helpers import Helpers
from .verbs.timeouts import Timeouts
from .verbs.watching import Watching

_CONNECT = ("connect to", "connection tracking")
"""What the first request is called in errors."""


def connect(
    *,
    netns: str | os.PathLike[str] | NetNS | None = None,
    receive_buffer: int = DEFAULT_RECEIVE_BUFFER,
    receive_buffer_max: int | None = None,
    offload: bool = False,
    reply_timeout: float = 5.0,
) -> Connecting:
    """Connect to the kernel's connection tracking, in this network namespace or another.

    Use it as ``async with connect() as conn:``, or ``conn = await connect()`` and, in whatever
    task, ``await conn.aclose()``.

    :param netns: a name that ``ip netns`` knows, a path (with a slash), or a :class:`NetNS`; this
        thread's own unless given. It is entered on threads made for that, which then end; no
        other thread leaves its own. What counts is the namespace, not its name: that may go, and
        the namespace lives until the connection is closed, as with any socket. Only sockets hold
        it, never a descriptor. Needs CAP_SYS_ADMIN.
    :param receive_buffer: bytes of events that may wait in a stream's socket, unless
        :meth:`Connection.events` says otherwise. The kernel doubles the number and takes some
        1,280 for an event. More than ``net.core.rmem_max`` is granted to root alone.
    :param receive_buffer_max: what a stream's buffer may grow to. Each time that it was full, it is
        doubled, as far as the system grants it; unless this is given, it stays as it is. The memory
        is used only while events wait.
    :param offload: run every request on a worker thread. The kernel blocks a request while any
        program walks the table, for up to hundreds of milliseconds at a million flows. Requests
        beside this process's own walks are offloaded in any case.
    :param reply_timeout: seconds after which a request without an answer raises
        :exc:`NoReply`. The kernel answers at once; this is for one that doesn't.

    A seccomp profile or a security module may forbid system calls, also later. The library works
    without those that it does not need; for the others, the error names the call.

    Entering or awaiting it raises :exc:`PermissionDenied` without CAP_NET_ADMIN;
    :exc:`NotSupported` on a kernel without ctnetlink; :exc:`NamespaceError`;
    :exc:`UnsupportedPlatform` outside Linux. ``connect`` itself raises :exc:`TypeError` or
    :exc:`ValueError` for a ``netns`` that can't name one, or another parameter that can't be.
    """
    shown = describe_value(reply_timeout)
    try:
        reply_timeout = float(as_seconds(reply_timeout))
    except TypeError:
        raise TypeError(f"reply_timeout is a number of seconds, not {shown}") from None
    except OverflowError:
        raise ValueError(f"reply_timeout is too large: {shown}") from None
    if not reply_timeout > 0:
        raise ValueError(f"reply_timeout is a number of seconds, not {shown}")
    socket_factory = socket_factory_for.get()(None if netns is None else NetNS.of(netns))
    buffer = check_buffers(receive_buffer, receive_buffer_max)
    return Connecting(socket_factory, buffer, offload, reply_timeout)


class Connecting:
    """What :func:`connect` returns: to be awaited, or entered."""

    def __init__(
        self, socket_factory: SocketFactory, buffer: Buffer, offload: bool, reply_timeout: float
    ) -> None:
        self._socket_factory = socket_factory
        self._buffer = buffer
        self._offload = offload
        self._reply_timeout = reply_timeout
        self._connection: Connection | None = None

    def __await__(self) -> Generator[object, None, Connection]:
        return self._open().__await__()

    def __getattr__(self, name: str) -> NoReturn:
        hint = ""
        if not name.startswith("_") and hasattr(Connection, name):
            hint = (
                f": use `async with connect() as conn` or `conn = await connect()`, and conn.{name}"
            )
        raise AttributeError(
            f"connect() is not open, and has no {name!r}{hint}", name=name, obj=self
        )

    async def _open(self) -> Connection:
        socket = self._socket_factory.open_first()
        requester = Requester(socket, offload=self._offload, reply_timeout=self._reply_timeout)
        connection = Connection(
            Session(self._socket_factory, requester, self._buffer, self._reply_timeout)
        )
        try:
            (outcome,) = await requester.run([requests.statistics(*_CONNECT)])
            outcome.result()
        except InvalidRequest as error:
            connection.close()
            raise NotSupported(
                errno.EOPNOTSUPP,
                " ".join(_CONNECT),
                hint=MISSING,
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


class Connection(Watching, AsyncResource):
    """A connection to the connection tracking of one network namespace; see :func:`connect`.

    Any number of tasks may use it. Requests share one socket and are answered in turn; every dump
    and every event stream has its own. It holds no task group: what a body raises leaves as it
    is, and one task may close what another opened.

    A request that is cancelled may or may not have been carried out; the connection is good for
    the next one either way. Every verb raises :exc:`anyio.ClosedResourceError` once the
    connection is closed, a :exc:`KernelError` for what the kernel refuses, and :exc:`NoReply` if
    it does not answer.
    """

    expectations: Expectations
    """The connections that helpers expect."""
    timeouts: Timeouts
    """The namespace's timeout policies, and its timeouts by default."""
    helpers: Helpers
    """The machine's user-space helpers."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.expectations = Expectations(session)
        self.timeouts = Timeouts(session, self._probes)
        self.helpers = Helpers(session, self._probes)

    # -- life -------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._session.check_open()
        return self

    async def aclose(self) -> None:
        """Close it, with its dumps and streams. Idempotent."""
        self.close()
        await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        """As :meth:`aclose`, without a checkpoint. To be called in the event loop's thread."""
        self._session.close()
        self._resets.close()

    def __del__(self) -> None:
        session: Session | None = self.__dict__.get("_session")
        # An interrupt may have cut its making short.
        if session is not None and not session.closed:
            warnings.warn(
                "a conntrack_aio connection was never closed",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
            session.requester.close()

    def client_statistics(self) -> ClientStatistics:
        """What this connection has done so far."""
        return self._session.statistics()
