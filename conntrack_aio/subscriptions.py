"""Subscribing to events: sockets that have joined the kernel's multicast groups."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from typing import Final, Generic, NamedTuple, TypeVar

from .errors import failed
from .filters.program import EventFilter
from .model.sysctls import BlindSpot, ConntrackSysctls, EventMode
from .netlink.nsid_resolver import NsidResolver
from .netlink.socket import NetlinkSocket
from .netlink.socket_factory import SocketFactory
from .sysctls import CONNTRACK, SysctlTree, read_number
from .uapi.netlink import NETLINK
from .uapi.nfnetlink import NFNLGRP

EVENTS_SYSCTL: Final = f"{CONNTRACK}events"

_NAMED_AT_MOST: Final = 8
"""Namespaces that one sentence names."""

DEFAULT_RECEIVE_BUFFER: Final = 8 * 1024 * 1024
"""Room for some 13,000 events; the memory is used only while they wait."""

LEAST_COST: Final = 512
"""No event takes less of the receive buffer (1280 bytes were seen on x86-64): the buffer's size
divided by this bounds how many can lie in it."""


E = TypeVar("E")


class Buffer(NamedTuple):
    """How much may wait, as asked for; the kernel doubles it for its own bookkeeping."""

    size: int
    largest: int | None
    """What it may grow to as it overruns; ``None`` or less than the size: it stays as it is."""


class Sieve(NamedTuple, Generic[E]):
    """Which events are wanted."""

    keep: Callable[[E], bool] | None
    """``None``, if it does not matter what else comes."""
    filters: Callable[[], Iterable[EventFilter]]
    """Programs that the kernel may filter them by; the first one that fits is taken."""


class Subscription(NamedTuple):
    """A socket that has joined the groups, and what is to be known of it."""

    socket: NetlinkSocket
    buffer: Buffer
    event_mode: int | None
    """The setting ``nf_conntrack_events``."""
    blind_spots: tuple[BlindSpot, ...]
    """What will not be heard of, and why."""
    reliable: bool
    lossless: bool
    """Whether all that the groups have is retried, so that nothing is ever missing."""
    receive_time: bool
    """Whether its events are to have the time at which they were received."""
    nsid_resolver: NsidResolver | None
    """Resolves the namespaces of events; ``None`` unless the stream is of all namespaces."""
    filter: EventFilter | None
    """What the kernel filters events by."""

    @property
    def exact(self) -> bool:
        """Whether the kernel lets through only what is wanted."""
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
    """Join multicast groups, in the calling thread's namespace, or in all that have an id there.

    :param filters: what the kernel may filter the events by; the first that it has room for does.

    Raises :exc:`PermissionDenied` without CAP_NET_ADMIN, or CAP_NET_BROADCAST for all namespaces.
    """
    with ExitStack() as failing:

        def opened(socket: NetlinkSocket) -> NetlinkSocket:
            failing.callback(socket.close)
            return socket

        socket = opened(socket_factory.open(buffer.size))
        nsid_resolver: NsidResolver | None = None
        if all_netns:  # before there is anything to hear
            notifications = opened(socket_factory.open(protocol=NETLINK.ROUTE))
            lookups = opened(socket_factory.open(protocol=NETLINK.ROUTE))
            nsid_resolver = NsidResolver(socket, notifications, lookups, least_cost=LEAST_COST)
            failing.callback(nsid_resolver.close)
        try:
            filter_ = _attach(socket, filters)  # before there is anything to hear
            if reliable:
                socket.enable_broadcast_errors()
            for group in groups:
                socket.join(group)
        except OSError as error:
            raise failed("subscribe to events", error) from error
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
    if mode == EventMode.OFF:
        why = f"{EVENTS_SYSCTL} is 0, so that no flow emits any; set it to 1"
        yield BlindSpot("events", "no event will ever come from flows", why)
    elif mode == EventMode.AUTO:
        what = "flows that are older than the first listener emit no events"
        yield BlindSpot("events", what, f"{EVENTS_SYSCTL} is not 1")
    count = read_number(sysctls, f"{CONNTRACK}count")
    for spot in ConntrackSysctls(count=count).blind_spots():
        yield BlindSpot(spot.setting, f"{spot.what} yet", spot.why)
    if nsid_resolver is not None and (names := nsid_resolver.names_without_id()):
        few = ", ".join(names[:_NAMED_AT_MOST])
        more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
        yield BlindSpot(
            "",
            f"the namespaces {few}{more} are not heard",
            "they have no id in this one; `ip netns set NAME auto` gives one",
        )


def _attach(socket: NetlinkSocket, filters: Iterable[EventFilter]) -> EventFilter | None:
    """Have the kernel filter by one of them, or by none if it has room for none.

    Nor does it filter where that is forbidden: the events are filtered here then.
    """
    for each in filters:
        try:
            socket.attach(each.program)
        except OSError as error:
            if error.errno == errno.ENOMEM:  # net.core.optmem_max
                continue
            return None
        return each
    return None
