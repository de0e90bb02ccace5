"""Counters: the kernel's, and the library's own."""

from __future__ import annotations

import attrs

from ..uapi.nfnetlink_conntrack import CTA_STATS, CTA_STATS_EXP, CTA_STATS_GLOBAL
from .declare import U32, Access, attribute, message


@message
class TableStatistics:
    """How full the table is: the answer to ``IPCTNL_MSG_CT_GET_STATS``."""

    entries: int | None = attribute(CTA_STATS_GLOBAL.ENTRIES, U32, default=None, access=Access.READ)
    """Entries of this namespace, with those whose destroy event still waits to be delivered."""
    max_entries: int | None = attribute(
        CTA_STATS_GLOBAL.MAX_ENTRIES, U32, default=None, access=Access.READ
    )
    """``nf_conntrack_max``, which holds for each namespace of the machine."""


@message
class CPUStatistics:
    """What one processor has counted in this namespace since it was made (``ip_conntrack_stat``).

    A counter that this kernel does not have is ``None``. All wrap at 2^32.
    """

    cpu: int = attrs.field()
    """The processor's number. There is an object for each that the machine could have."""
    found: int | None = attribute(CTA_STATS.FOUND, U32, default=None, access=Access.READ)
    """Look-ups that found an entry."""
    invalid: int | None = attribute(CTA_STATS.INVALID, U32, default=None, access=Access.READ)
    """Packets that belong to no connection and may not begin one."""
    insert: int | None = attribute(CTA_STATS.INSERT, U32, default=None, access=Access.READ)
    """Entries put into the table by programs; those that packets make are not counted."""
    insert_failed: int | None = attribute(
        CTA_STATS.INSERT_FAILED, U32, default=None, access=Access.READ
    )
    """Entries that were not, because another with the same tuple came first."""
    drop: int | None = attribute(CTA_STATS.DROP, U32, default=None, access=Access.READ)
    """Packets dropped because no entry could be made for them, or put into the table."""
    early_drop: int | None = attribute(CTA_STATS.EARLY_DROP, U32, default=None, access=Access.READ)
    """Entries ended before their time, to make room."""
    error: int | None = attribute(CTA_STATS.ERROR, U32, default=None, access=Access.READ)
    """Packets that could not be tracked, such as ICMP errors about no known connection."""
    search_restart: int | None = attribute(
        CTA_STATS.SEARCH_RESTART, U32, default=None, access=Access.READ
    )
    """Look-ups begun anew, because the table changed under them."""
    clash_resolve: int | None = attribute(
        CTA_STATS.CLASH_RESOLVE, U32, default=None, access=Access.READ, since="5.10"
    )
    """Packets of one new connection on two processors, whose two entries became one."""
    chain_toolong: int | None = attribute(
        CTA_STATS.CHAIN_TOOLONG, U32, default=None, access=Access.READ, since="5.15"
    )
    """Entries refused because too many others have their hash."""
    ignore: int | None = attribute(
        CTA_STATS.IGNORE, U32, default=None, access=Access.READ, until="5.9"
    )
    """Packets that were tracked already, or that no tracker looks at."""
    searched: int | None = attribute(CTA_STATS.SEARCHED, U32, default=None, access=Access.READ)
    """No kernel since 4.19 tells it, nor the next three."""
    new: int | None = attribute(CTA_STATS.NEW, U32, default=None, access=Access.READ)
    delete: int | None = attribute(CTA_STATS.DELETE, U32, default=None, access=Access.READ)
    delete_list: int | None = attribute(
        CTA_STATS.DELETE_LIST, U32, default=None, access=Access.READ
    )


@message
class ExpectCPUStatistics:
    """What one processor has done with this namespace's expectations since it was made.

    All wrap at 2^32 (``ip_conntrack_stat``, written by ``ctnetlink_exp_stat_fill_info``).
    """

    cpu: int = attrs.field()
    """The processor's number."""
    new: int | None = attribute(CTA_STATS_EXP.NEW, U32, default=None, access=Access.READ)
    """Connections that met one."""
    create: int | None = attribute(CTA_STATS_EXP.CREATE, U32, default=None, access=Access.READ)
    """Expectations made."""
    delete: int | None = attribute(CTA_STATS_EXP.DELETE, U32, default=None, access=Access.READ)
    """Expectations that ended, whatever by."""


@attrs.define(kw_only=True)
class ClientStatistics:
    """What a connection has done so far.

    All but ``layouts``, ``waiting_bytes`` and the four ``open_`` counts only grow.
    """

    requests: int = 0
    """Requests sent, each create counting as two (it reads the entry back)."""
    requests_offloaded: int = 0
    """Those of them that ran on a worker thread, because a table walk was under way."""
    stray_replies: int = 0
    """Answers to requests whose caller had been cancelled, dropped."""
    datagrams_received: int = 0
    bytes_received: int = 0
    entries_decoded: int = 0
    """Of dumps: flows, expectations and the rest."""
    events_decoded: int = 0
    fallbacks: int = 0
    """Messages of dumps and streams that no compiled layout fitted, read the slow way: the first
    of their kind, and bad ones."""
    layouts: int = 0
    """Compiled layouts that this process has at the moment, for all its connections: a dozen or
    two, and never more than 256 for a kind of message, whatever comes."""
    decode_errors: int = 0
    forged: int = 0
    """Datagrams that another program sent into the event groups, dropped."""
    overruns: int = 0
    """Times that a socket's buffer was full."""
    events_lost: int = 0
    """Events that the kernel dropped for that, by the sockets' own counters: also those of a
    stream that nobody has read since. None of a ``reliable`` stream are counted."""
    resyncs: int = 0
    """Times that a live table was compared with the kernel's because events had been lost."""
    waiting_bytes: int = 0
    """Of events, in the receive buffers of all open streams, in the kernel's accounting."""
    open_dumps: int = 0
    open_streams: int = 0
    open_bulks: int = 0
    open_tables: int = 0


@attrs.define(kw_only=True)
class StreamStatistics:
    """What one event stream has done so far, and how full it is.

    All but the last three only grow. Those of a connection have the sums of all its streams.
    """

    datagrams_received: int = 0
    """One for each event, forged ones left out."""
    bytes_received: int = 0
    events_decoded: int = 0
    fallbacks: int = 0
    """Messages that no compiled layout fitted, read the slow way: the first of their kind, and bad
    ones."""
    decode_errors: int = 0
    overruns: int = 0
    """Times that a read found that the socket's buffer had been full."""
    events_lost: int = 0
    """Events that the kernel dropped for that, by the socket's own counter: at once, whether the
    stream is read or not. An :exc:`EventsLost` that tells of them later adds nothing. The counter
    is of messages: where others forge events, those of them that were dropped are in it. Of a
    ``reliable`` stream none are counted: its counter has failed tries too. Kernels before 4.12 do
    not tell."""
    forged: int = 0
    """Datagrams that another program sent into the event groups, dropped."""
    waiting_bytes: int = 0
    """What lies in the socket's receive buffer at this moment, in the kernel's accounting; 0 where
    the kernel does not tell (before 4.12) or may not be asked, and of a stream that is closed."""
    queued: int = 0
    """Events that were received and not handed out yet, some hundreds at most: those that are
    decoded, those that are not, and the errors among them."""
    receive_buffer: int = 0
    """What :attr:`waiting_bytes` may grow to, in the same accounting; 0 of a stream that is
    closed."""
