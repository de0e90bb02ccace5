"""Network address translation: as it is asked for, and as a flow's two tuples tell of it."""

from __future__ import annotations

from copy import copy
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

import attrs

from ..errors import EncodeError
from ..uapi.nfnetlink_conntrack import CTA_NAT, CTA_PROTONAT
from .declare import IPV4, IPV6, U16, Access, at, attribute, message, normalized, raw, variants
from .enums import Status
from .tuples import AddressLike, IPAddress, Tuple, describe_endpoint, named_address, parse_address
from .values import describe_value


@message(hashable=True)
class NATRange:
    """Addresses and ports to translate to; the kernel picks one that is free.

    ``address_max`` and ``port_max`` default to the minimum. Ports without an address translate
    the port alone. An empty range would make the kernel mark the flow as translated and translate
    nothing, so it is an :exc:`EncodeError` when a request is made of it.

    The constructor takes addresses as text, too, and IPv4-mapped ones as the IPv4 addresses. It
    raises :exc:`EncodeError`, which is a :exc:`ValueError`, for what is not an address.
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

    def __attrs_post_init__(self) -> None:
        for name in ("address_min", "address_max"):
            value = getattr(self, name)
            if value is not None:
                try:
                    setattr(self, name, parse_address(value))
                except Exception:
                    raise EncodeError(
                        f"{describe_value(value)} is not an address", (name,)
                    ) from None
        plain = normalized(self)
        self.port_min, self.port_max = plain.port_min, plain.port_max

    @classmethod
    def of(cls, address: AddressLike | None = None, port: int | None = None) -> NATRange:
        """One address, one port, or both.

        Raises :exc:`EncodeError`, which is a :exc:`ValueError`, for a text that is not an address,
        and :exc:`TypeError` for anything else.
        """
        return cls(
            address_min=None if address is None else named_address(address, "address_min"),
            port_min=port,
        )

    def validate(self) -> None:
        """Raises :exc:`EncodeError` for a range that is empty, reversed or of two families."""
        plain = normalized(self)
        if plain.address_min is None and plain.port_min is None:
            raise EncodeError("a range without an address or a port translates nothing")
        for name in ("address", "port"):
            first, last = getattr(plain, f"{name}_min"), getattr(plain, f"{name}_max")
            if last is None:
                continue
            if first is None:
                raise EncodeError("a maximum without a minimum", (f"{name}_max",))
            if type(first) is not type(last):
                raise EncodeError("not of the minimum's family", (f"{name}_max",))
            if type(last) in (int, IPv4Address, IPv6Address) and last < first:
                raise EncodeError("below the minimum", (f"{name}_max",))


@attrs.frozen
class Endpoint:
    """One end of a connection."""

    address: IPAddress
    port: int | None = None
    """The port, or what the protocol has in its place: GRE's key, ICMP's identifier."""

    def __str__(self) -> str:
        return describe_endpoint(self.address, self.port)


@attrs.frozen
class Translation:
    """What one end of a connection is translated to."""

    before: Endpoint
    """As it stands in packets of the original direction that arrive."""
    after: Endpoint
    """As it stands in them when they leave, and in the answers."""

    @property
    def range(self) -> NATRange:
        """What makes this very translation, for :meth:`Connection.create`."""
        # As the flow has it: the constructor would unmap the address of an IPv6 flow.
        return raw(NATRange)(address_min=self.after.address, port_min=self.after.port)

    def __str__(self) -> str:
        return f"{self.before} => {self.after}"


@attrs.frozen
class NAT:
    """Which ends of a flow are translated, and to what; see :attr:`Flow.nat`."""

    src: Translation | None = None
    """Of the original direction's source: SNAT, masquerading."""
    dst: Translation | None = None
    """Of its destination: DNAT, redirection."""


def translation(orig: Tuple, reply: Tuple, status: Status | None) -> NAT | None:
    """What the tuples of a flow say: the reply's ends are those behind the translation.

    A status that is told decides whether the kernel translates at all (``nf_nat_packet``).
    """
    # ICMP has one identifier for both ends, which belongs to the source: that is what is
    # translated with it (icmp_manip_pkt).
    src = _between(
        Endpoint(orig.src, orig.sport if orig.icmp_id is None else orig.icmp_id),
        Endpoint(reply.dst, reply.dport if reply.icmp_id is None else reply.icmp_id),
    )
    dst = _between(Endpoint(orig.dst, orig.dport), Endpoint(reply.src, reply.sport))
    if status is not None:
        src = src if status & Status.SRC_NAT else None
        dst = dst if status & Status.DST_NAT else None
    return NAT(src, dst) if src or dst else None


def translate(orig: Tuple, reply: Tuple, status: Status | None, packet: Tuple) -> Tuple | None:
    """How a packet, told by its tuple, looks on the other side; see :meth:`Flow.translate`."""
    nat = translation(orig, reply, status) or NAT()
    orig, reply, packet = orig.without_zone, reply.without_zone, packet.without_zone
    outward, inward = orig, reply
    if nat.src is not None:
        outward = _with_end(outward, "src", nat.src.after)
        inward = _with_end(inward, "dst", nat.src.before)
    if nat.dst is not None:
        outward = _with_end(outward, "dst", nat.dst.after)
        inward = _with_end(inward, "src", nat.dst.before)
    for one, other in ((orig, outward), (reply, inward), (outward, orig), (inward, reply)):
        if packet == one:
            return other
    return None


def _with_end(packet: Tuple, end: Literal["src", "dst"], other: Endpoint) -> Tuple:
    """The packet with another one of its ends."""
    packet = copy(packet)
    setattr(packet, end, other.address)
    if packet.icmp_id is None:
        setattr(packet, "sport" if end == "src" else "dport", other.port)
    elif other.port is not None:
        packet.icmp_id = other.port
    return packet


def _between(before: Endpoint, after: Endpoint) -> Translation | None:
    return None if before == after else Translation(before, after)
