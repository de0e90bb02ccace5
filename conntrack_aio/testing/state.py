"""What the kernel knows: one network namespace of it, its table, settings, sockets and clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from socket import AF_INET, AF_INET6
from threading import RLock
from typing import Final, Literal, get_args

from ..model.enums import Status, TCPFlags
from ..model.helpers import UserspaceHelper
from ..model.protoinfo import DCCPInfo, SCTPInfo, TCPInfo
from ..model.timeouts import TimeoutPolicy
from ..model.tuples import TCP, Tuple
from ..netlink import messages
from ..uapi.netlink import NETLINK, NETLINK_OPTION
from . import ages, events
from .ages import Release
from .events import IPCT
from .settings import default_sysctls
from .sockets import FakeSocket
from .table import Count, Entry, Table
from .tuples import Zone

Lack = Literal[
    "CAP_NET_ADMIN",
    "initial CAP_NET_ADMIN",
    "ctnetlink",
    "ctnetlink_timeout",
    "cthelper",
    "nat",
]
"""What a kernel, or the program's rights, can lack.

Without ``CAP_NET_ADMIN`` everything is refused with EPERM; without that in the initial user
namespace, as in a container, receive buffers beyond ``net.core.rmem_max`` and user-space helpers
are. A subsystem that is absent answers EINVAL, and without ``nat`` no entry can be made with a
translation.
"""

TICKS: Final = 250
"""Of the clock a second (``CONFIG_HZ``): a timeout is cut to 2^31 of them."""

_CONNTRACK_GROUPS: Final = frozenset(range(1, 7))
_V4, _V6 = frozenset({AF_INET}), frozenset({AF_INET, AF_INET6})
_HELPERS: Final[Mapping[str, tuple[frozenset[int], frozenset[int]]]] = {
    "ftp": (_V6, frozenset({6})),
    "irc": (_V4, frozenset({6})),
    "sip": (_V6, frozenset({6, 17})),
    "tftp": (_V6, frozenset({17})),
    "amanda": (_V6, frozenset({17})),
    "netbios-ns": (_V4, frozenset({17})),
    "sane": (_V6, frozenset({6})),
    "RAS": (_V6, frozenset({17})),
    "Q.931": (_V6, frozenset({6})),
    "H.245": (_V6, frozenset({17})),
    "pptp": (_V4, frozenset({6})),
    "snmp": (_V4, frozenset({17})),
    "snmp_trap": (_V4, frozenset({17})),
}
"""The helpers of a kernel with all its modules, by name: families and protocols."""


def check_lacks(lacks: Collection[str]) -> frozenset[str]:
    """Raises :exc:`ValueError` for a word that is no :data:`Lack`."""
    unknown = set(lacks) - set(get_args(Lack))
    if unknown:
        raise ValueError(f"{sorted(unknown)} can't be missing; {get_args(Lack)} can")
    return frozenset(lacks)


class State:
    """A network namespace, and what of the kernel is one for all of them."""

    def __init__(self, release: Release, lacks: Collection[str]) -> None:
        self.release = release
        self.lacks = check_lacks(lacks)
        self.sysctls = default_sysctls(release)
        self.table = Table(hashed_ids=release.has(ages.HASHED_IDS))
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
        """The events that a rule chooses for the entries that are made; without one, all."""
        self.listeners_elsewhere = False
        self.cpu_counters: list[dict[str, int]] = [{}, {}]
        self.dying: list[Entry] = []
        """Those whose destroy event could not be delivered yet."""
        self.on_destroy: list[Callable[[Entry, int, bool], None]] = []
        """Called for each entry that goes, with the port of who did it and whether it is to be
        reported to them: other subsystems' objects go with their masters."""
        self.sockets: list[FakeSocket] = []
        self.lock = RLock()
        self.now = 0.0
        """The clock: it stands still unless it is moved."""
        self._born = time.time_ns()
        self._redelivering = False

    # -- the clock --------------------------------------------------------------------------

    @property
    def wall_clock(self) -> int:
        """Nanoseconds since 1970."""
        return self._born + round(self.now * 1e9)

    def expired(self, entry: Entry) -> bool:
        return entry.expires <= self.now

    def set_timeout(self, entry: Entry, seconds: int) -> None:
        """Seconds from now, cut to what the kernel's clock can count."""
        entry.expires = self.now + min(seconds, (2**31 - 1) / TICKS)

    def collect(self) -> None:
        """Let the expired entries go, as the kernel's own collection does in time."""
        for entry in self.table:
            if self.expired(entry):
                self.destroy(entry)

    # -- entries ----------------------------------------------------------------------------

    def find(self, tuple_: Tuple, zone: Zone) -> Entry | None:
        """The entry that a request means; one that has expired is let go instead."""
        found = self.table.find(tuple_, zone)
        while found is not None and self.expired(found[0]):
            self.destroy(found[0])
            found = self.table.find(tuple_, zone)
        return None if found is None else found[0]

    @property
    def entries(self) -> int:
        """How many the kernel counts: those that are dying too."""
        return len(self.table) + len(self.dying)

    def is_full(self) -> bool:
        most = self.sysctls["nf_conntrack_max"]
        return bool(most) and self.entries >= most

    def extend(self, entry: Entry) -> None:
        """Give a new entry what the settings of this moment say that it gets."""
        if self.sysctls["nf_conntrack_acct"]:
            entry.counters = (Count(), Count())
        if self.sysctls["nf_conntrack_timestamp"]:
            entry.started = 0
        entry.emits = self.would_emit() or bool(self.event_mask)
        entry.mask = -1 if self.event_mask is None else self.event_mask
        if self.labels_used:
            entry.labels = 0
        if entry.protoinfo is None:
            entry.protoinfo = self._initial_protoinfo(entry.orig.proto)

    def _initial_protoinfo(self, proto: int) -> TCPInfo | SCTPInfo | DCCPInfo | None:
        if proto == TCP:
            none = TCPFlags(0)
            return TCPInfo(
                state=0, wscale_orig=0, wscale_reply=0, flags_orig=none, flags_reply=none
            )
        if proto == 132:
            return SCTPInfo(state=0, vtag_orig=0, vtag_reply=0)
        if proto == 33 and self.release.has(ages.DCCP_TRACKED):
            return DCCPInfo(state=0, role=0, handshake_seq=0)
        return None

    def insert(self, entry: Entry) -> None:
        if entry.started is not None:
            entry.started = self.wall_clock
        self.table.insert(entry)
        if entry.master is not None:
            entry.master.children += 1
        self.note("insert")

    def note(self, name: str) -> None:
        """One more of the statistics of the processor that does all the work here."""
        counters = self.cpu_counters[0]
        counters[name] = counters.get(name, 0) + 1

    def destroy(self, entry: Entry, port: int = 0, *, report: bool = False) -> None:
        """Take an entry out of the table, and tell."""
        self.table.remove(entry)
        entry.status |= Status.DYING
        if entry.started is not None:
            entry.stopped = self.wall_clock
        if entry.master is not None:
            entry.master.children -= 1
        if not self.tell(entry, IPCT.DESTROY, port, report=report):
            entry.writer = port
            self.dying.append(entry)
        for callback in self.on_destroy:
            callback(entry, port, report)

    def has_helper(self, name: str, family: int, proto: int) -> bool:
        """Whether a flow of that family and protocol can have this helper."""
        key = (name, family, proto)
        return key in self.builtin_helpers or key in (each.key for each in self.userspace_helpers)

    # -- events -----------------------------------------------------------------------------

    def would_emit(self) -> bool:
        """Whether an entry that is made now will ever emit an event."""
        mode = self.sysctls["nf_conntrack_events"]
        if mode != 2 or not self.release.has(ages.EVENTS_AUTODETECT):
            return bool(mode)
        if self.listeners_elsewhere and self.release.has(ages.MACHINE_WIDE_AUTODETECT):
            return True
        return any(socket.groups & _CONNTRACK_GROUPS for socket in self.open_sockets())

    def tell(self, entry: Entry, what: IPCT, port: int = 0, *, report: bool = False) -> bool:
        """Emit what happened to an entry, if it is one that emits.

        Whether everybody who insists on it (``NETLINK_BROADCAST_ERROR``) has it; if not, it goes
        with the entry's next event.
        """
        if not entry.emits or not (what | IPCT(entry.missed)) & entry.mask:
            return True
        notice = events.compose(
            entry, what | IPCT(entry.missed), self.release, self.now, self.wall_clock
        )
        datagram = messages.pack(notice.type, notice.flags, 0, notice.payload, port)
        told = self.notify(datagram, notice.group, port, report=report)
        if not told:
            entry.missed |= what
        else:
            entry.missed = 0
        return told

    def notify(self, datagram: bytes, group: int, port: int = 0, *, report: bool = False) -> bool:
        """Send an event to a group. ``report`` sends it to the port alone, and others as well."""
        told = True
        for socket in self.open_sockets():
            if report and socket.port_id == port:
                continue
            if group in socket.groups and not socket.send_event(datagram, group):
                told &= NETLINK_OPTION.BROADCAST_ERROR not in socket.options
        if report:
            for socket in self.open_sockets():
                if socket.port_id == port:
                    told &= socket.send_event(datagram, group)
        return told

    def redeliver(self) -> None:
        """Try again to tell of the entries that are dying, up to the first that finds no room.

        (The kernel does so at intervals: ``ecache_work_evict_list``.)
        """
        if self._redelivering:
            return
        self._redelivering = True
        try:
            while self.dying and self.tell(self.dying[0], IPCT.DESTROY, self.dying[0].writer):
                self.dying.pop(0)
        finally:
            self._redelivering = False

    # -- sockets ----------------------------------------------------------------------------

    def open_sockets(self) -> Iterator[FakeSocket]:
        """Those of netfilter's protocol that are open."""
        for socket in self.sockets:
            if not socket.closed and socket.protocol == NETLINK.NETFILTER:
                yield socket
