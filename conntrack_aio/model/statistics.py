"""Counters: the kernel's, and the library's own."""

from __future__ import annotations

import attrs

from ..uapi.nfnetlink_conntrack import CTA_STATS_GLOBAL
from .declare import U32, attribute, message


@message
class GlobalStatistics:
    """The answer to ``IPCTNL_MSG_CT_GET_STATS``."""

    entries: int | None = attribute(CTA_STATS_GLOBAL.ENTRIES, U32, default=None)
    """Entries of this namespace, with those whose destroy event still waits to be delivered."""
    max_entries: int | None = attribute(CTA_STATS_GLOBAL.MAX_ENTRIES, U32, default=None)
    """``nf_conntrack_max`` (since 5.10): machine-wide."""


@attrs.define(kw_only=True)
class ConnectionStatistics:
    """What a connection has done so far. All but the two ``open_`` counts only grow."""

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
    decode_errors: int = 0
    forged: int = 0
    """Datagrams that another program sent into the event groups, dropped."""
    overruns: int = 0
    """Times that a socket's buffer was full."""
    events_lost: int = 0
    """Events that the kernel dropped for that, as far as it tells."""
    open_dumps: int = 0
    open_streams: int = 0
