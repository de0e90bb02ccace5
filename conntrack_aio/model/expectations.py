"""Expectations: connections that the helper of another one has announced."""

from __future__ import annotations

import builtins
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import attrs

from ..errors import EncodeError
from ..uapi.nfnetlink_conntrack import CTA_EXPECT, CTA_EXPECT_NAT
from .declare import (
    U32,
    Access,
    Nest,
    Text,
    UnknownAttribute,
    attribute,
    by_path,
    inlined,
    message,
    normalized,
    u32,
)
from .enums import Direction, EventType, ExpectFlags
from .text import describe_event, describe_expectation
from .times import as_datetime
from .tuples import TCP, AddressLike, IPAddress, Tuple, named_address
from .values import describe_value

ALL_ONES: Final[dict[type[IPAddress], IPAddress]] = {
    IPv4Address: IPv4Address("255.255.255.255"),
    IPv6Address: IPv6Address((1 << 128) - 1),
}
"""The mask of an address that is compared whole."""


@message(hashable=True)
class ExpectNAT:
    """How the expected connection is to be translated, where its master is.

    The expectation's ``function`` looks at it, and nothing else does. ``nat-follow-master``
    (``nf_nat_follow_master``) takes the addresses from the master's own translation, and from
    here the direction and the port. On the wire: ``ctattr_expect_nat``.
    """

    direction: Direction | int = attribute(CTA_EXPECT_NAT.DIR, u32(Direction))
    """Whether the expected connection goes the way of its master, or comes the other way."""
    tuple: Tuple = attribute(CTA_EXPECT_NAT.TUPLE, Nest(Tuple))
    """Its source: the address and port that were announced, before a helper wrote others in their
    place. The kernel keeps no more of it, and tells it with a destination of zero and the
    protocol of the master."""

    @classmethod
    def of(
        cls,
        address: AddressLike,
        port: int,
        *,
        direction: Direction = Direction.ORIGINAL,
        proto: int = TCP,
    ) -> ExpectNAT:
        """The address and port that were announced; ``proto`` is the protocol of the master.

        Raises :exc:`EncodeError`, which is a :exc:`ValueError`, for a text that is not an address
        and a port or protocol that can't be; and :exc:`TypeError` for an address that is neither
        text nor an address object.
        """
        source = named_address(address, "src")
        nowhere = type(source)(0)
        announced = Tuple(src=source, dst=nowhere, proto=proto, sport=port, dport=0)
        return cls(direction=direction, tuple=announced)


