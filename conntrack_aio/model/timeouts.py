"""Timeout policies: how long flows without packets stay in the table, where a rule says so.

All times are seconds; a policy's are stored in ticks, of which a kernel makes 100 to 1000 a second.
"""

from __future__ import annotations

from typing import Final, get_args

import attrs

from ..errors import EncodeError
from ..uapi.nfnetlink_cttimeout import (
    CTA_TIMEOUT,
    CTA_TIMEOUT_DCCP,
    CTA_TIMEOUT_GENERIC,
    CTA_TIMEOUT_GRE,
    CTA_TIMEOUT_ICMP,
    CTA_TIMEOUT_ICMPV6,
    CTA_TIMEOUT_SCTP,
    CTA_TIMEOUT_TCP,
    CTA_TIMEOUT_UDP,
    CTNL_TIMEOUT_NAME_MAX,
)
from .declare import (
    U8,
    U16,
    U32,
    Access,
    At,
    Nest,
    Text,
    UnknownAttribute,
    at,
    attribute,
    by_path,
    message,
    variants,
)
from .tuples import ICMP, ICMPV6, TCP, UDP, proto_number
from .values import describe_value

_DCCP: Final = 33
_GRE: Final = 47
_SCTP: Final = 132
_UDPLITE: Final = 136
GENERIC: Final = 255
"""What stands for every protocol that the kernel has no tracker of its own for."""


@message(hashable=True)
class TCPTimeouts:
    """Seconds for each state of a TCP connection. ``None`` is not told, or left as it is.

    Defaults: ``nf_conntrack_tcp_timeout_*`` (5 days for ``established``).
    """

    syn_sent: int | None = attribute(CTA_TIMEOUT_TCP.SYN_SENT, U32, default=None)
    syn_recv: int | None = attribute(CTA_TIMEOUT_TCP.SYN_RECV, U32, default=None)
    established: int | None = attribute(CTA_TIMEOUT_TCP.ESTABLISHED, U32, default=None)
    fin_wait: int | None = attribute(CTA_TIMEOUT_TCP.FIN_WAIT, U32, default=None)
    close_wait: int | None = attribute(CTA_TIMEOUT_TCP.CLOSE_WAIT, U32, default=None)
    last_ack: int | None = attribute(CTA_TIMEOUT_TCP.LAST_ACK, U32, default=None)
    time_wait: int | None = attribute(CTA_TIMEOUT_TCP.TIME_WAIT, U32, default=None)
    close: int | None = attribute(CTA_TIMEOUT_TCP.CLOSE, U32, default=None)
    syn_sent2: int | None = attribute(CTA_TIMEOUT_TCP.SYN_SENT2, U32, default=None)
    """Both sides sent a SYN. No sysctl has it."""
    retrans: int | None = attribute(CTA_TIMEOUT_TCP.RETRANS, U32, default=None)
    """A limit to the others, once a segment was sent ``nf_conntrack_tcp_max_retrans`` times."""
    unack: int | None = attribute(CTA_TIMEOUT_TCP.UNACK, U32, default=None)
    """A limit to the others, while data is not acknowledged."""


@message(hashable=True)
class UDPTimeouts:
    """Seconds for a UDP or UDP-Lite flow. Defaults: ``nf_conntrack_udp_timeout*``."""

    unreplied: int | None = attribute(CTA_TIMEOUT_UDP.UNREPLIED, U32, default=None)
    """Also of one that was answered, while it is younger than two seconds."""
    replied: int | None = attribute(CTA_TIMEOUT_UDP.REPLIED, U32, default=None)


@message(hashable=True)
class SCTPTimeouts:
    """Seconds for each state of an SCTP association. Defaults: ``nf_conntrack_sctp_timeout_*``."""

    closed: int | None = attribute(CTA_TIMEOUT_SCTP.CLOSED, U32, default=None)
    cookie_wait: int | None = attribute(CTA_TIMEOUT_SCTP.COOKIE_WAIT, U32, default=None)
    cookie_echoed: int | None = attribute(CTA_TIMEOUT_SCTP.COOKIE_ECHOED, U32, default=None)
    established: int | None = attribute(CTA_TIMEOUT_SCTP.ESTABLISHED, U32, default=None)
    shutdown_sent: int | None = attribute(CTA_TIMEOUT_SCTP.SHUTDOWN_SENT, U32, default=None)
    shutdown_recd: int | None = attribute(CTA_TIMEOUT_SCTP.SHUTDOWN_RECD, U32, default=None)
    shutdown_ack_sent: int | None = attribute(CTA_TIMEOUT_SCTP.SHUTDOWN_ACK_SENT, U32, default=None)
    heartbeat_sent: int | None = attribute(CTA_TIMEOUT_SCTP.HEARTBEAT_SENT, U32, default=None)
    heartbeat_acked: int | None = attribute(CTA_TIMEOUT_SCTP.HEARTBEAT_ACKED, U32, default=None)
    """Not used since 6.6, which tells 0 and takes no notice."""


@message(hashable=True)
class ICMPTimeouts:
    """Seconds for an ICMP flow. Default: ``nf_conntrack_icmp_timeout``."""

    timeout: int | None = attribute(CTA_TIMEOUT_ICMP.TIMEOUT, U32, default=None)


@message(hashable=True)
class ICMPv6Timeouts:
    """Seconds for an ICMPv6 flow. Default: ``nf_conntrack_icmpv6_timeout``."""

    timeout: int | None = attribute(CTA_TIMEOUT_ICMPV6.TIMEOUT, U32, default=None)


@message(hashable=True)
class GRETimeouts:
    """Seconds for a GRE flow. Defaults: ``nf_conntrack_gre_timeout*``."""

    unreplied: int | None = attribute(CTA_TIMEOUT_GRE.UNREPLIED, U32, default=None)
    replied: int | None = attribute(CTA_TIMEOUT_GRE.REPLIED, U32, default=None)


