"""Hold the state of the fake kernel: the table, settings, sockets and clock of one namespace."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from socket import AF_INET, AF_INET6
from threading import RLock
from typing import Final, Literal, get_args

from ..model.enums import Status, TCPFlags
from ..model.helpers import UserspaceHelper
from ..model.protocols import TCP
from ..model.protoinfo import DCCPInfo, SCTPInfo, TCPInfo
from ..model.timeouts import TimeoutPolicy
from ..model.tuples import Tuple
from ..netlink import messages
from ..uapi.netlink import NETLINK, NETLINK_OPTION
from . import events, releases
from .events import IPCT
from .releases import Release
from .settings import default_sysctls
from .sockets import FakeSocket
from .table import Count, Entry, Table
from .tuples import Zone

Unavailable = Literal[
    "CAP_NET_ADMIN",
    "initial CAP_NET_ADMIN",
    "ctnetlink",
    "ctnetlink_timeout",
    "cthelper",
    "nat",
]
"""A capability that the program does not have, or a part that the kernel was built without.

- ``CAP_NET_ADMIN``: the kernel refuses every request with EPERM.
- ``initial CAP_NET_ADMIN``: the program has CAP_NET_ADMIN, but not in the initial user namespace,
  as in a container. The kernel refuses requests about user-space helpers, and receive buffers
  beyond ``net.core.rmem_max``, with EPERM.
- ``ctnetlink``, ``ctnetlink_timeout``, ``cthelper``: the kernel refuses the requests of this
  nfnetlink subsystem with EINVAL.
