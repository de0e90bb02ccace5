"""Community ID, version 1: a short text that names a flow, the same in both directions.

Zeek, Suricata and Elastic compute the same (github.com/corelight/community-id-spec).
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import Final

from conntrack_aio import Tuple

_ICMP: Final = 1
_ICMPV6: Final = 58
_SCTP: Final = 132
_PORTED: Final = frozenset({6, 17, _SCTP})

_ICMP_ANSWERS: Final = {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17, 10: 9, 9: 10}
_ICMPV6_ANSWERS: Final = {
    128: 129,
    129: 128,
    133: 134,
    134: 133,
    135: 136,
    136: 135,
    130: 131,
    131: 130,
    144: 145,
    145: 144,
    139: 140,
    140: 139,
}
"""The types of ICMP that are requests and answers of each other. They take the place of ports."""

_pack_protocol: Final = Struct("!BB").pack
_pack_ports: Final = Struct("!HH").pack

IPAddress = IPv4Address | IPv6Address


def community_id(tuple_: Tuple, seed: int = 0) -> str:
    """Return the Community ID of the packets with a tuple.

    :param tuple_: the tuple. The reply tuple gives the same text, unless there is NAT: then it is
        the ID of the packets on the other side of the translation.
    :param seed: a number from 0 to 65535, which all programs must share.
    :raises ValueError: when the seed is not such a number.
    """
    if not 0 <= seed <= 0xFFFF:
        raise ValueError(f"the seed of a Community ID must be from 0 to 65535; got {seed!r}")
    source, target = tuple_.src.packed, tuple_.dst.packed
    ports = _ports(tuple_)
    first, second, one_way = ports or (0, 0, False)
    if not one_way and (source, first) > (target, second):
        source, target, first, second = target, source, second, first
    data = seed.to_bytes(2, "big") + source + target + _pack_protocol(tuple_.proto, 0)
    if ports is not None:
        data += _pack_ports(first, second)
    return f"1:{b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()}"


def _ports(tuple_: Tuple) -> tuple[int, int, bool] | None:
    """Return what stands for the two ports, and whether the flow has one direction only.

    ``None`` for protocols without ports.
    """
    if tuple_.proto in _PORTED:
        return tuple_.sport or 0, tuple_.dport or 0, False
    if tuple_.proto in (_ICMP, _ICMPV6):
        type_, code = tuple_.icmp_type or 0, tuple_.icmp_code or 0
        answers = _ICMP_ANSWERS if tuple_.proto == _ICMP else _ICMPV6_ANSWERS
        answer = answers.get(type_)
        return (type_, code, True) if answer is None else (type_, answer, False)
    return None
