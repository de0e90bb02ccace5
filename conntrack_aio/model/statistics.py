"""Counters of the kernel and of the library."""

from __future__ import annotations

import attrs

from ..uapi.nfnetlink_conntrack import CTA_STATS, CTA_STATS_EXP, CTA_STATS_GLOBAL
from .declare import attribute, message
from .wire import U32, Access


@message
class TableStatistics:
    """The size of the table: the reply to ``IPCTNL_MSG_CT_GET_STATS``."""

    entries: int | None = attribute(CTA_STATS_GLOBAL.ENTRIES, U32, default=None, access=Access.READ)
    """The number of entries in this network namespace, including those whose destroy event is yet
    to be delivered."""
    max_entries: int | None = attribute(
        CTA_STATS_GLOBAL.MAX_ENTRIES, U32, default=None, access=Access.READ
    )
    """The sysctl ``nf_conntrack_max``: the limit for each network namespace of the machine."""


@message
class CPUStatistics:
    """The counters of one processor in this network namespace, since the namespace was created.

    A counter that this kernel does not have is ``None``. All wrap at 2^32 (``ip_conntrack_stat``).
    """

    cpu: int = attrs.field()
    """The number of the processor. There is an object for each possible processor."""
    found: int | None = attribute(CTA_STATS.FOUND, U32, default=None, access=Access.READ)
    """The look-ups that found an entry."""
    invalid: int | None = attribute(CTA_STATS.INVALID, U32, default=None, access=Access.READ)
    """The packets that belong to no connection and may not open one."""
    insert: int | None = attribute(CTA_STATS.INSERT, U32, default=None, access=Access.READ)
    """The entries that programs inserted. Entries that packets create are not counted."""
    insert_failed: int | None = attribute(
        CTA_STATS.INSERT_FAILED, U32, default=None, access=Access.READ
    )
    """The entries that were not inserted, because another one with the same tuple was faster."""
    drop: int | None = attribute(CTA_STATS.DROP, U32, default=None, access=Access.READ)
    """The packets dropped because no entry could be created or inserted for them."""
    early_drop: int | None = attribute(CTA_STATS.EARLY_DROP, U32, default=None, access=Access.READ)
    """The entries that the kernel ended early because the table was full."""
    error: int | None = attribute(CTA_STATS.ERROR, U32, default=None, access=Access.READ)
    """The packets that could not be tracked, such as ICMP errors about an unknown connection."""
    search_restart: int | None = attribute(
        CTA_STATS.SEARCH_RESTART, U32, default=None, access=Access.READ
    )
    """The look-ups that were restarted because the table changed while they ran."""
    clash_resolve: int | None = attribute(
        CTA_STATS.CLASH_RESOLVE, U32, default=None, access=Access.READ, since="5.10"
    )
    """The packets of a new connection that raced on two processors, whose entries became one."""
    chain_toolong: int | None = attribute(
        CTA_STATS.CHAIN_TOOLONG, U32, default=None, access=Access.READ, since="5.15"
    )
    """The entries that were refused because too many others have the same hash."""
    ignore: int | None = attribute(
        CTA_STATS.IGNORE, U32, default=None, access=Access.READ, until="5.9"
    )
    """The packets that were already tracked, or that no tracker examines."""
    searched: int | None = attribute(CTA_STATS.SEARCHED, U32, default=None, access=Access.READ)
    """Not sent by any kernel since 4.19."""
    new: int | None = attribute(CTA_STATS.NEW, U32, default=None, access=Access.READ)
    """Not sent by any kernel since 4.19."""
    delete: int | None = attribute(CTA_STATS.DELETE, U32, default=None, access=Access.READ)
    """Not sent by any kernel since 4.19."""
    delete_list: int | None = attribute(
        CTA_STATS.DELETE_LIST, U32, default=None, access=Access.READ
    )
    """Not sent by any kernel since 4.19."""


