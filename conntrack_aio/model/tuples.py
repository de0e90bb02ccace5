"""The tuple: what identifies one direction of a connection."""

from __future__ import annotations

from copy import copy
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import AF_INET, AF_INET6
from typing import Final

from ..errors import EncodeError
from ..plain import as_address, as_str, unmapped
from ..uapi.nfnetlink_conntrack import CTA_IP, CTA_PROTO, CTA_TUPLE
from .declare import IPV4, IPV6, U8, U16, at, attribute, message, normalized, raw, variants
from .protocols import PROTOCOL_ALIASES, PROTOCOL_NUMBERS
from .protocols import PROTOCOL_NAMES as PROTOCOL_NAMES
from .values import describe_value, number_within

_ICMP_FIELDS: Final = (("icmp_id", 0xFFFF), ("icmp_type", 0xFF), ("icmp_code", 0xFF))

IPAddress = IPv4Address | IPv6Address
AddressLike = str | IPv4Address | IPv6Address

ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58

PORTED: Final = frozenset({TCP, UDP, 33, 47, 132, 136})
"""Protocols whose tuples have ports (GRE: its 16-bit keys, in the ports' place)."""

_UNTRACKED_SOMEWHERE: Final = frozenset({33, 136})
"""DCCP, since 6.17, and UDPLITE, since 7.1: their tuples then have no ports."""

ICMP_INVERSE: Final = {0: 8, 8: 0, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17}
ICMPV6_INVERSE: Final = {128: 129, 129: 128, 139: 140, 140: 139}


def parse_address(address: AddressLike) -> IPAddress:
    """Return the plain address of a text or of an address object, unmapped if it is mapped.

    :raises ValueError: for a text that is not an address.
    :raises TypeError: for anything else; :func:`ipaddress.ip_address` would take a number.
    """
    return unmapped(_plain_address(address))


