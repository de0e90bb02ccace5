"""Tuples: what identifies one direction of a connection."""

from __future__ import annotations

from copy import copy
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import AF_INET, AF_INET6
from typing import Final, TypeGuard, cast

from ..errors import EncodeError
from ..plain import as_address, as_str, unmapped
from ..uapi.nfnetlink_conntrack import CTA_IP, CTA_PROTO, CTA_TUPLE
from .address_text import ipv4_texts, ipv6_texts_by_number
from .declare import attribute, message, variants
from .normalization import normalized, raw
from .protocols import (
    DCCP,
    GRE,
    ICMP,
    ICMPV6,
    PROTOCOL_ALIASES,
    PROTOCOL_NAMES,
    PROTOCOL_NUMBERS,
    SCTP,
    TCP,
    UDP,
    UDPLITE,
    unknown_protocol,
)
from .values import describe_value, number_within
from .wire import IPV4, IPV6, U8, U16, at

_ICMP_FIELDS: Final = (("icmp_id", 0xFFFF), ("icmp_type", 0xFF), ("icmp_code", 0xFF))

IPAddress = IPv4Address | IPv6Address
AddressLike = str | IPv4Address | IPv6Address

PORTED: Final = frozenset({TCP, UDP, DCCP, GRE, SCTP, UDPLITE})
"""The protocols whose tuples have ports; those of GRE have its 16-bit keys instead."""

_UNTRACKED_SOMEWHERE: Final = frozenset({DCCP, UDPLITE})
"""The protocols that some kernels do not track: DCCP since 6.17, UDP-Lite since 7.1. Their tuples
then have no ports."""

ICMP_INVERSE: Final = {0: 8, 8: 0, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17}
ICMPV6_INVERSE: Final = {128: 129, 129: 128, 139: 140, 140: 139}


def parse_address(address: AddressLike) -> IPAddress:
    """Return the plain address of text or of an address object. An IPv4-mapped one becomes IPv4.

    :raises ValueError: when text is not an address.
    :raises TypeError: when the value is neither; :func:`ipaddress.ip_address` would accept a
        number.
    """
    return unmapped(_plain_address(address))


def named_address(address: AddressLike, *path: str) -> IPAddress:
    """Return the result of :func:`parse_address`.

    :param address: the address, as text or as an address object.
    :param path: the field, for the error.
    :raises EncodeError: when text is not an address.
    :raises TypeError: when the value is neither text nor an address object.
    """
    try:
        return parse_address(address)
    except ValueError as error:
        raise EncodeError(str(error), path) from None


def _plain_address(address: object) -> IPAddress:
    if isinstance(address, str):
        return ip_address(as_str(address))
    if isinstance(address, IPv4Address | IPv6Address):
        return as_address(address)
    shown = describe_value(address)
    raise TypeError(f"must be an address, as text or as an ipaddress object; got {shown}")


def _field_address(name: str, value: object) -> IPAddress:
    """Return the plain address of a field's value.

    :param name: the field, for the error.
    :param value: the value.
    :raises EncodeError: when the value is not an address, or has a scope.
    """
    if value is None:
        raise EncodeError("must be an address; got None", (name,))
    try:
        address = _plain_address(value)
    except Exception as error:
        reason = str(error) if type(error) in (TypeError, ValueError) else "must be an address"
        raise EncodeError(reason, (name,)) from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise EncodeError(f"must have no scope, as in the kernel's table; got {address}", (name,))
    return address


def unmapped_pair(one: IPAddress, other: IPAddress) -> tuple[IPAddress, IPAddress]:
    """Return two addresses of one tuple, as IPv4 addresses if both are IPv4 or IPv4-mapped.

    An IPv4-mapped address beside an IPv6 address is kept: no IPv4 entry has both.
    """
    first, second = unmapped(one), unmapped(other)
    return (first, second) if first.version == second.version == 4 else (one, other)


def proto_number(value: object, field: str = "proto") -> int:
    """Return the number of a protocol, given by number or by name.

    :param value: the number or the name.
    :param field: the field, for the error.
    :raises EncodeError: when the value is neither.
    """
    if value is None:
        raise EncodeError("must be a protocol's number or name; got None", (field,))
    if issubclass(type(value), str):
        name = as_str(value).lower()
        number = PROTOCOL_NUMBERS.get(name, PROTOCOL_ALIASES.get(name))
        if number is not None:
            return number
        raise EncodeError(unknown_protocol(name), (field,))
    return number_within(value, 0xFF, field)


