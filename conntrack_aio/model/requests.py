"""What only a request carries: masks, translations, filters. Never a field of a flow."""

from __future__ import annotations

from copy import copy

import attrs

from ..uapi.nfnetlink_conntrack import CTA, CTA_EXPECT, CTA_FILTER
from .declare import HOST_U32, U16, U32, Access, Nest, attribute, message
from .flow import LABELS, Flow
from .nat import NATRange
from .tuples import AddressLike


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


def as_range(value: NATRange | AddressLike | None) -> NATRange | None:
    """What to translate to, of whatever form. Raises what :meth:`NATRange.of` does."""
    return value if value is None or isinstance(value, NATRange) else NATRange.of(value)


@attrs.frozen
class NewFlow:
    """An entry to make, with its translation: an item of :meth:`Connection.create_many`.

    Raises :exc:`ValueError` or :exc:`TypeError` for a translation to what is no address.
    """

    flow: Flow
    """Its reply is the inverse of its original direction, where it is to be translated."""
    nat_src: NATRange | None = attrs.field(default=None, converter=as_range, kw_only=True)
    """Translate its source to this address, or to one of this range."""
    nat_dst: NATRange | None = attrs.field(default=None, converter=as_range, kw_only=True)
    """Translate its destination."""

    @classmethod
    def again(cls, flow: Flow) -> NewFlow:
        """What makes a flow that was read once more, with the translation that it had.

        A flow with a translation is copied, for its reply; another is taken as it is.
        """
        nat = flow.nat
        if nat is None:
            return cls(flow)
        before = copy(flow)
        before.reply = flow.orig.inverse
        before.reply.zone = flow.reply.zone
        return cls(
            before,
            nat_src=nat.src.range if nat.src else None,
            nat_dst=nat.dst.range if nat.dst else None,
        )
