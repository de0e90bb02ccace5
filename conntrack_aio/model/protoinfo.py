"""The protocol's own state of a connection: ``CTA_PROTOINFO``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ..uapi.nfnetlink_conntrack import (
    CTA_PROTOINFO_DCCP,
    CTA_PROTOINFO_SCTP,
    CTA_PROTOINFO_TCP,
)
from .declare import attribute, message
from .enums import DCCPRole, DCCPState, NamedNumber, SCTPState, TCPFlags, TCPState
from .protocols import DCCP, SCTP, TCP
from .wire import U8, U32, U64, MaskedFlags, u8


@message(shared=True)
class TCPInfo:
    """The state of a TCP connection, and the state of window tracking of its two sides.

    A destroy event has only :attr:`state`, since Linux 5.11; before, it has no TCP state at all.

    Objects are immutable, because flows share them; ``attrs.evolve()`` returns a changed copy.
    """

    state: TCPState | int | None = attribute(CTA_PROTOINFO_TCP.STATE, u8(TCPState), default=None)
    """The state of the connection."""
    wscale_orig: int | None = attribute(CTA_PROTOINFO_TCP.WSCALE_ORIGINAL, U8, default=None)
    """The window scale of the original direction, 0 to 14.

    The kernel stores it only if both scales are given and both sides' flags have WINDOW_SCALE.
    """
    wscale_reply: int | None = attribute(CTA_PROTOINFO_TCP.WSCALE_REPLY, U8, default=None)
    """The window scale of the reply direction, 0 to 14."""
    flags_orig: TCPFlags | None = attribute(
        CTA_PROTOINFO_TCP.FLAGS_ORIGINAL, MaskedFlags(TCPFlags), default=None
    )
    """The flags of the original direction's side. An update replaces all of them."""
    flags_reply: TCPFlags | None = attribute(
        CTA_PROTOINFO_TCP.FLAGS_REPLY, MaskedFlags(TCPFlags), default=None
    )
    """The flags of the reply direction's side. An update replaces all of them."""


@message(hashable=True)
class SCTPInfo:
    """The state and verification tags of an SCTP association.

    A create or an update needs all three.
    """

    state: SCTPState | int | None = attribute(CTA_PROTOINFO_SCTP.STATE, u8(SCTPState), default=None)
    """The state of the association."""
    vtag_orig: int | None = attribute(CTA_PROTOINFO_SCTP.VTAG_ORIGINAL, U32, default=None)
    """The verification tag in packets of the original direction."""
    vtag_reply: int | None = attribute(CTA_PROTOINFO_SCTP.VTAG_REPLY, U32, default=None)
    """The verification tag in packets of the reply direction."""


@message(hashable=True)
class DCCPInfo:
    """The state of a DCCP connection. Kernels until Linux 6.16 track DCCP."""

    state: DCCPState | int | None = attribute(
        CTA_PROTOINFO_DCCP.STATE, u8(DCCPState), default=None, until="6.16"
    )
    """The state of the connection."""
    role: DCCPRole | int | None = attribute(
        CTA_PROTOINFO_DCCP.ROLE, u8(DCCPRole), default=None, until="6.16"
    )
    """The role of the original direction's sender."""
    handshake_seq: int | None = attribute(
        CTA_PROTOINFO_DCCP.HANDSHAKE_SEQ, U64, default=None, until="6.16"
    )
    """The sequence number of the handshake."""


ProtoInfo = TCPInfo | SCTPInfo | DCCPInfo

PROTOINFO_TYPES: Final[Mapping[int, type[ProtoInfo]]] = MappingProxyType(
    {TCP: TCPInfo, SCTP: SCTPInfo, DCCP: DCCPInfo}
)
"""The class of :attr:`Flow.protoinfo`, by protocol, for the protocols that have one."""

STATE_TYPES: Final[Mapping[int, type[NamedNumber]]] = MappingProxyType(
    {TCP: TCPState, SCTP: SCTPState, DCCP: DCCPState}
)
"""The enum of the connection states, by protocol, for the protocols that have states."""
