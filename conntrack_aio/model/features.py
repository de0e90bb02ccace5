"""What a kernel supports."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Features:
    """What the kernel at hand can do beyond that of Linux 4.19; see :meth:`Connection.features`.

    Each was found out by asking, because distributions carry what newer kernels brought back into
    older ones; the version is the first of the mainline that has it.

    Not among them, because no kernel to 7.1 gets it right: to filter by IPv6 addresses, which
    lets through just what it should keep out.
    """

    tuple_filter: bool
    """A dump can be filtered by parts of the original tuple: ``CTA_FILTER``, since 5.8."""
    reply_filter: bool
    """And by parts of the reply tuple: since 5.15; before, that compared something else."""
    status_filter: bool
    """A dump can be filtered by status bits: ``CTA_STATUS_MASK``, since 5.15."""
    zone_filter: bool
    """A dump can be filtered by zone, since 6.8."""
    flush_filter: bool
    """A flush can be filtered by parts of the tuples: since 6.12."""
    mark_mask: bool
    """An update changes only the bits of the mark that it should. Since 5.3, and told of kernels
    since 5.8: one that can't be told from an older one counts as older, and is made to do the
    same in two steps."""
    event_timestamp: bool
    """Events tell when they happened: ``CTA_TIMESTAMP_EVENT``, since 6.14."""
    expectations: bool
    """Expectations can be read and written (``NFNL_SUBSYS_CTNETLINK_EXP``)."""
    timeouts: bool
    """There are timeout policies: CONFIG_NF_CT_NETLINK_TIMEOUT."""
    helpers: bool
    """There can be helpers in user space: CONFIG_NF_CT_NETLINK_HELPER."""
