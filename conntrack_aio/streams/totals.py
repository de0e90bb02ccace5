"""The counters of a connection, which are sums over its dumps, streams and other parts."""

from __future__ import annotations


class Totals:
    """Counters with the names that :class:`ClientStatistics` documents.

    This is not an attrs class: making one takes as long as importing a module, and every connection
    counts.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.stray_replies = 0
        self.datagrams_received = 0
        self.bytes_received = 0
        self.entries_decoded = 0
        self.events_decoded = 0
        self.fallbacks = 0
        self.decode_errors = 0
        self.forged = 0
        self.overruns = 0
        self.events_lost = 0
        self.resyncs = 0
        self.waiting_bytes = 0
