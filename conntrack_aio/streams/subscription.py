"""Subscribe to events: open sockets that join multicast groups of the kernel."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import request_error
from ..model.settings import BlindSpot, ConntrackSysctls, EventMode
from ..model.sysctl_names import CONNTRACK
from ..netlink.nsid_resolver import NsidResolver
from ..netlink.socket import NetlinkSocket
from ..proc_sys import SysctlTree, read_number
from ..socket_factory import SocketFactory
from ..uapi.netlink import NETLINK
from ..uapi.nfnetlink import NFNLGRP
from .buffer_sizes import BufferSizes
from .options import StreamOptions

if TYPE_CHECKING:
    from ..filters.program import EventFilter

EVENTS_SYSCTL: Final = f"{CONNTRACK}events"

_NAMED_AT_MOST: Final = 8
"""How many namespaces one message names."""

LEAST_COST: Final = 512
"""Bytes of the receive buffer that an event takes at least; 1,280 were seen on x86-64.

The size of the buffer divided by this is the largest number of events that can wait."""


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
