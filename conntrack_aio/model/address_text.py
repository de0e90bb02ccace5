"""The texts of addresses, which :class:`str` returns for address objects, without such objects.

:mod:`ipaddress` takes 1 us for an IPv4 and 5 us for an IPv6 address. A table has the same addresses
many times, so that their texts are kept, but it may have more addresses than are kept.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from socket import inet_ntoa
from typing import Final

from ..function_builder import BoundedMemo

_LIMIT: Final = 1 << 13
"""The largest number of addresses whose texts are kept."""

_unpack_groups: Final = struct.Struct("!8H").unpack
_GROUPS: Final = ":".join(["%x"] * 8)
_MAPPED: Final = bytes(10) + b"\xff\xff"
_RUNS: Final = [":0" * count + ":" for count in range(8, 1, -1)]
"""The runs of groups that are zero, and with colons around them. ``::`` replaces the longest."""


def ipv4_text(number: int) -> str:
    """Return the text of the IPv4 address with a number."""
    return inet_ntoa(number.to_bytes(4, "big"))


def ipv6_text(packed: bytes) -> str:
    """Return the text of an IPv6 address."""
    if packed[:12] == _MAPPED:
        return str(IPv6Address(packed))  # its text depends on the version of Python
    text = f":{_GROUPS % _unpack_groups(packed)}:"
    if ":0:0:" in text:
        for run in _RUNS:
            before, found, after = text.partition(run)
            if found:
                return f"{before[1:]}::{after[:-1]}"
    return text[1:-1]


ipv4_texts: Final = BoundedMemo(_LIMIT, ipv4_text)
"""The texts of IPv4 addresses, by their numbers."""
ipv6_texts: Final = BoundedMemo(_LIMIT, ipv6_text)
"""The texts of IPv6 addresses, by their bytes."""
ipv6_texts_by_number: Final = BoundedMemo(
    _LIMIT, lambda number: ipv6_text(number.to_bytes(16, "big"))
)
"""The texts of IPv6 addresses, by their numbers."""
