"""What only a request carries: masks, translations, filters. Never a field of a flow."""

from __future__ import annotations

from collections.abc import Mapping
from socket import AF_UNSPEC

import attrs

from ..uapi.nfnetlink_conntrack import CTA, CTA_EXPECT, CTA_FILTER
from .declare import HOST_U32, U16, U32, Access, Nest, attribute, message
from .flow import LABELS
from .nat import NATRange


@message
class FilterFlags:
    """Which parts of the request's tuples a filter compares: ``CTA_FILTER_F_*``, since 5.8."""

    orig_flags: int | None = attribute(
        CTA_FILTER.ORIG_FLAGS, HOST_U32, default=None, access=Access.WRITE, since="5.8"
    )
    """Of the original tuple."""
    reply_flags: int | None = attribute(
        CTA_FILTER.REPLY_FLAGS, HOST_U32, default=None, access=Access.WRITE, since="5.8"
    )
    """Of the reply tuple, which kernels before 5.15 read by the other flags."""


@attrs.frozen
class Masked:
    """Bits that must be so, of those in the mask."""

    value: int
    mask: int


@attrs.frozen(kw_only=True)
class Selection:
    """What the kernel is to select entries by, in a dump or a flush: all of it together."""

    family: int = AF_UNSPEC
    mark: Masked | None = None
    status: Masked | None = None
    """The mask is not 0."""
    zone: int | None = None
    """The id of an entry's zone, whichever direction it is of."""
    orig: Mapping[str, object] = attrs.field(factory=dict[str, object])
    """What fields of the original tuple are. Needs a family; ports and ICMP's fields, a
    protocol."""
    reply: Mapping[str, object] = attrs.field(factory=dict[str, object])
    """What fields of the reply tuple are."""


@message
class RequestOnly:
    """The attributes of a request that no flow has."""

    nat_src: NATRange | None = attribute(
        CTA.NAT_SRC, Nest(NATRange), default=None, access=Access.WRITE
    )
    """What a new entry's source is translated to."""
    nat_dst: NATRange | None = attribute(
        CTA.NAT_DST, Nest(NATRange), default=None, access=Access.WRITE
    )
    """What a new entry's destination is translated to."""
    mark_mask: int | None = attribute(CTA.MARK_MASK, U32, default=None, access=Access.WRITE)
    """Which bits a mark filter compares, or a mark update changes (5.3; older ones ignore it)."""
    labels_mask: int | None = attribute(CTA.LABELS_MASK, LABELS, default=None, access=Access.WRITE)
    """Which labels an update changes."""
    status_mask: int | None = attribute(
        CTA.STATUS_MASK, U32, default=None, access=Access.WRITE, since="5.15"
    )
    """Which bits a status filter compares. Never read in an update."""
    filter: FilterFlags | None = attribute(
        CTA.FILTER, Nest(FilterFlags), default=None, access=Access.WRITE, since="5.8"
    )
    """Makes the tuples of a dump a filter, and since 6.12 those of a flush."""


@message
class ExpectRequestOnly:
    """The attributes of a request that no expectation has."""

    zone: int | None = attribute(CTA_EXPECT.ZONE, U16, default=None, access=Access.WRITE)
    """The zone of the master; absent is zone 0."""
