"""Timeout policies: the timeouts of flows that a rule assigns the policy to.

All timeouts are in seconds. The kernel stores a policy's timeouts in ticks, 100 to 1000 a second.
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
from .declare import UnknownAttribute, attribute, by_path, message, variants
from .protocols import DCCP, GRE, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE
from .tuples import proto_number
from .values import describe_value
from .wire import U8, U16, U32, Access, At, Nest, Text, at

GENERIC: Final = 255
"""The number that stands for every protocol without a tracker of its own."""


@message(hashable=True)
class TCPTimeouts:
    """The timeouts of the states of a TCP connection, in seconds.

    ``None`` means "absent"; in a change of defaults, "unchanged". The defaults are the sysctls
    ``nf_conntrack_tcp_timeout_*``; ``established`` is 5 days.
    """

    syn_sent: int | None = attribute(CTA_TIMEOUT_TCP.SYN_SENT, U32, default=None)
    """The timeout in the state SYN_SENT."""
    syn_recv: int | None = attribute(CTA_TIMEOUT_TCP.SYN_RECV, U32, default=None)
    """The timeout in the state SYN_RECV."""
    established: int | None = attribute(CTA_TIMEOUT_TCP.ESTABLISHED, U32, default=None)
    """The timeout in the state ESTABLISHED."""
    fin_wait: int | None = attribute(CTA_TIMEOUT_TCP.FIN_WAIT, U32, default=None)
    """The timeout in the state FIN_WAIT."""
    close_wait: int | None = attribute(CTA_TIMEOUT_TCP.CLOSE_WAIT, U32, default=None)
    """The timeout in the state CLOSE_WAIT."""
    last_ack: int | None = attribute(CTA_TIMEOUT_TCP.LAST_ACK, U32, default=None)
    """The timeout in the state LAST_ACK."""
    time_wait: int | None = attribute(CTA_TIMEOUT_TCP.TIME_WAIT, U32, default=None)
    """The timeout in the state TIME_WAIT."""
    close: int | None = attribute(CTA_TIMEOUT_TCP.CLOSE, U32, default=None)
    """The timeout in the state CLOSE."""
    syn_sent2: int | None = attribute(CTA_TIMEOUT_TCP.SYN_SENT2, U32, default=None)
    """The timeout after both sides sent a SYN. There is no sysctl for it."""
    retrans: int | None = attribute(CTA_TIMEOUT_TCP.RETRANS, U32, default=None)
    """The limit of the other timeouts, once ``nf_conntrack_tcp_max_retrans`` segments were
    retransmitted."""
    unack: int | None = attribute(CTA_TIMEOUT_TCP.UNACK, U32, default=None)
    """The limit of the other timeouts, while data is not acknowledged."""


@message(hashable=True)
class UDPTimeouts:
    """The timeouts of a UDP or UDP-Lite flow, in seconds.

    The defaults are the sysctls ``nf_conntrack_udp_timeout*``.
    """

    unreplied: int | None = attribute(CTA_TIMEOUT_UDP.UNREPLIED, U32, default=None)
    """The timeout of a flow without a reply, and of any flow that is younger than two seconds."""
    replied: int | None = attribute(CTA_TIMEOUT_UDP.REPLIED, U32, default=None)
    """The timeout of a flow with a reply."""


@message(hashable=True)
class SCTPTimeouts:
    """The timeouts of the states of an SCTP association, in seconds.

    The defaults are the sysctls ``nf_conntrack_sctp_timeout_*``.
    """

    closed: int | None = attribute(CTA_TIMEOUT_SCTP.CLOSED, U32, default=None)
    """The timeout in the state CLOSED."""
    cookie_wait: int | None = attribute(CTA_TIMEOUT_SCTP.COOKIE_WAIT, U32, default=None)
    """The timeout in the state COOKIE_WAIT."""
    cookie_echoed: int | None = attribute(CTA_TIMEOUT_SCTP.COOKIE_ECHOED, U32, default=None)
    """The timeout in the state COOKIE_ECHOED."""
    established: int | None = attribute(CTA_TIMEOUT_SCTP.ESTABLISHED, U32, default=None)
    """The timeout in the state ESTABLISHED."""
    shutdown_sent: int | None = attribute(CTA_TIMEOUT_SCTP.SHUTDOWN_SENT, U32, default=None)
    """The timeout in the state SHUTDOWN_SENT."""
    shutdown_recd: int | None = attribute(CTA_TIMEOUT_SCTP.SHUTDOWN_RECD, U32, default=None)
    """The timeout in the state SHUTDOWN_RECD."""
    shutdown_ack_sent: int | None = attribute(CTA_TIMEOUT_SCTP.SHUTDOWN_ACK_SENT, U32, default=None)
    """The timeout in the state SHUTDOWN_ACK_SENT."""
    heartbeat_sent: int | None = attribute(CTA_TIMEOUT_SCTP.HEARTBEAT_SENT, U32, default=None)
    """The timeout in the state HEARTBEAT_SENT."""
    heartbeat_acked: int | None = attribute(CTA_TIMEOUT_SCTP.HEARTBEAT_ACKED, U32, default=None)
    """Unused since Linux 6.6: the kernel sends 0 and ignores what a program sends."""


@message(hashable=True)
class ICMPTimeouts:
    """The timeout of an ICMP flow, in seconds. The default is ``nf_conntrack_icmp_timeout``."""

    timeout: int | None = attribute(CTA_TIMEOUT_ICMP.TIMEOUT, U32, default=None)
    """The timeout of every flow."""


@message(hashable=True)
class ICMPv6Timeouts:
    """The timeout of an ICMPv6 flow, in seconds. The default is ``nf_conntrack_icmpv6_timeout``."""

    timeout: int | None = attribute(CTA_TIMEOUT_ICMPV6.TIMEOUT, U32, default=None)
    """The timeout of every flow."""


@message(hashable=True)
class GRETimeouts:
    """The timeouts of a GRE flow, in seconds. The defaults are ``nf_conntrack_gre_timeout*``."""

    unreplied: int | None = attribute(CTA_TIMEOUT_GRE.UNREPLIED, U32, default=None)
    """The timeout of a flow without a reply."""
    replied: int | None = attribute(CTA_TIMEOUT_GRE.REPLIED, U32, default=None)
    """The timeout of a flow with a reply."""


@message(hashable=True)
class GenericTimeouts:
    """The timeout of a flow of any other protocol, in seconds.

    The default is ``nf_conntrack_generic_timeout``.
    """

    timeout: int | None = attribute(CTA_TIMEOUT_GENERIC.TIMEOUT, U32, default=None)
    """The timeout of every flow."""


@message(hashable=True)
class DCCPTimeouts:
    """The timeouts of the states of a DCCP connection, in seconds. Linux tracks DCCP until 6.16."""

    request: int | None = attribute(CTA_TIMEOUT_DCCP.REQUEST, U32, default=None, until="6.16")
    """The timeout in the state REQUEST."""
    respond: int | None = attribute(CTA_TIMEOUT_DCCP.RESPOND, U32, default=None, until="6.16")
    """The timeout in the state RESPOND."""
    partopen: int | None = attribute(CTA_TIMEOUT_DCCP.PARTOPEN, U32, default=None, until="6.16")
    """The timeout in the state PARTOPEN."""
    open: int | None = attribute(CTA_TIMEOUT_DCCP.OPEN, U32, default=None, until="6.16")
    """The timeout in the state OPEN."""
    closereq: int | None = attribute(CTA_TIMEOUT_DCCP.CLOSEREQ, U32, default=None, until="6.16")
    """The timeout in the state CLOSEREQ."""
    closing: int | None = attribute(CTA_TIMEOUT_DCCP.CLOSING, U32, default=None, until="6.16")
    """The timeout in the state CLOSING."""
    timewait: int | None = attribute(CTA_TIMEOUT_DCCP.TIMEWAIT, U32, default=None, until="6.16")
    """The timeout in the state TIMEWAIT."""


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
    at(CTA_TIMEOUT.DATA, Nest(UDPTimeouts), when=("proto", UDPLITE), until="7.0"),
    at(CTA_TIMEOUT.DATA, Nest(SCTPTimeouts), when=("proto", SCTP)),
    at(CTA_TIMEOUT.DATA, Nest(ICMPTimeouts), when=("proto", ICMP)),
    at(CTA_TIMEOUT.DATA, Nest(ICMPv6Timeouts), when=("proto", ICMPV6)),
    at(CTA_TIMEOUT.DATA, Nest(GRETimeouts), when=("proto", GRE)),
    at(CTA_TIMEOUT.DATA, Nest(GenericTimeouts), when=("proto", GENERIC)),
    at(CTA_TIMEOUT.DATA, Nest(DCCPTimeouts), when=("proto", DCCP), until="6.16"),
)


@message
class TimeoutPolicy:
    """Named timeouts for flows of one protocol over IPv4 or IPv6.

    A rule assigns the policy to flows: ``iptables -t raw ... -j CT --timeout NAME``. A policy
    belongs to a network namespace.

    On the wire: ``ctattr_timeout`` (linux/netfilter/nfnetlink_cttimeout.h), written by
    ``ctnl_timeout_fill_info``.
    """

    name: str = attribute(CTA_TIMEOUT.NAME, Text(CTNL_TIMEOUT_NAME_MAX))
    """The name of the policy, up to 31 bytes."""
    family: int = attribute(CTA_TIMEOUT.L3PROTO, U16)
    """The address family of the rules that can use the policy: ``AF_INET`` or ``AF_INET6``."""
    proto: int = attribute(CTA_TIMEOUT.L4PROTO, U8)
    """The IANA number of the protocol. 255 means all protocols without a tracker of their own."""
    timeouts: ProtocolTimeouts | None = variants(*_DATA, default=None)
    """The timeouts, of the class for :attr:`proto`. If this version does not know the protocol,
    they are in :attr:`unknown`."""
    use: int | None = attribute(CTA_TIMEOUT.USE, U32, default=None, access=Access.READ)
    """The kernel's reference count: 1, plus 1 for each rule that has the policy."""
    unknown: tuple[UnknownAttribute, ...] = attrs.field(default=(), eq=by_path)
    """The attributes that the kernel sent and this version does not know."""

    @classmethod
    def of(
        cls, name: str, timeouts: ProtocolTimeouts, *, family: int, proto: int | None = None
    ) -> TimeoutPolicy:
        """Return a new policy for the protocol that the class of ``timeouts`` belongs to.

        :param name: the name of the policy, up to 31 bytes.
        :param timeouts: the timeouts; the kernel uses its defaults for absent ones.
        :param family: ``AF_INET`` or ``AF_INET6``.
        :param proto: the protocol, if several have this class: 136 is UDP-Lite.
        :raises EncodeError: when the timeouts do not belong to the protocol; this is a
            :exc:`ValueError`.
        """
        number = protocol_of(type(timeouts), proto)
        return cls(name=name, family=family, proto=number, timeouts=timeouts)

    @property
    def in_use(self) -> bool:
        """Whether a rule has the policy. Flows that have it from a rule do not count."""
        return self.use is not None and self.use > 1


def protocol_of(timeouts: type[object], proto: int | None = None) -> int:
    """Return the protocol that a class of timeouts belongs to.

    :param timeouts: the class.
    :param proto: the protocol, which is checked; by default the first one of the class.
    :raises EncodeError: when the class has no protocol, or another one.
    """
    numbers = [place.when[1] for place in _DATA if place.when and place.wire == Nest(timeouts)]
    name = getattr(timeouts, "__name__", None) or describe_value(timeouts)
    if not numbers:
        raise EncodeError(
            f"must be an object of a class of timeouts such as TCPTimeouts; got one of {name}",
            ("timeouts",),
        )
    if proto is None:
        return numbers[0]
    number = proto_number(proto, "proto")
    if number not in numbers:
        accepted = " or ".join(map(str, numbers))
        raise EncodeError(f"{name} needs proto {accepted}; got {number}", ("timeouts",))
    return number
