"""Connect to the kernel's connection tracking."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from functools import cache
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from . import eventloop
from .closing import register_with_anyio
from .codec.requests.statistics import table_statistics
from .connection import Connection
from .errors import InvalidRequest, NotSupported
from .kernel_modules import MISSING
from .model.values import as_seconds, describe_value
from .netlink.requester import Requester
from .session import Session
from .socket_factory import SocketFactory, socket_factory_for
from .streams.buffer_sizes import DEFAULT_RECEIVE_BUFFER, BufferSizes, check_buffer_sizes
from .suggestions import suggestion

if TYPE_CHECKING:
    from .netlink.netns import NetNS

_CONNECT = ("connect to", "connection tracking")
"""How errors name the first request."""


def connect(
    *,
    netns: str | os.PathLike[str] | NetNS | None = None,
    receive_buffer: int = DEFAULT_RECEIVE_BUFFER,
    receive_buffer_max: int | None = None,
    offload: bool = False,
    reply_timeout: float = 5.0,
) -> Connecting:
    """Connect to the kernel's connection tracking, in this network namespace or another.

    Use it as ``async with connect() as conn:``. Or write ``conn = await connect()``, and call
    ``await conn.aclose()`` later, in any task.

    :param netns: the network namespace to connect to: a name that ``ip netns`` knows, a path (with
        a slash), or a :class:`NetNS`. The default is the namespace of the calling thread. The
        library enters another namespace only on threads of its own, which end afterwards, so no
        thread of the program changes its namespace. The connection stays with the namespace when
        its name is removed, and keeps the namespace alive as any socket does. Entering another
        namespace needs CAP_SYS_ADMIN, in the user namespace that owns it and in the program's own.
    :param receive_buffer: the size of a stream's receive buffer in bytes, unless
        :meth:`Connection.events` says otherwise: 1 to 2^30 - 1, by default 8 MiB. The kernel
        doubles the number, and an event takes about 1,280 bytes, so 640 bytes are needed for each
        event that may wait. Without CAP_NET_ADMIN in the initial user namespace, as in a container,
        the kernel silently limits it to ``net.core.rmem_max``; :attr:`EventStream.receive_buffer`
        is what was granted.
    :param receive_buffer_max: bytes up to which a stream's buffer may grow. After each overrun the
        stream doubles its buffer as far as the system permits. By default the buffer keeps its
        size. The kernel uses the memory only while events wait.
    :param offload: run every request on a worker thread. Without it, a request blocks the event
        loop while another program dumps or flushes the table: for hundreds of milliseconds at a
        million flows. Requests that meet a dump or a flush of this process run on a worker thread
        in any case.
    :param reply_timeout: seconds after which a request, or the next chunk of a dump, without a
        reply raises :exc:`NoReply`. Normally the kernel has replied by the time the request is
        sent.
    :returns: an object to await or to enter.

    :raises TypeError: when a parameter is of the wrong type.
    :raises ValueError: when ``netns`` cannot be a name, or when a number is out of range.

    Entering or awaiting the result raises:

    :raises PermissionDenied: when CAP_NET_ADMIN is missing, or CAP_SYS_ADMIN for ``netns``.
    :raises NotSupported: when the kernel has no ctnetlink.
    :raises NamespaceError: when the namespace does not exist or cannot be entered.
    :raises UnsupportedPlatform: when the operating system is not Linux.
    :raises ResourceExhausted: when there are no descriptors, memory or threads left.
    :raises NoReply: when the kernel does not reply in time.
    :raises RuntimeError: when the result is entered a second time.

    If that is cancelled, the socket is closed. If a seccomp profile or a security module forbids a
    system call that is needed, the error names it.
    """
    shown = describe_value(reply_timeout)
    try:
        reply_timeout = float(as_seconds(reply_timeout))
    except TypeError:
        raise TypeError(f"reply_timeout must be a number of seconds; got {shown}") from None
    except OverflowError:
        raise ValueError(f"reply_timeout is too large: {shown}") from None
    if not reply_timeout > 0:
        raise ValueError(f"reply_timeout must be above 0 seconds; got {shown}")
    namespace = None
    if netns is not None:
        from .netlink.netns import NetNS

        namespace = NetNS(netns)
    socket_factory = socket_factory_for.get()(namespace)
    buffer_sizes = check_buffer_sizes(receive_buffer, receive_buffer_max)
    return Connecting(socket_factory, buffer_sizes, offload, reply_timeout)


_USED_BY_MOST = (
    "concurrent.futures.thread",
    "anyio.to_thread",
    "conntrack_aio.bulk.new_flow",
    "conntrack_aio.bulk.outcomes",
    "conntrack_aio.netlink.pipeline",
    "conntrack_aio.netlink.prefetching",
    "conntrack_aio.streams.dump",
    "conntrack_aio.operations.reader",
    "conntrack_aio.operations.single_flows",
    "conntrack_aio.operations.statistics",
    "conntrack_aio.operations.probes",
    "conntrack_aio.operations.resets",
    "conntrack_aio.streams.options",
    "conntrack_aio.model.client_statistics",
    "conntrack_aio.model.labels",
    "conntrack_aio.operations.update_steps",
    "conntrack_aio.codec.event_messages",
    "conntrack_aio.codec.layouts",
    "conntrack_aio.codec.packer_writer",
    "conntrack_aio.codec.requests.flow_creation",
    "conntrack_aio.codec.requests.flow_updates",
    "conntrack_aio.codec.requests.selection",
    "conntrack_aio.codec.statistics_messages",
)
"""The modules that most connections use, and that those without an event loop do not."""


@cache
def import_for_event_loop() -> None:
    """Import what a connection in an event loop uses.

    Later, a program may no longer be able to import it: without descriptors, as another user, or in
    another root directory.
    """
    for name in _USED_BY_MOST:
        import_module(name)
    register_with_anyio()


class Connecting:
    """What :func:`connect` returns: await it, or enter it with ``async with``."""

    def __init__(
        self,
        socket_factory: SocketFactory,
        buffer_sizes: BufferSizes,
        offload: bool,
        reply_timeout: float,
    ) -> None:
        self._socket_factory = socket_factory
        self._buffer_sizes = buffer_sizes
        self._offload = offload
        self._reply_timeout = reply_timeout
        self._connection: Connection | None = None

    def __await__(self) -> Generator[object, None, Connection]:
        return self._open().__await__()

    def __getattr__(self, name: str) -> NoReturn:
        hint = ""
        if not name.startswith("_"):
            if hasattr(Connection, name):
                hint = (
                    ": use `async with connect() as conn` or `conn = await connect()`, "
                    f"and conn.{name}"
                )
            else:
                hint = suggestion(name, (known for known in dir(Connection) if known[0] != "_"))
        raise AttributeError(
            f"connect() is not open, and has no {name!r}{hint}", name=name, obj=self
        )

    async def _open(self) -> Connection:
        if not eventloop.current().blocks:
            import_for_event_loop()
        socket = self._socket_factory.open_first()
        requester = Requester(socket, offload=self._offload, reply_timeout=self._reply_timeout)
        connection = Connection(
            Session(self._socket_factory, requester, self._buffer_sizes, self._reply_timeout)
        )
        try:
            (response,) = await requester.run([table_statistics(*_CONNECT)])
            response.result()
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
            raise RuntimeError("connect() was entered before; call it again to connect again")
        self._connection = await self._open()
        return self._connection

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            await self._connection.__aexit__(exc_type, exc, traceback)
