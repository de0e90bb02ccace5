"""A message that another machine's kernel sent, as one of this machine's byte order sends it.

Netlink's own headers are in host byte order, and so are labels, whose words are those of the
kernel. All the rest of ctnetlink's messages is big-endian on every machine.
"""

from __future__ import annotations

import struct
import sys

from conntrack_aio.uapi.netlink import NLA_F_NESTED, NLA_TYPE_MASK
from conntrack_aio.uapi.nfnetlink import NFNL_SUBSYS
from conntrack_aio.uapi.nfnetlink_conntrack import CTA

_LABELS = (CTA.LABELS, CTA.LABELS_MASK)
"""Where they are: at the top of a message about flows."""

_WORD_SIZE = 8


def to_host_byte_order(data: bytes, order: str = "little") -> bytes:
    """A message of ctnetlink that a machine of 64 bits and this byte order sent."""
    return data if order == sys.byteorder else swap_byte_order(data, order)


def attributes_to_host_byte_order(data: bytes) -> bytes:
    """Attributes that a little-endian machine sent."""
    return data if sys.byteorder == "little" else _swap_attributes(data, "<", ">", labels=False)


def nft_label(number: int) -> int:
    """The label that nft sets by a number: on a big-endian machine its words are the other way."""
    return 1 << (number if sys.byteorder == "little" else number ^ 64)


def swap_byte_order(data: bytes, order: str = "little") -> bytes:
    """A message of a machine of this byte order, as one of the other order has it."""
    theirs, ours = "<>" if order == "little" else "><"
    header = struct.unpack_from(f"{theirs}IHHII", data)
    of_flows = header[1] >> 8 == NFNL_SUBSYS.CTNETLINK
    attributes = _swap_attributes(data[20:], theirs, ours, labels=of_flows)
    return struct.pack(f"{ours}IHHII", *header) + data[16:20] + attributes


def _swap_attributes(data: bytes, theirs: str, ours: str, *, labels: bool) -> bytes:
    result = b""
    while data:
        length, kind = struct.unpack_from(f"{theirs}HH", data)
        end = (length + 3) & ~3
        value, padding = data[4:length], data[length:end]
        if kind & NLA_F_NESTED:
            value = _swap_attributes(value, theirs, ours, labels=False)
        elif labels and kind & NLA_TYPE_MASK in _LABELS:
            value = b"".join(
                value[i : i + _WORD_SIZE][::-1] for i in range(0, len(value), _WORD_SIZE)
            )
        result += struct.pack(f"{ours}HH", length, kind) + value + padding
        data = data[end:]
    return result