@message
class ExpectCPUStatistics:
    """The counters of one processor for expectations in this network namespace, since its creation.

    All wrap at 2^32 (``ip_conntrack_stat``, written by ``ctnetlink_exp_stat_fill_info``).
    """

    cpu: int = attrs.field()
    """The number of the processor."""
    new: int | None = attribute(CTA_STATS_EXP.NEW, U32, default=None, access=Access.READ)
    """The connections that matched an expectation."""
    create: int | None = attribute(CTA_STATS_EXP.CREATE, U32, default=None, access=Access.READ)
    """The expectations that were created."""
    delete: int | None = attribute(CTA_STATS_EXP.DELETE, U32, default=None, access=Access.READ)
    """The expectations that ended, for whatever reason."""


@attrs.define(kw_only=True)
class ClientStatistics:
    """The counters of a connection since it was opened.

    Counters only grow. Gauges, which can also fall, are :attr:`layouts`, :attr:`waiting_bytes` and
    those whose names begin with ``open_``.
    """

    requests: int = 0
    """The requests that were sent. A create counts twice, because it reads the entry back."""
    requests_offloaded: int = 0
    """The requests that ran on a worker thread: because a table walk was in progress, or because
    the connection was opened with ``offload=True``."""
    stray_replies: int = 0
    """The replies to requests that were cancelled; they are dropped."""
    datagrams_received: int = 0
    """The datagrams received."""
    bytes_received: int = 0
    """The bytes received."""
    entries_decoded: int = 0
    """The flows, expectations and other objects decoded from dumps."""
    events_decoded: int = 0
    """The events decoded."""
    fallbacks: int = 0
    """The messages of dumps and event streams that no compiled layout fitted. They are decoded more
    slowly: the first message of a layout, and invalid messages."""
    layouts: int = 0
    """The compiled layouts that this process has at the moment, for all its connections: usually
    one or two dozen, and at most 256 for each type of message."""
    decode_errors: int = 0
    """The messages that could not be decoded."""
    forged: int = 0
    """The datagrams that another program sent to the event groups; they are dropped."""
    overruns: int = 0
    """The number of times that a socket's receive buffer was full."""
    events_lost: int = 0
    """The events that the kernel dropped because a receive buffer was full, by the sockets' own
    counters. They include those of a stream that was not read since. Events of a ``reliable``
    stream are not counted."""
    resyncs: int = 0
    """The number of times that a live table was compared with the kernel's after lost events."""
    waiting_bytes: int = 0
    """The bytes of events in the receive buffers of all open streams, in the kernel's
    accounting."""
    open_dumps: int = 0
    """The dumps that are open."""
    open_streams: int = 0
    """The event streams that are open."""
    open_bulk_operations: int = 0
    """The bulk operations that are open."""
    open_tables: int = 0
    """The live tables that are open."""


@attrs.define(kw_only=True)
class StreamStatistics:
    """The counters of one event stream since it was opened, and its queue sizes.

    Counters only grow. Gauges, which can also fall, are :attr:`waiting_bytes`, :attr:`queued` and
    :attr:`receive_buffer`. The connection's counters are the sums over all its streams.
    """

    datagrams_received: int = 0
    """The datagrams received, one for each event, without forged ones."""
    bytes_received: int = 0
    """The bytes received."""
    events_decoded: int = 0
    """The events decoded."""
    fallbacks: int = 0
    """The messages that no compiled layout fitted. They are decoded more slowly: the first message
    of a layout, and invalid messages."""
    decode_errors: int = 0
    """The messages that could not be decoded."""
    overruns: int = 0
    """The number of reads that found that the socket's receive buffer had been full."""
    events_lost: int = 0
    """The events that the kernel dropped because the receive buffer was full, by the socket's own
    counter. The number is current whether the stream is read or not; a later :exc:`EventsLost` for
    the same events adds nothing. The counter counts messages, so it includes dropped messages that
    other programs forged. For a ``reliable`` stream it stays 0, because the kernel also counts
    failed attempts to deliver. Kernels before 4.12 do not report it."""
    forged: int = 0
    """The datagrams that another program sent to the event groups; they are dropped."""
    waiting_bytes: int = 0
    """The bytes in the socket's receive buffer at the moment, in the kernel's accounting. 0 if the
    kernel does not report it (before 4.12), if the program may not ask, or if the stream is
    closed."""
    queued: int = 0
    """The events that were received and not yet returned, a few hundred at most: decoded and
    undecoded events, and errors."""
    receive_buffer: int = 0
    """The limit of :attr:`waiting_bytes`, in the same accounting; 0 if the stream is closed."""