def named_address(address: AddressLike, *path: str) -> IPAddress:
    """Return what :func:`parse_address` does.

    :raises EncodeError: with this path, for a text that is not an address.
    :raises TypeError: for anything else.
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
    raise TypeError(
        f"{describe_value(address)} is not an address: that is text, or an ipaddress object"
    )


def _field_address(name: str, value: object) -> IPAddress:
    """Return the plain address for a field. Raises :exc:`EncodeError`."""
    if value is None:
        raise EncodeError("it is never absent", (name,))
    try:
        address = _plain_address(value)
    except Exception as error:
        reason = str(error) if type(error) in (TypeError, ValueError) else "it is not an address"
        raise EncodeError(reason, (name,)) from None
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise EncodeError(f"{address} has a scope; the kernel's entries have none", (name,))
    return address


def unmapped_pair(one: IPAddress, other: IPAddress) -> tuple[IPAddress, IPAddress]:
    """Return two addresses of one tuple, unmapped if that makes both of them IPv4.

    Beside another IPv6 address a mapped one is kept: no IPv4 entry has both.
    """
    first, second = unmapped(one), unmapped(other)
    return (first, second) if first.version == second.version == 4 else (one, other)


def proto_number(value: object, field: str = "proto") -> int:
    """Return the number of a protocol, of its number or its name. Raises :exc:`EncodeError`."""
    if value is None:
        raise EncodeError("it is never absent", (field,))
    if issubclass(type(value), str):
        name = as_str(value).lower()
        number = PROTOCOL_NUMBERS.get(name, PROTOCOL_ALIASES.get(name))
        if number is not None:
            return number
        raise EncodeError(
            f"unknown protocol {name!r}; expected a number or a name such as tcp, udp, icmp",
            (field,),
        )
    return number_within(value, 0xFF, field)


@message(hashable=True)
class Tuple:
    """One direction of a connection: addresses, protocol, and the ports or ICMP fields.

    The constructor takes addresses as text, too, and protocols by name. It raises
    :exc:`EncodeError`, which is a :exc:`ValueError`, for a field that is out of range and for
    addresses of two families. Two IPv4-mapped IPv6 addresses (``::ffff:10.0.0.1``), which
    dual-stack sockets have for their IPv4 peers, are taken as the IPv4 addresses. What the kernel
    sent is kept as it came: :func:`copy.copy` keeps it, :func:`attrs.evolve` calls the
    constructor.

    A hashable value. Its fields can be assigned, for the sake of speed; don't, once it is a key.
    What is assigned is checked when a request is made of it.

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
    """The protocol's number, as IANA gives it: 6 is TCP."""
    sport: int | None = attribute((CTA_TUPLE.PROTO, CTA_PROTO.SRC_PORT), U16, default=None)
    """The sender's port, of TCP, UDP, SCTP, DCCP and UDP-Lite; of GRE its key. Others have none."""
    dport: int | None = attribute((CTA_TUPLE.PROTO, CTA_PROTO.DST_PORT), U16, default=None)
    """The receiver's port, or GRE key."""
    icmp_id: int | None = variants(
        at((CTA_TUPLE.PROTO, CTA_PROTO.ICMP_ID), U16, when=("proto", ICMP)),
        at((CTA_TUPLE.PROTO, CTA_PROTO.ICMPV6_ID), U16, when=("proto", ICMPV6)),
        default=None,
    )
    """The identifier of a query and its answers."""
    icmp_type: int | None = variants(
        at((CTA_TUPLE.PROTO, CTA_PROTO.ICMP_TYPE), U8, when=("proto", ICMP)),
        at((CTA_TUPLE.PROTO, CTA_PROTO.ICMPV6_TYPE), U8, when=("proto", ICMPV6)),
        default=None,
    )
    """An echo request is 8, or 128 of ICMPv6; its answer 0, or 129."""
    icmp_code: int | None = variants(
        at((CTA_TUPLE.PROTO, CTA_PROTO.ICMP_CODE), U8, when=("proto", ICMP)),
        at((CTA_TUPLE.PROTO, CTA_PROTO.ICMPV6_CODE), U8, when=("proto", ICMPV6)),
        default=None,
    )
    zone: int | None = attribute(CTA_TUPLE.ZONE, U16, default=None)
    """The zone of this direction alone; a zone of both directions is :attr:`Flow.zone`."""

    def __attrs_post_init__(self) -> None:
        src, dst = _field_address("src", self.src), _field_address("dst", self.dst)
        if type(src) is IPv6Address or type(dst) is IPv6Address:
            src, dst = unmapped_pair(src, dst)
        if type(src) is not type(dst):
            raise EncodeError(f"{src} and {dst} are not two addresses of one family", ("dst",))
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
                    raise EncodeError(f"it does not go with proto {proto}", (name,))
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
        """A TCP tuple; the addresses may be text. Raises :exc:`EncodeError` for a bad one."""
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
        """A UDP tuple; the addresses may be text. Raises :exc:`EncodeError` for a bad one."""
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
                raise EncodeError("it is never absent", (name,))
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
        """An ICMP tuple, or an ICMPv6 one if the addresses are IPv6; an echo request by default.

        Raises :exc:`EncodeError` for an address that is none, and for two of different families.
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
        """``AF_INET`` or ``AF_INET6``, by the addresses.

        Raises :exc:`EncodeError` if they are not two addresses of one family.
        """
        if isinstance(self.src, IPv4Address) and isinstance(self.dst, IPv4Address):
            return AF_INET
        if isinstance(self.src, IPv6Address) and isinstance(self.dst, IPv6Address):
            return AF_INET6
        raise EncodeError(
            f"{describe_value(self.src)} and {describe_value(self.dst)} are not two addresses of "
            "one family (text is taken by the constructor, not by an assignment)",
            ("dst",),
        )

    @property
    def inverse(self) -> Tuple:
        """The tuple of the answers, where nothing translates them; without a zone.

        Raises :exc:`EncodeError` for an ICMP type that has no answer: the kernel tracks none.
        """
        self.validate()
        proto, icmp_type = proto_number(self.proto), self.icmp_type
        if icmp_type is not None:
            answers = ICMP_INVERSE if proto == ICMP else ICMPV6_INVERSE
            icmp_type = number_within(icmp_type, 0xFF, "icmp_type")
            if icmp_type not in answers:
                raise EncodeError(f"ICMP type {icmp_type} has no answer", ("icmp_type",))
            icmp_type = answers[icmp_type]
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
        """The same tuple, for a request that says the zone elsewhere."""
        if self.zone is None:
            return self
        other = copy(self)
        other.zone = None
        return other

    def validate(self) -> None:
        """Raises :exc:`EncodeError` for a tuple that can't be: addresses of two families."""
        self.family  # noqa: B018 - it raises

    def require_complete(self) -> None:
        """Raises :exc:`EncodeError` unless the kernel takes it for one entry's tuple.

        What it wants depends on the protocol (``nlattr_tuple_size`` and its like).
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
                named = PROTOCOL_NAMES.get(proto, f"protocol {proto}")
                raise EncodeError(f"a tuple of {named} needs it", (name,))

    def __str__(self) -> str:
        try:
            self = normalized(self)
            text = f"{protocol_name(self.proto, '')} {describe_ends(self)}"
            return text if self.zone is None else f"{text} zone {describe_value(self.zone)}"
        except Exception:
            return describe_value(self)


def is_plain_tuple(tuple_: object) -> bool:
    """Whether it is a Tuple with plain values, each in its range, and addresses of one family.

    Look-ups ask this first: most tuples are, and to make them plain takes much longer.
    """
    if type(tuple_) is not Tuple:
        return False
    src, dst, proto, zone = tuple_.src, tuple_.dst, tuple_.proto, tuple_.zone
    sport, dport, id = tuple_.sport, tuple_.dport, tuple_.icmp_id
    kind, code = tuple_.icmp_type, tuple_.icmp_code
    return (
        type(src) is type(dst)
        and (type(src) is IPv4Address or _is_plain_ipv6(src, dst))
        and type(src.__int__()) is type(dst.__int__()) is int
        and (type(proto) is int and 0 <= proto <= 0xFF)
        and (sport is None or (type(sport) is int and 0 <= sport <= 0xFFFF))
        and (dport is None or (type(dport) is int and 0 <= dport <= 0xFFFF))
        and (zone is None or (type(zone) is int and 0 <= zone <= 0xFFFF))
        and (id is None or (type(id) is int and 0 <= id <= 0xFFFF))
        and (kind is None or (type(kind) is int and 0 <= kind <= 0xFF))
        and (code is None or (type(code) is int and 0 <= code <= 0xFF))
    )


def _is_plain_ipv6(*addresses: object) -> bool:
    return all(type(each) is IPv6Address and each.scope_id is None for each in addresses)


def protocol_name(proto: object, prefix: str) -> str:
    """Return the name of a protocol, or its number behind a prefix. Never raises."""
    if type(proto) is not int:
        return describe_value(proto)
    return PROTOCOL_NAMES.get(proto) or f"{prefix}{describe_value(proto)}"


def describe_ends(tuple_: Tuple) -> str:
    """Return a tuple with plain values as text, without its protocol and its zone."""
    source, target = (tuple_.src, tuple_.sport), (tuple_.dst, tuple_.dport)
    text = f"{describe_endpoint(*source)} -> {describe_endpoint(*target)}"
    if tuple_.icmp_type is None:
        return text
    numbers = map(describe_value, (tuple_.icmp_type, tuple_.icmp_code, tuple_.icmp_id))
    return "{} type {} code {} id {}".format(text, *numbers)


def describe_address(address: object) -> str:
    """Return an address as text, or what stands in its place. Never raises."""
    plain = type(address) in (IPv4Address, IPv6Address)
    return str(address) if plain else describe_value(address)


def describe_endpoint(address: IPAddress, port: int | None) -> str:
    """``10.0.0.1:80``, ``[2001:db8::1]:80``, or the bare address. Never raises."""
    text = describe_address(address)
    if port is None:
        return text
    shown = describe_value(port)
    return f"[{text}]:{shown}" if type(address) is IPv6Address else f"{text}:{shown}"
