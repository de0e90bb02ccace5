"""net/netfilter/nf_internals.h: the flags in ``CTA_FILTER``, missing from the uapi headers."""

from enum import IntFlag


class CTA_FILTER_F(IntFlag):
    """``CTA_FILTER_F_*``: the parts of a tuple that a filter compares, since Linux 5.8.

    The kernel's comparison has surprises (``ctnetlink_filter_match_tuple``):

    - For IPv6, every kernel from 5.8 to 7.1 inverts the comparison of addresses.
    - The kernel compares ports only for TCP and UDP.
    - The kernel never compares the zone.
    """

    CTA_IP_SRC = 1 << 0
    CTA_IP_DST = 1 << 1
    CTA_TUPLE_ZONE = 1 << 2
    CTA_PROTO_NUM = 1 << 3
    CTA_PROTO_SRC_PORT = 1 << 4
    CTA_PROTO_DST_PORT = 1 << 5
    CTA_PROTO_ICMP_TYPE = 1 << 6
    CTA_PROTO_ICMP_CODE = 1 << 7
    CTA_PROTO_ICMP_ID = 1 << 8
    CTA_PROTO_ICMPV6_TYPE = 1 << 9
    CTA_PROTO_ICMPV6_CODE = 1 << 10
    CTA_PROTO_ICMPV6_ID = 1 << 11