@message(hashable=True)
class GenericTimeouts:
    """Seconds for a flow of any other protocol. Default: ``nf_conntrack_generic_timeout``."""

    timeout: int | None = attribute(CTA_TIMEOUT_GENERIC.TIMEOUT, U32, default=None)


@message(hashable=True)
class DCCPTimeouts:
    """Seconds for each state of a DCCP connection, on kernels that track DCCP (until 6.16)."""

    request: int | None = attribute(CTA_TIMEOUT_DCCP.REQUEST, U32, default=None, until="6.16")
    respond: int | None = attribute(CTA_TIMEOUT_DCCP.RESPOND, U32, default=None, until="6.16")
    partopen: int | None = attribute(CTA_TIMEOUT_DCCP.PARTOPEN, U32, default=None, until="6.16")
    open: int | None = attribute(CTA_TIMEOUT_DCCP.OPEN, U32, default=None, until="6.16")
    closereq: int | None = attribute(CTA_TIMEOUT_DCCP.CLOSEREQ, U32, default=None, until="6.16")
    closing: int | None = attribute(CTA_TIMEOUT_DCCP.CLOSING, U32, default=None, until="6.16")
    timewait: int | None = attribute(CTA_TIMEOUT_DCCP.TIMEWAIT, U32, default=None, until="6.16")


ProtocolTimeouts = (
    TCPTimeouts
    | UDPTimeouts
    | SCTPTimeouts
    | ICMPTimeouts
    | ICMPv6Timeouts
    | GRETimeouts
    | GenericTimeouts
    | DCCPTimeouts
)

PROTOCOL_TIMEOUTS: Final = get_args(ProtocolTimeouts)
"""The classes of timeouts."""


_DATA: Final[tuple[At[ProtocolTimeouts], ...]] = (
    at(CTA_TIMEOUT.DATA, Nest(TCPTimeouts), when=("proto", TCP)),
    at(CTA_TIMEOUT.DATA, Nest(UDPTimeouts), when=("proto", UDP)),
    at(CTA_TIMEOUT.DATA, Nest(UDPTimeouts), when=("proto", _UDPLITE), until="7.0"),
    at(CTA_TIMEOUT.DATA, Nest(SCTPTimeouts), when=("proto", _SCTP)),
    at(CTA_TIMEOUT.DATA, Nest(ICMPTimeouts), when=("proto", ICMP)),
    at(CTA_TIMEOUT.DATA, Nest(ICMPv6Timeouts), when=("proto", ICMPV6)),
    at(CTA_TIMEOUT.DATA, Nest(GRETimeouts), when=("proto", _GRE)),
    at(CTA_TIMEOUT.DATA, Nest(GenericTimeouts), when=("proto", GENERIC)),
    at(CTA_TIMEOUT.DATA, Nest(DCCPTimeouts), when=("proto", _DCCP), until="6.16"),
)


@message
class TimeoutPolicy:
    """Timeouts under a name, for flows of one protocol over IPv4 or IPv6.

    A rule gives it to flows: ``iptables -t raw ... -j CT --timeout NAME``. It belongs to a network
    namespace.

    On the wire: ``ctattr_timeout`` (linux/netfilter/nfnetlink_cttimeout.h), written by
    ``ctnl_timeout_fill_info``.
    """

    name: str = attribute(CTA_TIMEOUT.NAME, Text(CTNL_TIMEOUT_NAME_MAX))
    """Up to 31 bytes."""
    family: int = attribute(CTA_TIMEOUT.L3PROTO, U16)
    """``AF_INET`` or ``AF_INET6``: that of the rules that can use it."""
    proto: int = attribute(CTA_TIMEOUT.L4PROTO, U8)
    """The protocol's number, as IANA gives it; 255 is every one without a tracker of its own."""
    timeouts: ProtocolTimeouts | None = variants(*_DATA, default=None)
    """Those of :attr:`protocol`. Of one that this version does not know, in :attr:`unknown`."""
    use: int | None = attribute(CTA_TIMEOUT.USE, U32, default=None, access=Access.READ)
    """The kernel's reference count: 1, and 1 more for each rule that has the policy."""
    unknown: tuple[UnknownAttribute, ...] = attrs.field(default=(), eq=by_path)
    """What the kernel sent that this version does not know."""

    @classmethod
    def of(
        cls, name: str, timeouts: ProtocolTimeouts, *, family: int, proto: int | None = None
    ) -> TimeoutPolicy:
        """A new policy for the protocol that ``timeouts`` is of (UDP-Lite: say ``protocol=136``).

        Raises :exc:`EncodeError` for timeouts that don't go with the protocol.
        """
        number = protocol_of(type(timeouts), proto)
        return cls(name=name, family=family, proto=number, timeouts=timeouts)

    @property
    def in_use(self) -> bool:
        """Whether a rule has it. Flows that a rule gave it do not count."""
        return self.use is not None and self.use > 1


def protocol_of(kind: type[object], proto: int | None = None) -> int:
    """The protocol that a class of timeouts is of. Raises :exc:`EncodeError` for another one."""
    numbers = [place.when[1] for place in _DATA if place.when and place.wire == Nest(kind)]
    if not numbers:
        name = getattr(kind, "__name__", None) or describe_value(kind)
        raise EncodeError(f"{name} is no class of timeouts, as TCPTimeouts is", ("timeouts",))
    if proto is None:
        return numbers[0]
    number = proto_number(proto, "proto")
    if number not in numbers:
        raise EncodeError(f"{kind.__name__} does not go with protocol {number}", ("timeouts",))
    return number
