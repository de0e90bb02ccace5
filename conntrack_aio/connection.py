"""The connection: one object with a method for everything that can be done with flows."""

from __future__ import annotations

import builtins
import warnings
from collections.abc import AsyncIterable, Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Never, Self, TypeVar, Unpack, overload

from .closing import Closable
from .errors import EventsLost
from .eventloop import checkpoint
from .session import Session
from .trace.switch import arm as arm_trace

if TYPE_CHECKING:
    from .bulk.new_flow import NewFlow
    from .bulk.outcomes import BulkOperation
    from .codec.arrow import Addresses
    from .codec.arrow_table import ArrowTable
    from .codec.requests.targets import Target
    from .filters.match import Match
    from .model.client_statistics import ClientStatistics
    from .model.enums import EventType
    from .model.events import FlowEvent
    from .model.features import Features
    from .model.flow import Flow
    from .model.labels import Label, LabelNames
    from .model.nat import NATRange
    from .model.statistics import CPUStatistics, TableStatistics
    from .model.tuples import IPAddress
    from .model.update import FlowUpdate
    from .operations.bulk_writer import BulkWriter
    from .operations.expectations import Expectations
    from .operations.helpers import Helpers
    from .operations.probes import Probes
    from .operations.reader import Reader
    from .operations.resets import Resets
    from .operations.selector import Selector
    from .operations.single_flows import SingleFlows
    from .operations.statistics import StatisticsReader
    from .operations.sysctls import Sysctls
    from .operations.table_opener import TableOpener
    from .operations.timeouts import Timeouts
    from .streams.dump import Dump
    from .streams.events import EventStream
    from .streams.options import OnLoss
    from .table.flow_table import FlowTable

F = TypeVar("F", bound="Flow | NewFlow")
D = TypeVar("D", bound="Target")

arm_trace()


