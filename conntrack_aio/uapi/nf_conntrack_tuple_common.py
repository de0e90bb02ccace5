"""linux/netfilter/nf_conntrack_tuple_common.h: the two directions of a connection."""

from enum import IntEnum


class IP_CT_DIR(IntEnum):
    """``enum ip_conntrack_dir``: the directions."""

    ORIGINAL = 0  # the direction of the first packet
    REPLY = 1  # the opposite direction
