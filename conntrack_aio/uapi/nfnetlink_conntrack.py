"""linux/netfilter/nfnetlink_conntrack.h: ctnetlink's messages and attributes, to Linux 6.18."""

from enum import IntEnum


class IPCTNL_MSG_CT(IntEnum):
    """``enum cntl_msg_types``: the messages of ``NFNL_SUBSYS_CTNETLINK``."""

    NEW = 0
    GET = 1
    DELETE = 2
    GET_CTRZERO = 3
    GET_STATS_CPU = 4
    GET_STATS = 5
    GET_DYING = 6
    GET_UNCONFIRMED = 7


class IPCTNL_MSG_EXP(IntEnum):
    """``enum ctnl_exp_msg_types``: the messages of ``NFNL_SUBSYS_CTNETLINK_EXP``."""

    NEW = 0
    GET = 1
    DELETE = 2
    GET_STATS_CPU = 3


class CTA(IntEnum):
    """``enum ctattr_type``: the attributes of a conntrack entry."""

    UNSPEC = 0
    TUPLE_ORIG = 1
    TUPLE_REPLY = 2
    STATUS = 3
    PROTOINFO = 4
    HELP = 5
    NAT_SRC = 6
    TIMEOUT = 7
    MARK = 8
    COUNTERS_ORIG = 9
    COUNTERS_REPLY = 10
    USE = 11
    ID = 12
    NAT_DST = 13
    TUPLE_MASTER = 14
    SEQ_ADJ_ORIG = 15
    NAT_SEQ_ADJ_ORIG = 15
    SEQ_ADJ_REPLY = 16
    NAT_SEQ_ADJ_REPLY = 16
    SECMARK = 17  # obsolete, replaced by SECCTX
    ZONE = 18
    SECCTX = 19
    TIMESTAMP = 20
    MARK_MASK = 21
    LABELS = 22
    LABELS_MASK = 23
    SYNPROXY = 24
    FILTER = 25
    STATUS_MASK = 26
    TIMESTAMP_EVENT = 27  # since Linux 6.14


class CTA_TUPLE(IntEnum):
    """``enum ctattr_tuple``: inside each tuple."""

    UNSPEC = 0
    IP = 1
    PROTO = 2
    ZONE = 3


class CTA_IP(IntEnum):
    """``enum ctattr_ip``: inside ``CTA_TUPLE_IP``."""

    UNSPEC = 0
    V4_SRC = 1
    V4_DST = 2
    V6_SRC = 3
    V6_DST = 4


class CTA_PROTO(IntEnum):
    """``enum ctattr_l4proto``: inside ``CTA_TUPLE_PROTO``."""

    UNSPEC = 0
    NUM = 1
    SRC_PORT = 2
    DST_PORT = 3
    ICMP_ID = 4
    ICMP_TYPE = 5
    ICMP_CODE = 6
    ICMPV6_ID = 7
    ICMPV6_TYPE = 8
    ICMPV6_CODE = 9


class CTA_PROTOINFO(IntEnum):
    """``enum ctattr_protoinfo``: inside ``CTA_PROTOINFO``."""

    UNSPEC = 0
    TCP = 1
    DCCP = 2
    SCTP = 3


class CTA_PROTOINFO_TCP(IntEnum):
    """``enum ctattr_protoinfo_tcp``: inside ``CTA_PROTOINFO_TCP``."""

    UNSPEC = 0
    STATE = 1
    WSCALE_ORIGINAL = 2
    WSCALE_REPLY = 3
    FLAGS_ORIGINAL = 4
    FLAGS_REPLY = 5


class CTA_PROTOINFO_DCCP(IntEnum):
    """``enum ctattr_protoinfo_dccp``: inside ``CTA_PROTOINFO_DCCP``."""

    UNSPEC = 0
    STATE = 1
    ROLE = 2
    HANDSHAKE_SEQ = 3
    PAD = 4


class CTA_PROTOINFO_SCTP(IntEnum):
    """``enum ctattr_protoinfo_sctp``: inside ``CTA_PROTOINFO_SCTP``."""

    UNSPEC = 0
    STATE = 1
    VTAG_ORIGINAL = 2
    VTAG_REPLY = 3