@message(hashable=True)
class Tuple:
    """One direction of a connection: addresses, protocol, and ports or ICMP fields.

    The constructor accepts addresses as text, and protocols by name. It converts two IPv4-mapped
    IPv6 addresses (``::ffff:10.0.0.1``) to IPv4: dual-stack sockets have such addresses for IPv4
    peers. It raises :exc:`EncodeError`, which is a :exc:`ValueError`, when a field is out of range
    or when the addresses have different families.

    Tuples from the kernel are kept as received. :func:`copy.copy` preserves that;
    :func:`attrs.evolve` calls the constructor.

    Tuples are hashable. Their fields can be assigned, for speed, but must not be while a tuple is a
    dict key. Assigned values are checked when a request is made of the tuple.

    On the wire: ``ctattr_tuple`` and the nests in it (linux/netfilter/nfnetlink_conntrack.h).
    """

    src: IPAddress = variants(
        at((CTA_TUPLE.IP, CTA_IP.V4_SRC), IPV4), at((CTA_TUPLE.IP, CTA_IP.V6_SRC), IPV6)
    )
    """The sender's address."""
    dst: IPAddress = variants(
        at((CTA_TUPLE.IP, CTA_IP.V4_DST), IPV4),
        at((CTA_TUPLE.IP, CTA_IP.V6_DST), IPV6),
        alike="src",
    )
    """The receiver's address."""
    proto: int = attribute((CTA_TUPLE.PROTO, CTA_PROTO.NUM), U8)
    """The IANA number of the protocol: 6 is TCP."""
    sport: int | None = attribute((CTA_TUPLE.PROTO, CTA_PROTO.SRC_PORT), U16, default=None)
    """The sender's port, for TCP, UDP, SCTP, DCCP and UDP-Lite, or GRE key; absent for other
    protocols."""
    dport: int | None = attribute((CTA_TUPLE.PROTO, CTA_PROTO.DST_PORT), U16, default=None)
    """The receiver's port or GRE key."""
    icmp_id: int | None = variants(
        at((CTA_TUPLE.PROTO, CTA_PROTO.ICMP_ID), U16, when=("proto", ICMP)),
        at((CTA_TUPLE.PROTO, CTA_PROTO.ICMPV6_ID), U16, when=("proto", ICMPV6)),
        default=None,
    )
    """The identifier of an ICMP query and its replies."""
    icmp_type: int | None = variants(
        at((CTA_TUPLE.PROTO, CTA_PROTO.ICMP_TYPE), U8, when=("proto", ICMP)),
        at((CTA_TUPLE.PROTO, CTA_PROTO.ICMPV6_TYPE), U8, when=("proto", ICMPV6)),
        default=None,
    )
    """The ICMP type: that of an echo request is 8, or 128 in ICMPv6; that of its reply 0, or
    129."""
    icmp_code: int | None = variants(
        at((CTA_TUPLE.PROTO, CTA_PROTO.ICMP_CODE), U8, when=("proto", ICMP)),
        at((CTA_TUPLE.PROTO, CTA_PROTO.ICMPV6_CODE), U8, when=("proto", ICMPV6)),
        default=None,
    )
    """The ICMP code."""
    zone: int | None = attribute(CTA_TUPLE.ZONE, U16, default=None)
    """The zone of this direction alone. The zone of both directions is :attr:`Flow.zone`."""

    def __attrs_post_init__(self) -> None:
        src, dst = _field_address("src", self.src), _field_address("dst", self.dst)
        if type(src) is IPv6Address or type(dst) is IPv6Address:
            src, dst = unmapped_pair(src, dst)
        if type(src) is not type(dst):
            raise EncodeError(f"must be of the family of src, {src}; got {dst}", ("dst",))
        self.src, self.dst = src, dst
        self.proto = proto = proto_number(self.proto)
        if self.sport is not None:
            self.sport = number_within(self.sport, 0xFFFF, "sport")
        if self.dport is not None:
            self.dport = number_within(self.dport, 0xFFFF, "dport")
        if self.zone is not None:
            self.zone = number_within(self.zone, 0xFFFF, "zone")
        for name, most in _ICMP_FIELDS:
            value = getattr(self, name)
            if value is not None:
                if proto not in (ICMP, ICMPV6):
                    raise EncodeError(f"must be absent with proto {proto}", (name,))
                setattr(self, name, number_within(value, most, name))

    @classmethod
    def tcp(
        cls,
        src: AddressLike,
        sport: int,
        dst: AddressLike,
        dport: int,
        *,
        zone: int | None = None,
    ) -> Tuple:
        """Return a TCP tuple.

        :param src: the sender's address, as text or as an address object.
        :param sport: the sender's port, 0 to 65535.
        :param dst: the receiver's address, as text or as an address object.
        :param dport: the receiver's port, 0 to 65535.
        :param zone: the zone of this direction alone.
        :raises EncodeError: when an argument is invalid; this is a :exc:`ValueError`.
        """
        return cls._of(src, sport, dst, dport, TCP, zone)

    @classmethod
    def udp(
        cls,
        src: AddressLike,
        sport: int,
        dst: AddressLike,
        dport: int,
        *,
        zone: int | None = None,
    ) -> Tuple:
        """Return a UDP tuple.

        :param src: the sender's address, as text or as an address object.
        :param sport: the sender's port, 0 to 65535.
        :param dst: the receiver's address, as text or as an address object.
        :param dport: the receiver's port, 0 to 65535.
        :param zone: the zone of this direction alone.
        :raises EncodeError: when an argument is invalid; this is a :exc:`ValueError`.
        """
        return cls._of(src, sport, dst, dport, UDP, zone)

    @classmethod
    def _of(
        cls,
        src: AddressLike,
        sport: int,
        dst: AddressLike,
        dport: int,
        proto: int,
        zone: int | None,
    ) -> Tuple:
        for name, port in (("sport", sport), ("dport", dport)):
            if port is None:  # pyright: ignore[reportUnnecessaryComparison]
                raise EncodeError("must be a port; got None", (name,))
        return cls(
            src=src,  # type: ignore[arg-type]
            dst=dst,  # type: ignore[arg-type]
            proto=proto,
            sport=sport,
            dport=dport,
            zone=zone,
        )

    @classmethod
    def icmp(
        cls,
        src: AddressLike,
        dst: AddressLike,
        *,
        id: int,
        type: int | None = None,
        code: int = 0,
        zone: int | None = None,
    ) -> Tuple:
        """Return an ICMP tuple, or an ICMPv6 tuple for IPv6 addresses: by default an echo request.

        :param src: the sender's address, as text or as an address object.
        :param dst: the receiver's address, as text or as an address object.
        :param id: the identifier of the query and its replies, 0 to 65535.
        :param type: the ICMP type; by default that of an echo request.
        :param code: the ICMP code.
        :param zone: the zone of this direction alone.
        :raises EncodeError: when an argument is invalid, or when the addresses have different
            families; this is a :exc:`ValueError`.
        """
        source, target = _field_address("src", src), _field_address("dst", dst)
        source, target = unmapped_pair(source, target)
        proto, echo = (ICMP, 8) if source.version == 4 else (ICMPV6, 128)
        return cls(
            src=source,
            dst=target,
            proto=proto,
            icmp_id=id,
            icmp_type=echo if type is None else type,
            icmp_code=code,
            zone=zone,
        )

    @property
    def family(self) -> int:
        """The address family: ``AF_INET`` or ``AF_INET6``.

        :raises EncodeError: when the addresses are not two address objects of one family.
        """
        if isinstance(self.src, IPv4Address) and isinstance(self.dst, IPv4Address):
            return AF_INET
        if isinstance(self.src, IPv6Address) and isinstance(self.dst, IPv6Address):
            return AF_INET6
        raise EncodeError(
            f"must be an address object of the family of src, {describe_value(self.src)}; got "
            f"{describe_value(self.dst)} (only the constructor converts text)",
            ("dst",),
        )

    @property
    def inverse(self) -> Tuple:
        """The tuple of replies, if nothing translates them. It has no zone.

        :raises EncodeError: when the ICMP type has no reply: the kernel does not track it.
        """
        self.validate()
        proto, icmp_type = proto_number(self.proto), self.icmp_type
        if icmp_type is not None:
            replies = ICMP_INVERSE if proto == ICMP else ICMPV6_INVERSE
            icmp_type = number_within(icmp_type, 0xFF, "icmp_type")
            if icmp_type not in replies:
                raise EncodeError(f"must be a type with a reply; got {icmp_type}", ("icmp_type",))
            icmp_type = replies[icmp_type]
        return raw(Tuple)(
            src=self.dst,
            dst=self.src,
            proto=proto,
            sport=self.dport,
            dport=self.sport,
            icmp_id=self.icmp_id,
            icmp_type=icmp_type,
            icmp_code=self.icmp_code,
        )

    @property
    def without_zone(self) -> Tuple:
        """The same tuple without its zone, for requests that have the zone elsewhere."""
        if self.zone is None:
            return self
        other = copy(self)
        other.zone = None
        return other

    def validate(self) -> None:
        """Check the tuple.

        :raises EncodeError: when the addresses have different families.
        """
        self.family  # noqa: B018 - it raises

    def require_complete(self) -> None:
        """Check that the tuple can identify an entry.

        The fields that the kernel requires depend on the protocol (``nlattr_tuple_size`` and
        others).

        :raises EncodeError: when a field is absent.
        """
        self.validate()
        proto = proto_number(self.proto)
        needed: tuple[str, ...] = ()
        if proto in (ICMP, ICMPV6):
            needed = ("icmp_id", "icmp_type", "icmp_code")
        elif proto in PORTED:
            portless = self.sport is self.dport is None and proto in _UNTRACKED_SOMEWHERE
            needed = () if portless else ("sport", "dport")
        for name in needed:
            if getattr(self, name) is None:
                protocol = PROTOCOL_NAMES.get(proto, f"protocol {proto}")
                raise EncodeError(f"must be present in a tuple of {protocol}", (name,))

    def __str__(self) -> str:
        try:
            self = normalized(self)
            text = f"{protocol_name(self.proto, '')} {describe_ends(self)}"
            return text if self.zone is None else f"{text} zone {describe_value(self.zone)}"
        except Exception:
            return describe_value(self)


