"""The public enums: sets of bits and states, with the kernel's names for their members.

Each takes its values from the kernel's own enum in :mod:`conntrack_aio.uapi`, so that ``repr()``
and :func:`help` show names that can be imported from :mod:`conntrack_aio`. Members are integers.
:class:`str` returns their names, and so does an f-string without a numeric format:
``f"{status}"`` is ``SEEN_REPLY|ASSURED`` and ``f"{status:#x}"`` is ``0x6``.
"""

from __future__ import annotations

import enum

from ..uapi.nf_conntrack_common import IPS, NF_CT_EXPECT
from ..uapi.nf_conntrack_dccp import CT_DCCP, CT_DCCP_ROLE
from ..uapi.nf_conntrack_sctp import SCTP_CONNTRACK
from ..uapi.nf_conntrack_tcp import IP_CT_TCP_FLAG, TCP_CONNTRACK
from ..uapi.nf_conntrack_tuple_common import IP_CT_DIR

_NUMERIC = tuple("bcdoxXneEfFgG%")
"""The last letters of formats for numbers."""


class NamedEnum(enum.Enum):
    """An enum whose members have their names as text."""

    def __str__(self) -> str:
        return self.name


class NamedNumber(enum.IntEnum):
    """A number with a name, which is its text."""

    def __str__(self) -> str:
        return self.name

    def __format__(self, spec: str) -> str:
        """Format the number if the format is numeric, and the name otherwise."""
        return int.__format__(self, spec) if spec.endswith(_NUMERIC) else format(str(self), spec)


class NamedBits(enum.IntFlag):
    """A set of bits with names, which are its text."""

    def __str__(self) -> str:
        """Return the names with ``|`` between them; bits without a name are one number.

        A set without any bit is ``0``.
        """
        names = [str(bit.name) for bit in self]
        unnamed = self.value & ~sum(bit.value for bit in self)
        return "|".join([*names, f"{unnamed:#x}"] if unnamed else names) or "0"

    def __format__(self, spec: str) -> str:
        """Format the number if the format is numeric, and the names otherwise."""
        return int.__format__(self, spec) if spec.endswith(_NUMERIC) else format(str(self), spec)


class Status(NamedBits):
    """The status of an entry, a set of bits: ``enum ip_conntrack_status``.

    Programs can set SEEN_REPLY, ASSURED, FIXED_TIMEOUT and HELPER and can clear none of them; the
    other bits are the kernel's alone (``ctnetlink_change_status``).
    """

    EXPECTED = IPS.EXPECTED
    """The connection was expected: a helper announced it (firewalls say "related")."""
    SEEN_REPLY = IPS.SEEN_REPLY
    """Packets have passed in both directions."""
    ASSURED = IPS.ASSURED
    """The kernel does not end the entry early when the table is full."""
    CONFIRMED = IPS.CONFIRMED
    """The entry is in the table: its first packet has left the machine or reached its socket."""
    SRC_NAT = IPS.SRC_NAT
    """The source of the original direction is translated."""
    DST_NAT = IPS.DST_NAT
    """The destination of the original direction is translated."""
    NAT_MASK = IPS.NAT_MASK
    """SRC_NAT and DST_NAT."""
    SEQ_ADJUST = IPS.SEQ_ADJUST
    """TCP sequence numbers are shifted."""
    SRC_NAT_DONE = IPS.SRC_NAT_DONE
    """The kernel has decided whether to translate the source."""
    DST_NAT_DONE = IPS.DST_NAT_DONE
    """The kernel has decided whether to translate the destination."""
    NAT_DONE_MASK = IPS.NAT_DONE_MASK
    """SRC_NAT_DONE and DST_NAT_DONE."""
    DYING = IPS.DYING
    """The entry has left the table."""
    FIXED_TIMEOUT = IPS.FIXED_TIMEOUT
    """Packets do not renew the timeout."""
    TEMPLATE = IPS.TEMPLATE
    """The entry is a template of a rule, not a connection."""
    UNTRACKED = IPS.UNTRACKED
    """Since Linux 5.8 the kernel uses this bit as NAT_CLASH; it is in no message."""
    HELPER = IPS.HELPER
    """A rule or a program assigned the helper."""
    OFFLOAD = IPS.OFFLOAD
    """A flow table forwards the packets, since Linux 4.16."""
    HW_OFFLOAD = IPS.HW_OFFLOAD
    """Hardware forwards the packets, since Linux 5.8."""
    UNCHANGEABLE_MASK = IPS.UNCHANGEABLE_MASK
    """The bits that only the kernel sets."""


class TCPState(NamedNumber):
    """The state of a tracked TCP connection: ``enum tcp_conntrack``."""

    NONE = TCP_CONNTRACK.NONE
    SYN_SENT = TCP_CONNTRACK.SYN_SENT
    SYN_RECV = TCP_CONNTRACK.SYN_RECV
    ESTABLISHED = TCP_CONNTRACK.ESTABLISHED
    FIN_WAIT = TCP_CONNTRACK.FIN_WAIT
    CLOSE_WAIT = TCP_CONNTRACK.CLOSE_WAIT
    LAST_ACK = TCP_CONNTRACK.LAST_ACK
    TIME_WAIT = TCP_CONNTRACK.TIME_WAIT
    CLOSE = TCP_CONNTRACK.CLOSE
    SYN_SENT2 = TCP_CONNTRACK.SYN_SENT2
    """Both sides sent a SYN: a simultaneous open."""
    LISTEN = TCP_CONNTRACK.LISTEN
    """The obsolete name of SYN_SENT2."""


