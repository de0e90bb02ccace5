"""linux/netfilter/nfnetlink.h: the subsystems and multicast groups of netfilter."""

from enum import IntEnum


class NFNLGRP(IntEnum):
    """``enum nfnetlink_groups``: the multicast groups."""

    NONE = 0
    CONNTRACK_NEW = 1
    CONNTRACK_UPDATE = 2
    CONNTRACK_DESTROY = 3
    CONNTRACK_EXP_NEW = 4
    CONNTRACK_EXP_UPDATE = 5
    CONNTRACK_EXP_DESTROY = 6
    NFTABLES = 7
    ACCT_QUOTA = 8
    NFTRACE = 9


class NFNL_SUBSYS(IntEnum):
    """``NFNL_SUBSYS_*``: the high byte of a message's type."""

    NONE = 0
    CTNETLINK = 1
    CTNETLINK_EXP = 2
    QUEUE = 3
    ULOG = 4
    OSF = 5
    IPSET = 6
    ACCT = 7
    CTNETLINK_TIMEOUT = 8
    CTHELPER = 9
    NFTABLES = 10
    NFT_COMPAT = 11
    HOOK = 12
    COUNT = 13


class NFNL_MSG(IntEnum):
    """``NFNL_MSG_*``: the messages that enclose a transaction, used only by nftables."""

    BATCH_BEGIN = 0x10
    BATCH_END = 0x11


NFNETLINK_V0 = 0
