"""The fake kernel as a test holds it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import reduce
from types import MappingProxyType
from typing import Final, TypeVar

from ..codec.reference import decode, encode
from ..connecting import Connecting, connect
from ..model.enums import EventType, Status
from ..model.events import FlowEvent
from ..model.flow import Counters, Flow, Helper, SeqAdj, SynProxy
from ..model.helpers import UserspaceHelper
from ..model.protoinfo import ProtoInfo
from ..model.timeouts import TimeoutPolicy
from ..model.tuples import Tuple
from ..netlink import messages, nfnetlink
from ..netlink.endpoint import Endpoint, endpoint_for
from ..netlink.namespaces import NetNS
from ..netlink.socket import NetlinkSocket
from ..proc_sys import SysctlTree
from ..streams.subscription import DEFAULT_RECEIVE_BUFFER
from ..uapi.netlink import NETLINK, NETLINK_OPTION, NLM_F, SOL_NETLINK
from ..uapi.nfnetlink import NFNL_SUBSYS, NFNLGRP
from ..uapi.nfnetlink_conntrack import IPCTNL_MSG_CT
from . import faults, packets, render
from .ages import Release
from .asked import Asked
from .events import IPCT
from .faults import Delayed, Faults, When
from .protocol import Receiver
from .settings import Tree
from .sockets import FakeSocket
from .state import Lack, State
from .subsystems import subsystems_of
from .table import Entry

T = TypeVar("T")

Script = Callable[[FakeSocket, Asked], bool]
"""Gets each request first. ``True`` says that it has seen to the answer by hand; else the kernel
goes about the request as usual."""

_EVENTS: Final = {
    EventType.NEW: (NFNLGRP.CONNTRACK_NEW, IPCTNL_MSG_CT.NEW, NLM_F.CREATE | NLM_F.EXCL),
    EventType.UPDATE: (NFNLGRP.CONNTRACK_UPDATE, IPCTNL_MSG_CT.NEW, NLM_F(0)),
    EventType.DESTROY: (NFNLGRP.CONNTRACK_DESTROY, IPCTNL_MSG_CT.DELETE, NLM_F(0)),
}
_NAMES_OF_EVENTS: Final = {bit: str(bit.name).lower() for bit in IPCT}
_NO_KERNELS: Final[Mapping[str | os.PathLike[str] | NetNS, FakeKernel]] = MappingProxyType({})


class FakeKernel:
    """A kernel with a connection tracking table, in this process; see :mod:`conntrack_aio.testing`.

    It is one network namespace. Its clock stands still, until :meth:`advance` moves it.

    :param release: the version it behaves as, from ``"4.19"`` on: ``"5.15"``, ``"6.18"``. Where
        stable series differ by patch level, one without is the newest.
    :param flows: the table at first, made before anybody listened: with the setting
        ``nf_conntrack_events`` at 2, which is the kernel's default, they never emit an event.
    :param sysctls: settings that differ from the kernel's defaults.
    :param without: what it lacks, of :data:`.Lack`: ``"CAP_NET_ADMIN"``, ``"ctnetlink"``, …
    :param script: a function that gets each request first, and may answer by hand.

    Raises :exc:`ValueError` for a release, a setting, a lack or a flow that can't be.
    """

    release: str
    """The version that it behaves as."""
    sysctls: dict[str, int]
    """The settings, below ``net.netfilter.`` by their last name (``"nf_conntrack_acct"``), others
    by their full one (``"net.core.rmem_max"``). To be changed at will."""
    sockets: list[FakeSocket]
    """The sockets that the program has opened, the first one first, the closed ones too."""
    asked: list[Asked]
    """The requests that it got, in order."""
    namespaces: list[NetNS | None]
    """What :func:`conntrack_aio.connect` was given as ``netns`` while this was installed."""
    script: Script | None
    """The function that gets each request first, if there is one."""
    cpu_counters: list[dict[str, int]]
    """The statistics of each processor, by names like ``"insert_failed"``."""
    timeout_policies: list[TimeoutPolicy]
    """The namespace's timeout policies. To be changed at will: ``use`` is 1, and 1 more for each
    rule that has the policy; the timeouts that are ``None`` become the defaults."""
    builtin_helpers: set[tuple[str, int, int]]
    """The helpers inside the kernel: name, family and protocol. At first, all that there are."""
    helpers: list[UserspaceHelper]
    """The user-space helpers."""
    helpers_in_use: set[tuple[str, int, int]]
    """Those of them that a rule gives to connections, by their keys: they can't be deleted."""

    def __init__(
        self,
        release: str = "6.18",
        *,
        flows: Iterable[Flow] = (),
        sysctls: Mapping[str, int] = MappingProxyType({}),
        without: Collection[Lack] = (),
        script: Script | None = None,
    ) -> None:
        self.release = release
        self._state = State(Release.parse(release), without)
        self.sysctls = self._state.sysctls
        for name, value in sysctls.items():
            if name not in self.sysctls and "." not in name:
                raise ValueError(f"Linux {release} has no setting net.netfilter.{name}")
            self.sysctls[name] = value
        self.sockets = self._state.sockets
        self.cpu_counters = self._state.cpu_counters
        self.timeout_policies = self._state.timeout_policies
        self.builtin_helpers = self._state.builtin_helpers
        self.helpers = self._state.userspace_helpers
        self.helpers_in_use = self._state.helpers_in_use
        self.asked = []
        self.namespaces = []
        self.script = script
        self._faults = Faults()
        self._receiver = Receiver(self._state, subsystems_of(self._state), self._intercept)
        self._endpoint = _Endpoint(self._state, self._receiver)
        for flow in flows:
            self.add(flow)

    # -- connecting -------------------------------------------------------------------------

    def connect(
        self,
        *,
        receive_buffer: int = DEFAULT_RECEIVE_BUFFER,
        receive_buffer_max: int | None = None,
        offload: bool = False,
        reply_timeout: float = 5.0,
    ) -> Connecting:
        """As :func:`conntrack_aio.connect`, to this kernel."""
        with _override(lambda netns: self._endpoint):
            return connect(
                receive_buffer=receive_buffer,
                receive_buffer_max=receive_buffer_max,
                offload=offload,
                reply_timeout=reply_timeout,
            )

    @contextmanager
    def installed(
        self, namespaces: Mapping[str | os.PathLike[str] | NetNS, FakeKernel] = _NO_KERNELS
    ) -> Generator[FakeKernel]:
        """Inside, :func:`conntrack_aio.connect` connects to this kernel.

        That holds for the calling task and for those that it starts inside (it is a context
        variable), so enter it where the program is started.

        :param namespaces: other kernels for some values of ``netns=``. Whatever other namespace
            the program names is this kernel as well; :attr:`namespaces` has them all.
        """
        others = {NetNS.of(name): kernel for name, kernel in namespaces.items()}

        def endpoint(netns: NetNS | None) -> Endpoint:
            self.namespaces.append(netns)
            kernel = self if netns is None else others.get(netns, self)
            return kernel._endpoint

        with _override(endpoint):
            yield self

    # -- the table --------------------------------------------------------------------------

    @property
    def flows(self) -> list[Flow]:
        """The table as a dump tells it: what is in it, and in that order."""
        with self._state.lock:
            return [self._told(e) for e in self._state.table if not self._state.expired(e)]

    @property
    def dying(self) -> list[Flow]:
        """Flows that have ended, and whose destroy event has found no room yet in a socket that
        insists on it (``NETLINK_BROADCAST_ERROR``)."""
        with self._state.lock:
            return [self._told(entry) for entry in self._state.dying]

    @property
    def labels_used(self) -> bool:
        """Whether a rule of the namespace uses labels: only flows made then have room for them."""
        return self._state.labels_used

    @labels_used.setter
    def labels_used(self, value: bool) -> None:
        self._state.labels_used = value

    @property
    def event_mask(self) -> frozenset[str] | None:
        """The events that a rule chooses for the flows that are made from now on, as nftables'
        ``ct event set`` and iptables' ``CT --ctevents`` do; ``None`` without such a rule.

        They have nftables' names: new, related, destroy, reply, assured, protoinfo, helper, mark,
        seqadj, secmark, label and synproxy. Nothing in a message shows that others are left out.
        Raises :exc:`ValueError` for another name.
        """
        mask = self._state.event_mask
        return None if mask is None else frozenset(_NAMES_OF_EVENTS[bit] for bit in IPCT(mask))

    @event_mask.setter
    def event_mask(self, names: Collection[str] | None) -> None:
        if names is None:
            self._state.event_mask = None
            return
        unknown = sorted({*names} - {*_NAMES_OF_EVENTS.values()})
        if unknown:
            raise ValueError(f"{unknown} are no events; {[*_NAMES_OF_EVENTS.values()]} are")
        bits = [bit for bit, name in _NAMES_OF_EVENTS.items() if name in names]
        self._state.event_mask = int(reduce(IPCT.__or__, bits, IPCT(0)))

    @property
    def listeners_elsewhere(self) -> bool:
        """Whether programs in other namespaces of the machine listen to events.

        That counts for ``nf_conntrack_events`` at 2 from Linux 6.6 on.
        """
        return self._state.listeners_elsewhere

    @listeners_elsewhere.setter
    def listeners_elsewhere(self, value: bool) -> None:
        self._state.listeners_elsewhere = value

    def add(self, flow: Flow) -> Flow:
        """A flow that begins, as by its first packet; as the table then has it.

        A NEW event tells of it. Without a timeout it gets 600 seconds, without a status the one
        that fits its tuples. An ``id`` that is given is kept.

        Raises :exc:`ValueError` if an entry has one of its tuples, or its master is none.
        """
        with self._state.lock:
            return self._told(packets.add(self._state, flow))

    def change(
        self,
        target: Flow | Tuple,
        *,
        status: Status | None = None,
        protoinfo: ProtoInfo | None = None,
        mark: int | None = None,
        timeout: int | None = None,
        labels: int | None = None,
        helper: Helper | None = None,
        counters_orig: Counters | None = None,
        counters_reply: Counters | None = None,
        seqadj_orig: SeqAdj | None = None,
        seqadj_reply: SeqAdj | None = None,
        synproxy: SynProxy | None = None,
    ) -> Flow:
        """Something happens to a flow, as by a packet or a rule; as the table then has it.

        An UPDATE event tells what changed, and that alone, and nothing of the timeout and of the
        counters. ``status`` replaces what the flow had, ``timeout`` is in seconds from now, and of
        ``protoinfo`` what is ``None`` stays.

        :param target: a flow of this table, or the tuple of either direction.

        Raises :exc:`LookupError` if there is none.
        """
        values: dict[str, object] = {
            "status": status,
            "protoinfo": protoinfo,
            "mark": mark,
            "timeout": timeout,
            "labels": labels,
            "helper": helper,
            "counters_orig": counters_orig,
            "counters_reply": counters_reply,
            "seqadj_orig": seqadj_orig,
            "seqadj_reply": seqadj_reply,
            "synproxy": synproxy,
        }
        given = {name: value for name, value in values.items() if value is not None}
        with self._state.lock:
            entry = packets.find(self._state, target)
            packets.change(self._state, entry, given)
            return self._told(entry)

    def remove(self, target: Flow | Tuple) -> None:
        """A flow ends. A DESTROY event tells of it.

        Raises :exc:`LookupError` if there is none.
        """
        with self._state.lock:
            self._state.destroy(packets.find(self._state, target))

    def advance(self, seconds: float) -> None:
        """Let time pass. Flows whose timeout runs out are gone, and DESTROY events tell of them.

        Raises :exc:`ValueError` for less than nothing.
        """
        if seconds < 0:
            raise ValueError(f"time does not go back by {-seconds} seconds")
        with self._state.lock:
            self._state.now += seconds
            self._state.collect()
            self._state.redeliver()

    # -- events by hand ---------------------------------------------------------------------

    def emit(
        self,
        event: FlowEvent | bytes,
        *,
        group: int | None = None,
        sender: int = 0,
        nsid: int | None = None,
    ) -> None:
        """Send an event, whatever the table says.

        :param event: an event of the model, or a datagram as it is.
        :param group: the multicast group, for a datagram
            (:class:`~conntrack_aio.uapi.nfnetlink.NFNLGRP`).
        :param sender: the port of the program that sends it; 0 is the kernel, anything else a
            forger.
        :param nsid: the id of another namespace that it comes from: only streams of all
            namespaces hear it. Nothing here tells the name of such a namespace.

        Raises :exc:`ValueError` for a datagram without a group, and :exc:`EncodeError`.
        """
        if isinstance(event, FlowEvent):
            group, message, flags = _EVENTS[event.type]
            payload = nfnetlink.pack(event.flow.orig.family) + encode(event)
            kind = nfnetlink.message_type(NFNL_SUBSYS.CTNETLINK, message)
            datagram = messages.pack(kind, int(flags), 0, payload, event.port_id)
        else:
            datagram = event
        if group is None:
            raise ValueError("a datagram goes to a group")
        with self._state.lock:
            for socket in self._state.open_sockets():
                everywhere = NETLINK_OPTION.LISTEN_ALL_NSID in socket.options
                if group in socket.groups and (nsid is None or everywhere):
                    socket.send_event(datagram, group, sender, nsid)

    def overrun(self, lost: int = 1) -> None:
        """Have every event socket lose so many events; see :meth:`FakeSocket.overrun`."""
        with self._state.lock:
            for socket in self._state.open_sockets():
                if socket.groups:
                    socket.overrun(lost)

    # -- faults -----------------------------------------------------------------------------

    def refuse(
        self,
        code: int,
        when: When = None,
        *,
        detail: str | None = None,
        offset: int | None = None,
        times: int = 1,
    ) -> None:
        """Refuse the next request, or the next ones, with an errno.

        Faults that wait are met in the order in which they were asked for.

        :param when: only requests of this verb (:attr:`Asked.verb`), or of which a function is
            true.
        :param detail: the kernel's words, in an extended acknowledgement.
        :param offset: where in the request the offending attribute stands.
        """
        self._faults.add(when, times, faults.refusal(code, detail, offset))

    def ignore(self, when: When = None, *, carried_out: bool = False, times: int = 1) -> None:
        """Leave the next request unanswered, as :meth:`refuse` chooses it; carry it out or not."""
        self._faults.add(when, times, faults.silence(carried_out))

    def garble(self, when: When = None, *, times: int = 1) -> None:
        """Answer the next request with what is not netlink, and don't carry it out."""
        self._faults.add(when, times, faults.garbage())

    def delay(self, when: When = None) -> Delayed:
        """Carry the next request out, and keep its answer back until :meth:`Delayed.release`."""
        delayed = Delayed()
        self._faults.add(when, 1, faults.delay(delayed))
        return delayed

    def _intercept(self, socket: FakeSocket, asked: Asked) -> bool:
        self.asked.append(asked)
        if self.script is not None and self.script(socket, asked):
            return True
        with self._state.lock:
            fault = self._faults.take(asked)
        if fault is None:
            return False
        fault(socket, asked, self._receiver)
        return True

    def _told(self, entry: Entry) -> Flow:
        state = self._state
        use = 1 + entry.children
        parts = render.information(entry, state.release, state.now, use, zero=False)
        data = b"".join(parts)
        return decode(Flow, data, 0, len(data))

    def __repr__(self) -> str:
        return f"<FakeKernel {self.release}, {len(self._state.table)} flows>"