- ``nat``: the kernel refuses to create an entry with a translation.
"""

TICKS_PER_SECOND: Final = 250
"""Ticks of the clock per second (``CONFIG_HZ``). A timeout is at most 2**31 - 1 ticks."""

_CONNTRACK_GROUPS: Final = frozenset(range(1, 7))
_IPV4, _BOTH = frozenset({AF_INET}), frozenset({AF_INET, AF_INET6})
_HELPERS: Final[Mapping[str, tuple[frozenset[int], frozenset[int]]]] = {
    "ftp": (_BOTH, frozenset({6})),
    "irc": (_IPV4, frozenset({6})),
    "sip": (_BOTH, frozenset({6, 17})),
    "tftp": (_BOTH, frozenset({17})),
    "amanda": (_BOTH, frozenset({17})),
    "netbios-ns": (_IPV4, frozenset({17})),
    "sane": (_BOTH, frozenset({6})),
    "RAS": (_BOTH, frozenset({17})),
    "Q.931": (_BOTH, frozenset({6})),
    "H.245": (_BOTH, frozenset({17})),
    "pptp": (_IPV4, frozenset({6})),
    "snmp": (_IPV4, frozenset({17})),
    "snmp_trap": (_IPV4, frozenset({17})),
}
"""The helpers of a kernel with all modules, by name: the address families and the protocols."""


def check_unavailable(unavailable: Collection[str]) -> frozenset[str]:
    """Return the names as a set.

    :raises ValueError: when a name is not one of :data:`Unavailable`.
    """
    unknown = set(unavailable) - set(get_args(Unavailable))
    if unknown:
        raise ValueError(
            f"without: unknown names {sorted(unknown)}; "
            f"expected any of {', '.join(get_args(Unavailable))}"
        )
    return frozenset(unavailable)


class State:
    """The state of one network namespace, and the machine-wide state of the kernel."""

    def __init__(self, release: Release, unavailable: Collection[str]) -> None:
        self.release = release
        self.unavailable = check_unavailable(unavailable)
        self.sysctls = default_sysctls(release)
        self.table = Table(hashed_ids=release.has(releases.HASHED_IDS))
        self.builtin_helpers: set[tuple[str, int, int]] = {
            (name, int(family), proto)
            for name, (families, protos) in _HELPERS.items()
            for family in families
            for proto in protos
        }
        self.timeout_policies: list[TimeoutPolicy] = []
        self.userspace_helpers: list[UserspaceHelper] = []
        self.helpers_in_use: set[tuple[str, int, int]] = set()
        self.labels_used = False
        self.event_mask: int | None = None
        """The events that a rule selects for new entries, as ``IPCT`` bits; ``None`` means all."""
        self.listeners_in_other_namespaces = False
        self.cpu_counters: list[dict[str, int]] = [{}, {}]
        self.dying: list[Entry] = []
        """The entries that have ended and whose destroy event is not delivered yet."""
        self.on_destroy: list[Callable[[Entry, int, bool], None]] = []
        """Functions to call for each entry that ends, so that other subsystems can delete their
        objects with it.

        The arguments are the entry, the port id of the program that deleted it or 0, and whether
        that program requested an echo.
        """
        self.sockets: list[FakeSocket] = []
        self.lock = RLock()
        self.now = 0.0
        """The clock, in seconds; it changes only when a test advances it."""
        self._started_at = time.time_ns()
        self._retrying = False

    # -- the clock --------------------------------------------------------------------------

    @property
    def wall_clock(self) -> int:
        """The wall clock, in nanoseconds since 1970."""
        return self._started_at + round(self.now * 1e9)

    def expired(self, entry: Entry) -> bool:
        """Return whether the timeout of the entry has run out."""
        return entry.expires <= self.now

    def set_timeout(self, entry: Entry, seconds: int) -> None:
        """Let an entry expire in ``seconds``, limited to what the kernel's clock can count."""
        entry.expires = self.now + min(seconds, (2**31 - 1) / TICKS_PER_SECOND)

    def remove_expired(self) -> None:
        """Destroy the expired entries, as the kernel's garbage collection does at intervals."""
        for entry in self.table:
            if self.expired(entry):
                self.destroy(entry)

    # -- entries ----------------------------------------------------------------------------

    def find(self, tuple_: Tuple, zone: Zone) -> Entry | None:
        """Return the entry that has a tuple in this zone; destroy it instead if it has expired."""
        found = self.table.find(tuple_, zone)
        while found is not None and self.expired(found[0]):
            self.destroy(found[0])
            found = self.table.find(tuple_, zone)
        return None if found is None else found[0]

    @property
    def entries(self) -> int:
        """How many entries the kernel counts, which include the dying ones."""
        return len(self.table) + len(self.dying)

    def is_full(self) -> bool:
        """Return whether the table has ``nf_conntrack_max`` entries; 0 means no limit."""
        limit = self.sysctls["nf_conntrack_max"]
        return bool(limit) and self.entries >= limit

    def add_extensions(self, entry: Entry) -> None:
        """Give a new entry the extensions that the current settings turn on."""
        if self.sysctls["nf_conntrack_acct"]:
            entry.counters = (Count(), Count())
        if self.sysctls["nf_conntrack_timestamp"]:
            entry.start_time = 0
        entry.has_event_cache = self.new_entries_emit() or bool(self.event_mask)
        entry.event_mask = -1 if self.event_mask is None else self.event_mask
        if self.labels_used:
            entry.labels = 0
        if entry.protoinfo is None:
            entry.protoinfo = self._initial_protoinfo(entry.orig.proto)

    def _initial_protoinfo(self, proto: int) -> TCPInfo | SCTPInfo | DCCPInfo | None:
        if proto == TCP:
            no_flags = TCPFlags(0)
            return TCPInfo(
                state=0, wscale_orig=0, wscale_reply=0, flags_orig=no_flags, flags_reply=no_flags
            )
        if proto == 132:
            return SCTPInfo(state=0, vtag_orig=0, vtag_reply=0)
        if proto == 33 and self.release.has(releases.DCCP_TRACKED):
            return DCCPInfo(state=0, role=0, handshake_seq=0)
        return None

    def insert(self, entry: Entry) -> None:
        """Insert a new entry into the table."""
        if entry.start_time is not None:
            entry.start_time = self.wall_clock
        self.table.insert(entry)
        if entry.master is not None:
            entry.master.child_count += 1
        self.count_statistic("insert")

    def count_statistic(self, name: str) -> None:
        """Increment a statistic of processor 0, on which the fake kernel runs."""
        counters = self.cpu_counters[0]
        counters[name] = counters.get(name, 0) + 1

    def destroy(self, entry: Entry, port_id: int = 0, *, report: bool = False) -> None:
        """Remove an entry from the table, and emit its destroy event.

        :param entry: the entry.
        :param port_id: the port id of the program that deletes the entry; 0 is the kernel.
        :param report: whether that program requested an echo of its events.
        """
        self.table.remove(entry)
        entry.status |= Status.DYING
        if entry.start_time is not None:
            entry.stop_time = self.wall_clock
        if entry.master is not None:
            entry.master.child_count -= 1
        if not self.emit(entry, IPCT.DESTROY, port_id, report=report):
            entry.deleted_by = port_id
            self.dying.append(entry)
        for callback in self.on_destroy:
            callback(entry, port_id, report)

    def has_helper(self, name: str, family: int, proto: int) -> bool:
        """Return whether there is a helper with this name for the family and protocol."""
        key = (name, family, proto)
        return key in self.builtin_helpers or any(
            helper.key == key for helper in self.userspace_helpers
        )

    # -- events -----------------------------------------------------------------------------

    def new_entries_emit(self) -> bool:
        """Return whether an entry that is created now gets the event cache."""
        mode = self.sysctls["nf_conntrack_events"]
        if mode != 2 or not self.release.has(releases.EVENTS_AUTODETECT):
            return bool(mode)
        if self.listeners_in_other_namespaces and self.release.has(
            releases.MACHINE_WIDE_AUTODETECT
        ):
            return True
        return any(socket.groups & _CONNTRACK_GROUPS for socket in self.open_sockets())

    def emit(self, entry: Entry, what: IPCT, port_id: int = 0, *, report: bool = False) -> bool:
        """Emit an event of an entry, if the entry emits it.

        :param entry: the entry.
        :param what: what happened to it.
        :param port_id: the port id of the program that caused the event; 0 is the kernel.
        :param report: whether that program requested an echo of its events.
        :returns: whether each subscriber with ``NETLINK_BROADCAST_ERROR`` received the event. If
            not, it is sent with the next event of the entry.
        """
        if not entry.has_event_cache or not (what | IPCT(entry.missed_events)) & entry.event_mask:
            return True
        event = events.build_event(
            entry, what | IPCT(entry.missed_events), self.release, self.now, self.wall_clock
        )
        datagram = messages.pack(event.type, event.flags, 0, event.payload, port_id)
        delivered = self.broadcast(datagram, event.group, port_id, report=report)
        if not delivered:
            entry.missed_events |= what
        else:
            entry.missed_events = 0
        return delivered

    def broadcast(
        self, datagram: bytes, group: int, port_id: int = 0, *, report: bool = False
    ) -> bool:
        """Send an event to the subscribers of a multicast group.

        :param datagram: the event.
        :param group: the number of the multicast group.
        :param port_id: the port id of the program that caused the event; 0 is the kernel.
        :param report: send the event once to the socket with this port id, whether it subscribes
            or not (``nlmsg_notify``).
        :returns: whether each subscriber with ``NETLINK_BROADCAST_ERROR``, and the socket with
            ``report``, received the event.
        """
        delivered = True
        for socket in self.open_sockets():
            if report and socket.port_id == port_id:
                continue
            if group in socket.groups and not socket.send_event(datagram, group):
                delivered &= NETLINK_OPTION.BROADCAST_ERROR not in socket.options
        if report:
            for socket in self.open_sockets():
                if socket.port_id == port_id:
                    delivered &= socket.send_event(datagram, group)
        return delivered

    def retry_destroy_events(self) -> None:
        """Retry the destroy events of the dying entries, up to the first that is not delivered.

        The kernel does so at intervals (``ecache_work_evict_list``).
        """
        if self._retrying:
            return
        self._retrying = True
        try:
            while self.dying and self.emit(self.dying[0], IPCT.DESTROY, self.dying[0].deleted_by):
                self.dying.pop(0)
        finally:
            self._retrying = False

    # -- sockets ----------------------------------------------------------------------------

    def open_sockets(self) -> Iterator[FakeSocket]:
        """Yield the open sockets of the protocol NETLINK_NETFILTER."""
        for socket in self.sockets:
            if not socket.closed and socket.protocol == NETLINK.NETFILTER:
                yield socket
