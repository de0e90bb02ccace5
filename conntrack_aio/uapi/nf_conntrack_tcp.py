"""linux/netfilter/nf_conntrack_tcp.h: the states and flags of a tracked TCP connection."""

from enum import IntEnum, IntFlag


class TCP_CONNTRACK(IntEnum):
    """``enum tcp_conntrack``: the state of a connection.

    The kernel uses the numbers from MAX on internally. They never appear in a message.
    """

    NONE = 0
    SYN_SENT = 1
    SYN_RECV = 2
    ESTABLISHED = 3
    FIN_WAIT = 4
    CLOSE_WAIT = 5
    LAST_ACK = 6
    TIME_WAIT = 7
    CLOSE = 8
    SYN_SENT2 = 9  # LISTEN is the obsolete name of this state
    LISTEN = 9
    MAX = 10  # from here on internal to the kernel
    IGNORE = 11
    RETRANS = 12
    UNACK = 13
    TIMEOUT_MAX = 14


class IP_CT_TCP_FLAG(IntFlag):
    """``IP_CT_TCP_FLAG_*``: the state of window tracking for one direction."""

    WINDOW_SCALE = 0x01
    SACK_PERM = 0x02
    CLOSE_INIT = 0x04
    BE_LIBERAL = 0x08
    DATA_UNACKNOWLEDGED = 0x10
    MAXACK_SET = 0x20
    EXP_CHALLENGE_ACK = 0x40  # IP_CT_EXP_CHALLENGE_ACK
    SIMULTANEOUS_OPEN = 0x80  # IP_CT_TCP_SIMULTANEOUS_OPEN
