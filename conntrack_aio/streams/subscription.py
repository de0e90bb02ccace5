"""Subscribe to events: open sockets that join multicast groups of the kernel."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from typing import Final, Generic, Literal, NamedTuple, TypeVar

import attrs

from ..errors import request_error
from ..filters.program import EventFilter
from ..model.settings import CONNTRACK, BlindSpot, ConntrackSysctls, EventMode
from ..model.values import describe_value
from ..netlink.nsid_resolver import NsidResolver
from ..netlink.socket import NetlinkSocket
from ..plain import as_int, as_str
from ..proc_sys import SysctlTree, read_number
from ..socket_factory import SocketFactory
from ..uapi.netlink import NETLINK
from ..uapi.nfnetlink import NFNLGRP

EVENTS_SYSCTL: Final = f"{CONNTRACK}events"

_NAMED_AT_MOST: Final = 8
"""How many namespaces one message names."""

DEFAULT_RECEIVE_BUFFER: Final = 8 * 1024 * 1024
"""Room for about 13,000 events. The memory is used only while they wait."""

LEAST_COST: Final = 512
"""Bytes of the receive buffer that an event takes at least; 1,280 were seen on x86-64.

The size of the buffer divided by this is the largest number of events that can wait."""

OnLoss = Literal["raise", "item"]
"""What a stream does where events are missing: raise :exc:`EventsLost`, or return it as an item."""

E = TypeVar("E")


class BufferSizes(NamedTuple):
    """The sizes of a receive buffer in bytes, as requested; the kernel doubles them for its
    overhead."""

    initial: int
    maximum: int | None
    """The size up to which it grows after overruns; ``None`` keeps it as it is."""


def check_buffer_sizes(initial: int, maximum: int | None) -> BufferSizes:
    """Return the sizes of a receive buffer, as plain numbers.

    :param initial: the ``receive_buffer`` of the caller.
    :param maximum: the ``receive_buffer_max`` of the caller.

    :raises TypeError: when a size is not a number of bytes.
    :raises ValueError: when the kernel could not double a size in 32 bits, or when the maximum is
        below the initial size.
    """
    initial = _check_size("receive_buffer", initial)
    if maximum is not None:
        maximum = _check_size("receive_buffer_max", maximum)
        if maximum < initial:
            raise ValueError(
                f"receive_buffer_max is {maximum}, below the receive_buffer of {initial}"
            )
    return BufferSizes(initial, maximum)


def _check_size(name: str, size: int) -> int:
    try:
        size = as_int(size)
    except TypeError:
        raise TypeError(f"{name} must be a number of bytes; got {describe_value(size)}") from None
    if not 0 < size < 1 << 30:
        shown = describe_value(size)
        raise ValueError(f"{name} must be at least 1 byte and below 2^30 bytes; got {shown}")
    return size


def _check_on_loss(on_loss: object) -> OnLoss:
    """Return ``on_loss`` as a plain string.

    :raises ValueError: when it is another value.
    """
    plain = as_str(on_loss) if issubclass(type(on_loss), str) else None
    if plain == "raise":
        return "raise"
    if plain == "item":
        return "item"
    raise ValueError(f'on_loss must be "raise" or "item"; got {describe_value(on_loss)}')


@attrs.frozen(kw_only=True)
class StreamOptions:
    """The options of an event stream: parameters of :meth:`Connection.events`.

    :raises ValueError: when ``on_loss`` is neither ``"raise"`` nor ``"item"``.
    """

    receive_buffer: int | None = None
    """The size of the receive buffer in bytes; ``None`` for the connection's setting."""
    receive_buffer_max: int | None = None
    """The size up to which the buffer grows; ``None`` for the connection's setting."""
    all_netns: bool = False
    """Whether to receive the events of all namespaces that have an id in the connection's own."""
    on_loss: OnLoss = attrs.field(default="raise", converter=_check_on_loss)
    reliable: bool = False
    """Whether the kernel retries DESTROY events that do not fit into the receive buffer."""
    receive_time: bool = False
    """Whether to set the time at which each event was received."""

    def buffer_sizes(self, default: BufferSizes) -> BufferSizes:
        """Return the sizes of the receive buffer.

        :param default: the sizes of the connection. A default maximum may be below a given
            ``receive_buffer``; the buffer then keeps its size.

        :raises TypeError: when a size is not a number of bytes.
        :raises ValueError: when a size is out of range.
        """
        initial = default.initial if self.receive_buffer is None else self.receive_buffer
        sizes = check_buffer_sizes(initial, self.receive_buffer_max)
        if self.receive_buffer_max is None:
            return sizes._replace(maximum=default.maximum)
        return sizes


