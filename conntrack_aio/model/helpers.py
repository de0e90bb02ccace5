"""User-space helpers: programs that read the payload of connections and make expectations."""

from __future__ import annotations

import attrs

from ..uapi.nfnetlink_cthelper import (
    NFCTH,
    NFCTH_POLICY,
    NFCTH_POLICY_SET,
    NFCTH_TUPLE,
)
from .declare import (
    U8,
    U16,
    U32,
    Nest,
    Text,
    UnknownAttribute,
    at,
    attribute,
    by_path,
    message,
    sequence,
    u32,
)
from .enums import HelperStatus

_NAME = Text(16)
"""``NF_CT_HELPER_NAME_LEN``, with the NUL."""


@message(hashable=True)
class ExpectPolicy:
    """What a helper may expect: one class of its expectations."""

    name: str = attribute(NFCTH_POLICY.NAME, _NAME)
    """Up to 15 bytes."""
    expect_max: int = attribute(NFCTH_POLICY.EXPECT_MAX, U32)
    """How many expectations a connection may have at a time, up to 255; the oldest makes room.

    0 is no limit of the helper's own.
    """
    expect_timeout: int = attribute(NFCTH_POLICY.EXPECT_TIMEOUT, U32)
    """Seconds that an expectation waits."""


@message
class UserspaceHelper:
    """A helper that is a program, to which the kernel queues the packets of its connections.

    What identifies it is its name with the family and the protocol. The list of helpers is the
    machine's: every network namespace has the same. Those inside the kernel are not in it.

    On the wire: ``nfnl_cthelper_type`` (linux/netfilter/nfnetlink_cthelper.h), written by
    ``nfnl_cthelper_fill_info``.
    """

    name: str = attribute(NFCTH.NAME, _NAME)
    """Up to 15 bytes."""
    family: int = attribute((NFCTH.TUPLE, NFCTH_TUPLE.L3PROTONUM), U16)
    """``AF_INET`` or ``AF_INET6``."""
    proto: int = attribute((NFCTH.TUPLE, NFCTH_TUPLE.L4PROTONUM), U8)
    """The protocol's number, as IANA gives it: 6 is TCP."""
    policies: tuple[ExpectPolicy, ...] = sequence(
        at((NFCTH.POLICY, NFCTH_POLICY_SET.NFCTH_POLICY_SET1), Nest(ExpectPolicy)),
        at((NFCTH.POLICY, NFCTH_POLICY_SET.NFCTH_POLICY_SET2), Nest(ExpectPolicy)),
        at((NFCTH.POLICY, NFCTH_POLICY_SET.NFCTH_POLICY_SET3), Nest(ExpectPolicy)),
        at((NFCTH.POLICY, NFCTH_POLICY_SET.NFCTH_POLICY_SET4), Nest(ExpectPolicy)),
        count=at((NFCTH.POLICY, NFCTH_POLICY_SET.NUM), U32),
        default=(),
    )
    """One to four, by the number of the class."""
    queue: int | None = attribute(NFCTH.QUEUE_NUM, U32, default=None)
    """The NFQUEUE that the program reads, 0 to 65535; 0 if a new one says none.

    While nobody reads it, packets pass.
    """
    private_data_length: int | None = attribute(NFCTH.PRIV_DATA_LEN, U32, default=None)
    """Bytes of its own that the program may keep with each connection, up to 32.

    They are the ``helper.info`` of flows. It can't be changed.
    """
    status: HelperStatus | int | None = attribute(NFCTH.STATUS, u32(HelperStatus), default=None)
    """Packets are queued only if it is ENABLED; a new one that says nothing is not."""
    unknown: tuple[UnknownAttribute, ...] = attrs.field(default=(), eq=by_path)
    """What the kernel sent that this version does not know."""

    @property
    def key(self) -> tuple[str, int, int]:
        """Name, family and protocol: what the verbs take."""
        return self.name, self.family, self.proto
