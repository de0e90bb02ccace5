"""User-space helpers: programs that read the payload of connections and create expectations."""

from __future__ import annotations

import attrs

from ..uapi.nfnetlink_cthelper import (
    NFCT_HELPER_STATUS,
    NFCTH,
    NFCTH_POLICY,
    NFCTH_POLICY_SET,
    NFCTH_TUPLE,
)
from .declare import UnknownAttribute, attribute, by_path, message, sequence
from .enums import NamedNumber
from .wire import U8, U16, U32, Nest, Text, at, u32

_NAME = Text(16)
"""A helper's name: ``NF_CT_HELPER_NAME_LEN`` bytes, the NUL included."""


class HelperStatus(NamedNumber):
    """Whether a user-space helper is used: ``enum nfct_helper_status``."""

    DISABLED = NFCT_HELPER_STATUS.DISABLED
    ENABLED = NFCT_HELPER_STATUS.ENABLED


@message(hashable=True)
class ExpectPolicy:
    """The limits of one class of a helper's expectations."""

    name: str = attribute(NFCTH_POLICY.NAME, _NAME)
    """The name of the class, up to 15 bytes."""
    expect_max: int = attribute(NFCTH_POLICY.EXPECT_MAX, U32)
    """The number of expectations that a connection may have at a time, up to 255.

    At the limit, a new expectation replaces the oldest one. 0 means that the helper has no limit of
    its own.
    """
    expect_timeout: int = attribute(NFCTH_POLICY.EXPECT_TIMEOUT, U32)
    """The timeout of an expectation, in seconds."""


@message
class UserspaceHelper:
    """A user-space helper: a program to which the kernel queues the packets of its connections.

    Its name, family and protocol identify it. All network namespaces of a machine share the list of
    helpers. The list does not include the kernel's own helpers.

    On the wire: ``nfnl_cthelper_type`` (linux/netfilter/nfnetlink_cthelper.h), written by
    ``nfnl_cthelper_fill_info``.
    """

    name: str = attribute(NFCTH.NAME, _NAME)
    """The name of the helper, up to 15 bytes."""
    family: int = attribute((NFCTH.TUPLE, NFCTH_TUPLE.L3PROTONUM), U16)
    """The address family of its connections: ``AF_INET`` or ``AF_INET6``."""
    proto: int = attribute((NFCTH.TUPLE, NFCTH_TUPLE.L4PROTONUM), U8)
    """The IANA number of the protocol of its connections: 6 is TCP."""
    policies: tuple[ExpectPolicy, ...] = sequence(
        at((NFCTH.POLICY, NFCTH_POLICY_SET.NFCTH_POLICY_SET1), Nest(ExpectPolicy)),
        at((NFCTH.POLICY, NFCTH_POLICY_SET.NFCTH_POLICY_SET2), Nest(ExpectPolicy)),
        at((NFCTH.POLICY, NFCTH_POLICY_SET.NFCTH_POLICY_SET3), Nest(ExpectPolicy)),
        at((NFCTH.POLICY, NFCTH_POLICY_SET.NFCTH_POLICY_SET4), Nest(ExpectPolicy)),
        count=at((NFCTH.POLICY, NFCTH_POLICY_SET.NUM), U32),
        default=(),
    )
    """The policies of its classes of expectations, one to four, in the order of their numbers."""
    queue: int | None = attribute(NFCTH.QUEUE_NUM, U32, default=None)
    """The number of the NFQUEUE that the program reads, 0 to 65535; 0 if a new helper has none.

    While no program reads the queue, packets pass.
    """
    private_data_length: int | None = attribute(NFCTH.PRIV_DATA_LEN, U32, default=None)
    """The bytes of private data that the program may store with each connection, up to 32.

    Flows have them as ``helper.info``. The length cannot be changed.
    """
    status: HelperStatus | int | None = attribute(NFCTH.STATUS, u32(HelperStatus), default=None)
    """Whether packets are queued. A new helper without a status is disabled."""
    unknown: tuple[UnknownAttribute, ...] = attrs.field(default=(), eq=by_path)
    """The attributes that the kernel sent and this version does not know."""

    @property
    def key(self) -> tuple[str, int, int]:
        """The name, family and protocol, which the methods of Helpers take."""
        return self.name, self.family, self.proto