@message
class Expectation:
    """A connection that a helper expects, because another one, its master, announced it.

    An FTP client and server agree over their control connection on where the data will go; the
    helper ``ftp`` reads that, and expects a connection from the one to the other. The first packet
    that fits makes it a flow, whose ``master`` is then the control connection's original tuple,
    and its status EXPECTED ("related", to a firewall).

    The kernel always tells the first three, and of the rest all but what there is none of. It
    never tells the zone, which is that of the master.

    On the wire: ``ctattr_expect`` (linux/netfilter/nfnetlink_conntrack.h), written by
    ``ctnetlink_exp_dump_expect``.
    """

    master: Tuple = attribute(CTA_EXPECT.MASTER, Nest(Tuple))
    """The original tuple of the connection that announced it."""
    tuple: Tuple = attribute(CTA_EXPECT.TUPLE, Nest(Tuple))
    """What its first packet will look like, as far as the mask looks."""
    mask: Tuple = attribute(CTA_EXPECT.MASK, Nest(Tuple))
    """Which bits of the source address and of the source port (of ICMP: of the id) are compared.

    Destination and protocol are always compared whole: there the kernel tells all ones, and the
    tuple's own protocol.
    """
    timeout: int | None = attribute(CTA_EXPECT.TIMEOUT, U32, default=None)
    """Seconds until it expires. A new one has its helper's: 300 for ``ftp``."""
    id: int | None = attribute(CTA_EXPECT.ID, U32, default=None, access=Access.READ)
    """Opaque: the same as long as it lives; others have others (``nf_expect_get_id``)."""
    helper: str | None = attribute(CTA_EXPECT.HELP_NAME, Text(16), default=None)
    """The name of the helper that expects it: the one of its master."""
    flags: ExpectFlags | None = attribute(CTA_EXPECT.FLAGS, u32(ExpectFlags), default=None)
    """Whether it stays when it is met, and whether it is met at all."""
    expect_class: int | None = attribute(CTA_EXPECT.CLASS, U32, default=None)
    """Which of the helper's kinds of expectation it is: those have a limit and a timeout each."""
    nat: ExpectNAT | None = attribute(CTA_EXPECT.NAT, Nest(ExpectNAT), default=None)
    """Absent where the master is not translated."""
    function: str | None = attribute(CTA_EXPECT.FN, Text(64), default=None)
    """What the kernel calls for the new connection: ``nat-follow-master`` translates it by
    :attr:`nat`, ``sip``, ``Q.931`` and ``callforwarding`` are of SIP and H.323."""
    unknown: builtins.tuple[UnknownAttribute, ...] = attrs.field(default=(), eq=by_path)
    """What the kernel sent that this version does not know."""

    @classmethod
    def of(
        cls,
        master: Tuple,
        tuple: Tuple,
        *,
        any_src: bool = False,
        any_sport: bool = False,
        timeout: int | None = None,
        flags: ExpectFlags | None = None,
        expect_class: int | None = None,
        nat: ExpectNAT | None = None,
        function: str | None = None,
    ) -> Expectation:
        """A new expectation, its mask made.

        :param master: the original tuple of the connection that announces it.
        :param tuple: what its first packet will look like.
        :param any_src: from whatever source address; the tuple's own is not looked at.
        :param any_sport: from whatever source port (of ICMP: with whatever id).

        Raises :exc:`EncodeError` for what is no tuple.
        """
        for name, each in (("master", master), ("tuple", tuple)):
            if not isinstance(each, Tuple):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise EncodeError(f"{describe_value(each)} is not a Tuple", (name,))
        tuple.validate()
        return cls(
            master=master,
            tuple=tuple,
            mask=_mask(tuple, any_src, any_sport),
            timeout=timeout,
            flags=flags,
            expect_class=expect_class,
            nat=nat,
            function=function,
        )

    def __str__(self) -> str:
        return describe_expectation(self)


def _mask(of: Tuple, any_src: bool, any_sport: bool) -> Tuple:
    """A whole mask, as the kernel tells them."""
    of = normalized(of)
    ones = ALL_ONES[type(of.src)]
    port = 0 if any_sport else 0xFFFF
    mask = Tuple(src=type(of.src)(0) if any_src else ones, dst=ones, proto=of.proto)
    if of.dport is not None:
        mask.sport, mask.dport = port, 0xFFFF
    if of.icmp_type is not None:
        mask.icmp_id, mask.icmp_type, mask.icmp_code = port, 0xFF, 0xFF
    return mask


@message
class ExpectEvent:
    """One event of an expectation, whole as in a dump."""

    type: EventType = attrs.field()
    """NEW, or DESTROY: a connection met it (unless it is PERMANENT), its time or its master's was
    up, another took its place, or a program deleted it. The kernel tells no updates."""
    expectation: Expectation = inlined(Expectation)
    port_id: int = attrs.field(default=0)
    """The netlink port of the program whose request caused it; 0 for packets and timeouts."""
    nsid: int | None = attrs.field(default=None)
    """As :attr:`FlowEvent.nsid`."""
    netns: str | None = attrs.field(default=None)
    """As :attr:`FlowEvent.netns`."""
    time_received: int | None = attrs.field(default=None)
    """As :attr:`FlowEvent.time_received`. The kernel itself sends no time with it."""

    @property
    def received_at(self) -> datetime | None:
        """:attr:`time_received` to the microsecond."""
        return as_datetime(self.time_received)

    def __str__(self) -> str:
        return describe_event(self, self.expectation)
