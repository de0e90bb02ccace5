"""The information elements that records use, with their numbers at IANA."""

from __future__ import annotations

from typing import Final, NamedTuple

_REVERSE_PEN: Final = 29305
"""The enterprise number of elements about the reverse direction (RFC 5103, section 6.1)."""

_NETFILTER_PEN: Final = 21373
"""The enterprise number of the Netfilter project, whose elements ulogd2 uses, too."""


class Element(NamedTuple):
    """An information element with a fixed length."""

    number: int
    code: str
    """The :mod:`struct` format of its value."""
    length: int
    """The length of its value in bytes."""
    pen: int | None = None
    """Its private enterprise number; ``None`` for IANA's elements."""


OCTETS: Final = Element(1, "Q", 8)
"""octetDeltaCount"""
PACKETS: Final = Element(2, "Q", 8)
"""packetDeltaCount"""
PROTOCOL: Final = Element(4, "B", 1)
"""protocolIdentifier"""
SOURCE_PORT: Final = Element(7, "H", 2)
"""sourceTransportPort"""
SOURCE_IPV4: Final = Element(8, "4s", 4)
"""sourceIPv4Address"""
DESTINATION_PORT: Final = Element(11, "H", 2)
"""destinationTransportPort"""
DESTINATION_IPV4: Final = Element(12, "4s", 4)
"""destinationIPv4Address"""
SOURCE_IPV6: Final = Element(27, "16s", 16)
"""sourceIPv6Address"""
DESTINATION_IPV6: Final = Element(28, "16s", 16)
"""destinationIPv6Address"""
ICMP_TYPE_CODE_IPV4: Final = Element(32, "H", 2)
"""icmpTypeCodeIPv4: 256 times the type, plus the code"""
FLOW_END_REASON: Final = Element(136, "B", 1)
"""flowEndReason"""
ICMP_TYPE_CODE_IPV6: Final = Element(139, "H", 2)
"""icmpTypeCodeIPv6"""
FLOW_ID: Final = Element(148, "Q", 8)
"""flowId: the id of the entry"""
OBSERVATION_DOMAIN: Final = Element(149, "I", 4)
"""observationDomainId"""
START: Final = Element(152, "Q", 8)
"""flowStartMilliseconds"""
END: Final = Element(153, "Q", 8)
"""flowEndMilliseconds"""
NOT_SENT_FLOWS: Final = Element(166, "Q", 8)
"""notSentFlowTotalCount"""
POST_NAT_SOURCE_IPV4: Final = Element(225, "4s", 4)
"""postNATSourceIPv4Address"""
POST_NAT_DESTINATION_IPV4: Final = Element(226, "4s", 4)
"""postNATDestinationIPv4Address"""
POST_NAT_SOURCE_PORT: Final = Element(227, "H", 2)
"""postNAPTSourceTransportPort"""
POST_NAT_DESTINATION_PORT: Final = Element(228, "H", 2)
"""postNAPTDestinationTransportPort"""
NAT_EVENT: Final = Element(230, "B", 1)
"""natEvent: 4 for the creation of a NAT44 session, 5 for its end; 6 and 7 for NAT64"""
VRF: Final = Element(234, "I", 4)
"""ingressVRFID: the conntrack zone"""
BIFLOW_DIRECTION: Final = Element(239, "B", 1)
"""biflowDirection: 1, the source is the initiator"""
POST_NAT_SOURCE_IPV6: Final = Element(281, "16s", 16)
"""postNATSourceIPv6Address"""
POST_NAT_DESTINATION_IPV6: Final = Element(282, "16s", 16)
"""postNATDestinationIPv6Address"""
OBSERVATION_TIME: Final = Element(323, "Q", 8)
"""observationTimeMilliseconds"""

REVERSE_OCTETS: Final = OCTETS._replace(pen=_REVERSE_PEN)
"""reverseOctetDeltaCount"""
REVERSE_PACKETS: Final = PACKETS._replace(pen=_REVERSE_PEN)
"""reversePacketDeltaCount"""

MARK: Final = Element(4, "I", 4, _NETFILTER_PEN)
"""The connection mark."""
