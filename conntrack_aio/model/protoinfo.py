"""What the kernel knows of a connection's own protocol: ``CTA_PROTOINFO``."""

from __future__ import annotations

from ..uapi.nfnetlink_conntrack import (
    CTA_PROTOINFO_DCCP,
    CTA_PROTOINFO_SCTP,
    CTA_PROTOINFO_TCP,
)
from .declare import U8, U32, U64, MaskedFlags, attribute, message, u8
from .enums import DCCPRole, DCCPState, SCTPState, TCPFlags, TCPState


@message(shared=True)
class TCPInfo:
    """A TCP connection's state, and what window tracking knows of its two sides.

    A destroy event carries the state alone, since Linux 5.11; before, nothing. It can't be
    changed, for flows share it: ``attrs.evolve()`` makes another.
    """

    state: TCPState | int | None = attribute(CTA_PROTOINFO_TCP.STATE, u8(TCPState), default=None)
    wscale_orig: int | None = attribute(CTA_PROTOINFO_TCP.WSCALE_ORIGINAL, U8, default=None)
    """The original direction's window scale, 0 to 14.

    The kernel stores it only if both are given and WINDOW_SCALE stands in both sides' flags.
    """
    wscale_reply: int | None = attribute(CTA_PROTOINFO_TCP.WSCALE_REPLY, U8, default=None)
    """The reply direction's."""
    flags_orig: TCPFlags | None = attribute(
        CTA_PROTOINFO_TCP.FLAGS_ORIGINAL, MaskedFlags(TCPFlags), default=None
    )
    """Written, they replace all the flags of that side."""
    flags_reply: TCPFlags | None = attribute(
        CTA_PROTOINFO_TCP.FLAGS_REPLY, MaskedFlags(TCPFlags), default=None
    )


@message(hashable=True)
class SCTPInfo:
    """An SCTP association's state and verification tags. To write one takes all three."""

    state: SCTPState | int | None = attribute(CTA_PROTOINFO_SCTP.STATE, u8(SCTPState), default=None)
    vtag_orig: int | None = attribute(CTA_PROTOINFO_SCTP.VTAG_ORIGINAL, U32, default=None)
    """The verification tag in packets of the original direction."""
    vtag_reply: int | None = attribute(CTA_PROTOINFO_SCTP.VTAG_REPLY, U32, default=None)
    """The one in packets of the reply direction."""


@message(hashable=True)
class DCCPInfo:
    """A DCCP connection's state, on kernels that track DCCP (until 6.16)."""

    state: DCCPState | int | None = attribute(
        CTA_PROTOINFO_DCCP.STATE, u8(DCCPState), default=None, until="6.16"
    )
    role: DCCPRole | int | None = attribute(
        CTA_PROTOINFO_DCCP.ROLE, u8(DCCPRole), default=None, until="6.16"
    )
    handshake_seq: int | None = attribute(
        CTA_PROTOINFO_DCCP.HANDSHAKE_SEQ, U64, default=None, until="6.16"
    )


ProtoInfo = TCPInfo | SCTPInfo | DCCPInfo
