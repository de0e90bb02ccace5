"""linux/netfilter/nfnetlink_hook.h: functions registered at hooks, since 5.14."""

from enum import IntEnum


class NFNL_MSG_HOOK(IntEnum):
    """``enum nfnl_hook_msg_types``: the messages of ``NFNL_SUBSYS_HOOK``."""

    GET = 0


class NFNLA_HOOK(IntEnum):
    """``enum nfnl_hook_attributes``: the attributes of a registered function."""

    UNSPEC = 0
    HOOKNUM = 1
    PRIORITY = 2
    DEV = 3
    FUNCTION_NAME = 4
    MODULE_NAME = 5
    CHAIN_INFO = 6
