"""Network address translation: as requested, and as derived from a flow's two tuples."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from operator import attrgetter
from typing import Final, Literal, cast

import attrs

from ..errors import EncodeError
from ..uapi.nfnetlink_conntrack import CTA_NAT, CTA_PROTONAT
from .declare import attribute, message, variants
from .enums import Status
from .normalization import normalized, raw
from .tuples import AddressLike, IPAddress, Tuple, describe_endpoint, named_address, parse_address
from .values import describe_value
from .wire import IPV4, IPV6, U16, Access, at


@message(hashable=True)
class NATRange:
    """A range of addresses and ports to translate to. The kernel picks a free combination.

    ``address_max`` and ``port_max`` default to the minimum. A range of ports without addresses
    translates only the port. A request with an empty range raises :exc:`EncodeError`: the kernel
    would mark the flow as translated and translate nothing.

    The constructor also accepts addresses as text, and converts IPv4-mapped addresses to IPv4. It
    raises :exc:`EncodeError`, which is a :exc:`ValueError`, when a value is not an address.
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
    """The last address. If absent, it is the first."""
    port_min: int | None = attribute(
        (CTA_NAT.PROTO, CTA_PROTONAT.PORT_MIN), U16, default=None, access=Access.WRITE
    )
    """The first port, or the only one."""
    port_max: int | None = attribute(
        (CTA_NAT.PROTO, CTA_PROTONAT.PORT_MAX), U16, default=None, access=Access.WRITE
    )
    """The last port. If absent, it is the first."""

    def __attrs_post_init__(self) -> None:
        for name in ("address_min", "address_max"):
            value = getattr(self, name)
            if value is not None:
                try:
                    setattr(self, name, parse_address(value))
                except Exception:
                    raise EncodeError(
                        f"must be an address; got {describe_value(value)}", (name,)
                    ) from None
        plain = normalized(self)
        self.port_min, self.port_max = plain.port_min, plain.port_max

    @classmethod
    def of(cls, address: AddressLike | None = None, port: int | None = None) -> NATRange:
        """Return a range of one address, one port, or both.

        :param address: the address, as text or as an address object.
        :param port: the port, 0 to 65535.
        :raises EncodeError: when text is not an address; this is a :exc:`ValueError`.
        :raises TypeError: when the address is neither text nor an address object.
        """
        return cls(
            address_min=None if address is None else named_address(address, "address_min"),
            port_min=port,
        )

    def validate(self) -> None:
        """Check the range.

        :raises EncodeError: when the range is empty or reversed, or has two address families.
        """
        plain = normalized(self)
        if plain.address_min is None and plain.port_min is None:
            raise EncodeError("a range must have an address or a port: it would translate nothing")
        for name in ("address", "port"):
            first, last = getattr(plain, f"{name}_min"), getattr(plain, f"{name}_max")
            if last is None:
                continue
            if first is None:
                raise EncodeError(f"must not be given without {name}_min", (f"{name}_max",))
            if type(first) is not type(last):
                raise EncodeError(f"must be of the family of {name}_min", (f"{name}_max",))
            if type(last) in (int, IPv4Address, IPv6Address) and last < first:
                raise EncodeError(f"must not be less than {name}_min", (f"{name}_max",))


def _names_of(cls: type) -> list[str]:
    return [field.name for field in attrs.fields(cls)]


_TRANSLATED: Final = int(Status.SRC_NAT | Status.DST_NAT)

_tuple_fields: Final = _names_of(Tuple)
_tuple_values = cast("attrgetter[tuple[object, ...]]", attrgetter(*_tuple_fields))
_make_tuple = raw(Tuple)


@attrs.frozen
class Endpoint:
    """An address and port of one end of a connection."""

    address: IPAddress
    """The address."""
    port: int | None = None
    """The port, the GRE key or the ICMP identifier; ``None`` for other protocols."""

    def __str__(self) -> str:
        return describe_endpoint(self.address, self.port)


@attrs.frozen
class Translation:
    """The translation of one end of a connection."""

    before: Endpoint
    """The address and port in packets of the original direction before the translation."""
    after: Endpoint
    """The address and port in those packets after the translation, and in replies to them."""

    @property
    def range(self) -> NATRange:
        """The range that :meth:`Connection.create` needs for this translation."""
        # raw(): the constructor would convert an IPv4-mapped address of an IPv6 flow.
        return raw(NATRange)(address_min=self.after.address, port_min=self.after.port)

    def __str__(self) -> str:
        return f"{self.before} => {self.after}"


@attrs.frozen
class NAT:
    """The translation of a flow; see :attr:`Flow.nat`."""

    src: Translation | None = None
    """The translation of the original direction's source: SNAT, masquerading."""
    dst: Translation | None = None
    """The translation of the original direction's destination: DNAT, redirection."""


def translation(orig: Tuple, reply: Tuple, status: Status | None) -> NAT | None:
    """Return the translation of a flow, by its tuples. The reply tuple has the translated ends.

    :param orig: the tuple of the original direction.
    :param reply: the tuple of the reply direction.
    :param status: the status bits; if present, they determine whether the kernel translates
        (``nf_nat_packet``).
    """
    after = Endpoint(reply.dst, reply.dport if reply.icmp_id is None else reply.icmp_id)
    src = _between(source_of(orig), after)
    dst = _between(Endpoint(orig.dst, orig.dport), Endpoint(reply.src, reply.sport))
    if status is not None:
        src = src if status & Status.SRC_NAT else None
        dst = dst if status & Status.DST_NAT else None
    return NAT(src, dst) if src or dst else None


def source_of(tuple_: Tuple) -> Endpoint:
    """Return the source of a tuple, as far as it can be translated.

    ICMP has one identifier for both ends. It belongs to the source: the kernel translates it with
    the source (``icmp_manip_pkt``).
    """
    port = tuple_.sport if tuple_.icmp_id is None else tuple_.icmp_id
    return Endpoint(tuple_.src, port)


def translate(orig: Tuple, reply: Tuple, status: Status | None, packet: Tuple) -> Tuple | None:
    """Return a packet as on the other side of the translation; see :meth:`Flow.translate`."""
    if status is not None and not int(status) & _TRANSLATED:  # of most entries
        nat = NAT()
    else:
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
    """Return a copy of the packet with another source or destination."""
    values = dict(zip(_tuple_fields, _tuple_values(packet), strict=True))
    values[end] = other.address
    if packet.icmp_id is None:
        values["sport" if end == "src" else "dport"] = other.port
    elif other.port is not None:
        values["icmp_id"] = other.port
    return _make_tuple(**values)  # copy() takes several times as long


def _between(before: Endpoint, after: Endpoint) -> Translation | None:
    return None if before == after else Translation(before, after)
