"""linux/if_link.h, linux/if.h and linux/veth.h: nests and states of interfaces, to Linux 6.1."""

from enum import IntEnum


class IFLA_INFO(IntEnum):
    """``IFLA_INFO_*``: inside ``IFLA_LINKINFO``."""

    UNSPEC = 0
    KIND = 1
    DATA = 2
    XSTATS = 3
    SLAVE_KIND = 4
    SLAVE_DATA = 5


class IF_OPER(IntEnum):
    """``IF_OPER_*``: the operational state of an interface (RFC 2863)."""

    UNKNOWN = 0
    NOTPRESENT = 1
    DOWN = 2
    LOWERLAYERDOWN = 3
    TESTING = 4
    DORMANT = 5
    UP = 6


class VETH_INFO(IntEnum):
    """``VETH_INFO_*``: inside ``IFLA_INFO_DATA`` of a veth."""

    UNSPEC = 0
    PEER = 1
