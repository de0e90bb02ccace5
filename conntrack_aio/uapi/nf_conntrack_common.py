"""linux/netfilter/nf_conntrack_common.h: an entry's status bits, an expectation's flags."""

from enum import IntFlag


class IPS(IntFlag):
    """``enum ip_conntrack_status``: the status of an entry, a set of bits.

    What ctnetlink accepts in ``CTA_STATUS`` (``ctnetlink_change_status``): SEEN_REPLY and ASSURED
    can be set and never cleared; FIXED_TIMEOUT and HELPER can be set, and a wish to clear them is
    silently not granted; EXPECTED, CONFIRMED and DYING must be what they are. The rest is the
    kernel's alone.
    """

    EXPECTED = 0x1  # an expectation was waiting for it
    SEEN_REPLY = 0x2  # packets have passed in both directions
    ASSURED = 0x4  # not dropped early when the table is full
    CONFIRMED = 0x8  # it is in the table: its first packet has passed
    SRC_NAT = 0x10  # the original direction's source is translated
    DST_NAT = 0x20  # the original direction's destination is translated
    NAT_MASK = 0x30  # SRC_NAT and DST_NAT
    SEQ_ADJUST = 0x40  # TCP sequence numbers are shifted
    SRC_NAT_DONE = 0x80  # whether to translate the source is settled
    DST_NAT_DONE = 0x100  # whether to translate the destination is settled
    NAT_DONE_MASK = 0x180  # SRC_NAT_DONE and DST_NAT_DONE
    DYING = 0x200  # it has left the table
    FIXED_TIMEOUT = 0x400  # packets do not renew the timeout
    TEMPLATE = 0x800  # no connection: what a rule has new ones begin with
    UNTRACKED = 0x1000  # inside the kernel NAT_CLASH since 5.8
    HELPER = 0x2000  # a rule or a program gave it its helper
    OFFLOAD = 0x4000  # a flow table forwards it, since 4.16
    HW_OFFLOAD = 0x8000  # hardware forwards it, since 5.8
    UNCHANGEABLE_MASK = 0xDBF9  # all that only the kernel sets


class NF_CT_EXPECT(IntFlag):
    """``NF_CT_EXPECT_*``: the flags of an expectation, a set of bits.

    What ctnetlink accepts in ``CTA_EXPECT_FLAGS`` of a new one (``ctnetlink_alloc_expect``):
    PERMANENT and INACTIVE. It drops USERSPACE; what it does not know it refuses since 2026, and
    stored before.
    """

    PERMANENT = 0x1  # it stays when a connection has met it, until its time is up
    INACTIVE = 0x2  # no connection meets it
    USERSPACE = 0x4  # a helper in user space made it
