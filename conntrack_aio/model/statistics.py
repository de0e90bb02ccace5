"""The counters of the kernel."""

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