@contextmanager
def _override(endpoint: Callable[[NetNS | None], Endpoint]) -> Generator[None]:
    """Not by a token: a fixture may be left in another context than it was entered in."""
    before = endpoint_for.get()
    endpoint_for.set(endpoint)
    try:
        yield
    finally:
        endpoint_for.set(before)


class _Endpoint:
    """Where a connection's sockets come from, and its settings."""

    def __init__(self, state: State, receiver: Receiver) -> None:
        self._state = state
        self._home = _Home(state, receiver)
        self.sysctls: SysctlTree = Tree(state.sysctls, lambda: state.entries, state.release)

    def open_first(self) -> NetlinkSocket:
        return self.open()

    def open(
        self, receive_buffer: int | None = None, protocol: int = NETLINK.NETFILTER
    ) -> NetlinkSocket:
        with self._state.lock:
            taken = len(self._state.sockets)
            # The first port of a process is its id, further ones are large numbers.
            port = os.getpid() if not taken else 0xFFFFF000 - taken
            raw = FakeSocket(port, self._home, protocol)
            for option in (NETLINK_OPTION.CAP_ACK, NETLINK_OPTION.EXT_ACK):
                raw.setsockopt(SOL_NETLINK, option, 1)
            opened = NetlinkSocket(raw)
            if receive_buffer is not None:
                opened.grow(receive_buffer)
            self._state.sockets.append(raw)
        return opened

    def beside(self, first: NetlinkSocket, function: Callable[[], T]) -> T:
        return function()


class _Home:
    """What the sockets ask of the kernel."""

    def __init__(self, state: State, receiver: Receiver) -> None:
        self._state = state
        self._receiver = receiver
        self.lock = state.lock

    @property
    def largest_buffer(self) -> int:
        return self._state.sysctls["net.core.rmem_max"]

    @property
    def option_memory(self) -> int:
        return self._state.sysctls["net.core.optmem_max"]

    def receive(self, socket: FakeSocket, data: bytes) -> None:
        self._receiver.receive(socket, data)

    def was_read(self, socket: FakeSocket) -> None:
        if self._state.dying:
            self._state.redeliver()

    def check_join(self, group: int) -> None:
        if "CAP_NET_ADMIN" in self._state.lacks:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def check_force(self) -> None:
        if self._state.lacks & {"CAP_NET_ADMIN", "initial CAP_NET_ADMIN"}:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
