"""Expectations: connections that a helper expects because another connection announced them."""

from __future__ import annotations

import builtins
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

import attrs

from ..errors import EncodeError
from ..uapi.nfnetlink_conntrack import CTA_EXPECT, CTA_EXPECT_NAT
from .declare import UnknownAttribute, attribute, by_path, inlined, message
from .enums import Direction, EventType, ExpectFlags
from .normalization import normalized
from .protocols import TCP
from .text import describe_event, describe_expectation
from .times import as_datetime
from .tuples import AddressLike, IPAddress, Tuple, named_address
from .values import describe_value
from .wire import U32, Access, Nest, Text, u32

if TYPE_CHECKING:
    from datetime import datetime

ALL_ONES: Final[dict[type[IPAddress], IPAddress]] = {
    IPv4Address: IPv4Address("255.255.255.255"),
    IPv6Address: IPv6Address((1 << 128) - 1),
}
"""The mask of an address all of whose bits are compared."""


@message(hashable=True)
class ExpectNAT:
    """The translation of an expected connection whose master is translated.

    Only the expectation's ``function`` uses it. ``nat-follow-master`` (``nf_nat_follow_master``)
    takes the addresses from the master's own translation, and the direction and the port from this
    object.

    On the wire: ``ctattr_expect_nat``.
    """

    direction: Direction | int = attribute(CTA_EXPECT_NAT.DIR, u32(Direction))
    """The direction of the master in which the expected connection is opened."""
    tuple: Tuple = attribute(CTA_EXPECT_NAT.TUPLE, Nest(Tuple))
    """The announced address and port, as source, before a helper replaced them. The kernel stores
    nothing else of this tuple: it sends a destination of 0 and the master's protocol."""

    @classmethod
    def of(
        cls,
        address: AddressLike,
        port: int,
        *,
        direction: Direction = Direction.ORIGINAL,
        proto: int = TCP,
    ) -> ExpectNAT:
        """Return a translation for an announced address and port.

        :param address: the announced address, as text or as an address object.
        :param port: the announced port, 0 to 65535.
        :param direction: the direction of the master in which the expected connection is opened.
        :param proto: the master's protocol.
        :raises EncodeError: when text is not an address, or when the port or the protocol is
            invalid; this is a :exc:`ValueError`.
        :raises TypeError: when the address is neither text nor an address object.
        """
        source = named_address(address, "src")
        unspecified = type(source)(0)
        announced = Tuple(src=source, dst=unspecified, proto=proto, sport=port, dport=0)
        return cls(direction=direction, tuple=announced)


