"""linux/net_namespace.h: the ids that network namespaces have for each other."""

from enum import IntEnum


class NETNSA(IntEnum):
    """``NETNSA_*``: the attributes of the messages RTM_NEWNSID, DELNSID and GETNSID."""

    NONE = 0
    NSID = 1
    PID = 2
    FD = 3
    TARGET_NSID = 4
    CURRENT_NSID = 5


NETNSA_NSID_NOT_ASSIGNED = -1
