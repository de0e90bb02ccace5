"""The attributes that only requests have: masks, translations and filters."""

from __future__ import annotations

from collections.abc import Mapping
from socket import AF_UNSPEC

import attrs

from ..uapi.nfnetlink_conntrack import CTA, CTA_EXPECT, CTA_FILTER
from .declare import attribute, message
from .flow import LABELS
from .nat import NATRange
from .wire import HOST_U32, U16, U32, Access, Nest


@message
class FilterFlags:
    """The parts of the tuples that a filter compares: ``CTA_FILTER_F_*``, since Linux 5.8."""

    orig_flags: int | None = attribute(
        CTA_FILTER.ORIG_FLAGS, HOST_U32, default=None, access=Access.WRITE, since="5.8"
    )
    """The compared parts of the original tuple."""
    reply_flags: int | None = attribute(
        CTA_FILTER.REPLY_FLAGS, HOST_U32, default=None, access=Access.WRITE, since="5.8"
    )
    """The compared parts of the reply tuple. Kernels before 5.15 use ``orig_flags`` for it."""


@attrs.frozen
class Masked:
    """The value of the bits in a mask."""

    value: int
    mask: int


@attrs.frozen(kw_only=True)
class Selection:
    """The conditions by which the kernel selects entries in a dump or a flush; all must be true."""

    family: int = AF_UNSPEC
    mark: Masked | None = None
    status: Masked | None = None
    """The status bits. The mask is not 0."""
    zone: int | None = None
    """The zone of an entry, of whichever direction."""
    orig: Mapping[str, object] = attrs.field(factory=dict[str, object])
    """The values of fields of the original tuple. They need :attr:`family`; ports and ICMP fields
    also need ``proto``."""
    reply: Mapping[str, object] = attrs.field(factory=dict[str, object])
    """The values of fields of the reply tuple."""


@message
class RequestOnly:
    """The attributes that requests have and flows do not."""

    nat_src: NATRange | None = attribute(
        CTA.NAT_SRC, Nest(NATRange), default=None, access=Access.WRITE
    )
    """The translation of a new entry's source."""
    nat_dst: NATRange | None = attribute(
        CTA.NAT_DST, Nest(NATRange), default=None, access=Access.WRITE
    )
    """The translation of a new entry's destination."""
    mark_mask: int | None = attribute(CTA.MARK_MASK, U32, default=None, access=Access.WRITE)
    """The bits that a mark filter compares, or that a mark update changes. Kernels before 5.3
    ignore it in updates."""
    labels_mask: int | None = attribute(CTA.LABELS_MASK, LABELS, default=None, access=Access.WRITE)
    """The labels that an update changes."""
    status_mask: int | None = attribute(
        CTA.STATUS_MASK, U32, default=None, access=Access.WRITE, since="5.15"
    )
    """The bits that a status filter compares. The kernel ignores it in updates."""
    filter: FilterFlags | None = attribute(
        CTA.FILTER, Nest(FilterFlags), default=None, access=Access.WRITE, since="5.8"
    )
    """The attribute that makes the tuples of a dump a filter; since Linux 6.12, also of a flush."""


@message
class ExpectRequestOnly:
    """The attributes that requests have and expectations do not."""

    zone: int | None = attribute(CTA_EXPECT.ZONE, U16, default=None, access=Access.WRITE)
    """The zone of the master. If absent, it is zone 0."""
