"""linux/netfilter/nf_conntrack_dccp.h: the states of a tracked DCCP connection.

The kernel tracks DCCP up to Linux 6.16. This header was never one of the uapi headers.
"""

from enum import IntEnum


class CT_DCCP(IntEnum):
    """``enum ct_dccp_states``: the state of a connection."""

    NONE = 0
    REQUEST = 1
    RESPOND = 2
    PARTOPEN = 3
    OPEN = 4
    CLOSEREQ = 5
    CLOSING = 6
    TIMEWAIT = 7
    IGNORE = 8
    INVALID = 9


class CT_DCCP_ROLE(IntEnum):
    """``enum ct_dccp_roles``: the role of the sender in the original direction."""

    CLIENT = 0
    SERVER = 1
