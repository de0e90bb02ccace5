"""Parse the families and protocols of ``nfct``."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, getprotobyname
from typing import Final

from ...model.protocols import DCCP, GRE, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE
from ...model.timeouts import GENERIC
from .refusal import Refused

FAMILIES: Final = {"inet": int(AF_INET), "inet6": int(AF_INET6)}
NAMES: Final = {
    "tcp": TCP,
    "udp": UDP,
    "udplite": UDPLITE,
    "sctp": SCTP,
    "dccp": DCCP,
    "icmp": ICMP,
    "icmpv6": ICMPV6,
    "gre": GRE,
    "generic": GENERIC,
}
_HELPER_PROTOCOLS: Final = {"tcp": TCP, "udp": UDP}


def parse_family(word: str) -> int:
    """Return the number of an address family.

    :raises Refused: when the word is no family.
    """
    if (family := FAMILIES.get(word)) is None:
        raise Refused("unknown layer 3 protocol")
    return family


def parse_protocol(word: str) -> int:
    """Return the number of a protocol that has timeouts or a name in ``/etc/protocols``.

    :raises Refused: when the word is no such name.
    """
    if (number := NAMES.get(word)) is not None:
        return number
    try:
        return getprotobyname(word)
    except (OSError, UnicodeError):  # UnicodeError: the word is not UTF-8
        raise Refused("unknown layer 4 protocol") from None


def parse_helper_protocol(word: str) -> int:
    """Return the number of a protocol that helpers can have.

    :raises Refused: when the word is no such protocol.
    """
    if (number := _HELPER_PROTOCOLS.get(word)) is None:
        raise Refused("unsupported layer 4 protocol")
    return number