class Connection(Closable):
    """A connection to the connection tracking of one network namespace.

    :func:`connect` opens one. Any number of tasks may use it. Requests share one socket, and the
    kernel answers them in turn. Every dump, every event stream and every bulk operation has a
    socket of its own. A connection has no task group: exceptions of the ``async with`` body are not
    wrapped in an exception group, and one task may close what another opened.

    The **target** of a method is a :class:`Flow`, or the :class:`Tuple` of either direction:

    - A flow means its own entry: the one with the flow's id and, if the flow has a start time
      (``nf_conntrack_timestamp``), with that start time. The entry is looked up by the flow's
      original tuple and, if that finds another entry or none, by its reply tuple.
    - A tuple means whichever entry has it. It is looked up in its own zone, or in zone 0.

    If a method that writes is cancelled, the requests that it sent may or may not have been carried
    out. If it writes several entries, some of them may be written. If a method that reads is
    cancelled, nothing is lost. The connection can be used afterwards.

    Besides the errors that each method lists, every method that sends a request or opens a socket
    may raise:

    :raises KernelError: when the kernel refuses a request; the subclass says why.
    :raises DecodeError: when a reply cannot be decoded.
    :raises NoReply: when the kernel does not reply in time.
    :raises ResourceExhausted: when there are no file descriptors or threads left.
    :raises anyio.ClosedResourceError: when the connection is closed.
    :raises UsedElsewhere: when called in another process or event loop.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    # Few programs use all of the following, and their modules take long to import.

    @cached_property
    def _probes(self) -> Probes:
        from .operations.probes import Probes

        return Probes(self._session)

    @cached_property
    def _resets(self) -> Resets:
        from .operations.resets import Resets

        return Resets(self._session)

    @cached_property
    def _selector(self) -> Selector:
        from .operations.selector import Selector

        return Selector(self._session, self._probes)

    @cached_property
    def _reader(self) -> Reader:
        from .operations.reader import Reader

        return Reader(self._session, self._selector, self._resets)

    @cached_property
    def _single_flows(self) -> SingleFlows:
        from .operations.single_flows import SingleFlows

        return SingleFlows(self._session, lambda: self._probes)

    @cached_property
    def _statistics(self) -> StatisticsReader:
        from .operations.statistics import StatisticsReader

        return StatisticsReader(self._session)

    @cached_property
    def sysctls(self) -> Sysctls:
        """The settings of connection tracking in the namespace."""
        from .operations.sysctls import Sysctls

        return Sysctls(self._session)

    @cached_property
    def expectations(self) -> Expectations:
        """The connections that helpers expect."""
        from .operations.expectations import Expectations

        return Expectations(self._session)

    @cached_property
    def timeouts(self) -> Timeouts:
        """The timeout policies of the namespace, and its default timeouts."""
        from .operations.timeouts import Timeouts

        return Timeouts(self._session, self._probes)

    @cached_property
    def helpers(self) -> Helpers:
        """The user-space helpers of the machine, which all namespaces share."""
        from .operations.helpers import Helpers

        return Helpers(self._session, self._probes)

    @cached_property
    def _bulk_writer(self) -> BulkWriter:
        from .operations.bulk_writer import BulkWriter

        return BulkWriter(self._session, self._probes, self._selector)

    @cached_property
    def _table_opener(self) -> TableOpener:
        from .operations.table_opener import TableOpener

        return TableOpener(self._session, self._selector, self.sysctls)

    # -- opening and closing ------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._session.check_open()
        return self

    async def aclose(self) -> None:
        """Close the connection, with its dumps, streams, tables and bulk operations. Idempotent."""
        self.close()
        await checkpoint()

    def close(self) -> None:
        """Close as :meth:`aclose` does, without a checkpoint.

        Call it in the event loop's thread.
        """
        self._session.close()
        resets: Resets | None = self.__dict__.get("_resets")
        if resets is not None:
            resets.close()

    def __del__(self) -> None:
        session: Session | None = self.__dict__.get("_session")
        # An interrupt may have ended the constructor early.
        if session is not None and not session.closed:
            warnings.warn(
                "a conntrack_aio connection was never closed",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
            session.requester.close()

    # -- reading flows ------------------------------------------------------------------------

    def dump(self, match: Match | None = None, *, reset_counters: bool = False) -> Dump[Flow]:
        """Dump the table: return an async iterator over its flows, in constant memory.

        :param match: which flows to return, instead of all. The kernel filters by what it can, and
            the library checks the rest.
        :param reset_counters: set the counters of each flow to zero as it is read. Each packet is
            then counted exactly once, in a flow of such a dump or in the destroy event of the flow,
            unless another program resets counters, too. If iterating stops early, the flows that
            were reset and not returned are kept. The next dump of this connection that resets
            counters returns those that its match includes, before other flows. If a reply is lost,
            its counters are lost as well, and a :exc:`NoReply` is raised in its place.

        :raises TypeError: when ``match`` is not a :class:`Match`.

        For what iterating raises see :class:`Dump`.
        """
        return self._reader.dump(match, reset_counters=reset_counters)

    async def list(self, match: Match | None = None, *, reset_counters: bool = False) -> list[Flow]:
        """Dump the table, and return its flows as a list.

        Takes the parameters of :meth:`dump`, and raises what :meth:`dump` and iterating over it
        raise. If an error is raised, no flow is returned; flows whose counters were reset are kept
        for the next dump that resets counters.
        """
        return await self._reader.list(match, reset_counters=reset_counters)

    async def arrow(
        self, match: Match | None = None, *names: str, addresses: Addresses = "bytes"
    ) -> ArrowTable:
        """Dump the table, and return its flows as an Arrow table.

        Polars, DuckDB, pandas, pyarrow and others read it, without copying numbers. This needs the
        package nanoarrow: ``pip install nanoarrow``.

        :param match: which flows to return, instead of all.
        :param names: the names of the columns; by default all columns.
        :param addresses: ``"bytes"`` for 16 bytes each, IPv4 addresses as IPv4-mapped ones, or
            ``"text"``.
        :raises ModuleNotFoundError: when nanoarrow is not installed.
        :raises ValueError: when there is no column of a name, when one is named twice, or when
            ``addresses`` is another value.
        :raises TypeError: when ``match`` is not a :class:`Match`, or a name is not text.

        It also raises what iterating over a :class:`Dump` raises.
        """
        return await self._reader.arrow(match, names, addresses)

    def dying(self, match: Match | None = None) -> Dump[Flow]:
        """Dump the flows that have ended and that the kernel still keeps.

        Since Linux 5.19 these are the flows whose destroy event could not be delivered to a
        ``reliable`` stream and is retried. On older kernels they are also the flows that something
        in the kernel still refers to. :meth:`count` includes them. (Kernel function
        ``ctnetlink_dump_dying``.)

        :param match: which of these flows to return, instead of all.

        :raises TypeError: when ``match`` is not a :class:`Match`.

        For what iterating raises see :class:`Dump`.
        """
        return self._reader.dying(match)

    def unconfirmed(self, match: Match | None = None) -> Dump[Flow]:
        """Dump the flows whose first packet is still on its way through the kernel.

        The dump is always empty since Linux 5.19, which no longer has a list of these flows.
        (Kernel function ``ctnetlink_dump_unconfirmed``.)

        :param match: which of these flows to return, instead of all.

        :raises TypeError: when ``match`` is not a :class:`Match`.

        For what iterating raises see :class:`Dump`.
        """
        return self._reader.unconfirmed(match)

    async def get(
        self, target: Target, *, zone: int | None = None, reset_counters: bool = False
    ) -> Flow:
        """Return one flow as the kernel has it now.

        :param target: a :class:`Flow`, or the :class:`Tuple` of either direction. For a packet that
            was captured on the outer side of a source NAT, pass the packet's tuple if the packet
            was incoming: it is the reply tuple of the entry. If the packet was outgoing, pass the
            :attr:`Tuple.inverse` of its tuple.
        :param zone: the zone to look in, instead of the target's own.
        :param reset_counters: set the counters to zero as they are read. If the call is cancelled
            after the reset, or if the reset reached a newer entry with the same tuple, the next
            :meth:`dump` that resets counters returns the flow.

        :raises NotFound: when there is no such entry, or when ``target`` is a flow and another
            entry has its tuples by now.
        :raises EncodeError: when a tuple is incomplete, or when a field holds no valid value.
        :raises TypeError: when the target is neither a :class:`Flow` nor a :class:`Tuple`.
        """
        if reset_counters:
            return await self._resets.reset_one(target, zone)
        return await self._single_flows.get(target, zone)

    async def count(self, match: Match | None = None) -> int:
        """Return how many entries the namespace has.

        Without a match this is the kernel's own count. It includes entries that have ended and
        whose destroy event is still to be delivered.

        :param match: count only the flows that match. They are counted by a :meth:`dump`, which
            decodes them only if the kernel cannot apply the whole match.

        :raises DumpInterrupted: when the entries are dumped, and the kernel reports that the dump
            is not consistent.
        :raises TypeError: when ``match`` is not a :class:`Match`.
        """
        if match is None:
            return await self._statistics.count()
        return await self._reader.count(match)

    async def features(self) -> Features:
        """Return what this kernel supports beyond Linux 4.19.

        The library finds out by requests that change nothing, once for each connection. Other
        methods do so by themselves where they depend on it.

        :raises PermissionDenied: when the program has no CAP_NET_ADMIN.
        """
        return await self._probes.features()

    # -- events and the live table ------------------------------------------------------------

    @overload
    def events(
        self,
        *types: EventType,
        match: Match | None = None,
        receive_buffer: int | None = None,
        receive_buffer_max: int | None = None,
        all_netns: bool = False,
        on_loss: Literal["raise"] = "raise",
        reliable: bool = False,
        receive_time: bool = False,
    ) -> EventStream[FlowEvent]: ...

    @overload
    def events(
        self,
        *types: EventType,
        match: Match | None = None,
        receive_buffer: int | None = None,
        receive_buffer_max: int | None = None,
        all_netns: bool = False,
        on_loss: Literal["item"],
        reliable: bool = False,
        receive_time: bool = False,
    ) -> EventStream[FlowEvent | EventsLost]: ...

    def events(
        self,
        *types: EventType,
        match: Match | None = None,
        receive_buffer: int | None = None,
        receive_buffer_max: int | None = None,
        all_netns: bool = False,
        on_loss: OnLoss = "raise",
        reliable: bool = False,
        receive_time: bool = False,
    ) -> EventStream[FlowEvent] | EventStream[FlowEvent | EventsLost]:
        """Subscribe to events, and return them as an async iterator that does not end.

        The subscription is in effect when this method returns. So if you subscribe and then dump,
        you miss nothing. :attr:`EventStream.blind_spots` lists what the stream will not receive in
        this namespace and why. In particular, flows emit no events while ``nf_conntrack_events`` is
        0.

        :param types: the event types to receive, instead of all.
        :param match: the flows to receive events of. The kernel runs a program that drops other
            events before they are queued, so they cost neither time nor buffer. The library checks
            what the kernel cannot. The match is applied to what the event itself contains. Every
            event has the tuples, the zone and the id. A condition on the state, the helper or
            counters is false for an event without that field, and its negation is true. To select
            flows by fields that change, use :meth:`table`.
        :param receive_buffer: bytes of events that may wait, instead of the connection's setting.
        :param receive_buffer_max: bytes up to which the buffer may grow, instead of the
            connection's setting.
        :param all_netns: receive the events of every network namespace that has an id in the
            connection's own. ``ip netns set NAME auto`` assigns one, and the kernel assigns one for
            the peer of a veth. :attr:`FlowEvent.nsid` is the id, and :attr:`FlowEvent.netns` the
            name that ``ip netns`` has for it. The stream keeps none of the namespaces alive. Needs
            CAP_NET_BROADCAST. In Linux 5.19 to 6.5, set ``nf_conntrack_events`` to 1 in each
            namespace in which no program listens: otherwise its flows emit no events.
        :param on_loss: what to do where events are missing: ``"raise"`` raises :exc:`EventsLost`,
            and ``"item"`` returns it as an item.
        :param reliable: have the kernel retry each DESTROY event that does not fit into the
            receive buffer, first after a second and then every 10 ms, until it is delivered. Until
            then the flow is dying (see :meth:`dying`): it takes memory and counts against
            ``nf_conntrack_max``. Each event arrives once. **A reliable stream that is not read can
            fill the table**, so that no new connection is accepted. Closing the stream releases the
            flows. The kernel does not retry NEW and UPDATE events. Their loss is reported, but not
            how many were lost, because the socket's counter includes the failed tries:
            :attr:`EventsLost.lost` is ``None``, and ``events_lost`` in the statistics does not
            grow. A reliable stream of DESTROY events alone loses nothing and raises no
            :exc:`EventsLost`; only ``overruns`` in the statistics grows.
            (``NETLINK_BROADCAST_ERROR``, ``ecache_work``)
        :param receive_time: set :attr:`FlowEvent.receive_timestamp` of each event. All events of
            one read have the same time.

        :raises PermissionDenied: when the program has no CAP_NET_ADMIN or, with ``all_netns``, no
            CAP_NET_BROADCAST.
        :raises TypeError: when a parameter has the wrong type.
        :raises ValueError: when ``on_loss`` is neither ``"raise"`` nor ``"item"``, when a buffer
            size is out of range, or when ``receive_buffer_max`` is below the receive buffer.

        For what iterating raises see :class:`EventStream`.
        """
        from .streams.options import StreamOptions

        options = StreamOptions(
            receive_buffer=receive_buffer,
            receive_buffer_max=receive_buffer_max,
            all_netns=all_netns,
            on_loss=on_loss,
            reliable=reliable,
            receive_time=receive_time,
        )
        return self._reader.events(types, match, options)

    def table(
        self,
        match: Match | Callable[[Flow], bool] | None = None,
        *,
        reconcile: float | Literal["auto"] | None = "auto",
        enable_events: bool = False,
        receive_buffer: int | None = None,
        receive_buffer_max: int | None = None,
        reliable: bool = False,
    ) -> FlowTable:
        """Open a live table, which mirrors the kernel's: ``async with conn.table() as table:``.

        The table is correct from the start: it subscribes to events, dumps the kernel's table, and
        applies the events that arrived during the dump. After lost events it dumps again. It is
        closed with its connection. The program must keep its privileges for as long as the table is
        open, because each dump opens a socket.

        :param match: the flows to hold, instead of all. Either a :class:`Match`, which the kernel
            applies to dumps as far as it can, or a function that gets a flow and returns whether it
            matches. The function must not change the flow. It is called again whenever a flow
            changes. A flow that no longer matches is removed from the table. The kernel filters
            events only by fields that never change: the tuples, the zone and the id. Each update
            that passes this filter and does not match costs a request. Conditions on timeouts and
            counters are applied to what the last dump or event reported.
        :param reconcile: seconds between two reconciliations, see :class:`FlowTable`. They find the
            changes and ends of flows that emit no events; each takes about 8 µs per flow. With a
            number the table always reconciles. ``"auto"`` reconciles every 60 seconds, but only
            while some entries may be silent: because the sysctl ``nf_conntrack_events`` allows it
            and no event of them has been received, or because a reconciliation found a change that
            no event had reported (:attr:`FlowTable.mode`). ``None`` reconciles only after losses
            and on :meth:`FlowTable.reconcile`. Some rules select which events a flow emits:
            nftables' ``ct event set``, iptables' ``CT --ctevents``, and Open vSwitch, which does so
            for every flow. The table cannot see such rules. Where they are in use, give a number.
            Otherwise the table notices the end of such a flow only after its last reported timeout:
            within seconds, or within minutes with a million entries.
        :param enable_events: first set ``nf_conntrack_events`` to 1 in the namespace. Flows created
            from then on emit events, whether or not a program listens. The setting is not reset
            when the table is closed.
        :param receive_buffer: bytes of events that may wait, instead of the connection's setting.
        :param receive_buffer_max: bytes up to which the buffer may grow, instead of the
            connection's setting.
        :param reliable: have the kernel retry DESTROY events; see :meth:`events`.

        :raises TypeError: when a parameter has the wrong type.
        :raises ValueError: when ``reconcile`` is 0, negative or more than 366 days, when a buffer
            size is out of range, or when ``receive_buffer_max`` is below the receive buffer.

        For what entering the table raises see :meth:`FlowTable.__aenter__`.
        """
        from .streams.options import StreamOptions

        options = StreamOptions(
            receive_buffer=receive_buffer,
            receive_buffer_max=receive_buffer_max,
            reliable=reliable,
        )
        return self._table_opener.table(
            match, reconcile=reconcile, enable_events=enable_events, options=options
        )

    # -- writing one flow ---------------------------------------------------------------------

    async def create(
        self,
        flow: Flow,
        *,
        nat_src: NATRange | IPAddress | str | None = None,
        nat_dst: NATRange | IPAddress | str | None = None,
    ) -> Flow:
        """Create an entry, and return it as the kernel then has it, with its id.

        The flow needs a timeout. If a TCP flow has no state, it becomes ESTABLISHED, and both sides
        get BE_LIBERAL, because the kernel has no window data of them. The kernel accepts the status
        bits SEEN_REPLY, ASSURED, FIXED_TIMEOUT and HELPER, and sets the other bits itself. It
        limits a timeout to 2^31 of its ticks (8,589,934 seconds at 250 ticks a second). It drops
        labels if no rule of the namespace uses labels.

        :param flow: the flow. With ``nat_src`` or ``nat_dst``, its ``reply`` must be the inverse of
            its ``orig``; the kernel determines the translated reply.
        :param nat_src: translate the source to this address, or to one of this range.
        :param nat_dst: translate the destination to this address, or to one of this range.

        :raises AlreadyExists: when an entry has one of the flow's tuples, or when every address and
            port of a range is in use.
        :raises EncodeError: when a field holds no valid value, or when a translation is text that
            is not an address.
        :raises TypeError: when ``flow`` is not a :class:`Flow`, or when a translation is not an
            address or a range.
        :raises ResourceExhausted: when the table is full.
        :raises NotFound: when the flow's master does not exist, or when the entry was gone before
            it could be read back, as with a timeout of 0.
        :raises NotSupported: when this kernel does not have the helper or, for a translation, has
            no NAT.
        """
        return await self._single_flows.create(flow, nat_src=nat_src, nat_dst=nat_dst)

    async def update(
        self, target: Target, *, zone: int | None = None, **changes: Unpack[FlowUpdate]
    ) -> None:
        """Change the given fields of one entry, and no others.

        If the target is a flow with an id or a start time, or if ``status`` is given, the entry is
        looked up first. The kernel does not compare ids in updates: if another entry with the same
        tuple replaces the entry between the look-up and the update, that one is changed. The kernel
        applies the fields one after the other. If it refuses one, those before it stay changed.

        :param target: a :class:`Flow`, or the :class:`Tuple` of either direction.
        :param zone: the zone to look in, instead of the target's own.
        :param changes: what to change, by keyword. ``None`` leaves a field as it is; 0 sets it to
            zero.

            - ``mark``: the mark; with ``mark_mask`` only its bits in the mask. Before Linux 5.8 the
              mark is read first, so a change that another program makes to the other bits at the
              same time is lost.
            - ``timeout``: seconds from now.
            - ``status``: bits to set, of SEEN_REPLY, ASSURED, FIXED_TIMEOUT and HELPER. The kernel
              cannot clear a bit. Bits that are set already may be given.
            - ``labels``: 128 bits; with ``labels_mask`` only the bits in the mask.
            - ``protoinfo``: the state of the entry's own protocol.
            - ``helper``: ``Helper(name=..., info=...)`` sets the private data of the helper. The
              name must be that of the entry's helper, which cannot change. An empty name detaches
              the helper.
            - ``seqadj_orig``, ``seqadj_reply``: all three numbers, for an entry that has this
              extension: a program created it, or it has a helper or SYNPROXY.
            - ``synproxy``: all three numbers, for an entry that a program or SYNPROXY created.

        :raises NotFound: when there is no such entry.
        :raises EncodeError: when the update changes nothing, or when a value is not valid.
        :raises TypeError: when a keyword is unknown, or when the target is neither a :class:`Flow`
            nor a :class:`Tuple`.
        :raises ResourceExhausted: when the entry has no room for labels.
        :raises ResourceBusy: when ``helper`` names another helper than the entry has, or when
            ``status`` is given and packets changed the entry's status during each of five attempts.
        :raises NotSupported: when the entry has no room for ``seqadj_orig``, ``seqadj_reply`` or
            ``synproxy``, which the kernel would ignore silently.
        :raises PermissionDenied: when ``timeout`` is given and the entry has FIXED_TIMEOUT.
        """
        await self._single_flows.update(target, changes, zone=zone)

    async def delete(self, target: Target, *, zone: int | None = None) -> None:
        """Delete one entry.

        If the target is a flow with a start time, its entry is looked up first and the start times
        are compared. If it has only an id, the kernel compares the ids. **Without start times**
        (``nf_conntrack_timestamp``), an entry that was created again at once with the same tuple
        mostly has the same id, and is deleted instead.

        :param target: a :class:`Flow`, or the :class:`Tuple` of either direction.
        :param zone: the zone to look in, instead of the target's own.

        :raises NotFound: when there is no such entry, or no longer.
        :raises EncodeError: when a tuple is incomplete, or when a field holds no valid value.
        :raises TypeError: when the target is neither a :class:`Flow` nor a :class:`Tuple`.
        """
        await self._single_flows.delete(target, zone=zone)

    async def flush(self, *refused: Never, **also_refused: Never) -> None:
        """Delete every entry of the namespace. To delete some, use :meth:`delete_matching`.

        :raises TypeError: when any argument is given.
        """
        if refused or also_refused:
            raise TypeError(
                "flush() takes no argument, for it deletes every entry; delete_matching(match) "
                "deletes those that match"
            )
        await self._single_flows.flush()

    # -- labels -------------------------------------------------------------------------------

    @property
    def label_names(self) -> LabelNames:
        """The names of labels: those of this machine's ``connlabel.conf``, or what was assigned.

        The file is read at first use. Reading the property raises what :meth:`LabelNames.read`
        raises, and assigning anything but :class:`LabelNames` raises :exc:`TypeError`.
        """
        return self._single_flows.label_names

    @label_names.setter
    def label_names(self, names: LabelNames) -> None:
        self._single_flows.label_names = names

    async def set_labels(self, target: Target, *labels: Label, zone: int | None = None) -> None:
        """Set the labels of an entry to these, and clear all others.

        :param target: a :class:`Flow`, or the :class:`Tuple` of either direction.
        :param labels: bit numbers or names of labels; without any, all labels are cleared. A number
            as text, such as ``"5"``, is a bit number. Names are those of :attr:`label_names`.
        :param zone: the zone to look in, instead of the target's own.

        :raises EncodeError: when a label is unknown.
        :raises ResourceExhausted: when the entry has no room for labels (ENOSPC): it was created
            before a rule of the namespace used labels.

        Raises what :meth:`update` raises, too.
        """
        await self._single_flows.set_labels(target, labels, zone)

    async def add_labels(self, target: Target, *labels: Label, zone: int | None = None) -> None:
        """Set these labels of an entry, and leave its other labels as they are.

        Takes the parameters of :meth:`set_labels` and raises what it raises.
        """
        await self._single_flows.add_labels(target, labels, zone)

    async def remove_labels(self, target: Target, *labels: Label, zone: int | None = None) -> None:
        """Clear these labels of an entry, and leave its other labels as they are.

        Takes the parameters of :meth:`set_labels` and raises what it raises. It is not an error if
        the entry does not have a label, or has no room for labels.
        """
        await self._single_flows.remove_labels(target, labels, zone)

    # -- writing many flows -------------------------------------------------------------------

    def create_many(
        self,
        flows: Iterable[F] | AsyncIterable[F],
        *,
        nat_src: NATRange | IPAddress | str | None = None,
        nat_dst: NATRange | IPAddress | str | None = None,
        stop_on_error: bool = False,
    ) -> BulkOperation[F]:
        """Create many entries, as :meth:`create` does, but without reading them back.

        The kernel creates a related flow only if its master exists. Within a window of 256 items a
        flow may precede its master; :func:`masters_first` orders any number of flows.

        :param flows: an iterable or async iterable. A :class:`Flow` is created with ``nat_src`` and
            ``nat_dst``, a :class:`NewFlow` with its own translation.
        :param nat_src: translate the source to this address, or to one of this range.
        :param nat_dst: translate the destination to this address, or to one of this range.
        :param stop_on_error: stop at the first error. Sending stops at an item that cannot be
            encoded, and after the window of 256 items in which the kernel refused one. All items
            that were sent have their outcomes.
        :returns: the outcomes in the order of the items: iterate over them, or await them as a
            list. An outcome's error is one that :meth:`create` raises; an item that cannot be
            encoded has an :exc:`EncodeError`.

        :raises TypeError: when ``flows`` is not iterable, or when a translation is not an address
            or a range.
        :raises ValueError: when a translation is text that is not an address.
        """
        return self._bulk_writer.create_many(
            flows, nat_src=nat_src, nat_dst=nat_dst, stop_on_error=stop_on_error
        )

    def update_many(
        self,
        targets: Iterable[D] | AsyncIterable[D],
        *,
        zone: int | None = None,
        stop_on_error: bool = False,
        **changes: Unpack[FlowUpdate],
    ) -> BulkOperation[D]:
        """Change the same fields of many entries, as :meth:`update` does.

        If :meth:`update` would look the entries up first, as for a flow with an id or for a status,
        a window of 256 entries is looked up and then changed. So an entry of an async iterable may
        be changed only after the iterable has yielded further items. To change the flows of a
        stream of events at once, call :meth:`update` for each, or give tuples.

        :param targets: an iterable or async iterable of flows and tuples.
        :param zone: the zone to look in, instead of each target's own.
        :param stop_on_error: send nothing more after an outcome with an error; see
            :meth:`create_many`.
        :param changes: what to change, by the keywords of :meth:`update`.
        :returns: the outcomes in the order of the items. An outcome's error is one that
            :meth:`update` raises.

        :raises EncodeError: when the update changes nothing, or when a value is not valid.
        :raises TypeError: when ``targets`` is not iterable, or when a keyword is unknown.
        """
        return self._bulk_writer.update_many(
            targets, changes, zone=zone, stop_on_error=stop_on_error
        )

    def delete_many(
        self,
        targets: Iterable[D] | AsyncIterable[D],
        *,
        zone: int | None = None,
        stop_on_error: bool = False,
    ) -> BulkOperation[D]:
        """Delete many entries, as :meth:`delete` does.

        Flows with a start time are looked up first, a window at a time. For another target one
        request is sent. If it finds nothing and the target is a flow with an id, further requests
        are sent until one finds the entry: with its reply tuple and, if a tuple has a zone of its
        own, with the tuple in that zone.

        :param targets: an iterable or async iterable of flows and tuples.
        :param zone: the zone to look in, instead of each target's own.
        :param stop_on_error: send nothing more after an outcome with an error; see
            :meth:`create_many`.
        :returns: the outcomes in the order of the items. An outcome's error is one that
            :meth:`delete` raises: :exc:`NotFound` for an entry that has ended, and
            :exc:`EncodeError` for an item that is not a target.

        :raises TypeError: when ``targets`` is not iterable.
        """
        return self._bulk_writer.delete_many(targets, zone=zone, stop_on_error=stop_on_error)

    async def delete_matching(self, match: Match) -> int:
        """Delete the flows that match, and return how many there were.

        The table is dumped. Each flow is checked and then deleted by tuple, zone, id and, if it has
        one, start time. A flow that ended in the meantime does not count.

        **An entry may change between the dump and its deletion**: an entry that matched when it was
        read is deleted even if its mark or state has changed since. And without start times
        (``nf_conntrack_timestamp``) an entry that was created again at once, with the same tuple,
        cannot be distinguished from the one that was read.

        Since Linux 6.12, if the match has no IPv6 addresses, sets or ranges and the kernel applies
        all of it, the flows are counted and then deleted by one request. The returned number is
        then the count just before.

        :param match: the flows to delete.

        :raises UnsafeRequest: when the match is always true; use :meth:`flush` instead.
        :raises EncodeError: when the kernel reports a flow so incompletely that it cannot be
            identified.
        :raises DumpInterrupted: when the kernel reports that the dump is not consistent.
        :raises TypeError: when ``match`` is not a :class:`Match`.

        After an error the flows before it may be deleted, and some flows after it, too.
        """
        return await self._bulk_writer.delete_matching(match)

    async def update_matching(self, match: Match, **changes: Unpack[FlowUpdate]) -> int:
        """Change the same fields of each flow that matches, and return how many there were.

        The table is dumped. Each flow is checked and then changed by tuple, zone, id and, if it has
        one, start time. A flow that ended in the meantime does not count. A flow that has changed
        since it was read is changed all the same.

        :param match: the flows to change.
        :param changes: what to change, by the keywords of :meth:`update`.

        :raises EncodeError: when the update changes nothing, or when a value is not valid.
        :raises DumpInterrupted: when the kernel reports that the dump is not consistent.
        :raises TypeError: when ``match`` is not a :class:`Match`, or when a keyword is unknown.


        Raises what :meth:`update` raises for the first flow that cannot be changed. Flows before it
        are changed; some flows after it may be changed, too.
        """
        return await self._bulk_writer.update_matching(match, changes)

    # -- statistics ---------------------------------------------------------------------------

    async def table_statistics(self) -> TableStatistics:
        """Return how many entries the namespace has, and how many a namespace may have."""
        return await self._statistics.of_table()

    async def cpu_statistics(self) -> builtins.list[CPUStatistics]:
        """Return what each processor has counted, with an object for each possible processor."""
        return await self._statistics.of_cpus()

    def client_statistics(self) -> ClientStatistics:
        """Return what this connection has counted so far, and how many objects it has open."""
        return self._session.statistics()
