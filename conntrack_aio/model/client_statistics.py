"""What a connection or an event stream has done."""

from __future__ import annotations

import attrs


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
    """The number of reconciliations of live tables that were necessary because events were lost."""
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
