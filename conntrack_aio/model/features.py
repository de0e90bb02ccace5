"""The features of a kernel."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Features:
    """What the running kernel supports beyond Linux 4.19; see :meth:`Connection.features`.

    Each feature was probed, because distributions backport features to older kernels. The versions
    are the first mainline kernels with the feature.

    Filtering by IPv6 addresses is not listed: every kernel up to 7.1 inverts that comparison.
    """

    tuple_filter: bool
    """A dump can be filtered by parts of the original tuple: ``CTA_FILTER``, since Linux 5.8."""
    reply_filter: bool
    """A dump can be filtered by parts of the reply tuple, since Linux 5.15. Before, the kernel
    compared other fields."""
    status_filter: bool
    """A dump can be filtered by status bits: ``CTA_STATUS_MASK``, since Linux 5.15."""
    zone_filter: bool
    """A dump can be filtered by zone, since Linux 6.8."""
    flush_filter: bool
    """A flush can be filtered by parts of the tuples, since Linux 6.12."""
    mark_mask: bool
    """An update can change only the bits of the mark that a mask selects, since Linux 5.3. The
    probe recognizes it since Linux 5.8. A kernel that cannot be distinguished from an older one
    counts as older; the library then updates the mark in two steps."""
    event_timestamp: bool
    """Events have the time at which they happened: ``CTA_TIMESTAMP_EVENT``, since Linux 6.14."""
    expectations: bool
    """Expectations can be read and written: ``NFNL_SUBSYS_CTNETLINK_EXP``."""
    timeouts: bool
    """Timeout policies are supported: CONFIG_NF_CT_NETLINK_TIMEOUT."""
    helpers: bool
    """User-space helpers are supported: CONFIG_NF_CT_NETLINK_HELPER."""