class CTA_COUNTERS(IntEnum):
    """``enum ctattr_counters``: inside ``CTA_COUNTERS_ORIG`` and ``_REPLY``."""

    UNSPEC = 0
    PACKETS = 1
    BYTES = 2
    CTA_COUNTERS32_PACKETS = 3
    CTA_COUNTERS32_BYTES = 4
    PAD = 5


class CTA_TIMESTAMP(IntEnum):
    """``enum ctattr_tstamp``: inside ``CTA_TIMESTAMP``."""

    UNSPEC = 0
    START = 1
    STOP = 2
    PAD = 3


class CTA_NAT(IntEnum):
    """``enum ctattr_nat``: inside ``CTA_NAT_SRC`` and ``_DST``."""

    UNSPEC = 0
    V4_MINIP = 1
    V4_MAXIP = 2
    PROTO = 3
    V6_MINIP = 4
    V6_MAXIP = 5


class CTA_PROTONAT(IntEnum):
    """``enum ctattr_protonat``: inside ``CTA_NAT_PROTO``."""

    UNSPEC = 0
    PORT_MIN = 1
    PORT_MAX = 2


class CTA_SEQADJ(IntEnum):
    """``enum ctattr_seqadj``: inside ``CTA_SEQ_ADJ_ORIG`` and ``_REPLY``."""

    UNSPEC = 0
    CORRECTION_POS = 1
    OFFSET_BEFORE = 2
    OFFSET_AFTER = 3


class CTA_SYNPROXY(IntEnum):
    """``enum ctattr_synproxy``: inside ``CTA_SYNPROXY``."""

    UNSPEC = 0
    ISN = 1
    ITS = 2
    TSOFF = 3


class CTA_EXPECT(IntEnum):
    """``enum ctattr_expect``: the attributes of an expectation."""

    UNSPEC = 0
    MASTER = 1
    TUPLE = 2
    MASK = 3
    TIMEOUT = 4
    ID = 5
    HELP_NAME = 6
    ZONE = 7
    FLAGS = 8
    CLASS = 9
    NAT = 10
    FN = 11


class CTA_EXPECT_NAT(IntEnum):
    """``enum ctattr_expect_nat``: inside ``CTA_EXPECT_NAT``."""

    UNSPEC = 0
    DIR = 1
    TUPLE = 2


class CTA_HELP(IntEnum):
    """``enum ctattr_help``: inside ``CTA_HELP``."""

    UNSPEC = 0
    NAME = 1
    INFO = 2


class CTA_SECCTX(IntEnum):
    """``enum ctattr_secctx``: inside ``CTA_SECCTX``."""

    UNSPEC = 0
    NAME = 1


class CTA_STATS(IntEnum):
    """``enum ctattr_stats_cpu``: the reply to ``IPCTNL_MSG_CT_GET_STATS_CPU``."""

    UNSPEC = 0
    SEARCHED = 1
    FOUND = 2
    NEW = 3
    INVALID = 4
    IGNORE = 5
    DELETE = 6
    DELETE_LIST = 7
    INSERT = 8
    INSERT_FAILED = 9
    DROP = 10
    EARLY_DROP = 11
    ERROR = 12
    SEARCH_RESTART = 13
    CLASH_RESOLVE = 14
    CHAIN_TOOLONG = 15


class CTA_STATS_GLOBAL(IntEnum):
    """``enum ctattr_stats_global``: the reply to ``IPCTNL_MSG_CT_GET_STATS``."""

    UNSPEC = 0
    ENTRIES = 1
    MAX_ENTRIES = 2


class CTA_STATS_EXP(IntEnum):
    """``enum ctattr_expect_stats``: the reply to ``IPCTNL_MSG_EXP_GET_STATS_CPU``."""

    UNSPEC = 0
    NEW = 1
    CREATE = 2
    DELETE = 3


class CTA_FILTER(IntEnum):
    """``enum ctattr_filter``: inside ``CTA_FILTER``, each a u32 in host byte order."""

    UNSPEC = 0
    ORIG_FLAGS = 1
    REPLY_FLAGS = 2
