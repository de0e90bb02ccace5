"""Provide :class:`FakeKernel`, the fake kernel that tests use."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import reduce
from types import MappingProxyType
from typing import Final

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
from ..netlink.netns import NetNS
from ..socket_factory import SocketFactory
from ..streams.buffer_sizes import DEFAULT_RECEIVE_BUFFER
from ..uapi.netlink import NETLINK_OPTION, NLM_F
from ..uapi.nfnetlink import NFNL_SUBSYS, NFNLGRP
from ..uapi.nfnetlink_conntrack import IPCTNL_MSG_CT
from . import faults, packets, render
from .endpoint import FakeSocketFactory, socket_factory_override
from .events import IPCT
from .faults import DelayedReply, Faults, When
from .protocol import Receiver
from .received import ReceivedRequest
from .releases import Release
from .sockets import FakeSocket
from .state import State, Unavailable
from .subsystems import subsystems_of
from .table import Entry

RequestCallback = Callable[[FakeSocket, ReceivedRequest], bool]
"""A function that gets each request before the kernel.

It returns ``True`` if it has handled the request, and ``False`` to let the kernel handle it.
"""

_EVENTS: Final = {
    EventType.NEW: (NFNLGRP.CONNTRACK_NEW, IPCTNL_MSG_CT.NEW, NLM_F.CREATE | NLM_F.EXCL),
    EventType.UPDATE: (NFNLGRP.CONNTRACK_UPDATE, IPCTNL_MSG_CT.NEW, NLM_F(0)),
    EventType.DESTROY: (NFNLGRP.CONNTRACK_DESTROY, IPCTNL_MSG_CT.DELETE, NLM_F(0)),
}
_EVENT_NAMES: Final = {bit: str(bit.name).lower() for bit in IPCT}
_NO_KERNELS: Final[Mapping[str | os.PathLike[str] | NetNS, FakeKernel]] = MappingProxyType({})


class FakeKernel:
    """A kernel with a conntrack table, in the process of the test.

    It has one network namespace. Its clock changes only when a test calls :meth:`advance`. See
    :mod:`conntrack_aio.testing` for an introduction.

    :param release: the kernel release to imitate, from ``"4.19"`` on: ``"5.15"``, ``"6.18"``. A
        release without a patch level means the newest patch level of its series.
    :param flows: the flows in the table at first. They are created before any socket subscribes
        to events. With the sysctl ``nf_conntrack_events`` at 2, the default of new kernels, they
        never emit an event.
    :param sysctls: the settings that differ from the kernel's defaults.
    :param without: what the program or the kernel does not have, from :data:`.Unavailable`:
        ``"CAP_NET_ADMIN"``, ``"ctnetlink"``, …
    :param on_request: a function that gets each request before the kernel, and may handle it.

    :raises TypeError: when ``release`` is not a string.
    :raises ValueError: when the release, a setting or a name in ``without`` is unknown, and when
        :meth:`add` refuses a flow.
    """

    release: str
    """The kernel release that it imitates."""
    sysctls: dict[str, int]
    """The settings, which a test may change. Those below ``net.netfilter.`` have their last name
    (``"nf_conntrack_acct"``), the others their full name (``"net.core.rmem_max"``)."""
    sockets: list[FakeSocket]
    """The sockets that the program has opened, in order, including the closed ones."""
    requests: list[ReceivedRequest]
    """The requests that the kernel has received, in order."""
    requested_namespaces: list[NetNS | None]
    """The ``netns`` of each call of :func:`conntrack_aio.connect` inside :meth:`installed`."""
    on_request: RequestCallback | None
    """The function that gets each request before the kernel."""
    cpu_counters: list[dict[str, int]]
    """The statistics of each processor, by names such as ``"insert_failed"``."""
    timeout_policies: list[TimeoutPolicy]
    """The timeout policies of the namespace, which a test may change.

    The kernel completes the policies that a test adds: timeouts that are ``None`` get the default
    timeouts, and ``use`` becomes 1. A ``use`` above 1 means that rules refer to the policy.
    """
    builtin_helpers: set[tuple[str, int, int]]
    """The helpers inside the kernel, by name, family and protocol. At first there are all helpers
    that Linux has."""
    helpers: list[UserspaceHelper]
    """The user-space helpers."""
    helpers_in_use: set[tuple[str, int, int]]
    """The keys of the user-space helpers that rules refer to, which cannot be deleted."""

    def __init__(
        self,
        release: str = "6.18",
        *,
        flows: Iterable[Flow] = (),
        sysctls: Mapping[str, int] = MappingProxyType({}),
        without: Collection[Unavailable] = (),
        on_request: RequestCallback | None = None,
    ) -> None:
        self.release = release
        self._state = State(Release.parse(release), without)
        self.sysctls = self._state.sysctls
        for name, value in sysctls.items():
            if name not in self.sysctls and "." not in name:
                raise ValueError(
                    f"Linux {release} has no setting net.netfilter.{name}; expected a name such "
                    "as nf_conntrack_acct"
                )
            self.sysctls[name] = value
        self.sockets = self._state.sockets
        self.cpu_counters = self._state.cpu_counters
        self.timeout_policies = self._state.timeout_policies
        self.builtin_helpers = self._state.builtin_helpers
        self.helpers = self._state.userspace_helpers
        self.helpers_in_use = self._state.helpers_in_use
        self.requests = []
        self.requested_namespaces = []
        self.on_request = on_request
        self._faults = Faults()
        self._receiver = Receiver(self._state, subsystems_of(self._state), self._intercept)
        self._socket_factory = FakeSocketFactory(self._state, self._receiver)
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
        """Connect to this kernel, with the parameters of :func:`conntrack_aio.connect`."""
        with socket_factory_override(lambda netns: self._socket_factory):
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
        """Let :func:`conntrack_aio.connect` connect to this kernel inside the context.

        The replacement is in a context variable: it holds in the calling task, and in the tasks
        that this task starts inside the context. So enter the context where the program starts.

        :param namespaces: other kernels to connect to for some values of ``netns=``. All other
            values connect to this kernel. :attr:`requested_namespaces` lists all of them.
        """
        others = {NetNS(name): kernel for name, kernel in namespaces.items()}

        def endpoint(netns: NetNS | None) -> SocketFactory:
            self.requested_namespaces.append(netns)
            kernel = self if netns is None else others.get(netns, self)
            return kernel._socket_factory

        with socket_factory_override(endpoint):
            yield self

    # -- the table --------------------------------------------------------------------------

    @property
    def flows(self) -> list[Flow]:
        """The flows in the table, as a dump returns them and in that order."""
        with self._state.lock:
            return [
                self._as_flow(entry)
                for entry in self._state.table
                if not self._state.expired(entry)
            ]

    @property
    def dying(self) -> list[Flow]:
        """The flows that have ended and whose destroy event is not delivered yet to a socket with
        ``NETLINK_BROADCAST_ERROR``."""
        with self._state.lock:
            return [self._as_flow(entry) for entry in self._state.dying]

    @property
    def labels_used(self) -> bool:
        """Whether a rule of the namespace uses labels. Only flows that are created while a rule
        uses labels can have them."""
        return self._state.labels_used

    @labels_used.setter
    def labels_used(self, value: bool) -> None:
        self._state.labels_used = value

    @property
    def event_mask(self) -> frozenset[str] | None:
        """The events that a rule selects for new flows, or ``None`` without such a rule.

        nftables' ``ct event set`` and iptables' ``CT --ctevents`` are such rules. The names are
        those of nftables: new, related, destroy, reply, assured, protoinfo, helper, mark, seqadj,
        secmark, label and synproxy. Messages do not show which events the rule leaves out.

        :raises ValueError: when it is set to an unknown name.
        """
        mask = self._state.event_mask
        return None if mask is None else frozenset(_EVENT_NAMES[bit] for bit in IPCT(mask))

    @event_mask.setter
    def event_mask(self, names: Collection[str] | None) -> None:
        if names is None:
            self._state.event_mask = None
            return
        unknown = sorted({*names} - {*_EVENT_NAMES.values()})
        if unknown:
            raise ValueError(
                f"unknown events {unknown}; expected any of {', '.join(_EVENT_NAMES.values())}"
            )
        bits = [bit for bit, name in _EVENT_NAMES.items() if name in names]
        self._state.event_mask = int(reduce(IPCT.__or__, bits, IPCT(0)))

    @property
    def listeners_in_other_namespaces(self) -> bool:
        """Whether programs in other namespaces of the machine subscribe to conntrack events.

        Since Linux 6.6 these count as subscribers for ``nf_conntrack_events`` at 2.
        """
        return self._state.listeners_in_other_namespaces

    @listeners_in_other_namespaces.setter
    def listeners_in_other_namespaces(self, value: bool) -> None:
        self._state.listeners_in_other_namespaces = value

    def add(self, flow: Flow) -> Flow:
        """Add a flow to the table, as its first packet does, and emit a NEW event.

        :param flow: the flow. If it has no timeout, the entry gets 600 seconds. If it has no
            status, the entry gets the status that fits its tuples. If it has an ``id``, the entry
            keeps it.
        :returns: the flow as the table has it.

        :raises ValueError: when an entry has one of the tuples, no entry has the tuple of the
            master, or the protocol state is of another protocol.
        :raises EncodeError: when a field holds no valid value.
        """
        with self._state.lock:
            return self._as_flow(packets.add(self._state, flow))

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
        """Change a flow, as a packet or a rule does, and emit an UPDATE event.

        The event has the fields that changed. As in the kernel, a change of the timeout or of the
        counters alone emits no event. Parameters that are ``None`` change nothing.

        :param target: a flow of this table, or the tuple of either direction.
        :param status: the new status, which replaces the old one.
        :param protoinfo: the new protocol state; its fields that are ``None`` stay unchanged.
        :param mark: the new mark.
        :param timeout: the new timeout, in seconds from now.
        :param labels: the new labels, as a bit mask.
        :param helper: the new helper.
        :param counters_orig: the new counters of the original direction.
        :param counters_reply: the new counters of the reply direction.
        :param seqadj_orig: the new sequence adjustment of the original direction.
        :param seqadj_reply: the new sequence adjustment of the reply direction.
        :param synproxy: the new state of the SYN proxy.
        :returns: the flow as the table has it now.

        :raises LookupError: when the table has no such flow.
        :raises ValueError: when the protocol state is of another protocol.
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
        changes = {name: value for name, value in values.items() if value is not None}
        with self._state.lock:
            entry = packets.find(self._state, target)
            packets.change(self._state, entry, changes)
            return self._as_flow(entry)

    def remove(self, target: Flow | Tuple) -> None:
        """Remove a flow from the table, and emit a DESTROY event.

        :param target: a flow of this table, or the tuple of either direction.

        :raises LookupError: when the table has no such flow.
        """
        with self._state.lock:
            self._state.destroy(packets.find(self._state, target))

    def advance(self, seconds: float) -> None:
        """Advance the clock, and end the flows whose timeout runs out with DESTROY events.

        :param seconds: how far to advance the clock.

        :raises ValueError: when ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError(f"seconds must not be negative; got {seconds}")
        with self._state.lock:
            self._state.now += seconds
            self._state.remove_expired()
            self._state.retry_destroy_events()

    # -- events -----------------------------------------------------------------------------

    def emit(
        self,
        event: FlowEvent | bytes,
        *,
        group: int | None = None,
        sender: int = 0,
        nsid: int | None = None,
    ) -> None:
        """Send an event to the subscribers, regardless of the table.

        :param event: an event of the model, or the bytes of a datagram.
        :param group: the multicast group of a datagram, see
            :class:`~conntrack_aio.uapi.nfnetlink.NFNLGRP`.
        :param sender: the port id of the sender. 0 is the kernel; any other port id is that of a
            program that forges events.
        :param nsid: the id of another network namespace that the event comes from. Only streams of
            all namespaces receive it, and they cannot find the name of the namespace.

        :raises ValueError: when the event is a datagram and no group is given.
        :raises EncodeError: when the event holds no valid value.
        """
        if isinstance(event, FlowEvent):
            group, message, flags = _EVENTS[event.type]
            payload = nfnetlink.pack(event.flow.orig.family) + encode(event)
            type_ = nfnetlink.message_type(NFNL_SUBSYS.CTNETLINK, message)
            datagram = messages.pack(type_, int(flags), 0, payload, event.port_id)
        else:
            datagram = event
        if group is None:
            raise ValueError("a datagram needs the multicast group to send it to; pass group=")
        with self._state.lock:
            for socket in self._state.open_sockets():
                all_namespaces = NETLINK_OPTION.LISTEN_ALL_NSID in socket.options
                if group in socket.groups and (nsid is None or all_namespaces):
                    socket.send_event(datagram, group, sender, nsid)

    def overrun(self, lost: int = 1) -> None:
        """Drop events of every event stream; see :meth:`FakeSocket.overrun`.

        :param lost: the number of events that each stream loses.
        """
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
        """Refuse the next requests with an errno.

        If several faults are pending, a request gets the first one that is for it.

        :param code: the errno.
        :param when: the :attr:`ReceivedRequest.verb` of the requests to refuse, or a function that
            returns ``True`` for them. By default every request is refused.
        :param detail: the text of the extended acknowledgement.
        :param offset: bytes from the start of the request to the offending attribute.
        :param times: how many requests to refuse.

        :raises ValueError: when ``times`` is less than 1.
        """
        self._faults.add(when, times, faults.refusal(code, detail, offset))

    def leave_unanswered(self, when: When = None, *, execute: bool = False, times: int = 1) -> None:
        """Send no reply to the next requests.

        :param when: which requests, as in :meth:`refuse`.
        :param execute: whether to execute these requests.
        :param times: how many requests to leave unanswered.

        :raises ValueError: when ``times`` is less than 1.
        """
        self._faults.add(when, times, faults.no_reply(execute))

    def garble(self, when: When = None, *, times: int = 1) -> None:
        """Answer the next requests with a datagram that is not netlink, without executing them.

        :param when: which requests, as in :meth:`refuse`.
        :param times: how many requests to answer so.

        :raises ValueError: when ``times`` is less than 1.
        """
        self._faults.add(when, times, faults.garbage())

    def delay(self, when: When = None) -> DelayedReply:
        """Execute the next request, and hold its reply until :meth:`DelayedReply.release`.

        :param when: which request, as in :meth:`refuse`.
        """
        delayed = DelayedReply()
        self._faults.add(when, 1, faults.delay(delayed))
        return delayed

    def _intercept(self, socket: FakeSocket, request: ReceivedRequest) -> bool:
        """Record a request; return whether a fault or ``on_request`` has handled it."""
        self.requests.append(request)
        if self.on_request is not None and self.on_request(socket, request):
            return True
        with self._state.lock:
            fault = self._faults.take(request)
        if fault is None:
            return False
        fault(socket, request, self._receiver)
        return True

    def _as_flow(self, entry: Entry) -> Flow:
        """Return the flow that a dump has for an entry."""
        state = self._state
        use = 1 + entry.child_count
        parts = render.entry_attributes(entry, state.release, state.now, use, reset_counters=False)
        data = b"".join(parts)
        return decode(Flow, data, 0, len(data))

    def __repr__(self) -> str:
        return f"<FakeKernel {self.release}, {len(self._state.table)} flows>"
