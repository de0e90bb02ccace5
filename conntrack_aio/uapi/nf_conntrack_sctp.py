"""linux/netfilter/nf_conntrack_sctp.h: the states of a tracked SCTP association."""

from enum import IntEnum


class SCTP_CONNTRACK(IntEnum):
    """``enum sctp_conntrack``: the state of an association."""

    NONE = 0
    CLOSED = 1
    COOKIE_WAIT = 2
    COOKIE_ECHOED = 3
    ESTABLISHED = 4
    SHUTDOWN_SENT = 5
    SHUTDOWN_RECD = 6
    SHUTDOWN_ACK_SENT = 7
    HEARTBEAT_SENT = 8
    HEARTBEAT_ACKED = 9  # not used since 6.6
    MAX = 10