def is_plain_tuple(tuple_: object) -> TypeGuard[Tuple]:
    """Return whether the value is a tuple with plain values in range and addresses of one family.

    Look-ups check this first: most tuples are, and normalizing takes much longer.
    """
    if type(tuple_) is not Tuple:
        return False
    src, dst, proto, zone = tuple_.src, tuple_.dst, tuple_.proto, tuple_.zone
    sport, dport, id = tuple_.sport, tuple_.dport, tuple_.icmp_id
    type_, code = tuple_.icmp_type, tuple_.icmp_code
    return (
        type(src) is type(dst)
        and (type(src) is IPv4Address or _is_plain_ipv6(src, dst))
        and type(src.__int__()) is type(dst.__int__()) is int
        and (type(proto) is int and 0 <= proto <= 0xFF)
        and (sport is None or (type(sport) is int and 0 <= sport <= 0xFFFF))
        and (dport is None or (type(dport) is int and 0 <= dport <= 0xFFFF))
        and (zone is None or (type(zone) is int and 0 <= zone <= 0xFFFF))
        and (id is None or (type(id) is int and 0 <= id <= 0xFFFF))
        and (type_ is None or (type(type_) is int and 0 <= type_ <= 0xFF))
        and (code is None or (type(code) is int and 0 <= code <= 0xFF))
    )


