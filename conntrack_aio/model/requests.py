"""What only a request carries: masks, NAT ranges, filters. Never a field of a flow."""

from __future__ import annotations

from ..errors import EncodeError
from ..uapi.nfnetlink_conntrack import CTA, CTA_FILTER, CTA_NAT, CTA_PROTONAT
from .declare import HOST_U32, IPV4, IPV6, U16, U32, Access, Nest, at, attribute, message, variants
from .flow import LABELS
from .tuples import AddressLike, IPAddress, parse_address


@message(hashable=True)
class NATRange:
    """Addresses and ports to translate to; the kernel picks one that is free.

    ``address_max`` and ``port_max`` default to the minimum. Ports without an address translate
    the port alone. An empty range would make the kernel mark the flow as translated and translate
    nothing, so it is an :exc:`EncodeError`.
    """

    address_min: IPAddress | None = variants(
        at(CTA_NAT.V4_MINIP, IPV4, access=Access.WRITE),
        at(CTA_NAT.V6_MINIP, IPV6, access=Access.WRITE),
        default=None,
    )
    """The first address, or the only one."""
    address_max: IPAddress | None = variants(
        at(CTA_NAT.V4_MAXIP, IPV4, access=Access.WRITE),
        at(CTA_NAT.V6_MAXIP, IPV6, access=Access.WRITE),
        default=None,
    )
    """The last address; absent, it is the first."""
    port_min: int | None = attribute(
        (CTA_NAT.PROTO, CTA_PROTONAT.PORT_MIN), U16, default=None, access=Access.WRITE
    )
    """The first port, or the only one."""
    port_max: int | None = attribute(
        (CTA_NAT.PROTO, CTA_PROTONAT.PORT_MAX), U16, default=None, access=Access.WRITE
    )
    """The last port; absent, it is the first."""

    @classmethod
    def of(cls, address: AddressLike | None = None, port: int | None = None) -> NATRange:
        """One address, one port, or both. Raises :exc:`ValueError` for an address that is none."""
        return cls(
            address_min=None if address is None else parse_address(address),
            port_min=port,
        )

    def validate(self) -> None:
        """Raises :exc:`EncodeError` for a range that is empty, reversed or of two families."""
        if self.address_min is None and self.port_min is None:
            raise EncodeError("a range without an address or a port translates nothing")
        for name in ("address", "port"):
            first, last = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            if last is None:
                continue
            if first is None:
                raise EncodeError("a maximum without a minimum", (f"{name}_max",))
            if type(first) is not type(last):
                raise EncodeError("not of the minimum's family", (f"{name}_max",))
            if last < first:
                raise EncodeError("below the minimum", (f"{name}_max",))


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