class TCPFlags(NamedBits):
    """The state of window tracking for one side of a TCP connection: ``IP_CT_TCP_FLAG_*``."""

    WINDOW_SCALE = IP_CT_TCP_FLAG.WINDOW_SCALE
    """The side announced a window scale."""
    SACK_PERM = IP_CT_TCP_FLAG.SACK_PERM
    """The side permits selective acknowledgements."""
    CLOSE_INIT = IP_CT_TCP_FLAG.CLOSE_INIT
    """The side sent the first FIN."""
    BE_LIBERAL = IP_CT_TCP_FLAG.BE_LIBERAL
    """Packets outside the window count as valid."""
    DATA_UNACKNOWLEDGED = IP_CT_TCP_FLAG.DATA_UNACKNOWLEDGED
    """The side has data that was not acknowledged."""
    MAXACK_SET = IP_CT_TCP_FLAG.MAXACK_SET
    """The highest acknowledgement is known."""
    EXP_CHALLENGE_ACK = IP_CT_TCP_FLAG.EXP_CHALLENGE_ACK
    """A challenge acknowledgement (RFC 5961) is expected."""
    SIMULTANEOUS_OPEN = IP_CT_TCP_FLAG.SIMULTANEOUS_OPEN
    """Both sides sent a SYN."""


class SCTPState(NamedNumber):
    """The state of a tracked SCTP association: ``enum sctp_conntrack``."""

    NONE = SCTP_CONNTRACK.NONE
    CLOSED = SCTP_CONNTRACK.CLOSED
    COOKIE_WAIT = SCTP_CONNTRACK.COOKIE_WAIT
    COOKIE_ECHOED = SCTP_CONNTRACK.COOKIE_ECHOED
    ESTABLISHED = SCTP_CONNTRACK.ESTABLISHED
    SHUTDOWN_SENT = SCTP_CONNTRACK.SHUTDOWN_SENT
    SHUTDOWN_RECD = SCTP_CONNTRACK.SHUTDOWN_RECD
    SHUTDOWN_ACK_SENT = SCTP_CONNTRACK.SHUTDOWN_ACK_SENT
    HEARTBEAT_SENT = SCTP_CONNTRACK.HEARTBEAT_SENT
    HEARTBEAT_ACKED = SCTP_CONNTRACK.HEARTBEAT_ACKED
    """Not used since Linux 6.6."""


class DCCPState(NamedNumber):
    """The state of a tracked DCCP connection, until Linux 6.16: ``enum ct_dccp_states``."""

    NONE = CT_DCCP.NONE
    REQUEST = CT_DCCP.REQUEST
    RESPOND = CT_DCCP.RESPOND
    PARTOPEN = CT_DCCP.PARTOPEN
    OPEN = CT_DCCP.OPEN
    CLOSEREQ = CT_DCCP.CLOSEREQ
    CLOSING = CT_DCCP.CLOSING
    TIMEWAIT = CT_DCCP.TIMEWAIT
    IGNORE = CT_DCCP.IGNORE
    INVALID = CT_DCCP.INVALID


class DCCPRole(NamedNumber):
    """The role of the original direction's sender in DCCP: ``enum ct_dccp_roles``."""

    CLIENT = CT_DCCP_ROLE.CLIENT
    SERVER = CT_DCCP_ROLE.SERVER


class Direction(NamedNumber):
    """A direction of a connection: ``enum ip_conntrack_dir``."""

    ORIGINAL = IP_CT_DIR.ORIGINAL
    """The direction of the first packet."""
    REPLY = IP_CT_DIR.REPLY
    """The direction of the replies."""


class ExpectFlags(NamedBits):
    """The flags of an expectation: ``NF_CT_EXPECT_*``.

    Programs can set PERMANENT and INACTIVE. The kernel drops USERSPACE from what a program sends;
    it refuses unknown bits since 2026 and stored them before (``ctnetlink_alloc_expect``).
    """

    PERMANENT = NF_CT_EXPECT.PERMANENT
    """The expectation stays when a connection has met it, until its timeout."""
    INACTIVE = NF_CT_EXPECT.INACTIVE
    """No connection can meet the expectation."""
    USERSPACE = NF_CT_EXPECT.USERSPACE
    """A user-space helper created the expectation."""


class EventType(NamedEnum):
    """The type of an event."""

    NEW = "new"
    """The entry is confirmed: its first packet has passed, or a program created it."""
    UPDATE = "update"
    """The state, status, mark, labels or the like changed. Counters and timeouts cause no event."""
    DESTROY = "destroy"
    """The entry is gone: deleted, expired or flushed."""
