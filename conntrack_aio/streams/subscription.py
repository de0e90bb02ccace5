"""Subscribe to events: open sockets that join multicast groups of the kernel."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from typing import Final, Generic, NamedTuple, TypeVar

from ..errors import request_error
from ..filters.program import EventFilter
from ..model.settings import CONNTRACK, BlindSpot, ConntrackSysctls, EventMode
from ..netlink.nsid_resolver import NsidResolver
from ..netlink.socket import NetlinkSocket
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

The size of the buffer divided by it is the most that can wait."""


E = TypeVar("E")


class Buffer(NamedTuple):
    """The sizes of a receive buffer, as requested; the kernel doubles them for its overhead."""

    size: int
    largest: int | None
    """The size up to which it grows after overruns; ``None`` keeps it as it is."""


class EventSelection(NamedTuple, Generic[E]):
    """Which events to hand out."""

    keep: Callable[[E], bool] | None
    """The predicate to apply; ``None`` if other events may be handed out, too."""
    filters: Callable[[], Iterable[EventFilter]]
    """Programs that the kernel may filter by; the first one that fits is used."""


class Subscription(NamedTuple):
    """A socket that has joined multicast groups, and what is known about it."""

    socket: NetlinkSocket
    buffer: Buffer
    event_mode: int | None
    """The setting ``nf_conntrack_events``."""
    blind_spots: tuple[BlindSpot, ...]
    """What will not be received, and why."""
    reliable: bool
    lossless: bool
    """Whether the kernel retries all events of the groups, so that none is ever missing."""
    receive_time: bool
    """Whether to set the time at which each event was received."""
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
    buffer: Buffer,
    *,
    all_netns: bool = False,
    reliable: bool = False,
    receive_time: bool = False,
    filters: Iterable[EventFilter] = (),
) -> Subscription:
    """Join multicast groups, in the calling thread's namespace or in all that have an id there.

    :param filters: programs that may filter the events; the kernel runs the first one that fits.

    :raises PermissionDenied: without CAP_NET_ADMIN; for all namespaces also without
        CAP_NET_BROADCAST.
    :raises KernelError: for any other refusal.
    """
    with ExitStack() as failing:

        def opened(socket: NetlinkSocket) -> NetlinkSocket:
            failing.callback(socket.close)
            return socket

        socket = opened(socket_factory.open(buffer.size))
        nsid_resolver: NsidResolver | None = None
        if all_netns:  # before the first event can arrive
            notifications = opened(socket_factory.open(protocol=NETLINK.ROUTE))
            lookups = opened(socket_factory.open(protocol=NETLINK.ROUTE))
            nsid_resolver = NsidResolver(socket, notifications, lookups, least_cost=LEAST_COST)
            failing.callback(nsid_resolver.close)
        try:
            filter_ = _attach(socket, filters)  # before the first event can arrive
            if reliable:
                socket.enable_broadcast_errors()
            for group in groups:
                socket.join(group)
        except OSError as error:
            raise request_error("subscribe to events", error) from error
        mode = read_number(socket_factory.sysctls, EVENTS_SYSCTL)
        spots = tuple(_blind_spots(socket_factory.sysctls, mode, nsid_resolver))
        failing.pop_all()
        lossless = reliable and set(groups) == {NFNLGRP.CONNTRACK_DESTROY}
        return Subscription(
            socket=socket,
            buffer=buffer,
            event_mode=mode,
            blind_spots=spots,
            reliable=reliable,
            lossless=lossless,
            receive_time=receive_time,
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
    """Attach the first filter that the kernel accepts, and return it.

    :returns: ``None`` if the kernel accepts none. The library then filters the events itself.
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
