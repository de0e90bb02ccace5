"""linux/netfilter/nfnetlink_cttimeout.h: timeout policies, to Linux 6.18."""

from enum import IntEnum


class IPCTNL_MSG_TIMEOUT(IntEnum):
    """``enum ctnl_timeout_msg_types``: the messages of ``NFNL_SUBSYS_CTNETLINK_TIMEOUT``."""

    NEW = 0
    GET = 1
    DELETE = 2
    DEFAULT_SET = 3
    DEFAULT_GET = 4


class CTA_TIMEOUT(IntEnum):
    """``enum ctattr_timeout``: the attributes of a timeout policy."""

    UNSPEC = 0
    NAME = 1
    L3PROTO = 2
    L4PROTO = 3
    DATA = 4
    USE = 5


class CTA_TIMEOUT_GENERIC(IntEnum):
    """``enum ctattr_timeout_generic``: inside ``CTA_TIMEOUT_DATA`` of all other protocols."""

    UNSPEC = 0
    TIMEOUT = 1


class CTA_TIMEOUT_TCP(IntEnum):
    """``enum ctattr_timeout_tcp``: inside ``CTA_TIMEOUT_DATA`` of TCP."""

    UNSPEC = 0
    SYN_SENT = 1
    SYN_RECV = 2
    ESTABLISHED = 3
    FIN_WAIT = 4
    CLOSE_WAIT = 5
    LAST_ACK = 6
    TIME_WAIT = 7
    CLOSE = 8
    SYN_SENT2 = 9
    RETRANS = 10
    UNACK = 11


class CTA_TIMEOUT_UDP(IntEnum):
    """``enum ctattr_timeout_udp``: inside ``CTA_TIMEOUT_DATA`` of UDP."""

    UNSPEC = 0
    UNREPLIED = 1
    REPLIED = 2


class CTA_TIMEOUT_UDPLITE(IntEnum):
    """``enum ctattr_timeout_udplite``: inside ``CTA_TIMEOUT_DATA`` of UDP-Lite."""

    UNSPEC = 0
    UNREPLIED = 1
    REPLIED = 2


class CTA_TIMEOUT_ICMP(IntEnum):
    """``enum ctattr_timeout_icmp``: inside ``CTA_TIMEOUT_DATA`` of ICMP."""

    UNSPEC = 0
    TIMEOUT = 1


class CTA_TIMEOUT_DCCP(IntEnum):
    """``enum ctattr_timeout_dccp``: inside ``CTA_TIMEOUT_DATA`` of DCCP."""

    UNSPEC = 0
    REQUEST = 1
    RESPOND = 2
    PARTOPEN = 3
    OPEN = 4
    CLOSEREQ = 5
    CLOSING = 6
    TIMEWAIT = 7


class CTA_TIMEOUT_SCTP(IntEnum):
    """``enum ctattr_timeout_sctp``: inside ``CTA_TIMEOUT_DATA`` of SCTP."""

    UNSPEC = 0
    CLOSED = 1
    COOKIE_WAIT = 2
    COOKIE_ECHOED = 3
    ESTABLISHED = 4
    SHUTDOWN_SENT = 5
    SHUTDOWN_RECD = 6
    SHUTDOWN_ACK_SENT = 7
    HEARTBEAT_SENT = 8
    HEARTBEAT_ACKED = 9  # not used since 6.6


class CTA_TIMEOUT_ICMPV6(IntEnum):
    """``enum ctattr_timeout_icmpv6``: inside ``CTA_TIMEOUT_DATA`` of ICMPv6."""

    UNSPEC = 0
    TIMEOUT = 1


class CTA_TIMEOUT_GRE(IntEnum):
    """``enum ctattr_timeout_gre``: inside ``CTA_TIMEOUT_DATA`` of GRE."""

    UNSPEC = 0
    UNREPLIED = 1
    REPLIED = 2


CTNL_TIMEOUT_NAME_MAX = 32
