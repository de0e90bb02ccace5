"""linux/netlink.h: the constants that all netlink protocols share."""

from enum import IntEnum, IntFlag

AF_NETLINK = 16
SOL_NETLINK = 270


class NETLINK(IntEnum):
    """``NETLINK_*``: the protocols that the library uses: third argument of ``socket()``."""

    ROUTE = 0
    NETFILTER = 12


class NLM_F(IntFlag):
    """``NLM_F_*``: the flags of a message.

    The upper bits have different meanings in GET, NEW and DELETE requests and in acknowledgements.
    Therefore some members are aliases of others.
    """

    REQUEST = 0x01
    MULTI = 0x02
    ACK = 0x04
    ECHO = 0x08
    DUMP_INTR = 0x10
    DUMP_FILTERED = 0x20
    # In GET requests.
    ROOT = 0x100
    MATCH = 0x200
    ATOMIC = 0x400
    DUMP = ROOT | MATCH
    # In NEW requests.
    REPLACE = 0x100
    EXCL = 0x200
    CREATE = 0x400
    APPEND = 0x800
    # In DELETE requests.
    NONREC = 0x100
    BULK = 0x200
    # In acknowledgements.
    CAPPED = 0x100
    ACK_TLVS = 0x200


class NLMSG(IntEnum):
    """``NLMSG_*``: the message types of every protocol. The protocols' own begin at MIN_TYPE."""

    NOOP = 0x1
    ERROR = 0x2
    DONE = 0x3
    OVERRUN = 0x4
    MIN_TYPE = 0x10


class NLMSGERR_ATTR(IntEnum):
    """``enum nlmsgerr_attrs``: the attributes of an extended acknowledgement."""

    UNUSED = 0
    MSG = 1
    OFFS = 2
    COOKIE = 3
    POLICY = 4
    MISS_TYPE = 5
    MISS_NEST = 6


class NETLINK_OPTION(IntEnum):
    """``NETLINK_*``: the socket options at level ``SOL_NETLINK``."""

    ADD_MEMBERSHIP = 1
    DROP_MEMBERSHIP = 2
    PKTINFO = 3
    BROADCAST_ERROR = 4
    NO_ENOBUFS = 5
    RX_RING = 6
    TX_RING = 7
    LISTEN_ALL_NSID = 8
    LIST_MEMBERSHIPS = 9
    CAP_ACK = 10
    EXT_ACK = 11
    GET_STRICT_CHK = 12


NLA_F_NESTED = 1 << 15
NLA_F_NET_BYTEORDER = 1 << 14
NLA_TYPE_MASK = 0x3FFF
NLA_ALIGNTO = 4
NLMSG_ALIGNTO = 4
