"""linux/net_namespace.h: the ids that a network namespace assigns to others."""

from enum import IntEnum


class NETNSA(IntEnum):
    """``NETNSA_*``: the attributes of RTM_NEWNSID, RTM_DELNSID and RTM_GETNSID messages."""

    NONE = 0
    NSID = 1
    PID = 2
    FD = 3
    TARGET_NSID = 4
    CURRENT_NSID = 5


NETNSA_NSID_NOT_ASSIGNED = -1
