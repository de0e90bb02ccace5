"""linux/netfilter/nf_tables.h and linux/netfilter.h: the parts for simple rules, to Linux 6.1."""

from enum import IntEnum


class NFPROTO(IntEnum):
    """``NFPROTO_*``: netfilter's address families."""

    UNSPEC = 0
    INET = 1
    IPV4 = 2
    ARP = 3
    NETDEV = 5
    BRIDGE = 7
    IPV6 = 10
    DECNET = 12
    NUMPROTO = 13


class NF_INET(IntEnum):
    """``enum nf_inet_hooks``: the hooks on the path of a packet, for IPv4 and IPv6."""

    PRE_ROUTING = 0
    LOCAL_IN = 1
    FORWARD = 2
    LOCAL_OUT = 3
    POST_ROUTING = 4
    NUMHOOKS = 5
    INGRESS = 5


class NFT_MSG(IntEnum):
    """``enum nf_tables_msg_types``: the messages of ``NFNL_SUBSYS_NFTABLES``."""

    NEWTABLE = 0
    GETTABLE = 1
    DELTABLE = 2
    NEWCHAIN = 3
    GETCHAIN = 4
    DELCHAIN = 5
    NEWRULE = 6
    GETRULE = 7
    DELRULE = 8
    NEWSET = 9
    GETSET = 10
    DELSET = 11
    NEWSETELEM = 12
    GETSETELEM = 13
    DELSETELEM = 14
    NEWGEN = 15
    GETGEN = 16
    TRACE = 17
    NEWOBJ = 18
    GETOBJ = 19
    DELOBJ = 20
    GETOBJ_RESET = 21
    NEWFLOWTABLE = 22
    GETFLOWTABLE = 23
    DELFLOWTABLE = 24


class NFTA_LIST(IntEnum):
    """``enum nft_list_attributes``: the elements of a list, such as expressions."""

    UNSPEC = 0
    ELEM = 1


class NFTA_HOOK(IntEnum):
    """``enum nft_hook_attributes``: the hook of a base chain."""

    UNSPEC = 0
    HOOKNUM = 1
    PRIORITY = 2
    DEV = 3
    DEVS = 4


class NFTA_TABLE(IntEnum):
    """``enum nft_table_attributes``: the attributes of a table."""

    UNSPEC = 0
    NAME = 1
    FLAGS = 2
    USE = 3
    HANDLE = 4
    PAD = 5
    USERDATA = 6
    OWNER = 7


class NFTA_CHAIN(IntEnum):
    """``enum nft_chain_attributes``: the attributes of a chain."""

    UNSPEC = 0
    TABLE = 1
    HANDLE = 2
    NAME = 3
    HOOK = 4
    POLICY = 5
    USE = 6
    TYPE = 7
    COUNTERS = 8
    PAD = 9
    FLAGS = 10
    ID = 11
    USERDATA = 12


class NFTA_RULE(IntEnum):
    """``enum nft_rule_attributes``: the attributes of a rule."""

    UNSPEC = 0
    TABLE = 1
    CHAIN = 2
    HANDLE = 3
    EXPRESSIONS = 4
    COMPAT = 5
    POSITION = 6
    USERDATA = 7
    PAD = 8
    ID = 9
    POSITION_ID = 10
    CHAIN_ID = 11


class NFTA_EXPR(IntEnum):
    """``enum nft_expr_attributes``: the attributes of an expression."""

    UNSPEC = 0
    NAME = 1
    DATA = 2


class NFT_CT(IntEnum):
    """``enum nft_ct_keys``: the fields that the ``ct`` expression reads or sets."""

    STATE = 0
    DIRECTION = 1
    STATUS = 2
    MARK = 3
    SECMARK = 4
    EXPIRATION = 5
    HELPER = 6
    L3PROTOCOL = 7
    SRC = 8
    DST = 9
    PROTOCOL = 10
    PROTO_SRC = 11
    PROTO_DST = 12
    LABELS = 13
    PKTS = 14
    BYTES = 15
    AVGPKT = 16
    ZONE = 17
    EVENTMASK = 18
    SRC_IP = 19
    DST_IP = 20
    SRC_IP6 = 21
    DST_IP6 = 22
    ID = 23


class NFTA_CT(IntEnum):
    """``enum nft_ct_attributes``: the attributes of the ``ct`` expression."""

    UNSPEC = 0
    DREG = 1
    KEY = 2
    DIRECTION = 3
    SREG = 4


NFT_REG_1 = 1
