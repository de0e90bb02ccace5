"""linux/netfilter/nf_conntrack_common.h: the flags of entries and expectations."""

from enum import IntFlag


class IPS(IntFlag):
    """``enum ip_conntrack_status``: the status of an entry, a set of bits.

    ctnetlink accepts these bits in ``CTA_STATUS`` (``ctnetlink_change_status``):

    - SEEN_REPLY and ASSURED can be set. The kernel refuses to clear them.
    - FIXED_TIMEOUT and HELPER can be set. The kernel silently ignores a request to clear them.
    - EXPECTED, CONFIRMED and DYING must have their current value.
    - Only the kernel sets the other bits.
    """

    EXPECTED = 0x1  # an expectation matched the connection
    SEEN_REPLY = 0x2  # packets have passed in both directions
    ASSURED = 0x4  # not dropped early when the table is full
    CONFIRMED = 0x8  # the entry is in the table: its first packet has passed
    SRC_NAT = 0x10  # the original direction's source is translated
    DST_NAT = 0x20  # the original direction's destination is translated
    NAT_MASK = 0x30  # SRC_NAT and DST_NAT
    SEQ_ADJUST = 0x40  # TCP sequence numbers are shifted
    SRC_NAT_DONE = 0x80  # the kernel has decided whether to translate the source
    DST_NAT_DONE = 0x100  # the same for the destination
    NAT_DONE_MASK = 0x180  # SRC_NAT_DONE and DST_NAT_DONE
    DYING = 0x200  # the entry has left the table
    FIXED_TIMEOUT = 0x400  # packets do not renew the timeout
    TEMPLATE = 0x800  # not a connection: a rule's template for new entries
    UNTRACKED = 0x1000  # since 5.8 NAT_CLASH inside the kernel
    HELPER = 0x2000  # a rule or a program assigned the helper
    OFFLOAD = 0x4000  # a flow table forwards the packets, since 4.16
    HW_OFFLOAD = 0x8000  # hardware forwards the packets, since 5.8
    UNCHANGEABLE_MASK = 0xDBF9  # the bits that only the kernel sets


class NF_CT_EXPECT(IntFlag):
    """``NF_CT_EXPECT_*``: the flags of an expectation, a set of bits.

    ctnetlink accepts PERMANENT and INACTIVE in ``CTA_EXPECT_FLAGS`` of a new expectation
    (``ctnetlink_alloc_expect``). It ignores USERSPACE. Kernels since 2026 refuse unknown flags;
    older kernels store them.
    """

    PERMANENT = 0x1  # stays after a match, until its timeout
    INACTIVE = 0x2  # matches no connection
    USERSPACE = 0x4  # a user-space helper created it