class EventSelection(NamedTuple, Generic[E]):
    """Which events to hand out."""

    predicate: Callable[[E], bool] | None
    """The predicate to apply. ``None`` if events that the kernel could not filter out are handed
    out, too."""
    filters: Callable[[], Iterable[EventFilter]]
    """Programs that the kernel may filter by; the first one that fits is used."""


class Subscription(NamedTuple):
    """A socket that has joined multicast groups, and what is known about it."""

    socket: NetlinkSocket
    options: StreamOptions
    buffer_sizes: BufferSizes
    event_mode: int | None
    """The value of the sysctl ``nf_conntrack_events``."""
    blind_spots: tuple[BlindSpot, ...]
    """What will not be received, and why."""
    lossless: bool
    """Whether the kernel retries all events of the groups, so that none is ever missing."""
    nsid_resolver: NsidResolver | None
    """The namespaces of the events, in a stream of all namespaces."""
    filter: EventFilter | None
    """The program that the kernel filters events by."""

    @property
    def exact(self) -> bool:
        """Whether the kernel lets only selected events through."""
        return self.filter is not None and self.filter.exact


def subscribe(
    socket_factory: SocketFactory,
    groups: Collection[int],
    options: StreamOptions,
    buffer_sizes: BufferSizes,
    filters: Iterable[EventFilter] = (),
) -> Subscription:
    """Join multicast groups, in the calling thread's namespace or in all that have an id there.

    :param socket_factory: opens the sockets in that namespace.
    :param groups: the multicast groups.
    :param options: the options of the stream.
    :param buffer_sizes: the sizes of the receive buffer; those of the options are not used.
    :param filters: programs that may filter the events; the kernel runs the first one that fits.

    :raises PermissionDenied: when the program has no CAP_NET_ADMIN or, for all namespaces, no
        CAP_NET_BROADCAST.
    :raises KernelError: when the kernel refuses for another reason.
    """
    with ExitStack() as failing:

        def opened(socket: NetlinkSocket) -> NetlinkSocket:
            failing.callback(socket.close)
            return socket

        socket = opened(socket_factory.open(buffer_sizes.initial))
        nsid_resolver: NsidResolver | None = None
        if options.all_netns:  # before the first event can arrive
            notifications = opened(socket_factory.open(protocol=NETLINK.ROUTE))
            lookups = opened(socket_factory.open(protocol=NETLINK.ROUTE))
            nsid_resolver = NsidResolver(socket, notifications, lookups, least_cost=LEAST_COST)
            failing.callback(nsid_resolver.close)
        try:
            filter_ = _attach(socket, filters)  # before the first event can arrive
            if options.reliable:
                socket.enable_broadcast_errors()
            for group in groups:
                socket.join(group)
        except OSError as error:
            raise request_error("subscribe to events", error) from error
        mode = read_number(socket_factory.sysctls, EVENTS_SYSCTL)
        spots = tuple(_blind_spots(socket_factory.sysctls, mode, nsid_resolver))
        failing.pop_all()
        lossless = options.reliable and set(groups) == {NFNLGRP.CONNTRACK_DESTROY}
        return Subscription(
            socket=socket,
            options=options,
            buffer_sizes=buffer_sizes,
            event_mode=mode,
            blind_spots=spots,
            lossless=lossless,
            nsid_resolver=nsid_resolver,
            filter=filter_,
        )


def _blind_spots(
    sysctls: SysctlTree, mode: int | None, nsid_resolver: NsidResolver | None
) -> Iterator[BlindSpot]:
    events = EventMode(mode) if mode in tuple(EventMode) else None
    count = read_number(sysctls, f"{CONNTRACK}count")
    yield from ConntrackSysctls(events=events, count=count).blind_spots()
    if nsid_resolver is not None and (names := nsid_resolver.names_without_id()):
        listed = ", ".join(names[:_NAMED_AT_MOST])
        more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
        yield BlindSpot(
            "",
            f"no events of the namespaces {listed}{more} arrive",
            "they have no id in this one; `ip netns set NAME auto` gives one",
        )


def _attach(socket: NetlinkSocket, filters: Iterable[EventFilter]) -> EventFilter | None:
    """Attach the first filter that the kernel accepts.

    :returns: the filter, or ``None`` if the kernel accepts none. The library then filters the
        events itself.
    """
    for each in filters:
        try:
            socket.attach(each.program)
        except OSError as error:
            if error.errno == errno.ENOMEM:  # longer than net.core.optmem_max allows
                continue
            return None
        return each
    return None