def is_plain_inverse(one: Tuple, other: Tuple) -> bool:
    """Return whether a tuple equals the :attr:`~Tuple.inverse` of another.

    Both must be plain tuples (:func:`is_plain_tuple`): comparing their values takes a fraction of
    the time of creating the inverse.
    """
    icmp_type = one.icmp_type
    if icmp_type is not None:
        icmp_type = (ICMP_INVERSE if one.proto == ICMP else ICMPV6_INVERSE).get(icmp_type, -1)
    return (
        one.sport == other.dport
        and one.dport == other.sport
        and one.src.__int__() == other.dst.__int__()
        and one.dst.__int__() == other.src.__int__()
        and type(one.src) is type(other.src)
        and one.proto == other.proto
        and one.icmp_id == other.icmp_id
        and icmp_type == other.icmp_type
        and one.icmp_code == other.icmp_code
        and other.zone is None
    )


def _is_plain_ipv6(*addresses: object) -> bool:
    return all(type(address) is IPv6Address and address.scope_id is None for address in addresses)


def protocol_name(proto: object, prefix: str) -> str:
    """Return the name of a protocol, or its number after a prefix. Never raises."""
    if type(proto) is not int:
        return describe_value(proto)
    return PROTOCOL_NAMES.get(proto) or f"{prefix}{describe_value(proto)}"


def describe_ends(tuple_: Tuple) -> str:
    """Return the text of a tuple with plain values, without protocol and zone."""
    source, target = (tuple_.src, tuple_.sport), (tuple_.dst, tuple_.dport)
    text = f"{describe_endpoint(*source)} -> {describe_endpoint(*target)}"
    if tuple_.icmp_type is None:
        return text
    numbers = map(describe_value, (tuple_.icmp_type, tuple_.icmp_code, tuple_.icmp_id))
    return "{} type {} code {} id {}".format(text, *numbers)


def describe_address(address: object) -> str:
    """Return the text of an address, and a description of any other value. Never raises."""
    cls = type(address)
    if cls is not IPv4Address and cls is not IPv6Address:
        return describe_value(address)
    number = cast("IPAddress", address).__int__()
    if type(number) is int and (cls is IPv4Address or _is_plain_ipv6(address)):
        text: str = (ipv4_texts if cls is IPv4Address else ipv6_texts_by_number)[number]
        return text
    return str(address)


def describe_endpoint(address: IPAddress, port: int | None) -> str:
    """Return ``10.0.0.1:80``, ``[2001:db8::1]:80``, or the address alone. Never raises."""
    text = describe_address(address)
    if port is None:
        return text
    shown = describe_value(port)
    return f"[{text}]:{shown}" if type(address) is IPv6Address else f"{text}:{shown}"
