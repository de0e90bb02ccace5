"""linux/netfilter/nfnetlink_cthelper.h: user-space helpers, to Linux 6.18."""

from enum import IntEnum


class NFCT_HELPER_STATUS(IntEnum):
    """``NFCT_HELPER_STATUS_*``: whether packets are queued to the helper."""

    DISABLED = 0
    ENABLED = 1


class NFNL_MSG_CTHELPER(IntEnum):
    """``enum nfnl_cthelper_msg_types``: the messages of ``NFNL_SUBSYS_CTHELPER``."""

    NEW = 0
    GET = 1
    DEL = 2


class NFCTH(IntEnum):
    """``enum nfnl_cthelper_type``: the attributes of a helper."""

    UNSPEC = 0
    NAME = 1
    TUPLE = 2
    QUEUE_NUM = 3
    POLICY = 4
    PRIV_DATA_LEN = 5
    STATUS = 6


class NFCTH_POLICY_SET(IntEnum):
    """``enum nfnl_cthelper_policy_type``: inside ``NFCTH_POLICY``."""

    UNSPEC = 0
    NUM = 1
    NFCTH_POLICY_SET = 2
    NFCTH_POLICY_SET1 = 2
    NFCTH_POLICY_SET2 = 3
    NFCTH_POLICY_SET3 = 4
    NFCTH_POLICY_SET4 = 5


class NFCTH_POLICY(IntEnum):
    """``enum nfnl_cthelper_pol_type``: inside each ``NFCTH_POLICY_SET``."""

    UNSPEC = 0
    NAME = 1
    EXPECT_MAX = 2
    EXPECT_TIMEOUT = 3


class NFCTH_TUPLE(IntEnum):
    """``enum nfnl_cthelper_tuple_type``: inside ``NFCTH_TUPLE``."""

    UNSPEC = 0
    L3PROTONUM = 1
    L4PROTONUM = 2