@message
class Expectation:
    """A connection that a helper expects because another one, its master, announced it.

    Example: an FTP client and server negotiate the addresses of their data connection over the
    control connection. The helper ``ftp`` reads that and creates an expectation. The first packet
    that matches it creates a flow. The flow's ``master`` is the original tuple of the control
    connection, and its status has the bit EXPECTED; firewalls call it "related".

    The kernel always sends :attr:`master`, :attr:`tuple` and :attr:`mask`, and the other fields
    unless they are absent. It never sends the zone, which is that of the master.

    On the wire: ``ctattr_expect`` (linux/netfilter/nfnetlink_conntrack.h), written by
    ``ctnetlink_exp_dump_expect``.
    """

    master: Tuple = attribute(CTA_EXPECT.MASTER, Nest(Tuple))
    """The original tuple of the master connection."""
    tuple: Tuple = attribute(CTA_EXPECT.TUPLE, Nest(Tuple))
    """The tuple of the expected connection's first packet, as far as :attr:`mask` compares it."""
    mask: Tuple = attribute(CTA_EXPECT.MASK, Nest(Tuple))
    """The bits of the source address and source port that are compared; for ICMP, of the id.

    The destination and the protocol are always compared completely: the kernel sends all ones for
    the destination, and the tuple's protocol.
    """
    timeout: int | None = attribute(CTA_EXPECT.TIMEOUT, U32, default=None)
    """The seconds until the expectation expires. A new one gets its helper's: 300 for ``ftp``."""
    id: int | None = attribute(CTA_EXPECT.ID, U32, default=None, access=Access.READ)
    """An opaque number that stays the same as long as the expectation exists and differs between
    expectations (``nf_expect_get_id``)."""
    helper: str | None = attribute(CTA_EXPECT.HELP_NAME, Text(16), default=None)
    """The name of the helper, which is that of the master."""
    flags: ExpectFlags | None = attribute(CTA_EXPECT.FLAGS, u32(ExpectFlags), default=None)
    """The flags: whether the expectation stays after a match, and whether it is active."""
    expect_class: int | None = attribute(CTA_EXPECT.CLASS, U32, default=None)
    """The class of the expectation within its helper; each class has its own limit and timeout."""
    nat: ExpectNAT | None = attribute(CTA_EXPECT.NAT, Nest(ExpectNAT), default=None)
    """The translation of the expected connection; absent if the master is not translated."""
    function: str | None = attribute(CTA_EXPECT.FN, Text(64), default=None)
    """The function that the kernel calls for the new connection: ``nat-follow-master`` translates
    it by :attr:`nat`; ``sip``, ``Q.931`` and ``callforwarding`` belong to SIP and H.323."""
    unknown: builtins.tuple[UnknownAttribute, ...] = attrs.field(default=(), eq=by_path)
    """The attributes that the kernel sent and this version does not know."""

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
        """Return a new expectation with the mask that the arguments describe.

        :param master: the original tuple of the master connection.
        :param tuple: the tuple of the expected connection's first packet.
        :param any_src: whether any source address matches.
        :param any_sport: whether any source port matches; for ICMP, any id.
        :param timeout: seconds until the expectation expires.
        :param flags: the flags; see :attr:`flags`.
        :param expect_class: the class of the expectation within its helper.
        :param nat: the translation of the expected connection.
        :param function: the function that the kernel calls for the new connection.
        :raises EncodeError: when ``master`` or ``tuple`` is not a tuple, or when ``tuple`` is
            invalid; this is a :exc:`ValueError`.
        """
        for name, value in (("master", master), ("tuple", tuple)):
            if not isinstance(value, Tuple):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise EncodeError(f"must be a Tuple; got {describe_value(value)}", (name,))
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


def _mask(tuple_: Tuple, any_src: bool, any_sport: bool) -> Tuple:
    """Return a mask with all fields, as the kernel sends it."""
    tuple_ = normalized(tuple_)
    address = type(tuple_.src)
    ones = ALL_ONES[address]
    port = 0 if any_sport else 0xFFFF
    mask = Tuple(src=address(0) if any_src else ones, dst=ones, proto=tuple_.proto)
    if tuple_.dport is not None:
        mask.sport, mask.dport = port, 0xFFFF
    if tuple_.icmp_type is not None:
        mask.icmp_id, mask.icmp_type, mask.icmp_code = port, 0xFF, 0xFF
    return mask


@message
class ExpectEvent:
    """An event of an expectation, with all its fields, as in a dump."""

    type: EventType = attrs.field()
    """The type of the event: NEW or DESTROY; the kernel sends no updates. An expectation ends when
    a connection matches it, unless it is PERMANENT; when its timeout expires or its master ends;
    when another one replaces it; or when a program deletes it."""
    expectation: Expectation = inlined(Expectation)
    """The expectation, complete."""
    port_id: int = attrs.field(default=0)
    """The port id of the program whose request caused the event; 0 for packets and timeouts."""
    nsid: int | None = attrs.field(default=None)
    """The id of the event's network namespace, as :attr:`FlowEvent.nsid`."""
    netns: str | None = attrs.field(default=None)
    """The name of the event's network namespace, as :attr:`FlowEvent.netns`."""
    receive_timestamp: int | None = attrs.field(default=None)
    """The time at which this program received the event, as :attr:`FlowEvent.receive_timestamp`.
    The kernel sends no time of its own."""

    @property
    def receive_time(self) -> datetime | None:
        """The value of :attr:`receive_timestamp` as a datetime, rounded down to the microsecond."""
        return as_datetime(self.receive_timestamp)

    def __str__(self) -> str:
        return describe_event(self, self.expectation)
