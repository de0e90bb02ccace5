"""The tuple: what identifies one direction of a connection."""

from __future__ import annotations

from copy import copy
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import AF_INET, AF_INET6
from typing import Final

from ..errors import EncodeError
from ..uapi.nfnetlink_conntrack import CTA_IP, CTA_PROTO, CTA_TUPLE
from .declare import IPV4, IPV6, U8, U16, at, attribute, message, variants
from .protocols import PROTOCOL_NAMES as PROTOCOL_NAMES

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
    """An address from its text, or as it is.

    Raises :exc:`ValueError` for a text that is none, and :exc:`TypeError` for a number, which
    :func:`ipaddress.ip_address` would take for an address too.
    """
    if isinstance(address, str):
        return ip_address(address)
    if isinstance(address, IPv4Address | IPv6Address):  # pyright: ignore[reportUnnecessaryIsInstance]
        return address
    raise TypeError(f"{address!r} is not an address: that is text, or an ipaddress object")


@message(hashable=True)
class Tuple:
    """One direction of a connection: addresses, protocol, and the ports or ICMP fields.

    A hashable value. Its fields can be assigned, for the sake of speed; don't, once it is a key.

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
        """A TCP tuple; the addresses may be text. Raises :exc:`ValueError` for a bad one."""
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
        """A UDP tuple; the addresses may be text. Raises :exc:`ValueError` for a bad one."""
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
        made = cls(
            src=parse_address(src),
            dst=parse_address(dst),
            proto=proto,
            sport=sport,
            dport=dport,
            zone=zone,
        )
        made.validate()
        return made

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

        Raises :exc:`ValueError` for an address that is none.
        """
        source = parse_address(src)
        proto, echo = (ICMP, 8) if source.version == 4 else (ICMPV6, 128)
        return cls(
            src=source,
            dst=parse_address(dst),
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
            f"{self.src!r} and {self.dst!r} are not two addresses of one family "
            "(ipaddress objects; Tuple.tcp() and its like take text)",
            ("dst",),
        )

    @property
    def inverse(self) -> Tuple:
        """The tuple of the answers, where nothing translates them; without a zone.

        Raises :exc:`EncodeError` for an ICMP type that has no answer: the kernel tracks none.
        """
        icmp_type = self.icmp_type
        if icmp_type is not None:
            answers = ICMP_INVERSE if self.proto == ICMP else ICMPV6_INVERSE
            if icmp_type not in answers:
                raise EncodeError(f"ICMP type {icmp_type} has no answer", ("icmp_type",))
            icmp_type = answers[icmp_type]
        return Tuple(
            src=self.dst,
            dst=self.src,
            proto=self.proto,
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
        if not isinstance(self.proto, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise EncodeError(f"{self.proto!r} is not a protocol's number", ("proto",))
        needed: tuple[str, ...] = ()
        if self.proto in (ICMP, ICMPV6):
            needed = ("icmp_id", "icmp_type", "icmp_code")
        elif self.proto in PORTED:
            portless = self.sport is self.dport is None and self.proto in _UNTRACKED_SOMEWHERE
            needed = () if portless else ("sport", "dport")
        for name in needed:
            if getattr(self, name) is None:
                proto = PROTOCOL_NAMES.get(self.proto, f"protocol {self.proto}")
                raise EncodeError(f"a tuple of {proto} needs it", (name,))

    def __str__(self) -> str:
        name = PROTOCOL_NAMES.get(self.proto, str(self.proto))
        ends = (self.src, self.sport), (self.dst, self.dport)
        text = f"{name} {' -> '.join(describe_endpoint(*end) for end in ends)}"
        if self.icmp_type is not None:
            text += f" type {self.icmp_type} code {self.icmp_code} id {self.icmp_id}"
        return text if self.zone is None else f"{text} zone {self.zone}"


def describe_endpoint(address: IPAddress, port: int | None) -> str:
    """``10.0.0.1:80``, ``[2001:db8::1]:80``, or the bare address."""
    if port is None:
        return str(address)
    return f"[{address}]:{port}" if isinstance(address, IPv6Address) else f"{address}:{port}"
